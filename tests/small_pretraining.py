"""A pre-training of a few steps: its settings, the command on the tiny model, and how two runs are compared."""

from pathlib import Path

import torch
import yaml
from command_runs import Outcome, invoke
from conftest import TINY_CONFIG

from vaegaze.commands import pretrain

STEPS = {"vae_steps": 3, "vae_band_steps": 2, "latent_steps": 2, "pixel_steps": 2}
ONE_STEP = {"vae_steps": 1, "vae_band_steps": 0, "latent_steps": 1, "pixel_steps": 1}
PHASES = ["autoencoder", "UNet on latents", "UNet on pixels"]
BATCHES = {"vae_batch_size": 1, "latent_batch_size": 1, "pixel_batch_size": 1, "held_out": 8}
SMALL = {**STEPS, **BATCHES, "eval_every": 2, "min_vae_eye_psnr": 0, "threads": 1, "persons": 50, "estimator": "none"}
UNCHANGED = dict.fromkeys(("mirror", "colour", "jpeg", "blur", "scale", "shift"), 0)


def run_in(folder: Path, *flags, ok: bool | None = True, **settings) -> Outcome:
    """The command on the tiny model, one step a phase; the run's folder is this one. Keywords are settings."""
    params = {"save_dir": str(folder), "output": str(folder / "model.pth"), **SMALL, **ONE_STEP, **settings}
    path = folder.with_suffix(".yaml")
    path.write_text(yaml.safe_dump({"pretrain_params": params, "model_params": TINY_CONFIG}))
    return invoke(pretrain.main, "--config", path, *flags, ok=ok)


def assert_same_model(model, other):
    assert model.config == other.config and model.vae.scaling_factor == other.vae.scaling_factor
    expected = other.state_dict()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


def without_seconds(records):
    return [
        {key: value for key, value in record.items() if key not in ("seconds", "waiting_share")} for record in records
    ]
