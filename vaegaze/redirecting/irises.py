"""The person's own irises in drawn eyes, frame by frame: in steady places, never flashing between own and drawn ones.

Each frame's irises are its own, so their place there must be exact. Where a drawing has its irises is steadier: nearly
where eyes that look as told have them, so only the rest is followed, smoothly.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from vaegaze.faces import networks
from vaegaze.faces.follower import FollowedFrame
from vaegaze.faces.irises import irises_in, irises_of
from vaegaze.geometry.alignment import AlignedFace
from vaegaze.geometry.camera import Camera
from vaegaze.geometry.iris_search import (
    IRIS_MM,
    LEAST_DRAWN,
    OFF_READ,
    OFF_TOLD,
    apart,
    are_clear,
    found_near,
    larger_in,
    looking_at,
    refined,
)
from vaegaze.geometry.irises import Iris
from vaegaze.redirecting.fading import SLOWEST_SEC

MARGIN_PX = 24  # around a drawing whose irises are read
STILL_SEC, MOVED_MM = 0.2, 0.5  # the same of an iris that rests; and from how far on it has moved, not been misread
PLACE_SEC = 0.2  # after which the weight of where a drawing had its irises has fallen to a third
SIZE_EVERY_SEC, SIZES = 0.4, 10  # between measurements of how large irises are, and how many of these count
CLEAR_SEC = 0.5  # after which the weight of a frame whose irises were clear, or not, has fallen to a third
SHOWN_FROM, HIDDEN_BELOW = 0.9, 0.5  # of these weights: irises are put in, and no longer put in


@dataclass
class _Known:
    """What is known of a person."""

    time_sec: float  # of the last frame
    radii: deque[float] = field(default_factory=lambda: deque(maxlen=SIZES))  # of irises, px of the canvas
    larger: deque[float] = field(default_factory=lambda: deque(maxlen=SIZES))  # radii of the drawings' / of these
    sized_sec: float = -np.inf  # when they were measured last
    centres: np.ndarray | None = None  # (2, 2) of both irises, on the canvas
    off: np.ndarray | None = None  # (2, 2) from where the gaze puts both irises to where they go, px of the canvas
    judged: int = 0  # frames with open eyes
    clear: float = 0.0  # share of the last of these whose irises were clear to see
    shown: bool = False
    own: float | None = None  # how opaque the person's irises are

    def radius(self, read: Sequence[Iris]) -> float:
        return float(np.mean(self.radii or [IRIS_MM * read[0].px_per_mm]))

    def steadied(self, irises: Sequence[Iris], step_sec: float) -> list[Iris]:
        """The frame's irises without what trembles: they rest, or move at once."""
        found = np.stack([iris.centre for iris in irises])
        before = found if self.centres is None else self.centres
        moved = np.linalg.norm(found - before, axis=-1, keepdims=True) / (MOVED_MM * irises[0].px_per_mm)
        self.centres = before + np.clip(moved, _share(step_sec, STILL_SEC), 1) * (found - before)
        return [replace(iris, centre=centre) for iris, centre in zip(irises, self.centres)]

    def apart(self, sources: Sequence[Iris], open_ones: np.ndarray) -> np.ndarray:
        """(2, 2): how one eye differs from the other, see `iris_search.apart`; as it was where only one is open."""
        if len(open_ones) == 2:
            return apart(sources)
        return np.zeros((2, 2)) if self.off is None else self.off - self.off.mean(axis=0)

    def follow(self, off: np.ndarray, eyes: np.ndarray, step_sec: float) -> None:
        """Where the irises of these eyes go; at first, of both."""
        self.off = off.copy() if self.off is None else self.off
        self.off[eyes] += _share(step_sec, PLACE_SEC) * (off - self.off)[eyes]

    def judge(self, clear: bool, step_sec: float) -> None:
        """Whether this frame's irises are clear to see; an unlucky first frame is soon made up for."""
        self.judged += 1
        self.clear += max(_share(step_sec, CLEAR_SEC), clear / self.judged) * (clear - self.clear)
        self.shown = self.clear >= (HIDDEN_BELOW if self.shown else SHOWN_FROM)

    def fade(self, step_sec: float) -> None:
        """Towards whether irises are shown; the first frame has them at once."""
        before, most = float(self.shown) if self.own is None else self.own, step_sec / SLOWEST_SEC
        self.own = before + float(np.clip(self.shown - before, -most, most))


