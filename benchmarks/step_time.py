"""How long a training step takes, beside the loop that every peer runs.

    python -m benchmarks.step_time --preset tiny|base --strategy selective

The peer loop is written plainly on diffusers' own classes: every step reads its sample from the file, encodes both
pictures, computes the target's VGG19 features, and works in float32. Ours is the project's own. Both get the same
weights, samples and losses; their first losses are compared before any time is believed. Each measurement is a process
of its own, which tells its peak memory, too; they alternate for several rounds, and medians count. `base` is the
full-size model with random weights, `tiny` the one that ships. The last line is one JSON object.

Needs diffusers (requirements-dev.txt).
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.step_loops import SAMPLES, WARM_UP, Setting, measure
from benchmarks.step_meter import KINDS, OTHER, OUTSIDE, conv_rate, rates
from vaegaze.commands.running import run_command
from vaegaze.errors import UserError
from vaegaze.training.strategies import STRATEGIES

ROUNDS, STEPS = 3, 5
SAME_FIRST_LOSS = 1e-3  # relative; float32 of the same numbers in another order
PEER_TFLOP = {"tiny": 0.07, "base": 2.4}  # of a step, about
START_UP_SEC, OVER_FLOOR = {"tiny": 5, "base": 40}, 2.0  # before the first step; a step over its convolutions' rate
TRIES = 20  # for the forecast
CONTENDERS = {"peer fp32": ("peer", "fp32"), "ours fp32": ("ours", "fp32"), "ours": ("ours", None)}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--preset", choices=("tiny", "base"), default="tiny", help="the model (default: %(default)s)")
    parser.add_argument(
        "--strategy", default="selective", choices=STRATEGIES, help="what trains (default: %(default)s)"
    )
    parser.add_argument("--device", default="auto", help="(default: %(default)s)")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto", help="of ours")
    parser.add_argument("--checkpoint_path", default="checkpoints/pretrained_model.pth", help="of the tiny model")
    parser.add_argument("--image_size", type=int, default=256, help="of the base model, in pixels")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: as many as there are cores")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--steps", type=int, default=STEPS, help=f"measured in each round, after {WARM_UP} others")
    parser.add_argument("--loop", choices=("peer", "ours"), help=argparse.SUPPRESS)  # a measuring process
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--started", type=float, help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    return run_command(lambda: measure_alone(given) if given.loop else measure_all(given))


def measure_alone(given: argparse.Namespace) -> None:
    """One process: its device and precision were settled by the one that started it."""
    steps = WARM_UP + given.steps
    setting = Setting(given.loop, given.folder, given.strategy, given.device, given.precision, given.threads, steps)
    print(json.dumps(measure(setting, given.started)))


def measure_all(given: argparse.Namespace) -> None:
    import torch

    from vaegaze.models.device import find_device, find_precision

    device = find_device(given.device)
    precision = find_precision(given.precision, device)
    contenders = {name: own or precision for name, (_, own) in CONTENDERS.items()}
    if precision == "fp32":
        del contenders["ours"]  # the same as "ours fp32"
    if given.threads:
        torch.set_num_threads(given.threads)
    minutes = expected_minutes(given, device, contenders)
    steps = f"{len(contenders)} loops of {WARM_UP + given.steps} steps, {given.rounds} times"
    print(f"This takes about {minutes:.0f} minutes: {steps}", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        write_inputs(Path(folder), given.preset, given.checkpoint_path, given.image_size)
        results = run_rounds(given, Path(folder), device, contenders)
    report(results, given, device, precision)


def expected_minutes(given, device: str, contenders: dict[str, str]) -> float:
    """From the rate of a small convolution in each precision; twice as much or half is possible."""
    rate = {precision: fastest_rate(device, precision) for precision in set(contenders.values())}
    steps = WARM_UP + given.steps + 2
    of_one = (
        START_UP_SEC[given.preset] + steps * OVER_FLOOR * PEER_TFLOP[given.preset] / rate[precision]
        for precision in contenders.values()
    )
    return max(1.0, given.rounds * sum(of_one) / 60)


def fastest_rate(device: str, precision: str) -> float:
    """TFLOP/s of a small convolution's fastest try; of one thread where several do worse, waiting for each other."""
    import torch

    threads, found = torch.get_num_threads(), []
    try:
        for number in {1, threads}:
            torch.set_num_threads(number)
            found.append(conv_rate(device, precision, (1, 64, 32, 32), TRIES, min))
    finally:
        torch.set_num_threads(threads)
    return max(found)


