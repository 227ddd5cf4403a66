"""Regions in the shape of an eye: what they hold, and how deep."""

from dataclasses import replace

import numpy as np
import pytest

from vaegaze.geometry.camera import BETWEEN_EYES_MM, EYE_CORNERS_MM, LIDS, Camera, eye_circles
from vaegaze.geometry.eye_regions import (
    LIDS_ABOVE,
    LIDS_BELOW,
    LIDS_WIDTH,
    circles_from_parsing,
    corners_from_parsing,
    depth_within,
    draw_lids,
    draw_squares,
    eye_mask,
    lids_depth,
    mask_in_photo,
    pixel_centres,
    pose_mask,
    squares_of_parsings,
)
from vaegaze.geometry.pasting import feather_px, inward_alpha, match_surroundings, paste_in_regions, paste_on_canvas

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


def test_masks_are_drawn_whole_wherever_the_eyes_lie():
    """Only the part of the picture around an eye is looked at: at the edge, tilted, outside."""
    rng, shape = np.random.default_rng(0), (60, 90)
    points = np.moveaxis(pixel_centres(shape)[::-1], 0, -1)
    for _ in range(60):
        corners = rng.uniform(-20, 110, (2, 2, 2))
        everywhere = [lids_depth(each, points) >= 0 for each in corners]
        np.testing.assert_array_equal(draw_lids(corners, shape), np.any(everywhere, axis=0))


def test_many_parsings_give_the_squares_of_each():
    """Frames with both eyes, with one and with none; on the canvas already, and smaller than it."""
    rng, heads = np.random.default_rng(0), [HEAD] * 8
    for shape, transform in ((SQUARE_CANVAS.shape, np.eye(2, 3)), ((48, 96), 2 * np.eye(2, 3))):
        parsings = np.zeros((8, *shape), np.uint8)
        for number, parsing in enumerate(parsings):
            for label in (1, 3, 2, 4)[: number % 5]:
                top, left = rng.integers((40, 80))
                parsing[top : top + rng.integers(1, 8), left : left + rng.integers(1, 15)] = label
        masks, by_pose = squares_of_parsings(parsings, [transform] * 8, heads, SQUARE_CANVAS)
        valid = np.ones(SQUARE_CANVAS.shape, bool)
        for number, parsing in enumerate(parsings):
            mask, alone = eye_mask(parsing, True, transform, HEAD, valid, SQUARE_CANVAS)
            np.testing.assert_array_equal(masks[number], mask)
            assert by_pose[number] == alone == (not (np.isin([1, 3], parsing).any() and np.isin([2, 4], parsing).any()))
            found = circles_from_parsing(parsing) * transform[0, 0]
            circles = np.where(np.isnan(found), eye_circles(HEAD, SQUARE_CANVAS), found)
            np.testing.assert_array_equal(mask, draw_squares(circles, SQUARE_CANVAS.shape))


def test_corners_in_one_place_give_a_small_region():
    assert draw_lids(np.full((1, 2, 2), 5.5), (11, 11)).sum() == 1


SQUARE_CANVAS = Camera(192, 96, 1000.0, BETWEEN_EYES_MM)
CANVAS = replace(SQUARE_CANVAS, eye_masks=LIDS)
HEAD = np.array([0.1, -0.15])


def test_masks_have_the_canvas_shape():
    valid = np.ones(CANVAS.shape, bool)
    corners = CANVAS.project(EYE_CORNERS_MM, HEAD)
    expected = draw_lids(corners, CANVAS.shape)
    mask, by_pose = eye_mask(None, False, np.eye(2, 3), HEAD, valid, CANVAS)
    np.testing.assert_array_equal(mask, expected)
    np.testing.assert_array_equal(pose_mask(HEAD, CANVAS), expected)
    np.testing.assert_array_equal(mask_in_photo(CANVAS.shape, np.eye(2, 3), HEAD, CANVAS), expected)
    np.testing.assert_array_equal(mask_in_photo(CANVAS.shape, np.eye(2, 3), HEAD * 0, CANVAS, corners), expected)
    squares = draw_squares(eye_circles(HEAD, SQUARE_CANVAS), SQUARE_CANVAS.shape)
    np.testing.assert_array_equal(eye_mask(None, False, np.eye(2, 3), HEAD, valid, SQUARE_CANVAS)[0], squares)
    np.testing.assert_array_equal(mask_in_photo(CANVAS.shape, np.eye(2, 3), HEAD, SQUARE_CANVAS, corners + 5), squares)
    assert by_pose


