"""One person's samples in memory, all on the same canvas: the form that every source is read into."""

import hashlib
import math
from dataclasses import dataclass, fields, replace

import numpy as np

from vaegaze.errors import UserError
from vaegaze.geometry.camera import FARTHEST_GAZE_RAD, MIRROR, Camera
from vaegaze.geometry.eye_regions import pose_mask

ALIKE_RAD = 1e-4  # labels closer together than this do not differ
TOO_FAR_SHARE = 0.1  # of the labels: fewer may be mistakes of single frames


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


def gaze_doubt(gaze: np.ndarray, head: np.ndarray) -> str:
    """What about labels (N, 2), (N, 2) looks like a mistake in their source; or nothing."""
    if len(gaze) > 1 and np.ptp(gaze, axis=0).max() < ALIKE_RAD:
        return f"all {len(gaze)} gaze labels are the same: no gaze can be learnt from them"
    if len(gaze) > 1 and (gaze == np.rint(gaze)).all():
        return "all gaze labels are whole numbers of radians: were they rounded?"
    too_far = int((abs(gaze - head).max(axis=1) > FARTHEST_GAZE_RAD).sum())
    if too_far <= TOO_FAR_SHARE * len(gaze):
        return ""
    return (
        f"{too_far} of {len(gaze)} gaze labels are more than {math.degrees(FARTHEST_GAZE_RAD):.0f}° away from where "
        "the head points, farther than eyes turn: are they degrees, or is it another order of angles?"
    )


def repeated(samples: Samples, others: Samples) -> int:
    """How many of the samples show the very same picture as one of the others."""
    shown = {_digest(image) for image in others.images}
    return sum(_digest(image) in shown for image in samples.images)


def _digest(image: np.ndarray) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(image)).digest()  # less to keep than the picture


def picture_doubts(samples: Samples) -> list[str]:
    """What about a person's frames and eye masks looks like a mistake in their source."""
    doubts = []
    shown = (image[valid] for image, valid in zip(samples.images, samples.valid))
    blank = sum(bool((pixels == pixels[:1]).all()) for pixels in shown)
    if blank:
        doubts.append(f"{blank} of {len(samples)} frames are of one colour throughout, as if never written")
    around = samples.valid & ~np.stack([pose_mask(head, samples.canvas) for head in samples.head])
    covered = (samples.eye_masks & around).sum(axis=(1, 2)) > around.sum(axis=(1, 2)) / 2
    if covered.sum() > len(samples) / 2:
        doubts.append("the eye masks cover most of what is not eyes: are they inverted, or numbered in another way?")
    return doubts
