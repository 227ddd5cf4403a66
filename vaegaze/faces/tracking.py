"""The eyes of one person through a video: detected now and then, followed in between, smooth over time.

Detections by OpenCV's cascades jump by a pixel or two from frame to frame. So optical flow of points around the eyes
(Lucas & Kanade 1981) follows the face, which is steady but drifts; and the eyes' place in the followed face is the mean
of the detections over about a second before and after. For that, a few frames are held back.
"""

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from vaegaze.faces.cascades import EyesNotFound, around, eyes_about, eyes_in, eyes_of, opencv
from vaegaze.faces.openness import eye_openness
from vaegaze.geometry.transforms import chain, inverse, move, scale_of, similarity
from vaegaze.images.video import Frame

AHEAD = 10  # frames of looking ahead
FIND_EVERY, FIND_AGAIN_EVERY = 5, 3  # frames between detections, while the eyes are followed, and while they are not
WAIT_FOR_FACE_SEC = 1.0  # after the first face, for the face of the given number to appear
LOST_AFTER = 50  # frames without a single detection
FADE, RECENT = 25, 75  # frames after which a detection's weight has fallen to a third, and to nothing
OFF = 0.12  # in eye distances; detections farther from the median are ignored

REACH = 0.5  # in eye distances around the eyes: where points are followed
DISTANCE_PX = 128  # greatest eye distance in the picture in which points are followed
POINTS, LEAST_POINTS = 100, 10
SAME_POINT_PX, SAME_MOVE_PX = (
    0.5,
    1.0,
)  # how far off a point may be: after going there and back, and from the common movement
LEAST_SHARE = 0.5  # of the points that must move together
MAX_SCALE = 1.2  # from frame to frame

CLOSED_SHARE = 0.6  # of the person's usual openness; below it their eyes are closed
LEAST_USUAL, MOST_USUAL = 0.6, 1.0  # the range allowed for it
MEMORY = 300  # frames from which it is computed
RAMP = 2  # frames over which the blend falls before a frame that is left as it is, and rises after it


@dataclass(frozen=True)
class FollowedFrame:
    """A frame, where its eyes are, and how strongly to redraw them."""

    frame: Frame
    eyes: np.ndarray | None  # (2, 2) x, y of their centres, the picture's left one first; None where there is no face
    closed: bool
    blend: float  # 1 redrawn..0 left as it is; in between before and after a blink


def follow_eyes(frames: Iterable[Frame], name: str, face: int | None = None) -> Iterator[FollowedFrame]:
    """The frames, all of one size, each with the eyes of one person. AHEAD frames are held back, and a few more kept.

    The person is number `face` in the first frame that shows as many faces; later, the nearest face. EyesNotFound, with
    the video's `name`, as from `find_eyes`; but frames without a face are no error.
    """
    follower = _Follower(name, face)
    sights: deque[_Sight] = deque(maxlen=RAMP + 1 + AHEAD)  # the frame that is due, those before it and those after
    for frame in frames:
        sights.append(follower.look_at(frame))
        if len(sights) > AHEAD:
            yield follower.settle(sights, len(sights) - 1 - AHEAD)
    if follower.refusal is not None:
        raise follower.refusal
    for due in range(max(len(sights) - AHEAD, 0), len(sights)):
        yield follower.settle(sights, due)


@dataclass
class _Sight:
    """What is known of a frame."""

    frame: Frame
    number: int
    run: int = 0  # the number, from 1, of the unbroken stretch of frames that follow the face; 0 without a face
    to_frame: np.ndarray | None = None  # (2, 3) similarity, from the run's first frame
    openness: float = math.nan


@dataclass(frozen=True)
class _Find:
    """Detected eyes."""

    run: int
    number: int  # of the frame
    eyes: np.ndarray  # (2, 2), brought into the run's first frame