def test_corners_come_from_the_parsing_and_from_the_pose_where_it_lacks_an_eye():
    parsing = np.zeros(CANVAS.shape, np.uint8)
    parsing[40:50, 30:60] = 1
    parsing[42:48, 40:50] = 3
    valid = np.ones(CANVAS.shape, bool)
    found = corners_from_parsing(parsing)
    np.testing.assert_array_equal(found[0], [[30, 45], [60, 45]])
    assert np.isnan(found[1]).all()
    mask, by_pose = eye_mask(parsing, True, np.eye(2, 3), HEAD, valid, CANVAS)
    expected = draw_lids(np.stack([found[0], CANVAS.project(EYE_CORNERS_MM, HEAD)[1]]), CANVAS.shape)
    np.testing.assert_array_equal(mask, expected)
    assert by_pose


def test_a_mask_of_the_users_is_used_as_it_is():
    own = np.zeros(CANVAS.shape, bool)
    own[40:50, 30:60] = True
    mask, by_pose = eye_mask(own, False, np.eye(2, 3), HEAD, np.ones_like(own), CANVAS)
    np.testing.assert_array_equal(mask, own)
    assert not by_pose


def border_jump(pasted: np.ndarray, true: np.ndarray, mask: np.ndarray) -> float:
    """Mean error half a feather inside the mask's edge, where a drawing shows."""
    depth = inward_alpha(mask, 4 * feather_px(CANVAS))
    return abs(pasted.astype(float) - true)[(depth > 0) & (depth < 0.2)].mean()


@pytest.mark.parametrize("kind", ["constant", "ramp"])
def test_a_drawing_that_is_off_leaves_no_border(kind):
    rng = np.random.default_rng(0)
    true = rng.integers(60, 160, (1, *CANVAS.shape, 3), dtype=np.uint8)
    mask = pose_mask(HEAD, CANVAS)[None]
    along = np.linspace(-1, 1, 192)[None, None, :, None]
    off = np.full((1, 1, 1, 3), 30.0) if kind == "constant" else 60 * along * np.ones(3)
    drawn = (true + off).clip(0, 255).astype(np.uint8)
    without = border_jump(paste_on_canvas(drawn, true, mask, SQUARE_CANVAS)[0], true[0], mask[0])
    matched = border_jump(paste_on_canvas(drawn, true, mask, CANVAS)[0], true[0], mask[0])
    assert without > 4
    assert matched < (0.5 if kind == "constant" else 1.5)


def test_a_drawing_that_agrees_around_the_eyes_stays_as_drawn():
    true = np.full((1, *CANVAS.shape, 3), 120, np.uint8)
    mask = pose_mask(HEAD, CANVAS)[None]
    drawn = np.where(mask[..., None], np.uint8(40), true)
    np.testing.assert_array_equal(match_surroundings(drawn, true, mask, np.ones_like(mask), CANVAS), drawn)
    off = drawn + np.uint8(9)
    np.testing.assert_array_equal(match_surroundings(off, true, mask, np.ones_like(mask), SQUARE_CANVAS), off)


def test_what_the_picture_does_not_show_does_not_count():
    true = np.full((1, *CANVAS.shape, 3), 120, np.uint8)
    mask = pose_mask(HEAD, CANVAS)[None]
    valid = np.ones_like(mask)
    valid[:, :40] = False
    drawn = np.where(valid[..., None], true, np.uint8(0))
    matched = match_surroundings(drawn, true, mask, valid, CANVAS)
    np.testing.assert_array_equal(matched, drawn)


@pytest.mark.parametrize("canvas", [SQUARE_CANVAS, CANVAS])
def test_a_videos_frame_changes_inside_its_mask_alone(canvas):
    frame = np.random.default_rng(0).integers(256, size=(*canvas.shape, 3), dtype=np.uint8)
    drawn = 255 - frame
    pasted = paste_in_regions(frame, HEAD, drawn, np.eye(2, 3), canvas)
    changed = (pasted != frame).any(axis=-1)
    mask = mask_in_photo(canvas.shape, np.eye(2, 3), HEAD, canvas)
    assert not changed[~mask].any() and changed[mask].mean() > 0.8
    np.testing.assert_array_equal(paste_in_regions(frame, HEAD, drawn, np.eye(2, 3), canvas, 0.0), frame)


@pytest.mark.parametrize("corner", [(40, 45), (5, 50), (90, 90), (0, 0)], ids=["within", "edge", "corner", "outside"])
def test_the_depth_within_an_outline_is_that_below_the_nearest_side(corner):
    angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    outline, most_px = 50 + 45 * np.stack([np.cos(angles), np.sin(angles)], axis=-1), 6.0
    window = slice(corner[1], corner[1] + 20), slice(corner[0], corner[0] + 15)
    y, x = np.mgrid[window] + 0.5
    normals = angles + np.pi / 12  # of the sides of a regular polygon
    inner_px = 45 * np.cos(np.pi / 12)
    towards, off = np.stack([np.cos(normals), np.sin(normals)], axis=-1), np.stack([x, y], axis=-1) - 50
    nearest = (inner_px - np.einsum("kc,hwc->hwk", towards, off)).min(axis=-1)
    np.testing.assert_allclose(depth_within(outline, window, most_px), np.minimum(nearest, most_px), atol=1e-9)
