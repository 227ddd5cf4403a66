"""Fine-tune a gaze-redirecting face model on one person."""

import logging
import sys
import time

from vaegaze.commands.angle_words import with_camera_in_angles
from vaegaze.commands.running import run_command
from vaegaze.config.finetune import ADVICE, describe, parse_command


def main(argv: list[str] | None = None, prog: str = "vaegaze train") -> int:
    began = time.perf_counter()

    def work() -> None:
        command = parse_command(with_camera_in_angles(sys.argv[1:] if argv is None else argv), prog)
        if command.debug:
            logging.basicConfig(level=logging.DEBUG, format="%(levelname)s %(name)s: %(message)s")
            logging.getLogger("matplotlib").setLevel(logging.INFO)  # it reports every font

        gazecapture = command.config.oneshot_params.use_gazecapture
        print(f"🎯 Starting VAE-GAZE One-Shot Training with {'GazeCapture Dataset' if gazecapture else 'one photo'}")
        if command.dry_run:
            print(describe(command.resolved))

        # It imports torch, which --help, mistakes and these lines need not wait for.
        from vaegaze.commands import train_run

        train_run.run(command, began)

    less_memory = (
        "give --gradient_checkpointing, a smaller --batch_size, fewer --num_samples or --num_eval_samples, or set "
        "cache_memory_mb: 0"
    )
    return run_command(work, less_memory=less_memory, advice=ADVICE)


if __name__ == "__main__":
    sys.exit(main())
