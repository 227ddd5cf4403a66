"""Where eyes look, from the places of their irises."""

import numpy as np
import pytest

from vaegaze.faces.gaze import CAMERA, DEPTH_MM, RADIUS_MM, gaze_of
from vaegaze.geometry.camera import EYE_CENTRES_MM, gaze_vector, head_rotation, rolled
from vaegaze.geometry.transforms import move


@pytest.mark.parametrize("gaze", [(0.0, 0.0), (0.2, -0.1), (-0.1, 0.4)])
@pytest.mark.parametrize("head", [(0.0, 0.0), (0.15, -0.3)])
@pytest.mark.parametrize("roll_rad", [0.0, 0.4])
def test_irises_where_they_must_be(gaze, head, roll_rad):
    eyes = CAMERA.project(EYE_CENTRES_MM, np.array(head))
    off_mm = DEPTH_MM * head_rotation(np.array(head))[:2, 2] + RADIUS_MM * gaze_vector(np.array(gaze))[:2]
    irises = eyes + off_mm * CAMERA.focal_px / CAMERA.distance_mm
    cos, sin = 3 * np.cos(roll_rad), 3 * np.sin(roll_rad)
    turn = np.array([[cos, -sin, 50.0], [sin, cos, 20.0]])
    read = gaze_of(move(turn, eyes), move(turn, irises), rolled(np.array(head), roll_rad))
    np.testing.assert_allclose(read, rolled(np.array(gaze), roll_rad), atol=0.01)
