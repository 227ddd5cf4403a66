"""One person's samples in memory, all on the same canvas: the form that every source is read into."""

from dataclasses import dataclass, fields, replace

import numpy as np

from vaegaze.errors import UserError
from vaegaze.geometry.camera import MIRROR, Camera

ALIKE_RAD = 1e-4  # labels closer together than this do not differ


@dataclass(frozen=True)
class Samples:
    """N samples of one person on a canvas of H × W pixels."""

    images: np.ndarray  # (N, H, W, 3) uint8 RGB
    eye_masks: np.ndarray  # (N, H, W) bool, True on the eyes
    valid: np.ndarray  # (N, H, W) bool, False where the source shows nothing
    gaze: np.ndarray  # (N, 2) float32 pitch, yaw in radians
    head: np.ndarray  # (N, 2) float32 pitch, yaw in radians
    indices: np.ndarray  # (N,) int64, the samples' rows in their source
    canvas: Camera

    def __len__(self) -> int:
        return len(self.images)

    def refuse_empty_masks(self, name: str) -> None:
        """UserError about the person of this `name` if a sample has no eye pixels."""
        empty = self.indices[~(self.eye_masks & self.valid).any(axis=(1, 2))]
        if len(empty):
            raise UserError(f"{name}: the eye mask of sample {empty[0]} is empty", about="sample")

    @property
    def looks_one_way(self) -> bool:
        """Whether all of several samples have the same gaze."""
        return len(self) > 1 and bool(np.ptp(self.gaze, axis=0).max() < ALIKE_RAD)

    def take(self, rows) -> "Samples":
        """The samples at these positions, in this order."""
        return replace(self, **{name: getattr(self, name)[rows] for name in ARRAYS})

    def mirrored(self) -> "Samples":
        """The samples mirrored: left and right exchanged, yaws negated."""
        return replace(
            self,
            images=np.ascontiguousarray(self.images[:, :, ::-1]),
            eye_masks=np.ascontiguousarray(self.eye_masks[..., ::-1]),
            valid=np.ascontiguousarray(self.valid[..., ::-1]),
            gaze=self.gaze * MIRROR,
            head=self.head * MIRROR,
        )


ARRAYS = tuple(field.name for field in fields(Samples) if field.name != "canvas")
