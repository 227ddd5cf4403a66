"""An iris in polar coordinates, Daugman's rubber sheet: rings from the middle out, from the right by way of below."""

import numpy as np

from vaegaze.geometry.sampling import averaged, sampled

OUT_TO = 1.25  # radii that a polar picture reaches
LEAST_KNOWN = 0.1  # of a ring: with less, its mean says nothing


def radii_of(rings: np.ndarray) -> np.ndarray:
    """(R,) of the rings of a polar picture (R, A, …); 1 on the iris's outline."""
    return (np.arange(len(rings)) + 0.5) / len(rings) * OUT_TO


def rings_at(rings: np.ndarray, rho: np.ndarray, theta: np.ndarray) -> np.ndarray:
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
    """A polar picture (R, A, C) averaged over `reach` radii in and out, and around by what is as far on the outline."""
    reach = max(1, round(reach * len(rings) / OUT_TO))
    around = np.arange(-reach, rings.shape[1] + reach) % rings.shape[1]
    closed = rings.take(around, axis=1)
    return averaged(closed, reach)[:, reach:-reach]
