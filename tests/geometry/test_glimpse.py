"""A glimpse shows what a warp shows, nearly."""

import numpy as np
import pytest

from vaegaze.geometry.transforms import glimpse, inverse, move, similarity, warp


@pytest.fixture
def picture():
    ys, xs = np.mgrid[:240, :320]
    waves = [np.sin(xs / 9 + shift) * np.cos(ys / 13 - shift) for shift in range(3)]
    return np.rint(127.5 + 100 * np.stack(waves, axis=-1)).astype(np.uint8)


@pytest.mark.parametrize("side_px", [20, 90, 180])  # enlarged, reduced a little, reduced a lot
def test_inside_the_picture_it_is_nearly_a_warp(picture, side_px):
    turned = np.array([0.96, 0.28]) * side_px / 2
    to_square = similarity(np.array([160, 120]) + np.outer([-1, 1], turned), np.array([[0, 32], [64, 32]]))
    seen, exact = glimpse(picture, to_square, 64, 64), warp(picture, to_square, 64, 64)[0]
    assert seen.shape == exact.shape and seen.dtype == np.uint8
    difference = abs(seen.astype(int) - exact)
    assert difference.mean() < 3 and difference.max() < 20, "a shift by half a pixel would be more"
    middle = move(inverse(to_square), np.array([32.0, 32.0])).astype(int)
    assert abs(seen[32, 32].astype(int) - picture[middle[1], middle[0]]).max() < 12


@pytest.mark.parametrize("side_px", [20, 90, 180])
@pytest.mark.parametrize("corner", [(0, 0), (320, 240), (0, 240)])
def test_at_the_edge_it_repeats_the_edge_as_a_warp_does(picture, side_px, corner):
    turned = np.array([0.96, 0.28]) * side_px / 2
    to_square = similarity(np.array(corner) + np.outer([-1, 1], turned), np.array([[0, 32], [64, 32]]))
    seen, (exact, valid) = glimpse(picture, to_square, 64, 64), warp(picture, to_square, 64, 64)
    assert seen.shape == exact.shape and 0.1 < valid.mean() < 0.6
    difference = abs(seen.astype(int) - exact)
    for part in (valid, ~valid):
        assert difference[part].mean() < 4 and difference[part].max() < 30


def test_far_outside_it_is_a_warp(picture):
    to_square = similarity(np.array([[-4000, 30], [-3910, 30]]), np.array([[0, 32], [64, 32]]))
    np.testing.assert_array_equal(glimpse(picture, to_square, 64, 64), warp(picture, to_square, 64, 64)[0])
