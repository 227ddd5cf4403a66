"""One person's samples in memory, all on the same square canvas: what every source turns into."""

from dataclasses import dataclass, fields, replace

import numpy as np


@dataclass(frozen=True)
class Samples:
    """N samples of one person on a canvas of S × S pixels."""

    images: np.ndarray  # (N, S, S, 3) uint8 RGB
    eye_masks: np.ndarray  # (N, S, S) bool, True on the eyes
    valid: np.ndarray  # (N, S, S) bool, False where the source shows nothing
    gaze: np.ndarray  # (N, 2) float32 pitch, yaw in radians
    head: np.ndarray  # (N, 2) float32 pitch, yaw in radians
    indices: np.ndarray  # (N,) int64, the samples' rows in their source

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows) -> "Samples":
        """The samples at these positions, in this order."""
        return replace(self, **{field.name: getattr(self, field.name)[rows] for field in fields(self)})
