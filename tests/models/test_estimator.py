"""The gaze estimator: its files, its training, and that both protocols are what they say."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import process_restored
from torch import nn

from vaegaze.commands import train_estimator
from vaegaze.errors import UserError
from vaegaze.evaluation.gaze import angular_error_deg, gaze_errors, read_gaze
from vaegaze.evaluation.metrics import lpips
from vaegaze.geometry import camera as geometry
from vaegaze.geometry.camera import canvas_camera
from vaegaze.models import device, to_unit_range
from vaegaze.models.estimator import CANVAS, GazeEstimator, WhatAndWhere, load_estimator, save_estimator
from vaegaze.renderer import data_set as synthetic
from vaegaze.training.references import choose_references
from vaegaze.training.tensors import prepare_frames


@pytest.fixture
def estimator():
    torch.manual_seed(0)
    return GazeEstimator().eval()


# --- angles -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "degrees"),
    [
        ((0, 0), (0, 0), 0),
        ((0.2, 0), (-0.1, 0), np.degrees(0.3)),
        ((0, 0.25), (0, -0.25), np.degrees(0.5)),
        ((0.1, 1e-7), (0.1, 0), np.degrees(1e-7 * np.cos(0.1))),
        ((0, np.pi / 2), (0, -np.pi / 2), 180),
        ((np.pi / 2, 0.3), (np.pi / 2, -1), 0),
    ],
)
def test_angular_errors_by_hand(first, second, degrees):
    error = angular_error_deg(torch.tensor([first], dtype=torch.float64), torch.tensor([second], dtype=torch.float64))
    assert error.item() == pytest.approx(degrees, rel=1e-5, abs=1e-5)


def test_angular_errors_are_those_of_the_geometry():
    angles = np.random.default_rng(0).uniform(-1.2, 1.2, size=(2, 50, 2))
    cosines = (geometry.gaze_vector(angles[0]) * geometry.gaze_vector(angles[1])).sum(axis=-1)
    expected = np.degrees(np.arccos(cosines))
    np.testing.assert_allclose(angular_error_deg(*map(torch.from_numpy, angles)), expected, rtol=1e-6)


def test_both_protocols_on_known_angles(tiny_model, rendered_samples):
    """An estimator that reads pitch off the mean brightness."""

    def brightness(pictures):
        pitch = pictures.mean(dim=(1, 2, 3))
        return torch.stack([pitch, torch.zeros_like(pitch)], dim=1)

    frames = prepare_frames(tiny_model, rendered_samples, choose_references(rendered_samples), torch.device("cpu"))
    frames.target[:] = 0.2
    frames.gaze[:] = torch.tensor([0.5, 0.0])
    pictures = np.full(rendered_samples.images.shape, 140, np.uint8)
    pitch = to_unit_range(pictures).mean().item()
    numbers = gaze_errors(brightness, pictures, frames, rendered_samples.canvas)
    assert numbers["gaze_error_deg"] == pytest.approx(np.degrees(0.5 - pitch), rel=1e-5)
    assert numbers["gaze_error_to_target_deg"] == pytest.approx(np.degrees(0.2 - pitch), rel=1e-5)
    assert numbers["estimator_error_deg"] == pytest.approx(np.degrees(0.3), rel=1e-5)


# --- LPIPS ------------------------------------------------------------------------------------------------------------


def test_lpips_only_where_its_weights_are(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    pictures = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert lpips(pictures, pictures) is None
    assert not list(tmp_path.iterdir()), "nothing is fetched"

    from torchvision.models import alexnet

    torch.manual_seed(0)
    weights = tmp_path / "hub" / "checkpoints" / "alexnet-owt-7be5be79.pth"
    weights.parent.mkdir(parents=True)
    torch.save(alexnet().state_dict(), weights)
    assert lpips(pictures, pictures) == 0
    assert lpips(pictures, pictures.flip(-1)) > 0.001


# --- the network and its files ----------------------------------------------------------------------------------------


def test_the_backbone_is_torchvisions(estimator):
    from torchvision.models.resnet import BasicBlock, ResNet

    theirs = ResNet(BasicBlock, [1, 1, 1, 1])
    theirs.conv1 = nn.Conv2d(3, 64, 5, stride=2, padding=2, bias=False)
    theirs.maxpool = theirs.layer4 = theirs.fc = nn.Identity()
    theirs.avgpool = WhatAndWhere()
    theirs.load_state_dict(estimator.backbone.state_dict())
    pictures = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        assert torch.equal(estimator.backbone(pictures), theirs.eval()(pictures))


def test_pictures_of_any_canvas(estimator):
    """A face as large as the band's is read like it; a band twice as fine nearly so."""
    person, scene = synthetic.person_from_seed(0, 1, "test"), synthetic.scene_from_seed(0, 1, 1, "test")
    scene = replace(scene, head=(0.0, 0.0))

    def read(canvas):
        picture = synthetic.render(person, scene, canvas).image
        head = torch.tensor([scene.head], dtype=torch.float32)
        return read_gaze(estimator, to_unit_range(picture[None]), head, canvas)

    band = read(CANVAS)
    assert torch.equal(band, estimator(to_unit_range(synthetic.render(person, scene, CANVAS).image[None])))
    for canvas in (replace(CANVAS, width_px=256, height_px=128, focal_px=2 * CANVAS.focal_px), canvas_camera(256)):
        torch.testing.assert_close(read(canvas), band, atol=0.02, rtol=0.1)


