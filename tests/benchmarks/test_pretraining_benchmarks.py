"""The benchmarks of pre-training, at a small size: that they measure what they say."""

import math
import multiprocessing
import re
import sys

import h5py
import numpy as np
import pytest
import torch
from conftest import make_tiny_model, process_restored

from benchmarks import equal_worth, streaming
from vaegaze.config.pretrain import RENDERED, PretrainParams
from vaegaze.geometry.camera import canvas_camera
from vaegaze.models.checkpoint import load_checkpoint
from vaegaze.pretraining.losses import redraw_eyes, redraw_through_vae
from vaegaze.pretraining.sources import held_out_frames, open_sources
from vaegaze.renderer import data_set

SIZE_PX = 32


def run(module, monkeypatch, capsys, *flags):
    """What it printed."""
    method = multiprocessing.get_start_method(allow_none=True)
    monkeypatch.setattr(sys, "argv", [module.__name__, *map(str, flags)])
    try:
        with process_restored():
            module.main()
    finally:
        multiprocessing.set_start_method(method, force=True)
    return capsys.readouterr().out


# --- streaming --------------------------------------------------------------------------------------------------------


@pytest.fixture
def few_persons(monkeypatch):
    """Twelve, of three different frames."""
    for name, value in (("PERSONS", 12), ("DIFFERENT", 3), ("BATCH", 2)):
        monkeypatch.setattr(streaming, name, value)


def test_the_streamed_file_repeats_whole_rows(few_persons, tmp_path):
    """Labels, too, and it can be read like any other."""
    streaming.write_file(tmp_path / "data.h5", SIZE_PX, frames=101)
    person, canvas = data_set.person_from_seed(0, 1), canvas_camera(SIZE_PX)
    scenes = [data_set.scene_from_seed(0, 1, i) for i in range(3)]
    drawn, labels = [data_set.render(person, each, canvas) for each in scenes], data_set.labels
    with h5py.File(tmp_path / "data.h5") as file:
        assert [len(group["pixels"]) for group in file.values()] == [9] * 5 + [8] * 7
        rows = ((group, row) for group in file.values() for row in range(len(group["pixels"])))
        for number, (group, row) in enumerate(rows):
            assert np.array_equal(group["pixels"][row], drawn[number % 3].image)
            assert np.array_equal(group["face_parsing"][row], drawn[number % 3].face_parsing)
            assert group["labels"][row] == pytest.approx(labels(person, scenes[number % 3]), abs=1e-6)


def test_streaming(few_persons, tmp_path, monkeypatch, capsys):
    out = run(streaming, monkeypatch, capsys, "--file", tmp_path / "data.h5", "--size", SIZE_PX, "--frames", 100,
              "--steps", 8, "--rounds", 1)  # fmt: skip
    assert "100 frames of 32 px" in out and "split of 12 persons" in out
    pixels, whole, streamed = (float(rate) for rate in re.findall(r"([\d.]+) samples/s", out))
    assert min(pixels, whole, streamed) > 0
    of_pixels, of_same = map(float, re.search(r"([\d.]+) of pixels alone, ([\d.]+) of the same", out).groups())
    of_pairs = float(re.search(r"target and reference: ([\d.]+)", out)[1])
    expected = [streamed / pixels, streamed / whole, 2 * streamed / whole]
    assert [of_pixels, of_same, of_pairs] == pytest.approx(expected, abs=0.02)
    memory = float(re.search(r"memory of the worker: (\d+) MB", out)[1])
    assert 50 < memory < 4000


# --- equal worth ------------------------------------------------------------------------------------------------------


@pytest.fixture
def few_held_out(monkeypatch):
    """Sixteen of each source, eight while it trains."""
    monkeypatch.setitem(equal_worth.SETTINGS, "held_out", 8)
    monkeypatch.setattr(equal_worth, "PretrainParams", lambda **given: PretrainParams(**{**given, "held_out": 16}))


def test_the_eyes_measured_are_those_held_out(few_held_out, tmp_path):
    """Mean of each frame's own, over the eyes' pixels alone, first through the autoencoder, then redrawn."""
    path, model = tmp_path / "data.h5", make_tiny_model()
    data_set.write_hdf5(path, 10, size=SIZE_PX, samples=4, split="all")
    params = PretrainParams(sources=(str(path),), held_out=16)
    (held_out,), _ = held_out_frames(open_sources(params), params, model.canvas, torch.device("cpu"))
    assert sum(len(batch.target) for batch in held_out.batches) == 16
    by_hand = []
    for redraw in (redraw_through_vae, redraw_eyes):
        errors = []
        for batch in held_out.batches:
            with torch.no_grad():
                drawn = redraw(model, batch).clamp(-1, 1)
            for one, other, mask in zip(drawn, batch.target, batch.eye_masks):
                errors.append(10 * math.log10(4 / (one - other)[:, mask[0] > 0].square().mean().item()))
        by_hand.append(np.mean(errors))
    assert equal_worth.eye_psnr(model, str(path)) == pytest.approx(by_hand, abs=0.01)


def test_equal_worth(few_held_out, tmp_path, monkeypatch, capsys):
    """Each model is trained from its own source and measured on both; a second call trains nothing."""
    flags = ["--folder", tmp_path, "--size", SIZE_PX, "--steps", 1, "--persons", 10, "--seeds", 2]
    lines = [line for line in run(equal_worth, monkeypatch, capsys, *flags).splitlines() if line[:7] == "trained"]
    trained = {name: load_checkpoint(tmp_path / f"{name}_1_0" / "model.pth").info["trained_on"] for name in
               ("file", RENDERED)}  # fmt: skip
    assert "8 persons of 10_persons_32.h5" in trained["file"] and "rendered persons only" in trained[RENDERED]

    numbers = {
        line.split(":")[0]: [float(n) for n in re.findall(r"(?:autoencoder|model) ([\d.]+)", line)] for line in lines
    }
    assert len(numbers) == 6
    for on_file_vae, on_file, rendered_vae, rendered, both_vae, both in numbers.values():
        assert both_vae == pytest.approx((on_file_vae + rendered_vae) / 2, abs=0.011)
        assert both == pytest.approx((on_file + rendered) / 2, abs=0.011)
    for name in ("file", RENDERED):
        seeds = [numbers[f"trained from {name}, seed {seed}"] for seed in range(2)]
        assert seeds[0] != seeds[1]
        assert numbers[f"trained from {name}, mean"] == pytest.approx(np.mean(seeds, axis=0), abs=0.011)

    monkeypatch.setattr(equal_worth.pretrain, "main", None)
    assert [
        line for line in run(equal_worth, monkeypatch, capsys, *flags).splitlines() if line[:7] == "trained"
    ] == lines