class _Follower:
    """Looks at one frame after another, and settles each once later ones are known."""

    def __init__(self, name: str, face: int | None):
        self._name, self._face = name, face
        self._last: _Sight | None = None
        self._last_eyes: np.ndarray | None = None  # (2, 2) in the last frame that showed them
        self._finds: deque[_Find] = deque(maxlen=4 * FADE)
        self._openness: deque[float] = deque(maxlen=MEMORY)
        self._runs = 0
        self.refusal: EyesNotFound | None = None  # while the frames so far show too few faces
        self._refused_since_sec = math.inf

    def look_at(self, frame: Frame) -> _Sight:
        last = self._last
        self._last = sight = _Sight(frame, 0 if last is None else last.number + 1)
        if last is not None and last.run and sight.number - self._finds[-1].number <= LOST_AFTER:
            motion = movement(last.frame.pixels, frame.pixels, self._last_eyes)
            if motion is not None:
                sight.run, sight.to_frame = last.run, chain(last.to_frame, motion)
        if sight.run and sight.number % FIND_EVERY == 0:
            self._keep(sight, eyes_about(frame.pixels, self._eyes(sight)))
        elif not sight.run and sight.number % FIND_AGAIN_EVERY == 0:
            eyes = self._find_face(sight)
            if eyes is not None:
                self._runs += 1
                sight.run, sight.to_frame = self._runs, np.eye(2, 3)
                self._keep(sight, eyes)
        if sight.run:
            self._last_eyes = self._eyes(sight)
            sight.openness = float(eye_openness(frame.pixels, self._last_eyes).mean())
            self._openness.append(sight.openness)
        return sight

    def settle(self, sights: deque[_Sight], due: int) -> FollowedFrame:
        """The outcome for one of these consecutive frames."""
        usual = np.clip(np.percentile(self._openness, 70), LEAST_USUAL, MOST_USUAL) if self._openness else LEAST_USUAL
        closed = [bool(sight.run) and sight.openness < CLOSED_SHARE * usual for sight in sights]
        away = [abs(i - due) for i, sight in enumerate(sights) if closed[i] or not sight.run]
        blend = min([RAMP + 1, *away]) / (RAMP + 1)  # by the distance to the nearest frame that is left as it is
        sight = sights[due]
        return FollowedFrame(sight.frame, self._eyes(sight) if sight.run else None, closed[due], blend)

    def _keep(self, sight: _Sight, eyes: np.ndarray | None) -> None:
        if eyes is not None:
            self._finds.append(_Find(sight.run, sight.number, move(inverse(sight.to_frame), eyes)))

    def _eyes(self, sight: _Sight) -> np.ndarray:
        """The eyes (2, 2) in this frame, from the detections of its run; the older, the less they count."""
        finds = [find for find in self._finds if find.run == sight.run]
        finds = [find for find in finds if sight.number - find.number < RECENT] or finds[-1:]
        places = np.stack([find.eyes for find in finds])  # (K, 2, 2)
        after = np.array([find.number - sight.number for find in finds])
        weights = np.exp(-abs(after) / FADE)
        weights *= np.clip(1 - after / (AHEAD + 1), 0, 1) * np.clip(
            1 + after / RECENT, 0, 1
        )  # no detection enters with a jump
        median = np.median(places, axis=0)
        off_px = np.linalg.norm(places - median, axis=-1).max(axis=-1)
        weights[off_px > OFF * np.linalg.norm(median[1] - median[0])] *= 1e-6
        return move(sight.to_frame, np.average(places, axis=0, weights=weights + 1e-12))

    def _find_face(self, sight: _Sight) -> np.ndarray | None:
        faces = eyes_in(sight.frame.pixels)
        if not faces:
            return None
        if self._last_eyes is not None:
            return min(faces, key=lambda eyes: np.linalg.norm(eyes - self._last_eyes))
        try:
            eyes = eyes_of(faces, f"{self._name} at {sight.frame.time_sec:.2f} s", self._face)
        except EyesNotFound as error:
            self._refused_since_sec = min(self._refused_since_sec, sight.frame.time_sec)
            if self._face is None or sight.frame.time_sec - self._refused_since_sec >= WAIT_FOR_FACE_SEC:
                raise
            self.refusal = error
            return None
        self.refusal = None
        return eyes


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
