"""Masks in the shape of an eye as pre-training varies them: found corners are never quite where the eye's are."""

import numpy as np

SQUARES_SHARE = 0.2  # of the masks are squares, which a user's own mask may look like
JITTER = 0.06  # of half the distance between an eye's corners, standard deviation of each coordinate
SCALES = (0.85, 1.2)  # of a region, both eyes alike


def jittered_corners(corners: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Eye corners (2 eyes, 2, 2) moved at random, and farther apart or nearer."""
    middles = corners.mean(axis=1, keepdims=True)
    radii = np.linalg.norm(corners[:, :1] - corners[:, 1:], axis=-1, keepdims=True) / 2
    scaled = middles + rng.uniform(*SCALES) * (corners - middles)
    return scaled + rng.normal(0.0, JITTER, size=corners.shape) * radii
