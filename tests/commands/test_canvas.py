"""A model whose canvas is a band around the eyes, through the commands: train, evaluate, redirect, convert."""

import json

import numpy as np
import pytest
import torch
from command_runs import PERSON, PHOTO, ROOT, assert_one_line, command
from conftest import TINY_CONFIG, make_tiny_model, process_restored
from PIL import Image

from vaegaze.commands import evaluate, redirect
from vaegaze.geometry.camera import camera_from_config
from vaegaze.models import VAEGaze
from vaegaze.models.checkpoint import load_checkpoint, save_checkpoint, weights_fingerprint

CANVAS = {"width_px": 192, "height_px": 64, "focal_px": 1000, "looks_at": "eyes"}
CONFIG = {key: value for key, value in TINY_CONFIG.items() if key != "image_size"} | {"canvas": CANVAS}
CAMERA = camera_from_config(CANVAS)


@pytest.fixture(scope="module")
def band(tmp_path_factory):
    path = tmp_path_factory.mktemp("band") / "band.pth"
    save_checkpoint(path, make_tiny_model(CONFIG), {"trained_on": "nothing", "drops_reference": True})
    return path


@pytest.fixture(scope="module")
def tuned(band, world, tmp_path_factory):
    """Two steps on a person, with the shipped estimator; the outcome and the run's folder."""
    save_dir = tmp_path_factory.mktemp("tuned")
    estimator = ROOT / "checkpoints" / "gaze_estimator" / "gaze_estimator.pth"
    flags = ["--checkpoint_path", band, "--hdf_path", world.hdf_path, "--person_id", PERSON, "--num_samples", 4]
    flags += ["--num_eval_samples", 2, "--num_steps", 2, "--vgg_loss", 0, "--device", "cpu", "--sample_every", 1]
    return command(*flags, "--estimator", estimator, "--save_dir", save_dir), save_dir / PERSON


def run(main, *flags) -> int:
    with process_restored():
        torch.set_num_threads(1)
        return main([str(flag) for flag in flags])


def test_a_model_has_one_canvas(band):
    model = load_checkpoint(band).model
    assert model.canvas == CAMERA and model.config["canvas"] == CANVAS
    with pytest.raises(ValueError, match="either image_size or canvas"):
        VAEGaze({**CONFIG, "image_size": 64})
    with pytest.raises(ValueError, match=r"canvas\.height_px 60 cannot be halved 3 times"):
        VAEGaze({**CONFIG, "canvas": {**CANVAS, "height_px": 60}})


def test_the_canvas_belongs_to_what_a_base_is_known_by():
    prints = [
        weights_fingerprint(make_tiny_model({**CONFIG, "canvas": {**CANVAS, "focal_px": f}})) for f in (1000, 900)
    ]
    assert prints[0] != prints[1]


def test_fine_tuning_runs_end_to_end(tuned):
    outcome, folder = tuned
    assert outcome.code == 0, outcome
    checkpoint = load_checkpoint(folder / "finetuned_model.pth")
    assert checkpoint.model.canvas == CAMERA and checkpoint.references[0].image.shape == (64, 192, 3)
    tuned_numbers = json.loads((folder / "summary.json").read_text())
    assert "NaN" not in json.dumps(tuned_numbers)
    assert (folder / "report.html").exists() and (folder / "gazes.png").exists()


def test_one_photo_fine_tunes_a_band(band, tmp_path):
    flags = ["--checkpoint_path", band, *PHOTO, "--num_steps", 2, "--vgg_loss", 0, "--device", "cpu"]
    outcome = command(*flags, "--estimator", "none", "--sample_every", 0, "--save_dir", tmp_path)
    assert outcome.code == 0, outcome


def test_evaluating(tuned, world, tmp_path):
    output = tmp_path / "numbers.json"
    flags = ["--checkpoint", tuned[1] / "finetuned_model.pth", "--hdf_path", world.hdf_path, "--person_id", PERSON]
    assert run(evaluate.main, *flags, "--output", output, "--device", "cpu") == 0
    numbers = json.loads(output.read_text())
    assert numbers["outside_mask"] == 0 and numbers["eye_l1"] > 0


@pytest.mark.parametrize("flags", [("--gaze", 0.2, 0.3), ("--sweep", "grid")])
def test_redirecting_a_photo(band, flags, tmp_path):
    output = tmp_path / "out.png"
    photo = ("--image", PHOTO[2], "--mask", PHOTO[4], "--device", "cpu")
    assert run(redirect.main, "--checkpoint", band, *photo, *flags, "--output", output) == 0
    if "--gaze" in flags:
        before, after = (np.asarray(Image.open(path).convert("RGB")) for path in (PHOTO[2], output))
        mask = np.asarray(Image.open(PHOTO[4]).convert("L")) >= 128
        changed = (before != after).any(axis=-1)
        assert not changed[~mask].any() and changed[mask].mean() > 0.5


def test_redirecting_a_frame_and_a_video(band, world, talking, tmp_path):
    pytest.importorskip("av")
    from videos import read, with_sound

    model, device = ("--checkpoint", band, "--gaze", 0, 0.2), ("--device", "cpu")
    frame = ("--hdf_path", world.hdf_path, "--person_id", PERSON, "--index", 1, "--output", tmp_path / "frame.png")
    assert run(redirect.main, *model, *device, *frame) == 0
    assert Image.open(tmp_path / "frame.png").size == (192, 64)
    with_sound(tmp_path / "talk.mp4", talking.frames[:8])
    assert run(redirect.main, *model, *device, "--video", tmp_path / "talk.mp4", "--output", tmp_path / "out.mp4") == 0
    before, after = read(tmp_path / "talk.mp4")[0], read(tmp_path / "out.mp4")[0]
    assert before.shape == after.shape
    changed = np.abs(before.astype(int) - after).max(axis=-1)
    assert changed[:, :100].mean() < 2 < changed.max()


def test_there_and_back_through_diffusers(band, run_convert, tmp_path):
    pytest.importorskip("safetensors")
    run_convert("--checkpoint", band, "--to_diffusers", tmp_path / "parts")
    assert json.loads((tmp_path / "parts/unet/vaegaze.json").read_text())["canvas"] == CANVAS
    flags = ["--vae", tmp_path / "parts/vae", "--unet", tmp_path / "parts/unet"]
    flags += ["--gaze_mlp", tmp_path / "parts/gaze_mlp.safetensors"]
    outcome = run_convert(*flags)
    assert "192 × 64 px" in outcome.out and "canvas" in outcome.out
    again = load_checkpoint(tmp_path / "full.pth").model
    assert again.canvas == CAMERA and weights_fingerprint(again) == weights_fingerprint(load_checkpoint(band).model)
    assert_one_line(
        run_convert(*flags, "--overwrite", "--image_size", 64, ok=False), "canvas", "leave out --image_size"
    )
