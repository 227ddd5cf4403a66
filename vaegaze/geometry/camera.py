"""The normalised camera: where a head's eyes lie in a picture, from its pitch and yaw alone.

Conventions throughout the project:

- Camera axes are x right, y down, z forward. Lengths are millimetres, angles radians.
- A direction is (pitch, yaw). (0, 0) looks into the camera, pitch > 0 looks up, yaw > 0 looks to the image's left.
- Pixel coordinates are continuous: pixel i covers [i, i + 1), so the centre of a 128 px picture is 64.0.

A model sees every picture through one normalised camera, its canvas. `canvas_camera` gives the square ones, in which a
frontal face of 128 px has its eye centres at (64 ± 27.2, 39.0).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

# Eye corners in the head's own frame (x to the image's right, y down, z into the head), from the face model of
# swook/faze_preprocess. First the eye on the image's left, then the one on its right; outer and inner corner of each.
EYE_CORNERS_MM = np.array(
    [[[-46.2, -1.5, 3.0], [-19.1, 1.5, -3.0]], [[46.2, -1.5, 3.0], [19.1, 1.5, -3.0]]], dtype=np.float64
)  # (2 eyes, 2 corners, 3)
EYE_CENTRES_MM = EYE_CORNERS_MM.mean(axis=1)  # (2, 3)

MIRROR = np.array([1, -1], dtype=np.float32)  # times (pitch, yaw): what a mirror image has
FARTHEST_GAZE_RAD = np.radians(55.0)  # that eyes turn in the head

FACE_ORIGIN_MM = (0.0, 30.0, 0.0)  # ST-ED's and upstream's cameras look here
BETWEEN_EYES_MM = (0.0, 1.5, -3.0)  # FAZE's eye strip looks here
FACE_CENTRE_MM = (0.0, 23.7, -5.5)  # ETH-XGaze's looks here: halfway from the eyes' middle to the nose's lower corners


LOOKS_AT = {"face": FACE_ORIGIN_MM, "eyes": BETWEEN_EYES_MM}  # by the words of a canvas's config
MAX_SIDE_PX = 4096  # of a canvas
SQUARES, LIDS = EYE_MASKS = ("squares", "lids")  # the shapes of eye masks, see `eye_regions`
FACE_PX, FACE_FOCAL_PX, DISTANCE_MM = 128, 500.0, 600.0  # ST-ED's square picture of a face


@dataclass(frozen=True)
class Camera:
    """A normalised camera: without roll, looking at `origin_mm` of the head from `distance_mm`.

    As a model's canvas it also says in which shape, of EYE_MASKS, eyes are cut out of it.
    """

    width_px: int
    height_px: int
    focal_px: float
    origin_mm: tuple[float, float, float] = FACE_ORIGIN_MM
    distance_mm: float = DISTANCE_MM
    eye_masks: str = SQUARES

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in pixels, as arrays have it."""
        return self.height_px, self.width_px

    @property
    def size_text(self) -> str:
        """Such as "128 px" for a square, "192 × 64 px" otherwise."""
        return " × ".join(map(str, dict.fromkeys((self.width_px, self.height_px)))) + " px"

    @property
    def centre_px(self) -> np.ndarray:
        """(2,) x, y of the picture's centre, where `origin_mm` lies."""
        return np.array([self.width_px / 2, self.height_px / 2])

    @property
    def face_px(self) -> float:
        """How large a face is drawn: the side of the square canvas that draws it as large. Soft edges follow it."""
        return self.focal_px * DISTANCE_MM / self.distance_mm * FACE_PX / FACE_FOCAL_PX

    @property
    def eye_radius_px(self) -> float:
        """Half the distance between the corners of a frontal eye."""
        return float(eye_circles(np.zeros(2), self)[0, 2])

    def project(self, points_mm: np.ndarray, head: np.ndarray) -> np.ndarray:
        """Head-frame points (..., 3) of a head turned by `head` (2,) = pitch, yaw → pixels (..., 2) as x, y."""
        camera_mm = (np.asarray(points_mm) - self.origin_mm) @ head_rotation(head).T + (0.0, 0.0, self.distance_mm)
        return self.focal_px * camera_mm[..., :2] / camera_mm[..., 2:] + self.centre_px


def canvas_camera(size_px: int) -> Camera:
    """The camera of a square canvas: ST-ED's (focal 500 at 128 px), scaled."""
    return Camera(size_px, size_px, FACE_FOCAL_PX * size_px / FACE_PX)


