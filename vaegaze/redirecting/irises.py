"""The person's own irises in drawn eyes, frame by frame: in steady places, never flashing between own and drawn ones.

Each frame's irises are its own, so their place there must be exact. Where a drawing has its irises is steadier: nearly
where an eyeball that looks as told has them, so only the rest is followed, smoothly.
"""

from collections import deque
from dataclasses import dataclass, field, replace

import numpy as np

from vaegaze.faces import networks
from vaegaze.faces.follower import FollowedFrame
from vaegaze.faces.irises import irises_in, irises_of
from vaegaze.geometry.alignment import AlignedFace
from vaegaze.geometry.camera import Camera
from vaegaze.geometry.iris_search import IRIS_MM, are_clear, expected, found_near, larger_in, refined
from vaegaze.geometry.irises import Iris
from vaegaze.redirecting.fading import SLOWEST_SEC

MARGIN_PX = 24  # around a drawing whose irises are read
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
    off: np.ndarray | None = None  # (2,) from where irises are expected to where drawings have them, px of the canvas
    clear: float | None = None  # share of the last frames
    shown: bool = False
    own: float = 0.0  # how opaque the person's irises are


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
        counts = np.broadcast_to(followed.blend, 2) > 0
        true, drawing = (each.astype(np.float32).mean(axis=-1) for each in (face.image, drawn))

        if followed.face is None or followed.face.irises is None:
            read = irises_in(face.image, face.head, canvas)
        else:
            read = irises_of(followed.face, face.to_canvas, face.head, canvas)
        radii = list(known.radii)
        if size_due := time_sec - known.sized_sec >= SIZE_EVERY_SEC:
            radii.append(float(np.mean([refined(true, iris).radius for iris in _some(read, counts)])))
            known.sized_sec = time_sec
        radius = float(np.mean(radii or [IRIS_MM * read[0].px_per_mm]))
        sources = [found_near(true, [replace(iris, radius=radius)])[0] for iris in read]

        read = irises_in(drawn, face.head, canvas, MARGIN_PX)
        wanted = [replace(expected(iris, gaze), radius=radius) for iris in read]
        found = found_near(drawing, wanted)
        clear = are_clear(_some(sources, counts), _some(found, counts), canvas.shape)
        if clear:
            off, share = found[0].centre - wanted[0].centre, 1 - np.exp(-step_sec / PLACE_SEC)
            known.off = off if known.off is None else known.off + share * (off - known.off)
        if clear and size_due:
            known.radii.append(radii[-1])
            known.larger.append(larger_in(drawing, found))
        own = self._opacity(known, clear, step_sec)
        if own == 0:
            return [], 0.0
        larger = float(np.mean(known.larger))
        targets = [replace(iris, centre=iris.centre + known.off, radius=larger * radius) for iris in wanted]
        return list(zip(sources, targets)), own

    def _opacity(self, known: _Known, clear: bool, step_sec: float) -> float:
        """As the irises were clear in this frame and in those before it."""
        first = known.clear is None
        known.clear = (
            float(clear) if first else known.clear + (1 - np.exp(-step_sec / CLEAR_SEC)) * (clear - known.clear)
        )
        known.shown = known.clear >= (HIDDEN_BELOW if known.shown else SHOWN_FROM)
        most = 1.0 if first else step_sec / SLOWEST_SEC
        known.own += float(np.clip(known.shown - known.own, -most, most))
        return known.own


def _some(irises: list[Iris], counts: np.ndarray) -> list[Iris]:
    return [iris for iris, count in zip(irises, counts) if count]
