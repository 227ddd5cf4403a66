"""The eyes and the head of one person through a video: found, followed in between, smooth over time.

What is found jumps by a pixel or two from frame to frame. So optical flow of points around the eyes follows the face,
which is steady but drifts; and the eyes' place in the followed face is the mean of what was found over about a second
before and after. For that, a few frames are held back. A face that is followed but found in none of them is gone.
"""

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from vaegaze.faces import landmarks
from vaegaze.faces.cascades import eyes_about
from vaegaze.faces.detector import Region, find_regions
from vaegaze.faces.face import Face
from vaegaze.faces.motion import movement
from vaegaze.faces.openness import eye_openness
from vaegaze.faces.reader import SAME_FACE, EyesNotFound, backend, choose, read_picture
from vaegaze.geometry.transforms import chain, inverse, move
from vaegaze.images.video import Frame

AHEAD = 10  # frames of looking ahead
FIND_EVERY = {"landmarks": 1, "cascades": 5}  # frames between searches, while the eyes are followed
FIND_AGAIN_EVERY = {"landmarks": 1, "cascades": 3}  # and while they are not
BLINK = 10  # frames that a blink takes at most: closed eyes hide a face from the cascades
WAIT_FOR_FACE_SEC = 1.0  # after the first face, for the face of the given number to appear
LOST_AFTER = 50  # frames in which the eyes were not found once
FADE, RECENT = 25, 75  # frames after which the weight of what was found has fallen to a third, and to nothing
HEAD_FADE = 4  # frames after which the weight of a head pose has fallen to a third
OFF = 0.12  # in eye distances; eyes found farther from the median are ignored

CLOSED_SHARE, OPEN_SHARE = 0.6, 0.66  # of an eye's usual openness: below the first it closes, above the other it opens
LEAST_USUAL, MOST_USUAL = 0.6, 1.0  # the range allowed for it
MEMORY = 300  # frames from which it is computed
RAMP = 2  # frames over which the blend falls before a frame that is left as it is, and rises after it


@dataclass(frozen=True)
class FollowedFrame:
    """A frame, where its eyes are, and how strongly to redraw them."""

    frame: Frame
    eyes: np.ndarray | None  # (2, 2) x, y of their centres, the picture's left one first; None where there is no face
    closed: bool  # both eyes
    blend: float | np.ndarray  # of both eyes, or (2,): 1 redrawn..0 left as it is; between them around a blink
    head: np.ndarray | None = None  # (2,) pitch, yaw in radians as seen in the frame; None without landmarks


def follow_eyes(
    frames: Iterable[Frame], name: str, face: int | None = None, by: str | None = None
) -> Iterator[FollowedFrame]:
    """The frames, all of one size, each with the eyes of one person. AHEAD frames are held back, and a few more kept.

    The person is number `face` in the first frame that shows as many faces; later, the nearest face. EyesNotFound, with
    the video's `name`, as from `find_face`; but frames without a face are no error. `by` names the backend.
    """
    follower = _Follower(name, face, by or backend())
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
    closed: np.ndarray = field(default_factory=lambda: np.zeros(2, bool))  # each eye


@dataclass(frozen=True)
class _Find:
    """A detected face."""

    run: int
    number: int  # of the frame
    eyes: np.ndarray  # (2, 2), brought into the run's first frame
    head: np.ndarray | None  # (2,) as seen in the frame


