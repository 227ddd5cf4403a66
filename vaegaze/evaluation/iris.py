"""Where the irises of a picture are: a reading of the gaze that knows nothing of the estimator.

The iris of a rendered person is a circle on a ball, both of known size and place. So each direction that an eye could
look in says where in the picture its outline would lie. Read is the direction along whose outline the picture changes
most from dark inside to bright outside: Daugman's integro-differential operator (IEEE TPAMI 15, 1993), for a ball seen
in perspective. Lids cover the outline above and below, so only its sides count.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image

from vaegaze.geometry.camera import Camera, gaze_vector, head_rotation

SIDES_RAD = np.radians(np.concatenate([np.arange(-70, 71, 10), np.arange(110, 251, 10)]))  # 0: right, 90: down
INSIDE, OUTSIDE = (0.88, 0.95), (1.05, 1.12)  # radii of the rings compared / radius of the iris
REACH_RAD = np.radians((33, 39))  # pitch, yaw: searched on either side of the head's own direction
COARSE_RAD, NEAR_RAD, FINE_RAD = np.radians((3.0, 3.0, 0.6))  # a grid over all, then a finer one around its best


@dataclass(frozen=True)
class Eye:
    """One eye of a rendered person, as a camera sees it."""

    centre_mm: np.ndarray  # (3,) of the ball, head frame
    radius_mm: float
    iris_radius_mm: float
    head: np.ndarray  # (2,) pitch, yaw
    camera: Camera

    @cached_property
    def centre_in_camera_mm(self) -> np.ndarray:
        from_origin = self.centre_mm - np.array(self.camera.origin_mm)
        return head_rotation(self.head) @ from_origin + (0.0, 0.0, self.camera.distance_mm)

    def iris_px(self, directions: np.ndarray) -> np.ndarray:
        """x, y (..., 2) of the middle of the iris's disc, for eyes that look in `directions` (..., 2)."""
        depth_mm = np.sqrt(self.radius_mm**2 - self.iris_radius_mm**2)
        middle = self.centre_in_camera_mm + depth_mm * gaze_vector(directions)
        return self.camera.focal_px * middle[..., :2] / middle[..., 2:] + self.camera.centre_px

    def ring_px(self, directions: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
        """x and y (..., A), as whole pixels, of the sides of a circle of `share` · the iris's radius."""
        axis = gaze_vector(directions).astype(np.float32)
        right = np.stack([-axis[..., 2], np.zeros_like(axis[..., 0]), axis[..., 0]], axis=-1)
        right /= np.linalg.norm(right, axis=-1, keepdims=True)
        down = np.cross(right, axis)
        radius_mm = share * self.iris_radius_mm
        middle = (self.centre_in_camera_mm + np.sqrt(self.radius_mm**2 - radius_mm**2) * axis).astype(np.float32)
        cos, sin = ((radius_mm * wave(SIDES_RAD)).astype(np.float32) for wave in (np.cos, np.sin))
        x, y, z = (middle[..., k, None] + right[..., k, None] * cos + down[..., k, None] * sin for k in range(3))
        scale = np.float32(self.camera.focal_px) / z
        (x0, y0), (height, width) = self.camera.centre_px.astype(np.float32), self.camera.shape
        return (
            np.clip((x * scale + x0).astype(np.int32), 0, width - 1),
            np.clip((y * scale + y0).astype(np.int32), 0, height - 1),
        )

    @cached_property
    def everywhere(self) -> tuple[np.ndarray, "Rings"]:
        """The coarse grid of directions (P, Y, 2) and its rings: the same for all pictures of a frame."""
        directions = _grid(self.head, COARSE_RAD, REACH_RAD)
        return directions, Rings.of(self, directions)


@dataclass(frozen=True)
class Rings:
    """Pixels (…, A) beside the outlines of irises, by ring."""

    inside: list[tuple[np.ndarray, np.ndarray]]
    outside: list[tuple[np.ndarray, np.ndarray]]

    @classmethod
    def of(cls, eye: Eye, directions: np.ndarray) -> "Rings":
        return cls(*([eye.ring_px(directions, share) for share in shares] for shares in (INSIDE, OUTSIDE)))

    def contrast(self, grey: np.ndarray) -> np.ndarray:
        """(…): how much brighter a picture (H, W) is outside than inside."""
        outside, inside = (sum(grey[y, x].mean(axis=-1) for x, y in ring) for ring in (self.outside, self.inside))
        return outside - inside


def find_irises(picture: np.ndarray, eyes: Sequence[Eye]) -> np.ndarray:
    """x, y (2, 2) of the middles of the irises in a picture (H, W, 3) uint8 taken by the eyes' camera."""
    grey = np.asarray(Image.fromarray(picture).convert("L"), dtype=np.float32)
    return np.stack([eye.iris_px(_look(grey, eye)) for eye in eyes])


def _look(grey: np.ndarray, eye: Eye) -> np.ndarray:
    """The direction (2,) that fits best, between the points of the fine grid by a parabola along each axis."""
    directions, rings = eye.everywhere
    best = directions[np.unravel_index(rings.contrast(grey).argmax(), directions.shape[:2])]
    directions = _grid(best, FINE_RAD, np.full(2, NEAR_RAD))
    contrast = Rings.of(eye, directions).contrast(grey)
    row, column = np.unravel_index(contrast.argmax(), contrast.shape)
    between = np.array([_peak(contrast[:, column], row), _peak(contrast[row], column)])
    return directions[row, column] + FINE_RAD * between


def _grid(middle: np.ndarray, step: float, reach: np.ndarray) -> np.ndarray:
    """(P, Y, 2): directions around `middle` (2,)."""
    pitch, yaw = (step * np.arange(-round(far / step), round(far / step) + 1) for far in reach)
    return np.stack(np.meshgrid(pitch, yaw, indexing="ij"), axis=-1) + middle


def _peak(values: np.ndarray, index: int) -> float:
    """Where between its neighbours the peak at `index` lies, −0.5..0.5."""
    if not 0 < index < len(values) - 1:
        return 0.0
    before, at, after = values[index - 1 : index + 2]
    bend = before - 2 * at + after
    return float(0.5 * (before - after) / bend) if bend < 0 else 0.0


def travel_and_offset(
    found: Sequence[np.ndarray], true: Sequence[np.ndarray], eye_distances_px: Sequence[float]
) -> dict[str, float]:
    """How far the irises move, and how far off they are: of each frame its K pictures' irises (K, 2, 2) = x, y.

    travel_pitch and travel_yaw are slopes of the found against the true way down and to the side, from each eye's mean
    over the frame. iris_offset is the mean distance from the true place, in hundredths of that between the eyes.
    """
    ways = [np.stack([irises - irises.mean(axis=0) for irises in pair]) for pair in zip(found, true, strict=True)]
    found_way, true_way = np.concatenate(ways, axis=1).reshape(2, -1, 2)
    yaw, pitch = (found_way * true_way).sum(axis=0) / (true_way**2).sum(axis=0)
    offsets = [
        100 * np.linalg.norm(read - exact, axis=-1).mean() / distance
        for read, exact, distance in zip(found, true, eye_distances_px)
    ]
    return {"travel_pitch": float(pitch), "travel_yaw": float(yaw), "iris_offset": float(np.mean(offsets))}
