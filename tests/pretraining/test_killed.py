"""Killed at random moments and resumed: the same weights, bit for bit."""

import multiprocessing
import random
import signal
import sys

import pytest
import torch
import yaml
from conftest import TINY_CONFIG

from vaegaze.commands import pretrain
from vaegaze.renderer import data_set

KILLS = 20
SETTINGS = {
    "vae_steps": 40, "vae_band_steps": 20, "latent_steps": 40, "pixel_steps": 40, "held_out": 8, "eval_every": 5,
    "min_vae_eye_psnr": 0, "threads": 1, "vae_batch_size": 1, "latent_batch_size": 1, "pixel_batch_size": 1,
    "ema": 0.9, "gradient_accumulation": 2, "frames_per_person": 3, "estimator": "none", "workers": 1,
}  # fmt: skip


def command(path, *flags):
    """In a process of its own, forked so that nothing is imported again."""
    process = multiprocessing.get_context("fork").Process(
        target=lambda: sys.exit(pretrain.main(["--config", str(path), *flags]))
    )
    process.start()
    return process


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path):
    data_set.write_hdf5(tmp_path / "data.h5", 10, size=32, samples=4, split="all")
    paths = {}
    for name in ("whole", "killed"):
        params = {"save_dir": str(tmp_path / name), "output": str(tmp_path / name / "model.pth"), **SETTINGS}
        params["sources"] = [str(tmp_path / "data.h5"), "rendered"]
        paths[name] = tmp_path / f"{name}.yaml"
        paths[name].write_text(yaml.safe_dump({"pretrain_params": params, "model_params": TINY_CONFIG}))
    whole = command(paths["whole"])
    whole.join()
    assert whole.exitcode == 0

    # A kill hits whatever is under way: a step, a measurement, a save. The longer it lives, the farther it gets.
    rng, kills, resumed = random.Random(0), 0, 0
    run, state = tmp_path / "killed", tmp_path / "killed" / "resume.pth"
    while kills < KILLS:
        resumed += state.exists()
        process = command(paths["killed"], "--resume" if state.exists() else "--overwrite")
        process.join(timeout=rng.uniform(0.3, 2.5))
        if process.exitcode is not None:
            assert process.exitcode == 0
            break
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        kills += 1
    if not (run / "model.pth").exists():
        last = command(paths["killed"], "--resume" if state.exists() else "--overwrite")
        last.join()
        assert last.exitcode == 0
    print(f"{kills} kills, {resumed} times resumed")
    assert kills >= 5 and resumed >= 3
    states = [torch.load(tmp_path / name / "best.pth", weights_only=True) for name in ("whole", "killed")]
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name]), name
