"""Where eyes look, from the irises' places between the lids' corners and the head's pose."""

import numpy as np

from vaegaze.geometry.alignment import align
from vaegaze.geometry.camera import EYE_CENTRES_MM, canvas_camera, head_rotation, pitch_yaw, rolled
from vaegaze.geometry.transforms import move, roll_of

# An iris lies this far in front of its eyeball's centre, which lies this far behind the corners: across, and down,
# where the iris network sees half of what an iris moves. Fitted to the pictures of benchmarks/faces.py.
RADIUS_MM, DEPTH_MM = np.array([9.7, 5.2]), np.array([8.6, 4.2])
LIMIT = 0.85  # of the sine of an angle
CAMERA = canvas_camera(128)


def gaze_of(eyes: np.ndarray, irises: np.ndarray, head: np.ndarray) -> np.ndarray:
    """The gaze (2,) = pitch, yaw in radians of eyes with centres (2, 2) and irises (2, 2+), all as seen in the picture.

    The mean of both eyes, for a head (2,). On the pictures of benchmarks/faces.py its mean error is about 4.5° of yaw
    and 5.5° of pitch.
    """
    to_canvas = align(eyes, head, CAMERA)
    on_canvas = rolled(head, roll_of(to_canvas))
    off_px = move(to_canvas, irises[:, :2]) - CAMERA.project(EYE_CENTRES_MM, on_canvas)
    off_mm = off_px.mean(axis=0) * CAMERA.distance_mm / CAMERA.focal_px
    across, down = np.clip((off_mm - DEPTH_MM * head_rotation(on_canvas)[:2, 2]) / RADIUS_MM, -LIMIT, LIMIT)
    ahead = np.sqrt(max(1 - across**2 - down**2, 1 - LIMIT**2))
    return rolled(pitch_yaw(np.array([across, down, -ahead])), -roll_of(to_canvas))
