"""Eye masks: from a face parsing, from a stored mask, or from the head pose alone."""

import functools
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

import numpy as np

from vaegaze.geometry.camera import EYE_CORNERS_MM, LIDS, Camera, eye_circles
from vaegaze.geometry.circles import enclosing_circle
from vaegaze.geometry.transforms import inverse, is_identity, move, scale_of, warp

SQUARE_FACTOR = 1.4  # half side of an eye's square / radius of its circle (ALable/FAGE)
# A region in the shape of an eye, in halves of the distance between its corners. It reaches beyond the corners, where
# lashes and the skin's folds move along; up to below the brow; and it leaves room for a lid at any gaze.
LIDS_WIDTH, LIDS_ABOVE, LIDS_BELOW = 1.5, 0.9, 0.8
# Of the superellipse: between an ellipse, which would cut the lids near the corners, and a box. `_to_1_5` goes with it.
LIDS_EXPONENT = 2.5
AROUND = 0.3  # in the same unit, around a region: so that irises at its edge are laid whole
EYE_LABELS = ((1, 3), (2, 4))  # face_parsing: one eye and its iris, the other eye and its iris


def draw_squares(circles: np.ndarray, shape: tuple[int, int], factor: float = SQUARE_FACTOR) -> np.ndarray:
    """(..., H, W) bool: a filled square around each circle of (..., K, 3) = centre x, centre y, radius.

    Half a square's side is factor·radius. A pixel belongs to a square that holds its centre.
    """
    x, y, radius = np.moveaxis(circles, -1, 0)[..., None]  # (..., K, 1) each
    half = factor * radius
    rows, columns = abs(pixel_row(shape[0]) - y) <= half, abs(pixel_row(shape[1]) - x) <= half
    return (rows[..., :, None] & columns[..., None, :]).any(axis=-3)


@lru_cache(maxsize=16)
def pixel_row(count: int) -> np.ndarray:
    """(count,): the centres of pixels in a row."""
    centres = np.arange(count) + 0.5
    centres.flags.writeable = False
    return centres


def lids_depth(corners: np.ndarray, points: np.ndarray) -> np.ndarray:
    """How deep points (..., 2) lie in the region of the eye with these corners (2, 2), all x, y in px → (...).

    The region |x|^p + |y|^p ≤ 1 follows from the corners alone, never from the lids: a region that changed with the
    gaze would tell a model what to draw. The depth is 0 on the edge and negative outside; to first order a distance.
    """
    x, y, norm, height, radius = _in_lids(corners, points)
    ahead = np.maximum(norm, 1e-9)
    slope = np.hypot(_to_1_5(x / ahead) / (LIDS_WIDTH * radius), _to_1_5(y / ahead) / height)
    return (1 - norm) / np.maximum(slope, 1 / (LIDS_WIDTH * radius))


def _in_lids(corners: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, float]:
    """Points (..., 2) in the region's own measures: |x| and |y| in halves of its sides, (|x|^p + |y|^p)^(1/p), which is
    1 on the edge, half its height there in px; and half the distance between the corners in px."""
    radius, x_axis, y_axis = _lids_axes(corners)
    off = points - corners.mean(axis=0)
    x, y = off @ x_axis, off @ y_axis
    height = np.where(y < 0, LIDS_ABOVE, LIDS_BELOW) * radius
    x, y = abs(x) / (LIDS_WIDTH * radius), abs(y) / height
    return x, y, (x * _to_1_5(x) + y * _to_1_5(y)) ** (1 / LIDS_EXPONENT), height, radius


def _to_1_5(values: np.ndarray) -> np.ndarray:
    """To the power of LIDS_EXPONENT − 1, in a tenth of the time that `**` takes."""
    return values * np.sqrt(values)


