"""Regions in the shape of an eye: what they hold, and how deep."""

import numpy as np
import pytest

from vaegaze.geometry.eye_regions import LIDS_ABOVE, LIDS_BELOW, LIDS_WIDTH, draw_lids, lids_depth

LEVEL = np.array([[40.0, 50.0], [60.0, 50.0]])  # centre (50, 50), r = 10


def turned(points: np.ndarray, angle: float) -> np.ndarray:
    cos, sin = np.cos(angle), np.sin(angle)
    return (points - 50) @ np.array([[cos, sin], [-sin, cos]]) + 50


@pytest.mark.parametrize("angle", [0.0, 0.4, -0.7])
@pytest.mark.parametrize("order", [1, -1])
def test_edge_lies_where_the_constants_say(angle, order):
    edge = np.array([[50 - 10 * LIDS_WIDTH, 50], [50 + 10 * LIDS_WIDTH, 50], [50, 50 - 10 * LIDS_ABOVE]])
    edge = np.vstack([edge, [50, 50 + 10 * LIDS_BELOW]])
    corners = turned(LEVEL, angle)[::order]
    np.testing.assert_allclose(lids_depth(corners, turned(edge, angle)), 0, atol=1e-9)
    inside = 50 + 0.9 * (edge - 50)
    depth = np.array([LIDS_WIDTH, LIDS_WIDTH, LIDS_ABOVE, LIDS_BELOW])  # a tenth of r = 10
    np.testing.assert_allclose(lids_depth(corners, turned(inside, angle)), depth, atol=1e-9)


def test_depth_is_a_distance_near_the_edge_and_finite_everywhere():
    y, x = np.mgrid[30:70:0.1, 30:70:0.1]
    depth = lids_depth(LEVEL, np.stack([x, y], axis=-1))
    assert np.isfinite(depth).all() and depth.max() <= 10 * LIDS_WIDTH
    slope = np.hypot(*np.gradient(depth, 0.1))[abs(depth) < 0.3]
    np.testing.assert_allclose(slope, 1, atol=0.15)


def test_mask_holds_the_corners_and_the_pixels_of_positive_depth():
    mask = draw_lids(np.stack([LEVEL, LEVEL + np.array([50, 0])]), (80, 150))
    assert mask[50, 39] and mask[50, 60] and mask[50, 89] and not mask[50, 75]
    assert not mask[40].any() and not mask[58].any() and mask[41, 50] and mask[57, 50]
    np.testing.assert_array_equal(mask[:, 25:75], mask[:, 75:125])


def test_corners_in_one_place_give_a_small_region():
    assert draw_lids(np.full((1, 2, 2), 5.5), (11, 11)).sum() == 1