def write_inputs(folder: Path, preset: str, checkpoint_path: str, image_size: int) -> None:
    """The weights and the person that all processes read."""
    import torch

    from vaegaze.models import VAEGaze
    from vaegaze.models.checkpoint import load_checkpoint, save_checkpoint
    from vaegaze.renderer import data_set as synthetic

    if preset == "tiny":
        model = load_checkpoint(checkpoint_path).model
    else:
        torch.manual_seed(0)
        model = VAEGaze({"image_size": image_size, "vae": {}, "unet": {}, "gaze_mlp": {}})
    save_checkpoint(folder / "base.pth", model, {})
    synthetic.write_hdf5(folder / "person.h5", 1, size=model.canvas.height_px, samples=SAMPLES)


def run_rounds(given, folder: Path, device: str, contenders: dict[str, str]) -> dict[str, list[dict]]:
    """What every process reported, by contender; `contenders` are the precisions by name."""
    results = {name: [] for name in contenders}
    for number in range(given.rounds):
        for name, precision in contenders.items():
            print(f"round {number + 1} of {given.rounds}: {name}", file=sys.stderr)
            command = [sys.executable, "-m", "benchmarks.step_time", "--loop", CONTENDERS[name][0], "--folder", folder]
            command += ["--strategy", given.strategy, "--device", device, "--precision", precision]
            command += ["--threads", given.threads, "--steps", given.steps, "--started", time.time()]
            done = subprocess.run([*map(str, command)], stdout=subprocess.PIPE, text=True)
            if done.returncode:
                raise UserError(f"measuring {name} failed, see above")
            results[name].append(json.loads(done.stdout.splitlines()[-1]))
    return results


def report(results: dict[str, list[dict]], given, device: str, precision: str) -> None:
    """A table, and one line of JSON."""
    ours = "ours" if "ours" in results else "ours fp32"

    def median(name: str, key: str) -> float:
        return statistics.median(said[key] for said in results[name])

    seconds = {
        name: statistics.median([one for said in results[name] for one in said["sec_per_step"]]) for name in results
    }
    first = {name: median(name, "first_loss") for name in results}
    if abs(first["ours fp32"] / first["peer fp32"] - 1) > SAME_FIRST_LOSS:
        raise UserError(f"the loops do not compute the same: first losses {first}")
    counted = {name: median(name, "tflop") for name in results}
    if not math.isclose(counted[ours], counted["ours fp32"], rel_tol=SAME_FIRST_LOSS):
        raise UserError(f"not all operations were counted: TFLOP {counted}")
    machine = rates(device, {"fp32", precision})
    floor = counted[ours] / machine["conv"][precision]

    print(
        f"{given.preset}, {given.strategy}, {device}, ours in {precision}; {given.rounds} rounds of {given.steps} steps"
    )
    print(
        f"\n  {'':<12}{'s/step':>10}{'TFLOP':>10}{'peak MB':>10}{'1st step s':>12}{'optimiser MB':>14}{'peer / it':>11}"
    )
    for name in results:
        label = f"{name} {precision}" if name == "ours" else name
        print(
            f"  {label:<12}{seconds[name]:>10.3f}{median(name, 'tflop'):>10.3f}{median(name, 'peak_memory_mb'):>10.0f}"
            f"{median(name, 'sec_to_first_step'):>12.1f}{median(name, 'optimizer_mb'):>14.1f}"
            f"{seconds['peer fp32'] / seconds[name]:>11.2f}"
        )
    print(
        f"\n  floor {floor:.3f} s: the step's operations at the rate of one convolution; ours takes "
        f"{seconds[ours] / floor:.2f} times that"
    )
    spent = {
        name: {
            kind: statistics.median(said["spent"][kind] for said in results[name]) for kind in (*KINDS, OTHER, OUTSIDE)
        }
        for name in results
    }
    print(f"\n  {'where a step spends its seconds':<34}" + "".join(f"{name:>12}" for name in spent))
    for kind in (*KINDS, OTHER, OUTSIDE):
        print(f"  {kind:<34}" + "".join(f"{spent[name][kind]:>12.3f}" for name in spent))
    numbers = {
        "preset": given.preset,
        "strategy": given.strategy,
        "device": device,
        "precision": precision,
        "peer_sec_per_step": seconds["peer fp32"],
        "ours_sec_per_step": seconds[ours],
        "ratio": seconds["peer fp32"] / seconds[ours],
        "ratio_same_precision": seconds["peer fp32"] / seconds["ours fp32"],
        "peer_peak_memory_mb": median("peer fp32", "peak_memory_mb"),
        "ours_peak_memory_mb": median(ours, "peak_memory_mb"),
        "peer_tflop": median("peer fp32", "tflop"),
        "ours_tflop": median(ours, "tflop"),
        "optimizer_mb": median(ours, "optimizer_mb"),
        "tflops": machine,
        "floor_sec": floor,
        "ours_over_floor": seconds[ours] / floor,
        "spent": spent,
        "sec_to_first_step": median(ours, "sec_to_first_step"),
        "peer_sec_to_first_step": median("peer fp32", "sec_to_first_step"),
    }
    print(json.dumps(numbers))


if __name__ == "__main__":
    sys.exit(main())
