"""An iris in polar coordinates, Daugman's rubber sheet: rings from the middle out, from the right by way of below."""

import numpy as np

OUT_TO = 1.25  # radii that a polar picture reaches
LEAST_KNOWN = 0.1  # of a ring: with less, its mean says nothing


def radii_of(rings: np.ndarray) -> np.ndarray:
    """(R,) of the rings of a polar picture (R, A, …); 1 on the iris's outline."""
    return (np.arange(len(rings)) + 0.5) / len(rings) * OUT_TO


def unrolled(rings: np.ndarray, rho: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """A polar picture (R, A, C) at radii (…), 1 on the outline, and angles (…) in radians."""
    around = np.concatenate([rings[:, -1:], rings, rings[:, :1]], axis=1)
    turn = theta / (2 * np.pi) % 1 * rings.shape[1]
    return sampled(around, np.stack([turn + 1.5, rho / OUT_TO * len(rings)], axis=-1))


def means(rings: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(R, 1, C): each ring's mean under a weight (R, A, 1) in 0..1; of one that is hidden, that of the next one out."""
    total, known = (rings * weight).sum(axis=1, keepdims=True), weight.sum(axis=1, keepdims=True)
    last = len(rings)
    shown = np.where(known[:, 0, 0] > LEAST_KNOWN * rings.shape[1], np.arange(last), last)
    shown = np.minimum.accumulate(shown[::-1])[::-1]
    of_all = total.sum(axis=0, keepdims=True) / np.maximum(known.sum(axis=0, keepdims=True), 1e-3)
    return np.concatenate([total / np.maximum(known, 1e-3), of_all])[shown]


def spread(rings: np.ndarray, reach: float) -> np.ndarray:
    """A polar picture (R, A, C) averaged over `reach` radii to each side, and as many rings' widths around."""
    reach = max(1, round(reach * len(rings) / OUT_TO))
    closed = np.pad(rings, [(0, 0), (reach, reach), (0, 0)], mode="wrap")
    return averaged(closed, reach)[:, reach:-reach]


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