def _lids_axes(corners: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Half the distance between an eye's corners (2, 2), and the axes (2,) along them and downwards."""
    along = corners[1] - corners[0]
    radius = max(float(np.hypot(*along)) / 2, 0.5)  # corners in one place, as of a head in profile
    x_axis = along / (2 * radius) if along.any() else np.array([1.0, 0.0])
    x_axis = x_axis if x_axis[0] >= 0 else -x_axis
    return radius, x_axis, np.array([-x_axis[1], x_axis[0]])


def draw_lids(corners: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(H, W) bool: the region around each eye of corners (K, 2, 2). A pixel belongs to one that holds its centre."""
    mask = np.zeros(shape, dtype=bool)
    for each in corners:
        radius, x_axis, y_axis = _lids_axes(each)
        middle, reach = each.mean(axis=0), radius * (LIDS_WIDTH * abs(x_axis) + LIDS_ABOVE * abs(y_axis)) + 1
        left, top = np.maximum(np.floor(middle - reach).astype(int), 0)
        right, bottom = np.minimum(np.ceil(middle + reach).astype(int), shape[::-1])
        if left < right and top < bottom:  # a small part of the picture
            points = np.moveaxis(np.mgrid[top:bottom, left:right][::-1] + 0.5, 0, -1)
            mask[top:bottom, left:right] |= _in_lids(each, points)[2] <= 1
    return mask


def pixel_centres(shape: tuple[int, int]) -> np.ndarray:
    """(2, H, W): y and x of the centre of every pixel."""
    return np.mgrid[: shape[0], : shape[1]] + 0.5


def pose_parsing(head: np.ndarray, canvas: Camera) -> np.ndarray:
    """A face parsing (H, W) uint8 of a head at (pitch, yaw) on the canvas: discs through the eye corners, labels 1, 2.

    `circles_from_parsing` finds these circles again, to within half a pixel.
    """
    ys, xs = pixel_centres(canvas.shape)
    parsing = np.zeros(canvas.shape, dtype=np.uint8)
    for labels, (x, y, radius) in zip(EYE_LABELS, eye_circles(head, canvas)):
        parsing[np.hypot(xs - x, ys - y) <= radius] = labels[0]
    return parsing


def pose_mask(head: np.ndarray, canvas: Camera, factor: float = SQUARE_FACTOR) -> np.ndarray:
    """(H, W) bool: both eyes of a head at (pitch, yaw) in the canvas's shape; squares have half side factor·radius."""
    if canvas.eye_masks == LIDS:
        return draw_lids(canvas.project(EYE_CORNERS_MM, head), canvas.shape)
    return draw_squares(eye_circles(head, canvas), canvas.shape, factor)


def mask_in_photo(
    shape: tuple[int, int],
    to_canvas: np.ndarray,
    head: np.ndarray,
    canvas: Camera,
    corners: np.ndarray | None = None,
) -> np.ndarray:
    """(H, W) bool: the regions of `regions_in_photo`, whose arguments these are."""
    mask = np.zeros(shape, dtype=bool)
    for _, window, depth in regions_in_photo(shape, to_canvas, head, canvas, corners):
        mask[window] |= depth >= 0
    return mask


def depth_within(outline: np.ndarray, window: tuple[slice, slice], most_px: float) -> np.ndarray:
    """(h, w): how many px each pixel's centre of a window lies within a convex outline (K, 2); negative outside.

    At most `most_px`, so that most sides need not be looked at.
    """
    along = np.roll(outline, -1, axis=0) - outline
    inwards = np.stack([-along[:, 1], along[:, 0]], axis=1)
    inwards = inwards * np.sign(np.einsum("kc,kc->k", inwards, outline.mean(axis=0) - outline))[:, None]
    inwards = inwards / np.maximum(np.linalg.norm(inwards, axis=1, keepdims=True), 1e-9)
    start = np.einsum("kc,kc->k", inwards, outline)
    y, x = (np.arange(part.start, part.stop) + 0.5 for part in window)
    corners = np.array([(across, down) for across in x[[0, -1]] for down in y[[0, -1]]])
    comes_near = (corners @ inwards.T - start).min(axis=0) < most_px  # between the corners no side comes nearer
    sides = zip(inwards[comes_near], start[comes_near])
    depths = (across * x + down * y[:, None] - begin for (across, down), begin in sides)
    return functools.reduce(np.minimum, depths, np.full((len(y), len(x)), most_px))


def regions_in_photo(
    shape: tuple[int, int],
    to_canvas: np.ndarray,
    head: np.ndarray,
    canvas: Camera,
    corners: np.ndarray | None = None,
) -> Iterator[tuple[int, tuple[slice, slice], np.ndarray]]:
    """Each eye's region that the photo shows: the rows and columns around it, and each pixel's depth in it (h, w).

    `to_canvas` aligns the photo (H, W); the depth is in pixels of the canvas, 0 on the edge and negative outside.
    `corners` (2, 2, 2) are the eyes' in the photo, if they were found; squares follow from the head pose alone.
    """
    on_canvas = canvas.project(EYE_CORNERS_MM, head) if corners is None else move(to_canvas, corners)
    for eye, (x, y, radius) in enumerate(eye_circles(head, canvas)):
        if canvas.eye_masks == LIDS:
            eye_radius, x_axis, y_axis = _lids_axes(on_canvas[eye])
            (x, y), reach = on_canvas[eye].mean(axis=0), LIDS_WIDTH * abs(x_axis) + LIDS_ABOVE * abs(y_axis) + AROUND
            reach = eye_radius * reach
        else:
            reach = np.full(2, SQUARE_FACTOR * radius)
        box = move(inverse(to_canvas), (x, y) + reach * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]))
        left, top = np.maximum(np.floor(box.min(axis=0)).astype(int), 0)
        right, bottom = np.minimum(np.ceil(box.max(axis=0)).astype(int), shape[::-1])
        if left < right and top < bottom:
            ys, xs = np.mgrid[top:bottom, left:right] + 0.5  # a photo may have a hundred million pixels
            points = move(to_canvas, np.stack([xs, ys], axis=-1))
            if canvas.eye_masks == LIDS:
                depth = lids_depth(on_canvas[eye], points)
            else:
                depth = reach[0] - abs(points - (x, y)).max(axis=-1)
            yield eye, (slice(top, bottom), slice(left, right)), depth


