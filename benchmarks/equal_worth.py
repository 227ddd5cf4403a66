"""What a data set is worth against rendering on the fly: the same small model pre-trained from either.

    python -m benchmarks.equal_worth

Writes a file of 2,500 rendered persons with 8 frames each, 2,000 of them to train on, and reads it as a foreign one.
Both runs take the same steps without any augmentation, and both models redraw the eyes of the file's val persons.
"""

import argparse
from pathlib import Path

import torch
import yaml

from vaegaze.commands import pretrain
from vaegaze.config.pretrain import RENDERED, PretrainParams
from vaegaze.models.checkpoint import load_checkpoint
from vaegaze.pretraining.losses import eye_errors, redraw_eyes, redraw_through_vae
from vaegaze.pretraining.sources import held_out_frames, open_sources
from vaegaze.renderer import data_set

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("./outputs/equal_worth"))
    parser.add_argument("--size", type=int, default=48, help="of the pictures, px")
    parser.add_argument("--steps", type=int, default=600, help="of each phase")
    parser.add_argument("--persons", type=int, default=2500)
    args = parser.parse_args()
    file = args.folder / f"persons_{args.size}.h5"
    if not file.exists():
        data_set.write_hdf5(file, args.persons, size=args.size, samples=8, split="all")
    runs = {"file": str(file), RENDERED: RENDERED}
    for name, source in runs.items():
        run = args.folder / name
        params = {"sources": [source], "save_dir": str(run), "output": str(run / "model.pth"), **SETTINGS}
        params |= dict.fromkeys(("vae_steps", "latent_steps", "pixel_steps"), args.steps)
        settings = args.folder / f"{name}.yaml"
        settings.write_text(
            yaml.safe_dump({"pretrain_params": params, "model_params": {"image_size": args.size, **MODEL}})
        )
        if not (run / "model.pth").exists():
            assert (
                pretrain.main(["--config", str(settings), *(["--resume"] if (run / "resume.pth").exists() else [])])
                == 0
            )

    params = PretrainParams(sources=(str(file),), held_out=256)
    for name in runs:
        model = load_checkpoint(args.folder / name / "model.pth").model
        (held_out,), _ = held_out_frames(open_sources(params), params, model.canvas, torch.device("cpu"))
        vae, whole = (eye_errors(model, redraw, held_out.batches)[0] for redraw in (redraw_through_vae, redraw_eyes))
        print(f"{name:10} held-out eyes: autoencoder {vae:.2f} dB, whole model {whole:.2f} dB")


if __name__ == "__main__":
    main()
