"""A redirected video against its source, from the frames alone: steadiness, blinks, lids, edges and colours."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np

from vaegaze.faces import landmarks
from vaegaze.faces.face import around
from vaegaze.faces.follower import FollowedFrame
from vaegaze.faces.openness import eye_openness
from vaegaze.geometry.transforms import glimpse, similarity

EYE_DISTANCE_PX, MARGIN_PX, HEIGHT_PX = 96, 44, 72  # of the view in which both are compared
EYE, AROUND = (0.2, 0.08), (0.42, 0.3)  # half axes, in eye distances, of the eye and of the skin around it
FIXATION = 0.012  # in eye distances: farthest that an iris moves from frame to frame in a fixation
STEADY = 2  # frames before and after, in which it holds, too
LOSS_SEC = 3.0  # longest time without a face before and after which eyes are held to have been in view
CLOSED_SHARE = 0.7  # of the usual openness, below which an eye that was closed is still closed
# Where not all frames are measured: the first with a face, then so many in a row of so many. These are no multiples of
# eight, as the batches are in which frames are drawn: no place in a batch is passed over.
FIRST, IN_A_ROW, OF = 75, 9, 25
CHANGED = 3.0  # levels, and times what encoding changes elsewhere: the eyes of a frame are drawn


@dataclass(frozen=True)
class _Pair:
    """One frame that shows a face, before and after."""

    number: int
    closed: bool
    steady: bool  # neither beside a blink nor left in part
    irises: np.ndarray | None  # (2: before and after, 2 eyes, 2) from the eyes' centres, in eye distances
    corners: np.ndarray | None  # (2, 2 eyes, 2: outer and inner, 2) the same of the lids' corners
    openness: np.ndarray  # (2: before and after,)
    eye_distance_px: float
    drawn: bool
    edges: float
    colour: np.ndarray  # (3,) mean difference around the eyes


@dataclass(frozen=True)
class _Moment:
    """What counts for switches."""

    time_sec: float
    face: bool
    drawn: bool | None  # None beside a blink, where eyes are in part


@dataclass(frozen=True)
class Compared:
    """The numbers; None where there is nothing to measure by."""

    frames: int
    no_face: int
    drawn: int
    jitter_px: float | None  # of the irises in fixations, in the result: off the mean of the frames before and after
    jitter_ratio: float | None  # / the source's
    closed: int  # frames with closed eyes in the source
    closed_kept: int  # and in the result
    switches: int  # between drawn and left eyes, but for blinks and faces that are gone for more than LOSS_SEC
    corners_off: float | None  # % of the eye distance: of the lids' corners in open drawn eyes from the source's
    eye_width: float | None  # % by which these eyes are wider than the source's
    edges: float | None  # levels a pixel: steps in what was changed around the eyes, 95th percentile
    colour: tuple[float, float, float] | None  # RGB levels: mean difference around the eyes
    pulsing: float | None  # levels: how much that differs from frame to frame


class Comparison:
    """Takes the frames one by one.

    Where not `thorough` it measures the first 75 that show a face, then nine in a row of every 25, and all with closed
    eyes; drawn eyes, switches and lost faces are counted in all.
    """

    def __init__(self, by: str, thorough: bool = True):
        self._by, self._thorough = by, thorough
        self._frames = self._no_face = self._drawn = 0
        self._pairs: list[_Pair] = []
        self._moments: list[_Moment] = []
        self._last_eyes: np.ndarray | None = None  # (2, 2)

    def add(self, followed: FollowedFrame, result: np.ndarray, was_drawn: bool | None = None) -> None:
        """A followed frame of the source, and the result's frame (H, W, 3) uint8.

        Whether its eyes were drawn shows in the pixels, if it is not known.
        """
        number, self._frames = self._frames, self._frames + 1
        pictures, eyes = (followed.frame.pixels, result), followed.eyes
        time_sec = followed.frame.time_sec
        if eyes is None:
            self._no_face += 1
            if self._last_eyes is not None:
                drawn = eyes_drawn(*pictures, self._last_eyes) if was_drawn is None else was_drawn
                self._moments.append(_Moment(time_sec, False, drawn))
            return
        self._last_eyes = eyes
        shown = number - self._no_face  # before this one
        if self._thorough or followed.closed or shown < FIRST or shown % OF < IN_A_ROW:
            pair = self._measured(number, followed, pictures, was_drawn)
            self._pairs.append(pair)
            drawn = pair.drawn
        else:
            drawn = eyes_drawn(*pictures, eyes) if was_drawn is None else was_drawn
        self._drawn += drawn
        self._moments.append(_Moment(time_sec, True, drawn if _is_steady(followed) else None))

    def _measured(
        self, number: int, followed: FollowedFrame, pictures: tuple[np.ndarray, np.ndarray], was_drawn: bool | None
    ) -> _Pair:
        eyes, irises, corners = followed.eyes, None, None
        apart_px = float(np.linalg.norm(eyes[1] - eyes[0]))
        if self._by == "landmarks":
            found, lids, openness = zip(*(landmarks.read_eyes(picture, eyes) for picture in pictures))
            irises = (np.stack(found)[..., :2] - eyes) / apart_px
            corners = (np.stack(lids)[:, :, landmarks.CORNERS] - eyes[:, None]) / apart_px
        else:
            openness = [eye_openness(picture, eyes) for picture in pictures]
        drawn, edges, colour = _changes(*pictures, eyes)
        drawn = drawn if was_drawn is None else was_drawn
        openness = np.stack(openness).mean(axis=1)
        steady = _is_steady(followed)
        return _Pair(number, followed.closed, steady, irises, corners, openness, apart_px, drawn, edges, colour)

    def numbers(self) -> Compared:
        """Of all frames so far."""
        pairs, drawn = self._pairs, [pair for pair in self._pairs if pair.drawn]
        jitter_px, (corners_off, eye_width) = _jitter_px(pairs), _lids(drawn)
        usual = np.median([pair.openness[0] for pair in pairs if not pair.closed] or [1.0])
        closed = [pair for pair in pairs if pair.closed]
        kept = [pair for pair in closed if pair.openness[1] < max(CLOSED_SHARE * usual, 1.2 * pair.openness[0])]
        colours = np.array([pair.colour for pair in drawn])
        pulses = [abs(now.colour - before.colour) for before, now in pairwise(drawn) if now.number - before.number == 1]
        return Compared(
            self._frames,
            self._no_face,
            self._drawn,
            None if jitter_px is None else jitter_px[1],
            None if jitter_px is None else jitter_px[1] / max(jitter_px[0], 1e-9),
            len(closed),
            len(kept),
            _switches(self._moments),
            corners_off,
            eye_width,
            float(np.mean([pair.edges for pair in drawn])) if drawn else None,
            tuple(colours.mean(axis=0).tolist()) if drawn else None,
            float(np.mean(pulses)) if pulses else None,
        )


def _is_steady(followed: FollowedFrame) -> bool:
    return bool(np.all(followed.blend == 1))


def _jitter_px(pairs: list[_Pair]) -> tuple[float, float] | None:
    """Mean of source and result, over the fixations of the source in which the eyes are drawn."""
    shown = {pair.number: pair for pair in pairs if pair.steady and pair.drawn and pair.irises is not None}
    offs = []
    for now, pair in shown.items():
        beside = range(now - STEADY, now + STEADY + 1)
        if not all(number in shown for number in beside):
            continue
        near = np.stack([shown[number].irises for number in beside])  # (5, 2, 2, 2)
        if np.linalg.norm(np.diff(near[:, 0], axis=0), axis=-1).max() > FIXATION:
            continue
        off = near[STEADY] - (near[STEADY - 1] + near[STEADY + 1]) / 2
        offs.append(np.linalg.norm(off, axis=-1).mean(axis=-1) * pair.eye_distance_px)
    return tuple(np.mean(offs, axis=0).tolist()) if offs else None


def _lids(drawn: list[_Pair]) -> tuple[float, float] | tuple[None, None]:
    """`corners_off` and `eye_width`: what a gaze does not move, unlike the lids between the corners."""
    corners = [pair.corners for pair in drawn if pair.steady and pair.corners is not None]
    if not corners:
        return None, None
    before, after = np.stack(corners, axis=1)  # (K, 2, 2, 2)
    wide = [np.linalg.norm(each[:, :, 0] - each[:, :, 1], axis=-1) for each in (before, after)]
    off = np.linalg.norm(after - before, axis=-1)
    return 100 * float(off.mean()), 100 * float((wide[1] / wide[0] - 1).mean())


def _switches(moments: list[_Moment]) -> int:
    """Between drawn and left eyes, in frames that show them whole and where the face is lost for a moment."""
    whole, lost, last_sec = [], [], 0.0
    for moment in moments:
        if not moment.face:
            lost.append(moment.drawn)
            continue
        if moment.time_sec - last_sec <= LOSS_SEC:
            whole += lost
        whole += [] if moment.drawn is None else [moment.drawn]
        lost, last_sec = [], moment.time_sec
    return sum(one != other for one, other in pairwise(whole))


def eyes_drawn(source: np.ndarray, result: np.ndarray, eyes: np.ndarray) -> bool:
    """Whether pictures (H, W, 3) uint8 differ at the eyes (2, 2) by more than encoding changes elsewhere."""
    return _changes(source, result, eyes)[0]


def _changes(source: np.ndarray, result: np.ndarray, eyes: np.ndarray) -> tuple[bool, float, np.ndarray]:
    """Whether the eyes were drawn, how steep the changes around them are, and their mean (3,)."""
    views = [_view(picture, eyes) for picture in (source, result)]
    change = views[1].astype(np.float64) - views[0]  # (H, W, 3)
    on_eyes, around_eyes = _masks()
    grey = _smooth(change.mean(axis=-1))
    size = abs(grey)
    drawn = bool(size[on_eyes].mean() > CHANGED * max(1.0, size[~on_eyes & ~around_eyes].mean()))
    down, across = np.gradient(grey)
    return drawn, float(np.percentile(np.hypot(down, across)[around_eyes], 95)), change[around_eyes].mean(axis=0)


def _view(picture: np.ndarray, eyes: np.ndarray) -> np.ndarray:
    corner, near = around(picture, eyes, reach=1.0)
    first = np.array([MARGIN_PX, HEIGHT_PX / 2])
    to_view = similarity(eyes - corner, first + np.array([[0, 0], [EYE_DISTANCE_PX, 0]]))
    return glimpse(near, to_view, HEIGHT_PX, EYE_DISTANCE_PX + 2 * MARGIN_PX)


@lru_cache(maxsize=1)
def _masks() -> tuple[np.ndarray, np.ndarray]:
    """(H, W) bool: the eyes, and the skin around them."""
    ys, xs = np.mgrid[:HEIGHT_PX, : EYE_DISTANCE_PX + 2 * MARGIN_PX] + 0.5
    x = abs(abs(xs - MARGIN_PX - EYE_DISTANCE_PX / 2) - EYE_DISTANCE_PX / 2) / EYE_DISTANCE_PX
    y = (ys - HEIGHT_PX / 2) / EYE_DISTANCE_PX
    on_eyes, near = (np.hypot(x / across, y / down) <= 1 for across, down in (EYE, AROUND))
    return on_eyes, near & ~on_eyes


def _smooth(values: np.ndarray) -> np.ndarray:
    """Each value's mean with its neighbours: encoding leaves noise."""
    padded = np.pad(values, 1, mode="edge")
    height, width = values.shape
    shifts: Iterable[tuple[int, int]] = ((row, column) for row in range(3) for column in range(3))
    return sum(padded[row : row + height, column : column + width] for row, column in shifts) / 9
