"""Pictures between and over their pixels."""

import numpy as np


def sampled(picture: np.ndarray, places: np.ndarray) -> np.ndarray:
    """A picture (H, W) or (H, W, C) at places (..., 2) x, y, between its pixels' centres; its edges repeat."""
    height, width = picture.shape[:2]
    x, y = (np.clip(places[..., k] - 0.5, 0, side - 1.001) for k, side in enumerate((width, height)))
    left, top = x.astype(int), y.astype(int)
    across, down = (
        part.astype(np.float32).reshape(*part.shape, *[1] * (picture.ndim - 2)) for part in (x - left, y - top)
    )
    pixels, first = picture.reshape(height * width, *picture.shape[2:]), top * width + left
    right, below = np.minimum(left + 1, width - 1) - left, (np.minimum(top + 1, height - 1) - top) * width
    upper = pixels.take(first, 0) * (1 - across) + pixels.take(first + right, 0) * across
    lower = pixels.take(first + below, 0) * (1 - across) + pixels.take(first + below + right, 0) * across
    return upper * (1 - down) + lower * down


def averaged(picture: np.ndarray, reach: int, down: int | None = None) -> np.ndarray:
    """(H, W, …): each pixel's mean over those at most `reach` away across, and `down` (or as many) down."""
    for axis, far in enumerate((reach if down is None else down, reach)):
        sums = np.cumsum(edge_repeated(picture, far + 1, far, axis), axis=axis, dtype=np.float64)
        first, rest = (slice(None),) * axis, 2 * far + 1
        picture = (sums[(*first, slice(rest, None))] - sums[(*first, slice(None, -rest))]) / rest
    return picture.astype(np.float32)


def edge_repeated(picture: np.ndarray, before: int, after: int, axis: int) -> np.ndarray:
    """A picture with the first and last values along an axis repeated: as `np.pad`, in a tenth of the time."""
    last = picture.shape[axis] - 1
    return picture.take(np.arange(-before, last + 1 + after).clip(0, last), axis)


def step(low: float, high: float, values: np.ndarray) -> np.ndarray:
    """0 up to `low`, 1 from `high` on, smooth in between."""
    share = np.clip((values - low) / (high - low), 0, 1)
    return share * share * (3 - 2 * share)
