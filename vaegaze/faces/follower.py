"""The eyes, the head and the gaze of one person through a video: found, followed in between, smooth over time.

What is found jumps by a pixel or two from frame to frame. So optical flow of points around the eyes follows the face,
which is steady but drifts; and the eyes' place in the followed face is the mean of what was found over about a second
before and after. For that, frames are held back. Where neither finds the face for a moment, its place is interpolated,
if the eyes still look there as they did. A face that is found in none of the frames held back is gone.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from vaegaze.faces import landmarks
from vaegaze.faces.cascades import eyes_about
from vaegaze.faces.covering import UsualEyes
from vaegaze.faces.detector import Region, find_regions
from vaegaze.faces.face import Face
from vaegaze.faces.gaze import gaze_of
from vaegaze.faces.motion import movement
from vaegaze.faces.openness import eye_openness
from vaegaze.faces.reader import SAME_FACE
from vaegaze.geometry.transforms import chain, inverse, move
from vaegaze.images.video import Frame

AHEAD_SEC = 0.5  # of looking ahead
BRIDGE_SEC = 0.5  # longest gap between frames that show the face, over which its place is interpolated
FIND_EVERY_SEC = {"landmarks": 0.03, "cascades": 0.19}  # between searches, while the eyes are followed
BLINK_SEC = 0.4  # that a blink takes at most: closed eyes hide a face from the cascades
LOST_AFTER_SEC = 2.0  # in which the eyes were not found once
FADE_SEC, RECENT_SEC = 1.0, 3.0  # after which the weight of what was found has fallen to a third, and to nothing
HEAD_FADE_SEC, GAZE_SEC = 0.16, 0.1  # the same of a head pose; before and after, whose median is the gaze
OFF = 0.12  # in eye distances; eyes found farther from the median are ignored

CLOSED_SHARE, OPEN_SHARE = 0.6, 0.64  # of an eye's usual openness: below the first it closes, above the other it opens
LEAST_USUAL, MOST_USUAL = 0.6, 1.0  # the range allowed for it
MEMORY_SEC = 12.0  # from which it is computed
RAMP_SEC = 0.12  # in which the blend falls before an eye that is left as it is, and rises after it

NO_FACE, CLOSED, COVERED = "no face", "eyes closed", "eye covered"


@dataclass(frozen=True)
class FollowedFrame:
    """A frame, where its eyes are, and how strongly to redraw them. Angles (2,) = pitch, yaw are as seen in the frame.

    Only landmarks give `head` and `gaze`.
    """

    frame: Frame
    eyes: np.ndarray | None  # (2, 2) x, y of their centres, the picture's left one first; None where there is no face
    closed: bool  # both eyes
    blend: float | np.ndarray  # of both eyes, or (2,): 1 redrawn..0 left as it is; between them around a blink
    head: np.ndarray | None = None
    gaze: np.ndarray | None = None  # where the eyes truly look
    confidence: float = 1.0  # 0..1 that it is a face
    left: str | None = None  # why an eye is left as it is: NO_FACE, CLOSED or COVERED
    person: int = 0  # of several who are followed
    face: Face | None = None  # as it was read in this very frame, if it was
    blinks: bool | np.ndarray = False  # both eyes, or (2,): what the blend is below 1 for is a blink
    outline: np.ndarray | None = None  # (K, 2) of the face, convex; only landmarks give it


@dataclass
class _Sight:
    """What is known of a frame."""

    frame: Frame
    run: int = 0  # the number, from 1, of the unbroken stretch of frames that follow the face; 0 without a face
    to_frame: np.ndarray | None = None  # (2, 3) similarity, from the run's first frame
    face: Face | None = None  # as it was read here
    closed: np.ndarray = field(default_factory=lambda: np.zeros(2, bool))  # each eye
    covered: np.ndarray = field(default_factory=lambda: np.zeros(2, bool))  # each eye


@dataclass(frozen=True)
class _Find:
    """A detected face."""

    run: int
    time_sec: float
    eyes: np.ndarray  # (2, 2), brought into the run's first frame
    head: np.ndarray | None  # (2,) as seen in the frame
    gaze: np.ndarray | None  # (2,)
    confidence: float
    outline: np.ndarray | None  # (K, 2), brought there, too


@dataclass(frozen=True)
class _Settled:
    """What is decided of a frame."""

    frame: Frame
    eyes: np.ndarray | None = None  # (2, 2); None without a face
    head: np.ndarray | None = None
    gaze: np.ndarray | None = None
    confidence: float = 0.0
    closed: np.ndarray = field(default_factory=lambda: np.zeros(2, bool))
    covered: np.ndarray = field(default_factory=lambda: np.zeros(2, bool))
    bridged: bool = False  # neither found nor followed here: interpolated
    face: Face | None = None  # as it was read here
    outline: np.ndarray | None = None  # (K, 2) as it was read nearest

    @property
    def kept(self) -> np.ndarray:
        """(2,) bool: the eyes that stay as they are."""
        return np.ones(2, bool) if self.eyes is None else self.closed | self.covered

    @property
    def left(self) -> str | None:
        if self.eyes is None:
            return NO_FACE
        return COVERED if self.covered.any() else CLOSED if self.closed.any() else None


class Follower:
    """One person, frame by frame. What becomes of a frame is decided once those of the next `ahead_sec` are known.

    With `ahead_sec` 0 each frame comes back at once. `find(frame, last_eyes)` is asked for the face where it is not
    followed; `by` names the backend.
    """

    def __init__(self, find: Callable[[Frame, np.ndarray | None], Face | None], by: str, ahead_sec: float = AHEAD_SEC):
        self._find, self._by, self._ahead_sec = find, by, ahead_sec
        self._sights: deque[_Sight] = deque()  # not yet settled
        self._settled: deque[_Settled] = deque()  # from RAMP_SEC before the next one to come back
        self._next = 0  # its place among them
        self._before: _Settled | None = None  # the last one that shows the face
        self._last: _Sight | None = None
        self.last_eyes: np.ndarray | None = None  # (2, 2) in the last frame that showed them
        self._region: Region | None = None  # around the face's mesh where it was read last
        self._finds: deque[_Find] = deque()
        self._searched_sec = -math.inf
        self._openness: deque[tuple[float, np.ndarray]] = deque()
        self._usual = UsualEyes()
        self._runs = 0

    @property
    def found_sec(self) -> float:
        """When the face was found last."""
        return self._finds[-1].time_sec if self._finds else -math.inf

    def follow(self, frame: Frame) -> Iterator[FollowedFrame]:
        """Takes the next frame; returns those that are now decided on."""
        self._sights.append(self._look_at(frame))
        while self._sights and frame.time_sec - self._sights[0].frame.time_sec >= self._ahead_sec:
            self._settled.append(self._settle())
        ramp_sec = min(RAMP_SEC, self._ahead_sec)
        while self._next < len(self._settled) and (
            self._settled[-1].frame.time_sec - self._settled[self._next].frame.time_sec >= ramp_sec
        ):
            yield self._blended()

    def rest(self) -> Iterator[FollowedFrame]:
        """The frames held back."""
        while self._sights:
            self._settled.append(self._settle())
        while self._next < len(self._settled):
            yield self._blended()

    def _blended(self) -> FollowedFrame:
        """The next frame, its blend by the time to the nearest eye that stays as it is."""
        due = self._settled[self._next]
        blend, blinks = np.ones(2), np.zeros(2, bool)
        for each in self._settled:
            if not each.kept.any():
                continue
            apart = abs(each.frame.time_sec - due.frame.time_sec) / RAMP_SEC
            nearer = each.kept & (apart < blend)
            blinks = np.where(nearer, each.closed & ~each.covered, blinks)
            blend = np.where(nearer, apart, blend)
        self._next += 1
        while self._settled[0].frame.time_sec < due.frame.time_sec - RAMP_SEC:
            self._settled.popleft()
            self._next -= 1
        closed = bool(due.closed.all())
        read = due.head, due.gaze, due.confidence, due.left
        face = {"face": due.face, "outline": due.outline}
        return FollowedFrame(due.frame, due.eyes, closed, blend, *read, **face, blinks=blinks)

    # --- Each frame as it comes ---------------------------------------------------------------------------------------

    def _look_at(self, frame: Frame) -> _Sight:
        last = self._last
        self._last = sight = _Sight(frame)
        if last is not None and last.run and frame.time_sec - self._finds[-1].time_sec <= LOST_AFTER_SEC:
            motion = movement(last.frame.pixels, frame.pixels, self.last_eyes)
            if motion is not None:
                sight.run, sight.to_frame = last.run, chain(last.to_frame, motion)
        face = None
        if not sight.run:
            face = self._find_again(frame)
            if face is not None:
                self._runs += 1
                sight.run, sight.to_frame = self._runs, np.eye(2, 3)
        elif frame.time_sec - self._searched_sec > FIND_EVERY_SEC[self._by]:
            face = self._read_again(frame, self._eyes(sight))
            self._searched_sec = frame.time_sec
        if face is not None:
            self._searched_sec = frame.time_sec
            sight.face = face
            self._remember(face, sight)
        if sight.run:
            self.last_eyes = self._eyes(sight)
            seen = self._usual.judge(frame.pixels, self.last_eyes, frame.time_sec)
            sight.covered = seen.covered
            if seen.smeared:  # such eyes look closed
                sight.closed = sight.closed if last is None else last.closed
            else:
                self._judge_openness(sight, face, last)
                if face is not None and not sight.closed.any():
                    self._usual.learn(frame.time_sec)
        return sight

    def _find_again(self, frame: Frame) -> Face | None:
        """The face, after it was lost: where it was, or else wherever it is."""
        face = None
        if self._region is not None and self.last_eyes is not None:
            face = self._read_again(frame, self.last_eyes)
        return self._find(frame, self.last_eyes) if face is None else face

    def _read_again(self, frame: Frame, expected: np.ndarray) -> Face | None:
        """The followed face, read once more; None if it is not seen near `expected` (2, 2)."""
        if self._by == "cascades":
            eyes = eyes_about(frame.pixels, expected)
            return None if eyes is None else Face(eyes, np.full(2, np.nan), 1.0)
        near_px = SAME_FACE * np.linalg.norm(expected[1] - expected[0])
        for region in self._regions(frame.pixels):
            read = landmarks.read_region(frame.pixels, region, rounds=1, of_video=True)
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

    def _remember(self, face: Face, sight: _Sight) -> None:
        time_sec, to_first = sight.frame.time_sec, inverse(sight.to_frame)
        outline = None if face.outline is None else move(to_first, face.outline)
        gaze = None if face.irises is None else gaze_of(face.eyes, face.irises, face.head)
        eyes = move(to_first, face.eyes)
        self._finds.append(_Find(sight.run, time_sec, eyes, face.head, gaze, face.confidence, outline))
        waits_sec = self._sights[0].frame.time_sec if self._sights else time_sec  # minutes ago, after a long pause
        while self._finds[0].time_sec < min(time_sec - self._ahead_sec, waits_sec) - RECENT_SEC:
            self._finds.popleft()

    def _judge_openness(self, sight: _Sight, face: Face | None, last: _Sight | None) -> None:
        """Marks closed eyes by comparing each with its usual openness, with hysteresis."""
        time_sec = sight.frame.time_sec
        if self._by == "cascades":  # the edges of the irises, which tell two eyes together better than one
            openness = np.full(2, eye_openness(sight.frame.pixels, self.last_eyes).mean())
        elif face is not None:
            openness = face.openness
        else:
            openness = self._openness[-1][1] if self._openness else np.ones(2)
        self._openness.append((time_sec, openness))
        while self._openness[0][0] < time_sec - MEMORY_SEC:
            self._openness.popleft()
        values = np.stack([np.ones(2), *(value for _, value in self._openness)])
        usual = np.clip(np.percentile(values, 70, axis=0), LEAST_USUAL, MOST_USUAL)
        was_closed = np.zeros(2, bool) if last is None else last.closed
        sight.closed = openness < np.where(was_closed, OPEN_SHARE, CLOSED_SHARE) * usual

    # --- Once later frames are known ----------------------------------------------------------------------------------

    def _settle(self) -> _Settled:
        """The oldest frame that is not yet settled."""
        settled = self._found(self._sights[0]) or self._between()
        if settled.eyes is not None and not settled.bridged:
            self._before = settled
        self._sights.popleft()
        return settled

    def _found(self, sight: _Sight) -> _Settled | None:
        """The face where it was found in this frame or just before, or will be in those held back."""
        before_sec = BLINK_SEC if self._by == "cascades" and sight.closed.all() else FIND_EVERY_SEC[self._by]
        time_sec = sight.frame.time_sec
        finds = [find for find in self._finds if find.run == sight.run]
        if not any(-before_sec <= find.time_sec - time_sec <= self._ahead_sec for find in finds):
            return None
        nearest = min(finds, key=lambda find: abs(find.time_sec - time_sec))
        place = self._eyes(sight), self._head(sight), self._gaze(sight)
        outline = None if nearest.outline is None else move(sight.to_frame, nearest.outline)
        alone = sight.closed, sight.covered
        return _Settled(sight.frame, *place, nearest.confidence, *alone, face=sight.face, outline=outline)

    def _between(self) -> _Settled:
        """A frame that neither shows nor follows the face: between those that do, if they are near."""
        frame, before = self._sights[0].frame, self._before
        if before is None or frame.time_sec - before.frame.time_sec > BRIDGE_SEC:
            return _Settled(frame)
        after = next(filter(None, map(self._found, list(self._sights)[1:])), None)
        if after is None and self._ahead_sec == 0:
            after = before  # for as long as it may be bridged
        if after is None or after.frame.time_sec - before.frame.time_sec > BRIDGE_SEC:
            return _Settled(frame)
        if np.linalg.norm(after.eyes - before.eyes, axis=1).max() > np.linalg.norm(before.eyes[1] - before.eyes[0]):
            return _Settled(frame)  # another face
        whole_sec = after.frame.time_sec - before.frame.time_sec
        share = (frame.time_sec - before.frame.time_sec) / whole_sec if whole_sec else 0.0
        eyes, head, gaze = (
            None if first is None or second is None else first + share * (second - first)
            for first, second in (
                (before.eyes, after.eyes),
                (before.head, after.head),
                (before.gaze, after.gaze),
            )
        )
        closed = before.closed if share < 0.5 else after.closed
        covered = self._usual.judge(frame.pixels, eyes, frame.time_sec).covered
        if covered.all():
            return _Settled(frame)
        outline = before.outline if share < 0.5 else after.outline
        return _Settled(frame, eyes, head, gaze, 1.0, closed, covered, bridged=True, outline=outline)

    def _head(self, sight: _Sight) -> np.ndarray | None:
        """The head (2,) by what was read in this frame and around it; without looking ahead, just as it was read."""
        finds = [find for find in self._finds if find.run == sight.run and find.head is not None]
        if not finds or self._ahead_sec == 0:
            return finds[-1].head if finds else None
        after = np.array([find.time_sec - sight.frame.time_sec for find in finds])
        weights = np.exp(-abs(after) / HEAD_FADE_SEC) * self._entering(after)
        return np.average([find.head for find in finds], axis=0, weights=weights + 1e-12)

    def _gaze(self, sight: _Sight) -> np.ndarray | None:
        """The gaze (2,): a median keeps it steady in fixations, and sharp between them."""
        finds = [find for find in self._finds if find.run == sight.run and find.gaze is not None]
        near = [find.gaze for find in finds if abs(find.time_sec - sight.frame.time_sec) <= GAZE_SEC] or [
            find.gaze for find in finds[-1:]
        ]
        return np.median(near, axis=0) if near else None

    def _eyes(self, sight: _Sight) -> np.ndarray:
        """The eyes (2, 2) in this frame, from the detections of its run; the older, the less they count."""
        finds = [find for find in self._finds if find.run == sight.run]
        finds = [find for find in finds if sight.frame.time_sec - find.time_sec < RECENT_SEC] or finds[-1:]
        places = np.stack([find.eyes for find in finds])  # (K, 2, 2)
        after = np.array([find.time_sec - sight.frame.time_sec for find in finds])
        weights = np.exp(-abs(after) / FADE_SEC) * self._entering(after) * np.clip(1 + after / RECENT_SEC, 0, 1)
        median = np.median(places, axis=0)
        off_px = np.linalg.norm(places - median, axis=-1).max(axis=-1)
        weights[off_px > OFF * np.linalg.norm(median[1] - median[0])] *= 1e-6
        return move(sight.to_frame, np.average(places, axis=0, weights=weights + 1e-12))

    def _entering(self, after_sec: np.ndarray) -> np.ndarray:
        """Weights by which no detection enters with a jump."""
        return np.clip(1 - after_sec / (self._ahead_sec + 0.04), 0, 1)
