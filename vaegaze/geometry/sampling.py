"""Pictures between and over their pixels."""

import numpy as np


def sampled(picture: np.ndarray, places: np.ndarray) -> np.ndarray:
    """A picture (H, W) or (H, W, C) at places (..., 2) x, y, between its pixels' centres; its edges repeat."""
    height, width = picture.shape[:2]
    x, y = (np.clip(places[..., k] - 0.5, 0, side - 1.001) for k, side in enumerate((width, height)))
    left, top = x.astype(int), y.astype(int)
    across, down = (part.reshape(*part.shape, *[1] * (picture.ndim - 2)) for part in (x - left, y - top))
    right, below = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    upper = picture[top, left] * (1 - across) + picture[top, right] * across
    lower = picture[below, left] * (1 - across) + picture[below, right] * across
    return upper * (1 - down) + lower * down


def averaged(picture: np.ndarray, reach: int, down: int | None = None) -> np.ndarray:
    """(H, W, …): each pixel's mean over those at most `reach` away across, and `down` (or as many) down."""
    for axis, far in enumerate((reach if down is None else down, reach)):
        padding = [(0, 0)] * picture.ndim
        padding[axis] = (far + 1, far)
        sums = np.cumsum(np.pad(picture, padding, mode="edge"), axis=axis, dtype=np.float64)
        ends = np.arange(2 * far + 1, sums.shape[axis])
        picture = (sums.take(ends, axis) - sums.take(ends - 2 * far - 1, axis)) / (2 * far + 1)
    return picture.astype(np.float32)


def step(low: float, high: float, values: np.ndarray) -> np.ndarray:
    """0 up to `low`, 1 from `high` on, smooth in between."""
    share = np.clip((values - low) / (high - low), 0, 1)
    return share * share * (3 - 2 * share)
