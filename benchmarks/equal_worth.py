"""What a data set is worth against rendering on the fly: the same small model pre-trained from either.

    python -m benchmarks.equal_worth

Writes a file of 2,500 rendered persons with 8 frames each, 2,000 of them to train on, and reads it as a foreign one.
Both runs take the same steps without any augmentation. Both models redraw the eyes of the file's val persons, with the
file's masks, and those of rendered val persons, whose masks come from the head pose. So short a training varies with
its seed, so several are run.
"""

import argparse
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
import yaml

from benchmarks.forecast import say_beforehand
from vaegaze.commands import pretrain
from vaegaze.config.pretrain import RENDERED, PretrainParams
from vaegaze.models import VAEGaze
from vaegaze.models.checkpoint import load_checkpoint
from vaegaze.pretraining.losses import eye_errors, redraw_eyes, redraw_through_vae
from vaegaze.pretraining.sources import held_out_frames, open_sources
from vaegaze.renderer import data_set

FRAMES = 8  # of a person
FRAME_SEC, STEP_SEC, JUDGED_SEC = 0.008, 0.11, 10  # of a Zen 3 core, for the forecast
OFF = dict.fromkeys(("mirror", "colour", "jpeg", "blur", "scale", "shift"), 0)
SETTINGS = {
    "vae_band_steps": 0, "vae_batch_size": 2, "latent_batch_size": 3, "pixel_batch_size": 2, "vae_photographic": 0,
    "unet_photographic": 0, "augmentation": OFF, "held_out": 64, "eval_every": 200, "min_vae_eye_psnr": 0, "threads": 1,
    "estimator": "none",
}  # fmt: skip
MODEL = {
    "residual": True,
    "fill_eyes": True,
    "vae": {"block_out_channels": [16, 24, 24], "layers_per_block": 1, "latent_channels": 16, "norm_num_groups": 8,
            "scaling_factor": 1.0},
    "unet": {"in_channels": 32, "out_channels": 16, "block_out_channels": [24, 32, 48], "layers_per_block": 1,
             "attention_head_dim": 1, "cross_attention_dim": 64, "norm_num_groups": 8},
    "gaze_mlp": {"num_layers": 4, "num_hidden": 128, "num_out": 64},
}  # fmt: skip


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("./outputs/equal_worth"))
    parser.add_argument("--size", type=int, default=48, help="of the pictures, px")
    parser.add_argument("--steps", type=int, default=600, help="of each phase")
    parser.add_argument("--persons", type=int, default=2500)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args(argv)
    file = args.folder / f"{args.persons}_persons_{args.size}.h5"
    sources = {"file": str(file), RENDERED: RENDERED}
    runs = [args.folder / f"{name}_{args.steps}_{seed}" for seed in range(args.seeds) for name in sources]
    missing = sum(not (run / "model.pth").exists() for run in runs)
    frames = 0 if file.exists() else FRAMES * args.persons
    say_beforehand(
        f"{frames:,} frames rendered, {missing} trainings of 3 × {args.steps} steps, {len(runs)} models judged",
        frames * FRAME_SEC + missing * 3 * args.steps * STEP_SEC + len(runs) * JUDGED_SEC,
    )
    if not file.exists():
        data_set.write_hdf5(file, args.persons, size=args.size, samples=FRAMES, split="all")
    found: dict[str, list[np.ndarray]] = {name: [] for name in sources}
    for seed in range(args.seeds):
        for name, source in sources.items():
            model = load_checkpoint(pretrained(args.folder / f"{name}_{args.steps}_{seed}", source, seed, args)).model
            errors = np.array([eye_psnr(model, each) for each in sources.values()])
            found[name].append(errors)
            print(f"trained from {name}, seed {seed}: " + in_words(errors, sources), flush=True)
    for name, errors in found.items():
        print(f"trained from {name}, mean: " + in_words(np.mean(errors, axis=0), sources))


def in_words(errors: np.ndarray, sources: Iterable[str]) -> str:
    rows = {**dict(zip(sources, errors)), "both": errors.mean(axis=0)}
    return "; ".join(f"on {name} autoencoder {vae:.2f}, model {whole:.2f} dB" for name, (vae, whole) in rows.items())


def eye_psnr(model: VAEGaze, source: str) -> tuple[float, float]:
    """In dB, of the held-out eyes of a source: only passed through the autoencoder, and redrawn."""
    params = PretrainParams(sources=(source,), held_out=256)
    (held_out,), _ = held_out_frames(open_sources(params), params, model.canvas, torch.device("cpu"))
    return tuple(eye_errors(model, redraw, held_out.batches)[0] for redraw in (redraw_through_vae, redraw_eyes))


def pretrained(run: Path, source: str, seed: int, args: argparse.Namespace) -> Path:
    """The checkpoint of a small model that was pre-trained from one source, now or by an earlier call."""
    output, settings = run / "model.pth", run.with_suffix(".yaml")
    if not output.exists():
        params = {"sources": [source], "seed": seed, "save_dir": str(run), "output": str(output), **SETTINGS}
        params |= dict.fromkeys(("vae_steps", "latent_steps", "pixel_steps"), args.steps)
        model = {"image_size": args.size, **MODEL}
        settings.write_text(yaml.safe_dump({"pretrain_params": params, "model_params": model}))
        resume = ["--resume"] if (run / "resume.pth").exists() else []
        assert pretrain.main(["--config", str(settings), *resume]) == 0
    return output


if __name__ == "__main__":
    main()