class _Follower:
    """Processes frames in order, and decides on each once later ones are known."""

    def __init__(self, name: str, face: int | None, by: str):
        self._name, self._face, self._by = name, face, by
        self._last: _Sight | None = None
        self._last_eyes: np.ndarray | None = None  # (2, 2) in the last frame that showed them
        self._region: Region | None = None  # around the face's mesh where it was read last
        self._finds: deque[_Find] = deque(maxlen=4 * FADE)
        self._openness: deque[np.ndarray] = deque([np.ones(2)], maxlen=MEMORY)
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
        face = None
        if sight.run and sight.number % FIND_EVERY[self._by] == 0:
            face = self._read_again(sight)
        elif not sight.run and sight.number % FIND_AGAIN_EVERY[self._by] == 0:
            face = self._find_face(sight)
            if face is not None:
                self._runs += 1
                sight.run, sight.to_frame = self._runs, np.eye(2, 3)
        if face is not None:
            self._finds.append(_Find(sight.run, sight.number, move(inverse(sight.to_frame), face.eyes), face.head))
        if sight.run:
            self._last_eyes = self._eyes(sight)
            self._judge_openness(sight, face, last)
        return sight

    def settle(self, sights: deque[_Sight], due: int) -> FollowedFrame:
        """The outcome for one of these consecutive frames."""
        there = [self._is_there(sight) for sight in sights]
        left = np.array([sight.closed if here else (True, True) for sight, here in zip(sights, there)])  # (K, 2)
        nearest = [min([RAMP + 1, *abs(np.flatnonzero(left[:, eye]) - due)]) for eye in range(2)]
        blend = np.array(nearest) / (RAMP + 1)  # by the distance to the nearest unchanged frame
        sight = sights[due]
        if not there[due]:
            return FollowedFrame(sight.frame, None, False, blend)
        return FollowedFrame(sight.frame, self._eyes(sight), bool(sight.closed.all()), blend, self._head(sight))

    def _judge_openness(self, sight: _Sight, face: Face | None, last: _Sight | None) -> None:
        """Marks closed eyes by comparing each with its usual openness, with hysteresis."""
        if self._by == "cascades":  # the edges of the irises, which tell two eyes together better than one
            openness = np.full(2, eye_openness(sight.frame.pixels, self._last_eyes).mean())
        else:
            openness = self._openness[-1] if face is None else face.openness
        self._openness.append(openness)
        usual = np.clip(np.percentile(np.stack(self._openness), 70, axis=0), LEAST_USUAL, MOST_USUAL)
        was_closed = np.zeros(2, bool) if last is None else last.closed
        sight.closed = openness < np.where(was_closed, OPEN_SHARE, CLOSED_SHARE) * usual

    def _is_there(self, sight: _Sight) -> bool:
        """Whether the face was found in this frame or just before, or will be in the frames held back."""
        before = BLINK if self._by == "cascades" and sight.closed.all() else FIND_EVERY[self._by]
        numbers = [find.number for find in self._finds if find.run == sight.run]
        return bool(sight.run) and any(sight.number - before < number <= sight.number + AHEAD for number in numbers)

    def _read_again(self, sight: _Sight) -> Face | None:
        """The followed face, read once more; None if it is not seen where it should be."""
        expected = self._eyes(sight)
        if self._by == "cascades":
            eyes = eyes_about(sight.frame.pixels, expected)
            return None if eyes is None else Face(eyes, np.full(2, np.nan), 1.0)
        near_px = SAME_FACE * np.linalg.norm(expected[1] - expected[0])
        for region in self._regions(sight.frame.pixels):
            read = landmarks.read_region(sight.frame.pixels, region, rounds=1)
            if read is not None and np.linalg.norm(read[1].eyes - expected, axis=1).max() < near_px:
                self._region = read[0]
                return read[1]
        self._region = None
        return None

    def _regions(self, picture: np.ndarray) -> Iterator[Region]:
        """Where the face was; and only if it is not there, wherever a face is detected."""
        if self._region is not None:
            yield self._region
        yield from find_regions(picture, thorough=False)

    def _head(self, sight: _Sight) -> np.ndarray | None:
        """The head (2,) by what was read in this frame and around it."""
        finds = [find for find in self._finds if find.run == sight.run and find.head is not None]
        if not finds:
            return None
        after = np.array([find.number - sight.number for find in finds])
        weights = np.exp(-abs(after) / HEAD_FADE) * np.clip(1 - after / (AHEAD + 1), 0, 1)
        return np.average([find.head for find in finds], axis=0, weights=weights + 1e-12)

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

    def _find_face(self, sight: _Sight) -> Face | None:
        faces = read_picture(sight.frame.pixels, self._by)
        if not faces:
            return None
        if self._last_eyes is not None:
            return min(faces, key=lambda face: np.linalg.norm(face.eyes - self._last_eyes))
        try:
            face = choose(faces, f"{self._name} at {sight.frame.time_sec:.2f} s", self._face)
        except EyesNotFound as error:
            self._refused_since_sec = min(self._refused_since_sec, sight.frame.time_sec)
            if self._face is None or sight.frame.time_sec - self._refused_since_sec >= WAIT_FOR_FACE_SEC:
                raise
            self.refusal = error
            return None
        self.refusal = None
        return face
