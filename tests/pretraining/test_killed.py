"""Killed at random moments and resumed: the same weights, bit for bit."""

import multiprocessing
import random
import signal
import sys
import time

import pytest
import torch
import yaml
from conftest import TINY_CONFIG, process_restored

from vaegaze.commands import pretrain
from vaegaze.renderer import data_set

KILLS = 20
SETTINGS = {
    "vae_steps": 12, "vae_band_steps": 6, "latent_steps": 12, "pixel_steps": 12, "held_out": 8, "eval_every": 4,
    "min_vae_eye_psnr": 0, "threads": 1, "vae_batch_size": 1, "latent_batch_size": 1, "pixel_batch_size": 1,
    "ema": 0.9, "gradient_accumulation": 2, "frames_per_person": 3, "estimator": "none", "workers": 1,
}  # fmt: skip


def command(path, *flags):
    """In a process of its own, forked from one that has run it: nothing is imported again."""
    process = multiprocessing.get_context("fork").Process(
        target=lambda: sys.exit(pretrain.main(["--config", str(path), *flags]))
    )
    process.start()
    return process


def settings_in(folder, data):
    """The path of the settings of a run in this folder."""
    params = {"save_dir": str(folder), "output": str(folder / "model.pth"), **SETTINGS}
    params["sources"] = [str(data), "rendered"]
    path = folder.with_suffix(".yaml")
    path.write_text(yaml.safe_dump({"pretrain_params": params, "model_params": TINY_CONFIG}))
    return path


def run_to_the_end(path):
    process = command(path, "--resume" if path.with_suffix("").joinpath("resume.pth").exists() else "--overwrite")
    process.join()
    assert process.exitcode == 0


@pytest.mark.slow(minutes=1)
def test_killed_at_random_moments(tmp_path):
    data_set.write_hdf5(tmp_path / "data.h5", 10, size=32, samples=4, split="all")
    whole = settings_in(tmp_path / "whole", tmp_path / "data.h5")
    started = time.perf_counter()
    with process_restored():
        assert pretrain.main(["--config", str(whole)]) == 0
    seconds = time.perf_counter() - started
    expected = torch.load(tmp_path / "whole" / "best.pth", weights_only=True)

    # A kill hits whatever is under way: a step, a measurement, a save. The longer it lives, the farther it gets; who is
    # finished before the last kill starts over.
    rng, kills, resumed, runs = random.Random(0), 0, 0, 0
    while kills < KILLS:
        run = tmp_path / f"killed_{runs}"
        path, runs = settings_in(run, tmp_path / "data.h5"), runs + 1
        while kills < KILLS and not (run / "model.pth").exists():
            is_resumed = (run / "resume.pth").exists()
            process = command(path, "--resume" if is_resumed else "--overwrite")
            process.join(timeout=rng.uniform(0, seconds / 6))
            if process.exitcode is not None:
                assert process.exitcode == 0
                break
            process.kill()
            process.join()
            assert process.exitcode == -signal.SIGKILL
            kills, resumed = kills + 1, resumed + is_resumed
        if not (run / "model.pth").exists():
            run_to_the_end(path)
        weights = torch.load(run / "best.pth", weights_only=True)
        assert all(torch.equal(tensor, weights[name]) for name, tensor in expected.items())
    print(f"{kills} kills in {runs} runs, {resumed} of them in a resumed one")
    assert resumed >= 3
