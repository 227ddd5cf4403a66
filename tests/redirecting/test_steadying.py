"""What is drawn has the picture's grain and its light, and does not pulse."""

import numpy as np
import pytest

from vaegaze.geometry.camera import BETWEEN_EYES_MM, LIDS, Camera, canvas_camera
from vaegaze.geometry.eye_regions import pose_mask
from vaegaze.geometry.pasting import noise_level, paste_in_regions, with_grain
from vaegaze.redirecting.steadying import SteadyColours

BAND = Camera(96, 48, 500.0, BETWEEN_EYES_MM, eye_masks=LIDS)


def noisy(level, size=(60, 80), seed=0) -> np.ndarray:
    slope = np.mgrid[: size[0], : size[1]].sum(axis=0)[..., None] * np.array([0.4, 0.3, 0.2]) + 60
    noise = np.random.default_rng(seed).normal(0, level, size)[..., None]
    return np.rint(slope + noise).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("level", [0, 3, 8])
def test_a_drawing_gets_the_grain_of_the_picture(level):
    smooth = noisy(0, seed=1)
    assert noise_level(noisy(level)) == pytest.approx(level, abs=0.4)
    grainy = with_grain(smooth, noisy(level), np.random.default_rng(3))
    assert noise_level(grainy) == pytest.approx(level, abs=0.5)
    assert abs((grainy.astype(float) - smooth).mean()) < 0.2 + 0.02 * level
    again = with_grain(smooth, noisy(level), np.random.default_rng(3))
    assert (again == grainy).all()
    assert (with_grain(grainy, grainy, np.random.default_rng(4)) == grainy).all(), "none is missing"


def test_the_paste_of_a_video_has_grain():
    picture, drawn = noisy(5, BAND.shape), noisy(0, BAND.shape)
    to_canvas, mask = np.eye(2, 3), pose_mask(np.zeros(2), BAND)
    pasted = [
        paste_in_regions(picture, np.zeros(2), drawn, to_canvas, BAND, grain=grain)
        for grain in (None, np.random.default_rng(0))
    ]
    deep = np.s_[20:28, 12:30]  # within the left eye's region
    assert mask[deep].all()
    assert [noise_level(each[deep]) > 3 for each in pasted] == [False, True]
    assert all((each[~mask] == picture[~mask]).all() for each in pasted)


def matched(colours, picture, time_sec, person=1, canvas=BAND):
    mask = pose_mask(np.zeros(2), canvas)[None]
    drawn = np.full((1, *canvas.shape, 3), 100, np.uint8)
    pictures = np.full_like(drawn, picture)
    return colours.matched(drawn, pictures, mask, np.ones_like(mask), canvas, [(person, time_sec)])[0][mask[0]].mean()


def test_flicker_of_the_correction_is_damped():
    colours = SteadyColours()
    values = np.array([matched(colours, 110 + 4 * (-1) ** number, number / 30) for number in range(30)])
    assert abs(np.diff(values[8:])).max() < 3, "of 8 in the pictures"
    assert values[8:].mean() == pytest.approx(110, abs=1)


def test_a_cut_and_another_person_count_at_once():
    colours = SteadyColours()
    assert matched(colours, 110, 0.0) == pytest.approx(110, abs=1)
    assert matched(colours, 160, 0.04) == pytest.approx(160, abs=1)
    assert matched(colours, 105, 0.04, person=2) == pytest.approx(105, abs=1)
    assert matched(colours, 160, 0.08) == pytest.approx(160, abs=1)


def test_squares_stay_as_drawn():
    assert matched(SteadyColours(), 160, 0.0, canvas=canvas_camera(32)) == 100
