"""How a face moves from one frame of a video to the next, by optical flow (Lucas & Kanade 1981) around the eyes."""

import numpy as np

from vaegaze.faces.cascades import opencv
from vaegaze.faces.face import around
from vaegaze.geometry.transforms import scale_of, similarity

REACH = 0.5  # in eye distances around the eyes: where points are followed
DISTANCE_PX = 128  # greatest eye distance in the picture in which points are followed
POINTS, LEAST_POINTS = 100, 10
SAME_POINT_PX = 0.5  # how far off a point may be after going there and back
SAME_MOVE_PX = 1.0  # and from the common movement
LEAST_SHARE = 0.5  # of the points that must move together
MAX_SCALE = 1.2  # from frame to frame


def movement(before: np.ndarray, after: np.ndarray, eyes: np.ndarray) -> np.ndarray | None:
    """The similarity (2, 3) by which the face around the eyes (2, 2) moved between two frames (H, W, 3) uint8.

    The eyes themselves do not count: they look around and blink. None if too few points move together.
    """
    cv2 = opencv()
    scale = min(1.0, DISTANCE_PX / np.linalg.norm(eyes[1] - eyes[0]))
    corner, near = around(before, eyes, REACH)
    size = [max(1, round(side * scale)) for side in near.shape[1::-1]]
    first, second = (
        cv2.resize(cv2.cvtColor(np.ascontiguousarray(part), cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA)
        for part in (near, around(after, eyes, REACH)[1])
    )
    distance_px = scale * np.linalg.norm(eyes[1] - eyes[0])
    window = {"winSize": (2 * round(0.08 * distance_px) + 5,) * 2, "maxLevel": 3}
    about = _about_eyes(size, (eyes - corner) * scale)
    points = cv2.goodFeaturesToTrack(first, POINTS, 0.01, max(2, 0.04 * distance_px), mask=about)
    if points is None or len(points) < LEAST_POINTS:
        return None
    moved, there, _ = cv2.calcOpticalFlowPyrLK(first, second, points, None, **window)
    back, here, _ = cv2.calcOpticalFlowPyrLK(second, first, moved, None, **window)
    same = (there & here).ravel() == 1
    same &= np.linalg.norm(back - points, axis=-1).ravel() < SAME_POINT_PX
    if same.sum() < max(LEAST_POINTS, LEAST_SHARE * len(points)):
        return None
    points, moved = points[same, 0], moved[same, 0]
    _, together = cv2.estimateAffinePartial2D(points, moved, method=cv2.RANSAC, ransacReprojThreshold=SAME_MOVE_PX)
    together = together.ravel() == 1
    if together.sum() < max(LEAST_POINTS, LEAST_SHARE * len(points)):
        return None
    # OpenCV counts from pixel centres.
    motion = similarity(*((each[together].astype(float) + 0.5) / scale + corner for each in (points, moved)))
    return motion if 1 / MAX_SCALE < scale_of(motion) < MAX_SCALE else None


def _about_eyes(size: list[int], eyes: np.ndarray) -> np.ndarray:
    """(H, W) uint8, of `size` = W, H: 255 on brows, nose and cheeks, 0 on the eyes (2, 2) and far from them."""
    xs, ys = np.meshgrid(np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5)
    middle, across = eyes.mean(axis=0), eyes[1] - eyes[0]
    z = ((xs - middle[0]) + 1j * (ys - middle[1])) / complex(*across)  # the eyes are at -0.5 and 0.5
    near = (abs(z.real) < 0.85) & (z.imag > -0.45) & (z.imag < 0.4)
    on_eyes = (abs(abs(z.real) - 0.5) < 0.26) & (abs(z.imag) < 0.16)
    return np.where(near & ~on_eyes, 255, 0).astype(np.uint8)