def camera_from_config(config: Mapping) -> Camera:
    """The canvas that a model's config names: width_px, height_px, focal_px; and looks_at, "face" or "eyes".

    ValueError for another key or value.
    """
    keys = ("width_px", "height_px", "focal_px", "looks_at")
    if not isinstance(config, Mapping) or set(config) != set(keys):
        raise ValueError(f"canvas is {config!r}, expected the keys {', '.join(keys)}")
    for key in keys[:2]:
        if type(config[key]) is not int or not 1 <= config[key] <= MAX_SIDE_PX:
            raise ValueError(f"canvas.{key} {config[key]!r} is not a whole number from 1 to {MAX_SIDE_PX}")
    focal_px, looks_at = config["focal_px"], config["looks_at"]
    if type(focal_px) not in (int, float) or not 1 <= focal_px <= 100 * MAX_SIDE_PX:
        raise ValueError(f"canvas.focal_px {focal_px!r} is not a number of pixels, at least 1")
    if not isinstance(looks_at, str) or looks_at not in LOOKS_AT:
        raise ValueError(f"canvas.looks_at {looks_at!r} is none of {', '.join(LOOKS_AT)}")
    return Camera(config["width_px"], config["height_px"], float(focal_px), LOOKS_AT[looks_at])


def head_rotation(head: np.ndarray) -> np.ndarray:
    """Rotation (3, 3), head frame → camera frame, of a head at (pitch, yaw); normalised, so that R[1, 0] = 0.

    The third column points into the head: (cos p · sin y, sin p, cos p · cos y) (swook/faze_preprocess).
    """
    pitch, yaw = np.asarray(head, dtype=np.float64)
    x_axis = (np.cos(yaw), 0.0, -np.sin(yaw))
    z_axis = (np.cos(pitch) * np.sin(yaw), np.sin(pitch), np.cos(pitch) * np.cos(yaw))
    return np.stack([x_axis, np.cross(z_axis, x_axis), z_axis], axis=1)


def gaze_vector(pitch_yaw: np.ndarray) -> np.ndarray:
    """(..., 2) pitch, yaw → unit vectors (..., 3) in camera axes, from the eye towards what it looks at."""
    pitch, yaw = np.moveaxis(np.asarray(pitch_yaw, dtype=np.float64), -1, 0)
    return np.stack([-np.cos(pitch) * np.sin(yaw), -np.sin(pitch), -np.cos(pitch) * np.cos(yaw)], axis=-1)


def pitch_yaw(vector: np.ndarray) -> np.ndarray:
    """The inverse of `gaze_vector` for vectors (..., 3) of any length."""
    x, y, z = np.moveaxis(vector / np.linalg.norm(vector, axis=-1, keepdims=True), -1, 0)
    return np.stack([np.arcsin(-y), np.arctan2(-x, -z)], axis=-1)


def gaze_at(point_mm: np.ndarray, eyes_mm: np.ndarray) -> np.ndarray:
    """The gaze (2,) = pitch, yaw of eyes (3,) that look at a point (3,), both in the axes of a camera at (0, 0, 0).

    The angles are those of a normalised camera, turned towards the eyes without roll: eyes that look into the camera
    have (0, 0) wherever they are in the picture. The eyes must not lie straight above or below the camera.
    """
    z_axis = np.asarray(eyes_mm) / np.linalg.norm(eyes_mm)
    x_axis = np.array([z_axis[2], 0.0, -z_axis[0]]) / np.hypot(z_axis[0], z_axis[2])
    turn = np.stack([x_axis, np.cross(z_axis, x_axis), z_axis])  # camera → normalised camera
    return pitch_yaw(turn @ (np.asarray(point_mm, dtype=np.float64) - eyes_mm))


def rolled(direction: np.ndarray, roll_rad: float) -> np.ndarray:
    """The (pitch, yaw) (..., 2) of a direction after its picture is turned by `roll_rad`, from x towards y.

    The camera's x and y axes are the picture's, so turning the picture turns a vector's x and y; z stays.
    """
    x, y, z = np.moveaxis(gaze_vector(direction), -1, 0)
    cos, sin = np.cos(roll_rad), np.sin(roll_rad)
    return pitch_yaw(np.stack([cos * x - sin * y, sin * x + cos * y, z], axis=-1))


def eye_circles(head: np.ndarray, camera: Camera) -> np.ndarray:
    """Both eyes in a picture: (2, 3) = centre x, centre y, radius of the circle through the corners, px."""
    corners_px = camera.project(EYE_CORNERS_MM, head)  # (2, 2, 2)
    radius_px = np.linalg.norm(corners_px[:, 0] - corners_px[:, 1], axis=-1) / 2
    return np.concatenate([corners_px.mean(axis=1), radius_px[:, None]], axis=1)
