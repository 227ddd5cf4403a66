"""Eye masks: from a face parsing, from a stored mask, or from the head pose alone."""

import math
from collections.abc import Iterator
from itertools import combinations

import numpy as np

from vaegaze.geometry.camera import Camera, eye_circles
from vaegaze.geometry.transforms import inverse, move, scale_of, warp

SQUARE_FACTOR = 1.4  # half side of an eye's square / radius of its circle (ALable/FAGE)
EYE_LABELS = ((1, 3), (2, 4))  # face_parsing: one eye and its iris, the other eye and its iris


def draw_squares(circles: np.ndarray, shape: tuple[int, int], factor: float = SQUARE_FACTOR) -> np.ndarray:
    """(H, W) bool: a filled square around each circle of (K, 3) = centre x, centre y, radius; half side factor·radius.

    A pixel belongs to a square that holds its centre.
    """
    ys, xs = pixel_centres(shape)
    mask = np.zeros(shape, dtype=bool)
    for x, y, radius in circles:
        mask |= np.maximum(abs(xs - x), abs(ys - y)) <= factor * radius
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
    """(H, W) bool: both eyes of a head at (pitch, yaw), as squares around the circles through the eye corners."""
    return draw_squares(eye_circles(head, canvas), canvas.shape, factor)


def pose_mask_in_photo(shape: tuple[int, int], to_canvas: np.ndarray, head: np.ndarray, canvas: Camera) -> np.ndarray:
    """(H, W) bool: the squares of `pose_mask` as they lie in a photo of this shape, which `to_canvas` aligns."""
    mask = np.zeros(shape, dtype=bool)
    for window, depth in pose_squares_in_photo(shape, to_canvas, head, canvas):
        mask[window] |= depth >= 0
    return mask


def pose_squares_in_photo(
    shape: tuple[int, int], to_canvas: np.ndarray, head: np.ndarray, canvas: Camera
) -> Iterator[tuple[tuple[slice, slice], np.ndarray]]:
    """Each of these squares that the photo shows: the rows and columns around it, and each pixel's depth in it (h, w).

    The depth is in pixels of the canvas, 0 on the square's edge and negative outside.
    """
    for x, y, radius in eye_circles(head, canvas):
        half = SQUARE_FACTOR * radius
        corners = move(inverse(to_canvas), (x, y) + half * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]))
        left, top = np.maximum(np.floor(corners.min(axis=0)).astype(int), 0)
        right, bottom = np.minimum(np.ceil(corners.max(axis=0)).astype(int), shape[::-1])
        if left < right and top < bottom:
            ys, xs = np.mgrid[top:bottom, left:right] + 0.5  # a photo may have a hundred million pixels
            off = abs(move(to_canvas, np.stack([xs, ys], axis=-1)) - (x, y)).max(axis=-1)
            yield (slice(top, bottom), slice(left, right)), half - off


def eye_mask(
    stored: np.ndarray | None,
    is_parsing: bool,
    to_canvas: np.ndarray,
    head: np.ndarray,
    valid: np.ndarray,
    canvas: Camera,
) -> tuple[np.ndarray, bool]:
    """One sample's eye mask (H, W) bool on the canvas, only where `valid`; and whether it needed the head pose.

    `stored` is what the data set has: a face parsing, or a mask whose pixels are the eyes; `to_canvas` places it. The
    head pose gives an eye that the parsing lacks, as in a blink, and both where a mask shows nothing.
    """
    if stored is None:
        return pose_mask(head, canvas) & valid, True
    if is_parsing:
        circles = circles_from_parsing(stored)
        circles[:, :2] = move(to_canvas, circles[:, :2])
        circles[:, 2] *= scale_of(to_canvas)
        missing = np.isnan(circles)
        circles[missing] = eye_circles(head, canvas)[missing]
        return draw_squares(circles, canvas.shape) & valid, missing.any()
    mask = warp_mask(threshold(stored), to_canvas, canvas) & valid
    return (mask, False) if mask.any() else (pose_mask(head, canvas) & valid, True)


def warp_mask(mask: np.ndarray, to_canvas: np.ndarray, canvas: Camera) -> np.ndarray:
    """A mask (h, w) bool on the canvas (H, W): the pixels that it covers at least half."""
    warped, valid = warp(mask.astype(np.uint8) * 255, to_canvas, *canvas.shape)
    return (warped >= 128) & valid


def circles_from_parsing(parsing: np.ndarray) -> np.ndarray:
    """Face parsing (H, W) of labels → (2, 3) = centre x, centre y, radius of each eye's minimum enclosing circle.

    As upstream's, the circle encloses the centres of the eye's pixels. An eye that the parsing lacks (closed, hidden)
    is a row of NaN.
    """
    circles = np.full((2, 3), np.nan)
    for eye, labels in enumerate(EYE_LABELS):
        rows, columns = np.nonzero(np.isin(parsing, labels))
        if len(rows):
            circles[eye] = enclosing_circle(np.stack([columns, rows], axis=1) + 0.5)
    return circles


def enclosing_circle(points: np.ndarray) -> tuple[float, float, float]:
    """The smallest circle (x, y, radius) around points (K, 2), exactly.

    Starts from one point and adds the farthest one outside until none is left. Each time the smallest circle around
    the (at most four) points at hand passes two or three of them, and its radius grows, so it ends.
    """
    support = points[:1].astype(np.float64)
    circle = (*support[0], 0.0)
    while True:
        distances = np.linalg.norm(points - circle[:2], axis=1)
        farthest = points[distances.argmax()]
        if distances.max() <= circle[2] + 1e-9:
            return circle
        at_hand = np.vstack([support, farthest])
        candidates = [
            (_circle_through(at_hand[list(chosen)]), chosen)
            for count in (2, 3)
            for chosen in combinations(range(len(at_hand)), count)
        ]
        enclosing = [
            (circle, chosen)
            for circle, chosen in candidates
            if (np.linalg.norm(at_hand - circle[:2], axis=1) <= circle[2] + 1e-9).all()
        ]
        circle, chosen = min(enclosing, key=lambda candidate: candidate[0][2])
        support = at_hand[list(chosen)]


def _circle_through(points: np.ndarray) -> tuple[float, float, float]:
    """The smallest circle on whose edge two or three points lie; infinite for three in a line."""
    (ax, ay), rest = points[0], points[1:] - points[0]
    if len(rest) == 1:
        (x, y) = rest[0] / 2
    else:
        determinant = 2 * (rest[0, 0] * rest[1, 1] - rest[0, 1] * rest[1, 0])
        if determinant == 0:
            return ax, ay, math.inf
        squares = (rest**2).sum(axis=1)
        x = (rest[1, 1] * squares[0] - rest[0, 1] * squares[1]) / determinant
        y = (rest[0, 0] * squares[1] - rest[1, 0] * squares[0]) / determinant
    return ax + x, ay + y, math.hypot(x, y)


def threshold(mask: np.ndarray) -> np.ndarray:
    """A stored mask, bool, 0..1 or 0..255, as bool: True from half of its scale on."""
    if mask.dtype == bool:
        return mask
    return mask >= (0.5 if mask.max(initial=0) <= 1 else 128)
