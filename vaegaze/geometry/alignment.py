"""Where a face lies on the canvas: the transform that brings its eyes to where the canvas has them."""

import numpy as np

from vaegaze.geometry.camera import EYE_CENTRES_MM, Camera, canvas_camera, rolled
from vaegaze.geometry.transforms import roll_of, similarity

AROUND_FACE = 1.6  # side of the window around a face / side of the canvas, which hardly holds the face


def place(camera: Camera, head: np.ndarray, size_px: int) -> np.ndarray:
    """Transform (2, 3) of a normalised camera's frame onto the canvas, by where this head's eyes lie in both.

    Neither camera has roll, so it is a scale and a translation. For a face camera it is the plain resize; an eye strip
    looks at another point of the head, so that its place depends on the head pose.
    """
    canvas = canvas_camera(size_px)
    return similarity(camera.project(EYE_CENTRES_MM, head), canvas.project(EYE_CENTRES_MM, head), with_roll=False)


def align(eyes: np.ndarray, head: np.ndarray, size_px: int) -> np.ndarray:
    """The similarity (2, 3), photo → canvas, that brings eye centres (2, 2) to where this head's eyes lie there.

    The head's pose on the canvas depends a little on the roll, which depends on where its eyes lie: a few rounds
    settle both.
    """
    roll_rad = 0.0
    for _ in range(10):
        target = canvas_camera(size_px).project(EYE_CENTRES_MM, rolled(head, roll_rad))
        to_canvas = similarity(eyes, target)
        roll_rad = roll_of(to_canvas)
    return to_canvas
