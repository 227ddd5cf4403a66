"""Numbers at the frames' own size: each reads what was put into the picture."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from vaegaze.evaluation.full_size import judge
from vaegaze.evaluation.gaze import reading_errors
from vaegaze.evaluation.iris import find_irises
from vaegaze.evaluation.rendered_faces import rendered_face
from vaegaze.geometry.camera import canvas_camera
from vaegaze.images.colours import colour_shift, lab
from vaegaze.renderer import render
from vaegaze.renderer.data_set import person_from_seed, scene_from_seed

WHO = ("val", 5, 2, 1)  # split, seed, person, sample
CANVAS = canvas_camera(128)


@pytest.fixture(scope="module")
def face():
    return rendered_face(*WHO, CANVAS, gazes=8)


def changed(face, change):
    return np.stack([change(picture) for picture in face.pictures])


def blurred(picture):
    return np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(2)))


def test_true_pictures_score_as_true(face):
    numbers = judge([face.pictures], [face])
    assert numbers["eye_psnr"] == 100 and numbers["eye_l1"] == 0
    assert numbers["sharpness"] == numbers["edge"] == 1 and numbers["sclera_shift"] == numbers["skin_shift"] == 0
    assert numbers["travel_yaw"] == pytest.approx(1, abs=0.05) and numbers["travel_pitch"] == pytest.approx(1, abs=0.05)
    assert numbers["iris_offset"] < 1


def test_eyes_at_half_the_gaze_travel_half_the_way(face):
    """Half of each gaze's way from their mean, so that the irises' way halves."""
    split, seed, number, sample = WHO
    person, scene = person_from_seed(seed, number, split), scene_from_seed(seed, number, sample, split)
    halves = face.gazes.mean(axis=0) + (face.gazes - face.gazes.mean(axis=0)) / 2
    drawn = [render(person, replace(scene, gaze=tuple(gaze)), face.camera).image for gaze in halves.tolist()]
    numbers = judge([np.stack(drawn)], [face])
    assert numbers["travel_yaw"] == pytest.approx(0.5, abs=0.08)
    assert numbers["travel_pitch"] == pytest.approx(0.5, abs=0.1)
    still = judge([np.stack([face.pictures[0]] * len(face.gazes))], [face])
    assert abs(still["travel_yaw"]) < 0.01 and abs(still["travel_pitch"]) < 0.01
    assert still["iris_offset"] > 2


def test_a_blur_moves_no_iris_and_is_told_from_sharpness(face):
    numbers = judge([changed(face, blurred)], [face])
    assert numbers["sharpness"] < 0.2
    assert numbers["travel_yaw"] == pytest.approx(1, abs=0.05) and numbers["travel_pitch"] == pytest.approx(1, abs=0.1)


def test_irises_are_found_to_the_pixel(face):
    found = np.stack([find_irises(picture, face.eyes) for picture in face.pictures])
    assert np.median(np.abs(found - face.irises)[..., 0]) < 0.5 and np.median(np.abs(found - face.irises)[..., 1]) < 1.5


def test_a_pasted_squares_edge_shows(face):
    """A copy that is darker inside the mask: its border is a step."""

    def darker(picture):
        return np.where(face.photo.mask[..., None], picture * 0.8, picture).astype(np.uint8)

    numbers = judge([changed(face, darker)], [face])
    assert numbers["edge"] > 1.5
    assert numbers["skin_shift"] > 3 and numbers["sclera_shift"] > 3


def test_a_known_error(face):
    numbers = judge([changed(face, lambda picture: np.clip(picture.astype(int) + 3, 0, 255).astype(np.uint8))], [face])
    assert numbers["eye_l1"] == pytest.approx(3 / 127.5, rel=0.02)
    assert numbers["eye_psnr"] == pytest.approx(20 * np.log10(255 / 3), abs=0.2)


def test_colours_of_the_standard():
    """White, black, and the primaries' published values under D65."""
    colours = np.array([[255, 255, 255], [0, 0, 0], [255, 0, 0], [0, 0, 255]])
    known = [[100, 0, 0], [0, 0, 0], [53.24, 80.09, 67.20], [32.30, 79.19, -107.86]]
    np.testing.assert_allclose(lab(colours), known, atol=0.1)
    grey, lighter = np.full((5, 3), 119, np.uint8), np.full((5, 3), 124, np.uint8)  # L* 50.03 and 52.0
    assert colour_shift(grey, lighter) == pytest.approx(1.98, abs=0.05)


def test_an_estimators_bias_is_taken_off():
    label = torch.tensor([[0.1, 0.0], [-0.1, 0.2], [0.0, -0.2]])
    bias = torch.tensor([0.05, 0.0])
    errors = reading_errors(label + bias, label + bias, label)
    assert errors["gaze_error_deg"] == pytest.approx(np.degrees(0.05), rel=1e-4)
    assert errors["gaze_error_to_target_deg"] == 0 and errors["gaze_error_unbiased_deg"] < 1e-4
    assert reading_errors(label[:1], label[:1], label[:1])["gaze_error_unbiased_deg"] is None