def eye_mask(
    stored: np.ndarray | None,
    is_parsing: bool,
    to_canvas: np.ndarray,
    head: np.ndarray,
    valid: np.ndarray,
    canvas: Camera,
    move_corners: Callable[[np.ndarray], np.ndarray] = lambda corners: corners,
) -> tuple[np.ndarray, bool]:
    """One sample's eye mask (H, W) bool on the canvas, only where `valid`; and whether it needed the head pose.

    `stored` is what the data set has: a face parsing, or a mask whose pixels are the eyes; `to_canvas` places it. The
    head pose gives an eye that the parsing lacks, as in a blink, and both where a mask shows nothing. `move_corners`
    changes the corners (2, 2, 2) that a region in the shape of an eye follows from.
    """
    if canvas.eye_masks == LIDS and (stored is None or is_parsing):
        corners, by_pose = canvas.project(EYE_CORNERS_MM, head), True
        if stored is not None:
            found = move(to_canvas, corners_from_parsing(stored))
            missing = np.isnan(found)
            corners, by_pose = np.where(missing, corners, found), missing.any()
        return draw_lids(move_corners(corners), canvas.shape) & valid, by_pose
    if stored is None:
        return pose_mask(head, canvas) & valid, True
    if is_parsing:
        (squares,), (by_pose,) = squares_of_parsings(stored[None], [to_canvas], [head], canvas)
        return squares & valid, by_pose
    mask = warp_mask(threshold(stored), to_canvas, canvas) & valid
    return (mask, False) if mask.any() else (pose_mask(head, canvas) & valid, True)


