"""The eyes of one person through a video: found now and then, followed in between, smooth over time.

What OpenCV's cascades find jumps by a pixel or two from frame to frame. So the face is followed by the optical flow of
points about the eyes (Lucas & Kanade 1981), which hardly trembles but drifts; and where the eyes lie in what is
followed is the mean of what was found over about a second, before and after. A few frames are held back for that.
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

AHEAD = 10  # frames that are looked ahead
FIND_EVERY, FIND_AGAIN_EVERY = 5, 3  # frames, while the eyes are followed, and while they are not
WAIT_FOR_FACE_SEC = 1.0  # from the first face on, in which that of the number that was said may still come
LOST_AFTER = 50  # frames in which they were not found once
FADE, RECENT = 25, 75  # frames, in which the weight of what was found falls to a third, and to nothing
OFF = 0.12  # distances of the eyes; what was found farther from the median is not believed

REACH = 0.5  # distances of the eyes about them, in which points are followed
DISTANCE_PX = 128  # of the eyes, at most, in the picture in which they are
POINTS, LEAST_POINTS = 100, 10
SAME_POINT_PX, SAME_MOVE_PX = 0.5, 1.0  # how far a point may be off: there and back, and from the common movement
LEAST_SHARE = 0.5  # of the points that must move together
MAX_SCALE = 1.2  # from frame to frame

CLOSED_SHARE = 0.6  # of the openness that is usual for the person: below it their eyes are closed
LEAST_USUAL, MOST_USUAL = 0.6, 1.0  # what that may be
MEMORY = 300  # frames that it is taken from
RAMP = 2  # frames before and after what is left alone, in which the blend falls and rises


@dataclass(frozen=True)
class FollowedFrame:
    """A frame, where the eyes are in it, and how far they are to be redrawn."""

    frame: Frame
    eyes: np.ndarray | None  # (2, 2) x, y of their centres, the picture's left one first; None where there is no face
    closed: bool
    blend: float  # 1 redrawn..0 left alone; between them before and after a blink


def follow_eyes(frames: Iterable[Frame], name: str, face: int | None = None) -> Iterator[FollowedFrame]:
    """The frames, all of one size, each with the eyes of one person. AHEAD frames are held back, and a few more kept.

    It is the `face` of this number in the first frame that shows as many; later on the one that is nearest. UserError,
    about the video of this `name`, as from `find_eyes`, but not where there is no face.
    """
    follower = _Follower(name, face)
    sights: deque[_Sight] = deque(maxlen=RAMP + 1 + AHEAD)  # the one that is due, those before it and those after
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
    """What is known of a frame that was looked at."""

    frame: Frame
    number: int
    run: int = 0  # which stretch of frames in which the face was followed without a break, from 1; 0 without a face
    to_frame: np.ndarray | None = None  # (2, 3) similarity, from the run's first frame
    openness: float = math.nan


@dataclass(frozen=True)
class _Find:
    """Eyes that were found."""

    run: int
    number: int  # of the frame
    eyes: np.ndarray  # (2, 2), brought into the run's first frame


class _Follower:
    """Looks at frame after frame, and settles each one once later ones are known."""

    def __init__(self, name: str, face: int | None):
        self._name, self._face = name, face
        self._last: _Sight | None = None
        self._last_eyes: np.ndarray | None = None  # (2, 2) in the last frame that showed them
        self._finds: deque[_Find] = deque(maxlen=4 * FADE)
        self._openness: deque[float] = deque(maxlen=MEMORY)
        self._runs = 0
        self.refusal: EyesNotFound | None = None  # as long as the frames have shown too few faces
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
        """What comes of one of the frames, which all follow each other."""
        usual = np.clip(np.percentile(self._openness, 70), LEAST_USUAL, MOST_USUAL) if self._openness else LEAST_USUAL
        closed = [bool(sight.run) and sight.openness < CLOSED_SHARE * usual for sight in sights]
        away = [abs(i - due) for i, sight in enumerate(sights) if closed[i] or not sight.run]
        blend = min([RAMP + 1, *away]) / (RAMP + 1)  # part of the way to the nearest frame that is left alone
        sight = sights[due]
        return FollowedFrame(sight.frame, self._eyes(sight) if sight.run else None, closed[due], blend)

    def _keep(self, sight: _Sight, eyes: np.ndarray | None) -> None:
        if eyes is not None:
            self._finds.append(_Find(sight.run, sight.number, move(inverse(sight.to_frame), eyes)))

    def _eyes(self, sight: _Sight) -> np.ndarray:
        """The eyes (2, 2) in this frame by what was found in its run, what was long before counting less."""
        finds = [find for find in self._finds if find.run == sight.run]
        finds = [find for find in finds if sight.number - find.number < RECENT] or finds[-1:]
        places = np.stack([find.eyes for find in finds])  # (K, 2, 2)
        after = np.array([find.number - sight.number for find in finds])
        weights = np.exp(-abs(after) / FADE)
        weights *= np.clip(1 - after / (AHEAD + 1), 0, 1) * np.clip(1 + after / RECENT, 0, 1)  # none comes with a jump
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
    """The similarity (2, 3) by which what is about the eyes (2, 2) has moved between two frames (H, W, 3) uint8.

    The eyes themselves do not count, since they look about and blink. None where too few points move together.
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
    # OpenCV counts from a pixel's centre.
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
