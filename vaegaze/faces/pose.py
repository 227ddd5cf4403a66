"""How a head is turned, from the points of its face mesh: weighted Procrustes on MediaPipe's canonical face."""

import numpy as np

# Points of google-ai-edge/mediapipe's canonical face model, in its own coordinates (cm, x to the image's right, y up,
# z out of the face), and their weights (modules/face_geometry/data, Apache-2.0). A pair is mirrored: the first index is
# the point on the image's left, whose coordinates are given.
MIDLINE = {
    4: (0.070910, (0.0, -0.463170, 7.586580)),
    6: (0.032100, (0.0, 2.473255, 5.788627)),
    10: (0.008447, (0.0, 8.261778, 4.481535)),
}
PAIRS = {
    (33, 263): (0.058724, (-4.445859, 2.663991, 3.173422)),
    (54, 284): (0.007667, (-6.279331, 6.615427, 1.425850)),
    (67, 297): (0.009078, (-3.523964, 8.005976, 3.729163)),
    (117, 346): (0.009792, (-5.258659, 0.945811, 2.974312)),
    (119, 348): (0.014565, (-3.300681, 0.861641, 3.872784)),
    (121, 350): (0.018591, (-1.820731, 1.467954, 4.224124)),
    (127, 356): (0.005198, (-7.743095, 2.364999, -2.005167)),
    (129, 358): (0.120625, (-1.785794, -0.978284, 4.850470)),
    (132, 361): (0.005560, (-7.270895, -2.890917, -2.252455)),
    (133, 362): (0.053286, (-1.856432, 2.585245, 3.757904)),
    (136, 365): (0.066890, (-5.085276, -7.178590, 0.714711)),
    (143, 372): (0.014817, (-6.407571, 2.236021, 1.560843)),
    (147, 376): (0.014263, (-6.234883, -1.944430, 1.663542)),
    (198, 420): (0.025462, (-1.246815, 0.230297, 5.681036)),
    (205, 425): (0.047252, (-3.832928, -1.537326, 4.137731)),
}


SEEN_FROM_MM = 600.0  # as from a camera on a screen, or a hand's
PITCH_RAD = np.radians(4.5)  # of the canonical face in the head's frame of `geometry.camera`; by benchmarks/faces.py


def _table() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rows = [(index, weight, point) for index, (weight, point) in MIDLINE.items()]
    for (left, right), (weight, (x, y, z)) in PAIRS.items():
        rows += [(left, weight, (x, y, z)), (right, weight, (-x, y, z))]
    indices, weights, points = map(np.array, zip(*rows))
    cos, sin = np.cos(PITCH_RAD), np.sin(PITCH_RAD)
    upright = 10 * points * (1, -1, -1) @ np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]]).T  # mm
    return indices, weights, upright


INDICES, WEIGHTS, CANONICAL_MM = _table()


def head_pose(mesh: np.ndarray) -> tuple[np.ndarray, float, float]:
    """The head (2,) = pitch, yaw in radians, the roll (rad, from x towards y) and the scale (px per mm) of a face mesh.

    The mesh (468, 3) is in pixels, z away from the camera. The network sees a square around the face alone, so the pose
    is that towards the viewer wherever the face lies in the picture: it needs no lens, only about how far away it is.
    """
    points = mesh[INDICES] - np.average(mesh[INDICES], axis=0, weights=WEIGHTS)
    _, scale = _procrustes(points)
    # What lies nearer to the viewer looks larger, which would pass for a larger turn of the head.
    points[:, :2] *= 1 + points[:, 2:] / scale / SEEN_FROM_MM
    rotation, scale = _procrustes(points)
    z_axis = rotation[:, 2]  # into the head: (cos p · sin y, sin p, cos p · cos y)
    head = np.array([np.arcsin(np.clip(z_axis[1], -1, 1)), np.arctan2(z_axis[0], z_axis[2])])
    return head, float(np.arctan2(rotation[1, 0], rotation[0, 0])), float(scale)


def _procrustes(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Rotation (3, 3) and scale that bring the canonical face to points (K, 3), whose weighted mean is 0."""
    source = CANONICAL_MM - np.average(CANONICAL_MM, axis=0, weights=WEIGHTS)
    u, singular, vt = np.linalg.svd((WEIGHTS[:, None] * points).T @ source)
    signs = np.array([1, 1, np.sign(np.linalg.det(u @ vt))])
    return (u * signs) @ vt, float((singular * signs).sum() / (WEIGHTS[:, None] * source**2).sum())
