"""python -m benchmarks.gpu, tried on the CPU at a tiny size. See also test_gpu.py."""

import json
import re

import numpy as np
import pytest
import torch
from conftest import narrow_vgg, process_restored
from PIL import Image

from benchmarks import gpu
from vaegaze.geometry.camera import canvas_camera
from vaegaze.models import VAEGaze
from vaegaze.training.strategies import STRATEGIES

TRIAL = ("--device", "cpu", "--size", "tiny", "--steps", "2", "--curve_steps", "3")


def run(*flags):
    with process_restored():
        torch.set_num_threads(1)
        return gpu.main([str(flag) for flag in flags])


@pytest.mark.slow
@narrow_vgg()
def test_one_call_measures_everything(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(gpu, "has_native_bf16", lambda device: True)  # it is emulated, for the second curve
    page = tmp_path / "docs" / "trial.md"
    assert run(*TRIAL, "--output", page) == 0, capsys.readouterr().err
    assert {path.name for path in page.parent.iterdir()} == {"trial.md", "trial.json", "trial_curves.png"}

    content = json.loads(page.with_suffix(".json").read_text())
    assert content["settings"]["steps"] == 2 and content["settings"]["device"] == "cpu"
    assert content["machine"]["PyTorch"] == torch.__version__.partition("+")[0] and content["machine"]["GPU"] is None
    rows = content["rows"]
    assert [(row["strategy"], row["gradient_checkpointing"]) for row in rows] == [
        (strategy, checkpointing) for strategy in STRATEGIES for checkpointing in (False, True)
    ]
    for row in rows:
        assert row["sec_per_step"] > 0 and row["peak_memory_mb"] > 100 and row["failure"] is None
    trainable = {row["strategy"]: row["trainable"] for row in rows}
    assert trainable["minimal"] < trainable["selective"] < trainable["full"]

    fp32, bf16 = content["curves"]
    assert (bf16["precision"], fp32["precision"]) == ("bf16", "fp32")
    for curve in (bf16, fp32):
        assert len(curve["losses"]) == 3 and np.isfinite(curve["losses"]).all() and curve["sec_per_step"] > 0
        assert curve["before"].keys() == curve["after"].keys() >= {"eye_l1", "eye_psnr"}
        assert np.isfinite([*curve["before"].values(), *curve["after"].values()]).all()
        assert curve["after"] != curve["before"] == fp32["before"]
    (difference,) = content["relative_differences"].values()
    expected = np.abs(np.array(bf16["losses"]) - fp32["losses"]) / fp32["losses"]
    assert difference["per_step"] == pytest.approx(expected.tolist()) and 0 < difference["max"] < 0.1
    assert difference["mean"] == pytest.approx(expected.mean())

    text = page.read_text()
    for row in rows:
        assert f"| `{row['strategy']}` | {row['trainable']:,} |" in text
    for curve in (bf16, fp32):
        assert f"{curve['after']['eye_psnr']:.2f} dB" in text
    assert "nan" not in text.lower() and "None" not in text
    for name in re.findall(r"\]\(([^)]+)\)", text):
        assert (page.parent / name).is_file()
    with Image.open(page.parent / "trial_curves.png") as picture:
        assert picture.width > 500


@narrow_vgg()
def test_a_row_that_does_not_fit_says_so_and_the_others_follow(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "STRATEGIES", ("minimal", "full"))
    train = gpu.train

    def too_large(model, samples, settings, *others):
        if settings.finetune_strategy == "full" and not settings.gradient_checkpointing:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return train(model, samples, settings, *others)

    monkeypatch.setattr(gpu, "train", too_large)
    assert run(*TRIAL, "--curve_steps", 1, "--steps", 1, "--output", tmp_path / "gpu.md") == 0
    rows = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    assert len(rows) == 4
    assert [row["failure"] for row in rows] == [None, None, "out of memory", None]
    assert "| `full` | – | no | out of memory | – |" in (tmp_path / "gpu.md").read_text()


def test_a_row_whose_loss_is_not_finite_says_so(monkeypatch):
    monkeypatch.setattr(gpu, "random_model", lambda config, device: broken_model(config))
    config = gpu.CONFIGS["tiny"]
    samples = gpu.rendered_samples(2, canvas_camera(config["image_size"]))
    row = gpu.measure_row(config, samples, "minimal", False, 2, torch.device("cpu"), "fp32")
    assert row.failure.endswith("became infinite or NaN at step 1") and row.sec_per_step is None


def broken_model(config):
    model = VAEGaze(config)
    torch.nn.init.constant_(model.unet.conv_out.bias, torch.nan)
    return model


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_ends_with_one_line(tmp_path, capsys):
    assert run("--output", tmp_path / "gpu.md") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: device: cuda was requested") and error.count("\n") == 1 and "--device cpu" in error
    assert not list(tmp_path.iterdir())


def test_full_is_the_published_size():
    with torch.device("meta"):
        model = VAEGaze(gpu.CONFIGS["full"])
    assert sum(parameter.numel() for parameter in model.parameters()) == 933_767_595  # as in test_full_size


def test_the_first_steps_are_not_timed():
    seconds = [9.0] * gpu.WARM_UP_STEPS + [1.0, 2.0, 3.0]
    assert gpu.median_sec(seconds) == 2.0
    assert gpu.median_sec([9.0, 4.0]) == 4.0 and gpu.median_sec([9.0]) == 9.0