def squares_of_parsings(
    parsings: np.ndarray, to_canvas: Sequence[np.ndarray], heads: Sequence[np.ndarray], canvas: Camera
) -> tuple[np.ndarray, np.ndarray]:
    """Squares around the eyes of N face parsings (N, h, w): (N, H, W) bool on the canvas; and (N,), see `eye_mask`.

    Many at once take a third of the time.
    """
    circles = circles_from_parsings(parsings)
    for i, transform in enumerate(to_canvas):
        if not is_identity(transform):
            circles[i, :, :2] = move(transform, circles[i, :, :2])
            circles[i, :, 2] *= scale_of(transform)
    missing = np.isnan(circles)
    by_pose = missing.any(axis=(1, 2))
    for i in np.flatnonzero(by_pose):
        circles[i][missing[i]] = eye_circles(heads[i], canvas)[missing[i]]
    return draw_squares(circles, canvas.shape), by_pose


def warp_mask(mask: np.ndarray, to_canvas: np.ndarray, canvas: Camera) -> np.ndarray:
    """A mask (h, w) bool on the canvas (H, W): the pixels that it covers at least half."""
    warped, valid = warp(mask.astype(np.uint8) * 255, to_canvas, *canvas.shape)
    return (warped >= 128) & valid


def corners_from_parsing(parsing: np.ndarray) -> np.ndarray:
    """Face parsing (H, W) of labels → (2 eyes, 2, 2): x, y of each eye's leftmost and rightmost point.

    An eye that the parsing lacks, or of which it shows less than two columns, is NaN.
    """
    corners = np.full((2, 2, 2), np.nan)
    rows = np.flatnonzero(parsing.any(axis=1))  # the eyes are a small part of the picture
    for eye, mask in enumerate(_eyes(parsing[rows])):
        columns = np.flatnonzero(mask.any(axis=0))
        if len(columns) > 1:
            for end, column in enumerate(columns[[0, -1]]):
                corners[eye, end] = column + end, rows[mask[:, column]].mean() + 0.5  # a pixel's outer side
    return corners


def circles_from_parsing(parsing: np.ndarray) -> np.ndarray:
    """Face parsing (H, W) of labels → (2, 3) = centre x, centre y, radius of each eye's minimum enclosing circle.

    Like upstream's, the circle encloses the pixels' centres. An eye that the parsing lacks (closed, hidden) is a row of
    NaN.
    """
    return circles_from_parsings(parsing[None])[0]


def circles_from_parsings(parsings: np.ndarray) -> np.ndarray:
    """`circles_from_parsing` of N parsings (N, H, W): (N, 2, 3)."""
    circles = np.full((len(parsings), 2, 3), np.nan)
    numbers, rows = np.nonzero(parsings.any(axis=2))  # the eyes are a small part of the picture
    for eye, mask in enumerate(_eyes(parsings[numbers, rows])):
        # The centres x, y of each row's first and last pixel: a circle around these leaves out no other one.
        first, last = mask.argmax(axis=1), mask.shape[1] - 1 - mask[:, ::-1].argmax(axis=1)
        points: list[list[tuple[float, float]]] = [[] for _ in parsings]
        columns = (numbers, rows + 0.5, first + 0.5, last + 0.5, mask.any(axis=1))
        for number, y, left, right, filled in zip(*(column.tolist() for column in columns)):
            if filled:
                points[number] += (left, y), (right, y)
        for number, its_points in enumerate(points):
            if its_points:
                circles[number, eye] = enclosing_circle(its_points)
    return circles


def shows_eyes(stored: np.ndarray, is_parsing: bool) -> bool:
    """Whether what a data set has of one sample's eyes (H, W), see `eye_mask`, shows any of them."""
    return any(mask.any() for mask in (_eyes(stored) if is_parsing else [threshold(stored)]))


def _eyes(parsing: np.ndarray) -> list[np.ndarray]:
    """Where a parsing, or rows of one, shows each of the two eyes."""
    return [(parsing == lid) | (parsing == iris) for lid, iris in EYE_LABELS]


def threshold(mask: np.ndarray) -> np.ndarray:
    """A stored mask (bool, 0..1 or 0..255) as bool: True from half of its range on."""
    if mask.dtype == bool:
        return mask
    return mask >= (0.5 if mask.max(initial=0) <= 1 else 128)
