"""Similarity transforms between pictures, and warping by them without aliasing.

A transform is a 2×3 array: pixel p of the source lies at T[:, :2] @ p + T[:, 2] of the target, in the continuous
pixel coordinates of `camera` (a pixel's centre is at half its width).
"""

import math

import numpy as np
from PIL import Image

IDENTITY = np.eye(2, 3)
MOST_OUTSIDE = 2  # targets' widths and heights outside of a picture: beyond, it is not worth padding


def similarity(source: np.ndarray, target: np.ndarray, with_roll: bool = True) -> np.ndarray:
    """The least-squares rotation, scale and translation (2, 3) from points (K, 2) to points (K, 2), K ≥ 2."""
    z, w = (points[:, 0] + 1j * points[:, 1] for points in (source, target))  # a complex factor is scale · rotation
    z_offset, w_offset = z - z.mean(), w - w.mean()
    factor = (z_offset.conj() @ w_offset) / (z_offset.conj() @ z_offset).real
    if not with_roll:
        factor = factor.real + 0j
    shift = w.mean() - factor * z.mean()
    return np.array([[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]])


def scale_of(transform: np.ndarray) -> float:
    """How many target pixels one source pixel is wide."""
    (a, b), (c, d) = transform[:, :2].tolist()
    return math.sqrt(abs(a * d - b * c))


def roll_of(transform: np.ndarray) -> float:
    """By how many radians a similarity turns the picture, from x towards y: clockwise to the viewer."""
    return math.atan2(transform[1, 0], transform[0, 0])


def is_identity(transform: np.ndarray) -> bool:
    """Whether it leaves every pixel of a picture where it is."""
    return abs(transform - IDENTITY).max() <= 1e-6


def move(transform: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (..., 2) of the source as points of the target."""
    return np.asarray(points) @ transform[:, :2].T + transform[:, 2]


def chain(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The transform (2, 3) that does the first, then the second."""
    return np.column_stack([second[:, :2] @ first[:, :2], move(second, first[:, 2])])


def from_crop(transform: np.ndarray, left: int, top: int) -> np.ndarray:
    """The transform (2, 3) of the part of the source that begins at this pixel."""
    return np.column_stack([transform[:, :2], move(transform, np.array([left, top]))])


def to_crop(transform: np.ndarray, left: int, top: int) -> np.ndarray:
    """The transform (2, 3) onto the part of the target that begins at this pixel."""
    return transform - np.array([[0, 0, left], [0, 0, top]])


def inverse(transform: np.ndarray) -> np.ndarray:
    linear = np.linalg.inv(transform[:, :2])
    return np.concatenate([linear, -linear @ transform[:, 2:]], axis=1)


def warp(picture: np.ndarray, transform: np.ndarray, height_px: int, width_px: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture (H, W) or (H, W, 3) uint8 as it lies in the target's frame, antialiased.

    Returns the result (height, width[, 3]) uint8 and `valid` (height, width) bool: the pixels that the picture covers
    fully. Around them it repeats the picture's edge, which suits a face model better than black.
    """
    if picture.shape[:2] == (height_px, width_px) and is_identity(transform):
        return picture.copy(), np.ones((height_px, width_px), dtype=bool)
    valid = covered(picture.shape, transform, height_px, width_px)

    # Box-average a much larger source first; then sample at least one point per source pixel, and average those.
    scale = scale_of(transform)
    shrink = max(1, int(0.5 / scale))
    source = np.asarray(Image.fromarray(picture).reduce(shrink)) if shrink > 1 else picture
    fineness = max(1, math.ceil(1 / (scale * shrink) - 1e-6))
    margin = 0 if valid.all() else math.ceil(3 / (scale * shrink)) + 1  # so that no average reaches beyond the edge
    padding = [(margin, margin)] * 2 + [(0, 0)] * (source.ndim - 2)
    to_source = inverse(fineness * transform) / shrink + [[0, 0, margin]] * 2  # fine target pixel → padded source pixel

    fine = Image.fromarray(np.pad(source, padding, mode="edge")).transform(
        (width_px * fineness, height_px * fineness),
        Image.Transform.AFFINE,
        to_source.ravel().tolist(),
        resample=Image.Resampling.BICUBIC,
    )
    drawn = np.array(fine if fineness == 1 else fine.resize((width_px, height_px), Image.Resampling.BICUBIC))
    drawn[~valid] = _nearest(picture, transform, ~valid)
    return drawn, valid


def glimpse(picture: np.ndarray, transform: np.ndarray, height_px: int, width_px: int) -> np.ndarray:
    """As `warp`, less exact and several times as fast: for what a network reads, not for pictures that are shown.

    The picture is box-averaged to about the target's scale, then sampled once for each pixel; its edge is repeated.
    """
    shrink = max(1, int(1 / scale_of(transform)))
    to_source = inverse(transform) / shrink
    corners = move(to_source, np.array([[0, 0], [width_px, 0], [0, height_px], [width_px, height_px]]))
    source = Image.fromarray(picture)
    source = source.reduce(shrink) if shrink > 1 else source
    before = np.ceil(np.maximum(0, 0.5 - corners.min(axis=0))).astype(int)  # columns and rows that lie outside
    after = np.ceil(np.maximum(0, corners.max(axis=0) + 1.5 - source.size)).astype(int)
    if before.any() or after.any():
        if (before + after > MOST_OUTSIDE * np.array([width_px, height_px])).any():
            return warp(picture, transform, height_px, width_px)[0]
        pixels = np.asarray(source)
        padding = [(before[1], after[1]), (before[0], after[0])] + [(0, 0)] * (pixels.ndim - 2)
        source = Image.fromarray(np.pad(pixels, padding, mode="edge"))
        to_source = to_source + np.column_stack([np.zeros((2, 2)), before])
    size, method = (width_px, height_px), Image.Transform.AFFINE
    return np.asarray(source.transform(size, method, to_source.ravel().tolist(), resample=Image.Resampling.BILINEAR))


def covered(shape: tuple[int, ...], transform: np.ndarray, height_px: int, width_px: int) -> np.ndarray:
    """(height, width) bool: all four corners of the target pixel lie in the source."""
    to_source, sides = inverse(transform), (shape[1], shape[0])

    def inside(xs: np.ndarray, ys: np.ndarray) -> np.ndarray:  # (W,), (H,) → (H, W)
        along = [a * xs + (b * ys + c)[:, None] for a, b, c in to_source]
        return np.all([(each >= -1e-3) & (each <= side + 1e-3) for each, side in zip(along, sides)], axis=0)

    if inside(np.array([0, width_px]), np.array([0, height_px])).all():  # so all between are
        return np.ones((height_px, width_px), bool)
    corners = inside(np.arange(width_px + 1), np.arange(height_px + 1))
    return corners[:-1, :-1] & corners[:-1, 1:] & corners[1:, :-1] & corners[1:, 1:]


def _nearest(picture: np.ndarray, transform: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The picture's pixels that lie nearest to these pixels, (height, width) bool, of the target."""
    rows, columns = np.nonzero(targets)
    points = move(inverse(transform), np.stack([columns, rows], axis=1) + 0.5)  # (K, 2)
    last = np.array([picture.shape[1], picture.shape[0]]) - 1
    columns, rows = np.clip(np.floor(points), 0, last).astype(int).T
    return picture[rows, columns]