def _share(step_sec: float, fade_sec: float) -> float:
    """How much of a smooth value a new one takes over."""
    return 1 - math.exp(-step_sec / fade_sec)


class SteadyIrises:
    """Of each person, in the order of time."""

    def __init__(self):
        self._known: dict[int, _Known] = {}

    def pairs(
        self, followed: FollowedFrame, face: AlignedFace, drawn: np.ndarray, gaze: np.ndarray, canvas: Camera
    ) -> tuple[list[tuple[Iris, Iris]], float]:
        """Both eyes' irises in the next frame, whose face is on the canvas, and in its drawing there (H, W, 3) uint8.

        And how opaque they go in, 0..1; no irises at 0, as where landmarks are not installed. `gaze` (2,) is the
        drawn one, on the canvas.
        """
        if not networks.installed():
            return [], 0.0
        time_sec = followed.frame.time_sec
        known = self._known.setdefault(followed.person, _Known(time_sec))
        step_sec, known.time_sec = max(time_sec - known.time_sec, 0.0), time_sec
        true, drawing = (each.astype(np.float32).mean(axis=-1) for each in (face.image, drawn))
        blend = np.broadcast_to(followed.blend, 2)
        open_ones = np.flatnonzero(blend == (1 if known.judged else blend.max()))

        read = read_irises(followed, face, canvas)
        radius, due = known.radius(read), len(open_ones) and time_sec - known.sized_sec >= SIZE_EVERY_SEC
        if due:
            measured = float(np.mean([refined(true, [read[eye]])[0].radius for eye in open_ones]))
            # A single measurement may be far off: at first, an average iris counts as much.
            radius, known.sized_sec = radius if known.radii else (radius + measured) / 2, time_sec
        sources = [found_near(true, [replace(iris, radius=radius)], OFF_READ)[0] for iris in read]
        sources = known.steadied(sources, step_sec)
        read = [replace(iris, radius=radius) for iris in irises_in(drawn, face.head, canvas, MARGIN_PX)]
        if len(open_ones):  # while eyes close, what is seen of them says nothing
            off = known.apart(sources, open_ones)
            told = looking_at(read, gaze, off)
            found = [found_near(drawing, [iris], OFF_TOLD)[0] for iris in told]
            clear = are_clear([sources[eye] for eye in open_ones], canvas.shape)
            clear = clear and min(found[eye].contrast for eye in open_ones) >= LEAST_DRAWN
            known.judge(clear, step_sec)
            if clear:
                moved = np.stack([there.centre - each.centre for there, each in zip(found, told)])
                known.follow(off + moved, open_ones, step_sec)
            if clear and due:
                known.radii.append(measured)
                known.larger.append(larger_in(drawing, [found[eye] for eye in open_ones]))
        known.fade(step_sec)
        if known.own == 0:
            return [], 0.0
        larger = float(np.mean(known.larger or [1.0]))
        # Nothing that they cover: a head read in a video is too rough for that; on rendered persons −0.2 dB.
        targets = [replace(iris, radius=larger * radius) for iris in looking_at(read, gaze, known.off)]
        return list(zip(sources, targets)), known.own


def read_irises(followed: FollowedFrame, face: AlignedFace, canvas: Camera) -> list[Iris]:
    """Both irises and lids in a frame, on the canvas, as the follower read them, if it did; needs landmarks."""
    if followed.face is None or followed.face.irises is None:
        return irises_in(face.image, face.head, canvas)
    return irises_of(followed.face, face.to_canvas, face.head, canvas)
