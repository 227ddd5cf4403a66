"""The head pose of a face mesh, on meshes whose truth is exact."""

import numpy as np
import pytest

from vaegaze.faces.pose import CANONICAL_MM, INDICES, head_pose
from vaegaze.geometry.camera import head_rotation

HEADS = np.radians([(0, 0), (0, 30), (-15, -25), (20, 10), (10, -30)])


def mesh_of(head, distance_mm, focal_px=1000.0) -> np.ndarray:
    """The canonical face so turned, as a camera sees it that looks at its middle.

    Depth is in pixels at the face's distance, as the mesh network has it.
    """
    turned = CANONICAL_MM @ head_rotation(head).T
    turned -= turned.mean(axis=0)
    mesh = np.zeros((468, 3))
    mesh[INDICES, :2] = focal_px * turned[:, :2] / (distance_mm + turned[:, 2:])
    mesh[INDICES, 2] = focal_px * turned[:, 2] / distance_mm
    return mesh


@pytest.mark.parametrize(("distance_mm", "most_deg"), [(600, 0.6), (400, 1.2), (2000, 0.6)])
def test_perspective_is_allowed_for(distance_mm, most_deg):
    off = [np.degrees(head_pose(mesh_of(head, distance_mm))[0] - head) for head in HEADS]
    assert np.abs(off).max() < most_deg


def test_scale_and_roll():
    mesh = mesh_of(np.zeros(2), 600)
    cos, sin = np.cos(0.4), np.sin(0.4)
    mesh[:, :2] = mesh[:, :2] @ np.array([[cos, sin], [-sin, cos]])
    head, roll_rad, px_per_mm = head_pose(mesh)
    assert np.abs(head).max() < 0.01 and abs(roll_rad - 0.4) < 0.01 and abs(px_per_mm - 1000 / 600) < 0.02
