"""How strongly each frame's eyes are redrawn: as told, less where the head or the eyes are turned far away.

The angles between which eyes fade back to the true ones are the defaults that NVIDIA documents for its Eye Contact
(nim-clients, eye-contact/README.md).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vaegaze.faces.follower import FollowedFrame

CONFIDENCE = (0.8, 0.5)  # of the mesh network, between which the eyes fade
SLOWEST_SEC = 0.25  # that a fade takes at least, so that nothing flashes
OPAQUE_FROM = 0.25  # of the strength; below it the true eyes show through what is drawn, which then looks alike
HEAD_PITCH, HEAD_YAW, GAZE, UNSURE = "head turned up or down", "head turned aside", "looking far away", "face unsure"


@dataclass(frozen=True)
class Fades:
    """Angles (from, to) in radians, away from the camera: eyes are redrawn up to the first, left alone from the other.

    Between them the strength falls linearly.
    """

    head_pitch: tuple[float, float] = (math.radians(15), math.radians(25))
    head_yaw: tuple[float, float] = (math.radians(25), math.radians(30))
    gaze: tuple[float, float] = (math.radians(20), math.radians(30))


AS_DOCUMENTED = Fades()


@dataclass(frozen=True)
class Fate:
    """What becomes of a frame."""

    time_sec: float
    strength: float  # 1 redrawn as told..0 left alone
    why: str | None = None  # it is not redrawn as told, or one of its eyes is not

    @property
    def left_alone(self) -> bool:
        return self.strength == 0


class Fader:
    """The strength of each frame in turn, smooth over time."""

    def __init__(self, fades: Fades = AS_DOCUMENTED, strength: float = 1.0):
        self._fades, self._strength = fades, strength
        self._last: tuple[float, float] | None = None  # time, share

    def fate(self, followed: FollowedFrame, head: np.ndarray | None) -> Fate:
        """Of the next frame, whose head (2,) is as read or as given."""
        time_sec = followed.frame.time_sec
        if followed.eyes is None or not np.any(followed.blend):
            self._last = None if followed.eyes is None else self._last
            return Fate(time_sec, 0.0, followed.left)
        share, why = min(self._shares(followed, head), key=lambda each: each[0])
        if self._last is not None:
            most = (time_sec - self._last[0]) / SLOWEST_SEC
            share = float(np.clip(share, self._last[1] - most, self._last[1] + most))
        self._last = time_sec, share
        return Fate(time_sec, share * self._strength, why if share < 1 else followed.left)

    def _shares(self, followed: FollowedFrame, head: np.ndarray | None) -> Iterator[tuple[float, str]]:
        """How much of the strength each reason leaves."""
        yield _between(followed.confidence, *CONFIDENCE), UNSURE
        if head is not None:
            yield _between(abs(head[0]), *self._fades.head_pitch), HEAD_PITCH
            yield _between(abs(head[1]), *self._fades.head_yaw), HEAD_YAW
        if followed.gaze is not None:
            off_rad = math.acos(math.cos(followed.gaze[0]) * math.cos(followed.gaze[1]))
            yield _between(off_rad, *self._fades.gaze), GAZE


def _between(value: float, whole: float, none: float) -> float:
    """1 at `whole`, 0 at `none`, linear between them, whichever is greater."""
    if whole == none:
        return float(value <= whole)
    return float(np.clip((none - value) / (none - whole), 0, 1))


def drawn_gaze(told: np.ndarray, true: np.ndarray | None, strength: float) -> tuple[np.ndarray, float]:
    """The gaze (2,) to draw, and how opaque the drawing is, 0..1.

    Where the true gaze is known, the eyes move from there towards the told one; otherwise they are drawn as told, and
    the true eyes show through.
    """
    if true is None:
        return told, strength
    return true + strength * (told - true), min(1.0, strength / OPAQUE_FROM)
