"""What a picture says of one face."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Face:
    """One face; of each pair, the eye on the picture's left comes first. All places are x, y in the picture's pixels.

    Only landmarks give the fields that may be None.
    """

    eyes: np.ndarray  # (2, 2) the eyes' centres: halfway between their corners
    openness: np.ndarray  # (2,) how open each eye is
    confidence: float  # 0..1 that it is a face
    head: np.ndarray | None = None  # (2,) pitch, yaw in radians, as seen in the upright picture
    corners: np.ndarray | None = None  # (2 eyes, 2, 2): the outer and the inner corner
    lids: np.ndarray | None = None  # (2 eyes, 16, 2): the outline, from the outer corner along the lower lid
    irises: np.ndarray | None = None  # (2 eyes, 3): centre x, y, and radius
    outline: np.ndarray | None = None  # (K, 2), convex: beyond it lies what is behind the face

    @property
    def eye_distance_px(self) -> float:
        return float(np.linalg.norm(self.eyes[1] - self.eyes[0]))


def around(picture: np.ndarray, eyes: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """The part of a picture within `reach` eye distances of the eyes: its corner (2,) = x, y, and its pixels."""
    reach_px = reach * np.linalg.norm(eyes[1] - eyes[0])
    last = np.array(picture.shape[1::-1])
    left, top = np.clip(np.floor(eyes.min(axis=0) - reach_px), 0, last - 1).astype(int)
    right, bottom = np.clip(np.ceil(eyes.max(axis=0) + reach_px), (left + 1, top + 1), last).astype(int)
    return np.array([left, top]), picture[top:bottom, left:right]
