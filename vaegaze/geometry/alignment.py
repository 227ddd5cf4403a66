"""Where a face lies on the canvas: the transform that brings its eyes to where the canvas has them."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from vaegaze.geometry.camera import EYE_CENTRES_MM, FACE_ORIGIN_MM, Camera, rolled
from vaegaze.geometry.transforms import covered, from_crop, glimpse, inverse, move, roll_of, scale_of, similarity, warp

AROUND_FACE = 1.6  # side of the window around a face / `Camera.face_px`, which hardly holds the face


def place(camera: Camera, head: np.ndarray, canvas: Camera) -> np.ndarray:
    """Transform (2, 3) of a normalised camera's frame onto the canvas, by where this head's eyes lie in both.

    Neither camera has roll, so it is a scale and a translation. Between cameras that look at the same point it is a
    plain resize; otherwise it depends on the head pose.
    """
    if camera.origin_mm == canvas.origin_mm and camera.distance_mm == canvas.distance_mm:
        return _resize(camera, canvas)
    return similarity(camera.project(EYE_CENTRES_MM, head), canvas.project(EYE_CENTRES_MM, head), with_roll=False)


@lru_cache(maxsize=16)
def _resize(camera: Camera, canvas: Camera) -> np.ndarray:
    scale = canvas.focal_px / camera.focal_px
    x, y = canvas.centre_px - scale * camera.centre_px
    transform = np.array([[scale, 0.0, x], [0.0, scale, y]])
    transform.flags.writeable = False
    return transform


def align(eyes: np.ndarray, head: np.ndarray, canvas: Camera) -> np.ndarray:
    """The similarity (2, 3), picture → canvas, that brings eye centres (2, 2) to where the canvas has this head's.

    `head` (2,) is its pose as seen in the picture. Its pose on the canvas depends a little on the roll, which in turn
    depends on where its eyes lie there: a few rounds settle both.
    """
    roll_rad = 0.0
    for _ in range(10):
        target = canvas.project(EYE_CENTRES_MM, rolled(head, roll_rad))
        to_canvas = similarity(eyes, target)
        roll_rad = roll_of(to_canvas)
    return to_canvas


@dataclass(frozen=True)
class AlignedFace:
    """A face of a picture on the canvas of H × W pixels."""

    image: np.ndarray  # (H, W, 3) uint8
    valid: np.ndarray  # (H, W) bool, False where the picture shows nothing
    to_canvas: np.ndarray  # (2, 3) similarity, picture pixel → canvas pixel
    head: np.ndarray  # (2,) pitch, yaw in radians on the canvas

    @property
    def roll_rad(self) -> float:
        """How far the canvas turns the picture; `camera.rolled(direction, roll_rad)` turns a direction along."""
        return roll_of(self.to_canvas)


def align_face(
    picture: np.ndarray, eyes: np.ndarray, head: np.ndarray, canvas: Camera, *, near: bool = False
) -> AlignedFace:
    """The face whose eye centres are (2, 2) = x, y in a picture (H, W, 3) uint8; `head` (2,) as seen in there.

    With `near` only the window around the face is looked at, so that the time does not depend on the picture's size;
    and where that is larger than the canvas, it is sampled once for each pixel, in a fifth of the time.
    """
    to_canvas = align(eyes, head, canvas)
    head = rolled(head, roll_of(to_canvas))
    if not near:
        return AlignedFace(*warp(picture, to_canvas, *canvas.shape), to_canvas, head)
    centre, side = face_window(to_canvas, head, canvas)
    left, top = np.clip(np.floor(centre - side / 2).astype(int), 0, np.array(picture.shape[1::-1]) - 1)
    right, bottom = np.ceil(centre + side / 2).astype(int)
    window = picture[top : max(bottom, top + 1), left : max(right, left + 1)]
    to_canvas_here = from_crop(to_canvas, left, top)
    if scale_of(to_canvas) > 1:
        return AlignedFace(*warp(window, to_canvas_here, *canvas.shape), to_canvas, head)
    image = glimpse(window, to_canvas_here, *canvas.shape)
    return AlignedFace(image, covered(window.shape, to_canvas_here, *canvas.shape), to_canvas, head)


def face_window(to_canvas: np.ndarray, head: np.ndarray, canvas: Camera) -> tuple[np.ndarray, float]:
    """Centre (2,) = x, y and side of the square window around a face in a picture, in its pixels."""
    centre = canvas.project(np.array(FACE_ORIGIN_MM), head)
    return move(inverse(to_canvas), centre), AROUND_FACE * canvas.face_px / scale_of(to_canvas)
