"""Pre-training of a model that learns masks in the shape of eyes."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import TINY_CONFIG

from vaegaze.config.pretrain import ModelParams
from vaegaze.geometry.camera import EYE_CORNERS_MM, LIDS, canvas_camera
from vaegaze.geometry.eye_regions import circles_from_parsing, draw_lids, draw_squares
from vaegaze.pretraining.base_model import build_base_model
from vaegaze.pretraining.data_sets import DataSetSource
from vaegaze.pretraining.mask_jitter import JITTER, SCALES, jittered_corners
from vaegaze.pretraining.rendered import RenderedSource
from vaegaze.renderer import data_set, render

CANVAS = canvas_camera(128)
LIDS_CANVAS = replace(CANVAS, eye_masks=LIDS)


def is_square(mask: np.ndarray) -> bool:
    """Whether the mask's left half is one full rectangle."""
    half = mask[:, : mask.shape[1] // 2]
    return bool(half[np.ix_(half.any(axis=1), half.any(axis=0))].all())


def test_corners_move_as_far_as_stated():
    corners = LIDS_CANVAS.project(EYE_CORNERS_MM, np.zeros(2))
    drawn = np.stack([jittered_corners(corners, np.random.default_rng(seed)) for seed in range(2000)])
    moved = drawn.mean(axis=2) - corners.mean(axis=1)
    assert moved.std() == pytest.approx(JITTER * CANVAS.eye_radius_px / np.sqrt(2), rel=0.05)
    wide = np.linalg.norm(drawn[:, :, 0] - drawn[:, :, 1], axis=-1).mean(axis=1) / (2 * CANVAS.eye_radius_px)
    assert wide.mean() == pytest.approx(np.mean(SCALES), rel=0.02) and wide.min() > 0.7 and wide.max() < 1.4


@pytest.mark.parametrize(("canvas", "low", "high"), [(CANVAS, 1, 1), (LIDS_CANVAS, 0.08, 0.35)])
def test_rendered_masks_are_squares_now_and_then(canvas, low, high):
    source = RenderedSource(canvas, 0, 50, 8)
    scene = data_set.scene_from_seed(0, 1, 2)
    squares = [is_square(source._eye_mask(scene, np.random.default_rng(seed))) for seed in range(100)]
    assert low <= np.mean(squares) <= high


def test_a_data_set_frame_keeps_its_varied_mask(tmp_path):
    path = tmp_path / "data.h5"
    data_set.write_hdf5(path, 1, size=128, samples=4, split="all")
    settings = {"frames_per_person": 1000, "entropy": (0, 1)}
    read = [
        DataSetSource(str(path), ("person_001",), {"person_001": 20}, LIDS_CANVAS, **settings)._visit(visit)
        for visit in (0, 1)
    ]
    first, again = (samples.eye_masks[np.argsort(samples.indices)] for samples in read)
    np.testing.assert_array_equal(first, again)
    squares = [is_square(mask) for mask in first]
    assert any(squares) != all(squares)
    heads = read[0].head[np.argsort(read[0].indices)]
    exact = [draw_lids(LIDS_CANVAS.project(EYE_CORNERS_MM, head), LIDS_CANVAS.shape) for head in heads]
    overlap = [(a & b).sum() / (a | b).sum() for a, b in zip(first, exact)]
    assert min(overlap) > 0.4 and max(overlap) < 1


def test_the_settings_name_the_shape():
    parts = {name: TINY_CONFIG[name] for name in ("vae", "unet", "gaze_mlp")}
    model = build_base_model(ModelParams(eye_masks="lids", **parts)).model
    assert model.canvas.eye_masks == "lids" and model.config["eye_masks"] == "lids"
    assert "eye_masks" not in build_base_model(ModelParams(**parts)).model.config


@pytest.mark.parametrize("size", [48, 128])
def test_rendered_squares_are_as_large_as_those_of_a_file(size):
    """A file's squares follow from the pixels that its parsing marks, rendered ones from the head pose."""
    canvas, source = canvas_camera(size), RenderedSource(canvas_camera(size), 0, 50, 8)
    areas = []
    for number in range(1, 13):
        scene = data_set.scene_from_seed(0, number, 0, "train")
        person = data_set.person_from_seed(0, number, "train")
        circles = circles_from_parsing(render(person, scene, canvas).face_parsing)
        of_file = draw_squares(circles, canvas.shape).sum()
        rendered = [source._eye_mask(scene, np.random.default_rng([number, seed])).sum() for seed in range(20)]
        areas.append((of_file / np.mean(rendered), np.min(rendered) <= of_file))
    ratios, covered = np.transpose(areas)
    assert np.mean(ratios) == pytest.approx(1, abs=0.15) and covered.mean() > 0.9
