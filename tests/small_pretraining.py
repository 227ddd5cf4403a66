"""A pre-training of a few steps: its settings, and how two runs are compared."""

import torch

STEPS = {"vae_steps": 3, "vae_band_steps": 2, "latent_steps": 2, "pixel_steps": 2}
PHASES = ["autoencoder", "UNet on latents", "UNet on pixels"]
BATCHES = {"vae_batch_size": 1, "latent_batch_size": 1, "pixel_batch_size": 1, "held_out": 8}
SMALL = {**STEPS, **BATCHES, "eval_every": 2, "min_vae_eye_psnr": 0, "threads": 1, "persons": 50, "estimator": "none"}


def assert_same_model(model, other):
    assert model.config == other.config and model.vae.scaling_factor == other.vae.scaling_factor
    expected = other.state_dict()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


def without_seconds(records):
    return [
        {key: value for key, value in record.items() if key not in ("seconds", "waiting_share")} for record in records
    ]
