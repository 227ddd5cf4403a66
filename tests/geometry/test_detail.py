"""Detail that a soft drawing gets from its photo: where nothing moved, and where a part moved as a whole."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageFilter

from vaegaze.geometry.camera import BETWEEN_EYES_MM, LIDS, Camera
from vaegaze.geometry.detail import find_moves, with_detail
from vaegaze.geometry.eye_regions import pose_mask
from vaegaze.images.sharpness import laplacian_variance
from vaegaze.renderer import render
from vaegaze.renderer.data_set import person_from_seed, scene_from_seed

CANVAS = Camera(192, 96, 1000.0, BETWEEN_EYES_MM, eye_masks=LIDS)
MASK = pose_mask(np.zeros(2), CANVAS)
FINE, TO_FINE = 2, np.array([[2.0, 0, 0], [0, 2.0, 0]])  # the photo is twice as large as the canvas


def picture(gaze, size=1) -> np.ndarray:
    camera = Camera(192 * size, 96 * size, 1000.0 * size, BETWEEN_EYES_MM)
    scene = replace(scene_from_seed(0, 3, 0), gaze=gaze, head=(0.0, 0.0), blink=0.0)
    return render(replace(person_from_seed(0, 3), glasses=False), scene, camera).image


def softened(pixels: np.ndarray, sigma: float = 1.5) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(sigma)))


def large(pixels: np.ndarray) -> np.ndarray:
    height, width = pixels.shape[:2]
    return np.asarray(Image.fromarray(pixels).resize((FINE * width, FINE * height), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("gaze, least_gain, most_error", [((0.0, 0.0), 2.0, 0.75), ((0.0, 0.3), 1.5, 0.95)])
def test_a_soft_drawing_becomes_sharper_and_truer(gaze, least_gain, most_error):
    photo, true = picture((0.0, 0.0), FINE), picture(gaze, FINE)
    on_canvas, drawn = picture((0.0, 0.0)), softened(picture(gaze))
    before = large(drawn)
    after = with_detail(before, photo, TO_FINE, find_moves(on_canvas, drawn, MASK, CANVAS))
    there = large(MASK.astype(np.uint8)) > 0
    assert laplacian_variance(after, there) > least_gain * laplacian_variance(before, there)
    errors = [abs(each.astype(float) - true)[there].mean() for each in (before, after)]
    assert errors[1] < most_error * errors[0]


def test_a_photo_that_shows_something_else_gives_less():
    on_canvas = picture((0.0, 0.0))
    drawn = softened(on_canvas)
    total = [
        sum(eye.weights.sum(axis=0)[MASK].mean() for eye in find_moves(each, drawn, MASK, CANVAS))
        for each in (on_canvas, 255 - on_canvas)
    ]
    assert total[1] < 0.6 * total[0]


def test_weights_share_what_there_is():
    on_canvas = picture((0.0, 0.0))
    for eye in find_moves(on_canvas, on_canvas, MASK, CANVAS):
        assert (eye.moves[0] == 0).all() and eye.weights.sum(axis=0).max() <= 1 + 1e-5
        assert eye.weights[0][eye.weights.sum(axis=0) > 0].mean() > 0.5, "what did not move stays"