def test_a_mirrored_face_looks_where_a_mirror_makes_it_look(estimator):
    pictures = torch.rand(2, 3, *CANVAS.shape) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(estimator(pictures.flip(-1)), estimator(pictures) * torch.tensor([1, -1]))


def test_where_a_feature_is():
    features = torch.zeros(1, 2, 5, 9)
    features[0, 0, 4, 2] = features[0, 1, 0, 8] = 50.0  # a peak in each of two channels
    expected = [50 / 45, 50 / 45, 1.0, -1.0, -0.5, 1.0]
    torch.testing.assert_close(WhatAndWhere()(features), torch.tensor([expected]), atol=1e-4, rtol=0)


def test_round_trip(estimator, tmp_path):
    info = {"own_error_deg": {"all": 1.5}}
    save_estimator(tmp_path / "estimator.pth", estimator, info)
    assert (tmp_path / "estimator.pth").stat().st_size < 5e6
    loaded = load_estimator(tmp_path / "estimator.pth")
    assert loaded.info == info and not loaded.model.training
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    expected = estimator.state_dict()
    for name, tensor in loaded.model.state_dict().items():
        assert torch.equal(tensor, expected[name].half().to(tensor.dtype)), name


def test_what_is_no_estimator(estimator, tmp_path):
    path = tmp_path / "estimator.pth"
    for info in (
        {},
        {"own_error_deg": {"all": float("nan")}},
        {"own_error_deg": 1.5},
        {"own_error_deg": {"all": "low"}},
    ):
        save_estimator(path, estimator, info)
        with pytest.raises(UserError, match="not a gaze estimator"):
            load_estimator(path)


# --- training ---------------------------------------------------------------------------------------------------------


TINY = ("--frames=5", "--epochs=2", "--batch_size=2")


def train(*flags):
    with process_restored():
        return train_estimator.main([*flags, "--threads=1", "--workers=0", "--test_frames=8"])


def test_the_command_end_to_end(tmp_path, capsys, monkeypatch):
    output, splits, render_all = tmp_path / "estimator.pth", [], train_estimator.RenderedFrames.render_all
    monkeypatch.setattr(
        train_estimator.RenderedFrames, "render_all", lambda self: splits.append(self.split) or render_all(self)
    )
    assert train(f"--output={output}", *TINY) == 0
    assert splits == ["train", "test"]
    loaded = load_estimator(output)
    errors = loaded.info["own_error_deg"]
    assert set(errors) <= {"all", "with glasses", "without"} and errors["all"] > 0
    assert f"| all | {errors['all']:.2f}° |" in output.with_suffix(".md").read_text()
    assert "5 frames" in loaded.info["trained_on"]
    before = output.read_bytes()

    capsys.readouterr()
    assert train(f"--output={output}", *TINY) == 2
    assert "--overwrite" in capsys.readouterr().err and output.read_bytes() == before
    assert train(f"--output={output}", *TINY, "--overwrite") == 0
    assert output.read_bytes() == before, "the same seed gives the same estimator"


@pytest.mark.parametrize(("native", "precision"), [(True, "bf16"), (False, "fp32")])
def test_the_precision_that_auto_comes_to_is_written_down(native, precision, tmp_path, monkeypatch):
    monkeypatch.setattr(device, "has_native_bf16", lambda name: native)
    assert train(f"--output={tmp_path / 'estimator.pth'}", *TINY) == 0
    written = f'precision: "{precision}"'
    assert written in load_estimator(tmp_path / "estimator.pth").info["config"]
    assert written in (tmp_path / "estimator.md").read_text()


def test_test_frames_are_true_pictures_of_test_persons(monkeypatch):
    monkeypatch.setattr(train_estimator, "RENDERED_AT_ONCE", 2)
    params = train_estimator.EstimatorParams(photographic=1.0, workers=1)
    images, gaze, glasses = train_estimator.RenderedFrames("test", 3, params).render_all()
    for i, (image, angles, worn) in enumerate(zip(images, gaze, glasses)):
        rng = np.random.default_rng([0, i])
        number, sample = int(rng.integers(params.persons)), int(rng.integers(params.samples_per_person))
        person = synthetic.person_from_seed(0, number, "test")
        scene = synthetic.scene_from_seed(0, number, sample, "test")
        assert np.array_equal(image, synthetic.render(person, scene, CANVAS).image)
        np.testing.assert_allclose(angles, scene.gaze, atol=1e-6)
        assert bool(worn) == person.glasses


def test_a_page_of_ones_own_beside_the_output_is_kept(tmp_path, capsys):
    page = tmp_path / "notes.md"
    page.write_text("# My notes\n")
    for output, words in ((tmp_path / "notes.pth", "notes.md exists and is not an earlier"), (page, "ends in .pth")):
        assert train(f"--output={output}", *TINY, "--overwrite") == 2
        assert words in capsys.readouterr().err
    assert page.read_text() == "# My notes\n" and list(tmp_path.iterdir()) == [page]
