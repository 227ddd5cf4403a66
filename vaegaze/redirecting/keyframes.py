"""Which frames of a video the model draws, and what the frames between them show: a blend of both drawings.

On the canvas a face does not move, so drawings of frames that follow each other closely differ by little.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

APART_SEC = 0.17  # of drawn frames, at most: every fourth one at 25 a second
GAZE_RAD, HEAD_RAD, LEVELS = 0.02, 0.05, 8.0  # by which frames may differ; of the pixels, on average


@dataclass(frozen=True)
class Moment:
    """A face that is to be drawn, on the canvas."""

    person: int
    time_sec: float
    image: np.ndarray  # (H, W, 3) uint8
    gaze: np.ndarray  # (2,) pitch, yaw in radians, as told
    head: np.ndarray  # (2,)
    open: bool  # both eyes; beside a blink each frame is drawn

    def is_like(self, other: "Moment") -> bool:
        return (
            self.open
            and other.open
            and abs(self.gaze - other.gaze).max() <= GAZE_RAD
            and abs(self.head - other.head).max() <= HEAD_RAD
            and abs(self.image.astype(np.int16) - other.image).mean() <= LEVELS
        )


class KeyFrames:
    """Of each person, batch by batch in the order of time; with `apart_sec` 0 every frame is drawn."""

    def __init__(self, apart_sec: float):
        self._apart_sec = apart_sec
        self._last: dict[int, tuple[Moment, np.ndarray]] = {}  # the last one that was drawn, and its drawing

    def chosen(self, moments: Sequence[Moment]) -> list[int]:
        """The rows that are to be drawn; among them each person's last."""
        rows_of, drawn = defaultdict(list), []
        for row, moment in enumerate(moments):
            rows_of[moment.person].append(row)
        for person, rows in rows_of.items():
            before = self._last[person][0] if person in self._last else None
            for row, following in zip(rows, [*rows[1:], None]):
                this, after = moments[row], None if following is None else moments[following]
                if before is None or after is None or not self._lies_between(before, this, after):
                    drawn.append(row)
                    before = this
        return sorted(drawn)

    def _lies_between(self, before: Moment, this: Moment, after: Moment) -> bool:
        return after.time_sec - before.time_sec <= self._apart_sec and before.is_like(this) and before.is_like(after)

    def filled(self, moments: Sequence[Moment], drawn: Sequence[int], drawings: np.ndarray) -> np.ndarray:
        """The drawings (K, H, W, 3) uint8 of these rows → those of all moments."""
        all_of_them = np.empty((len(moments), *drawings.shape[1:]), np.uint8)
        all_of_them[drawn] = drawings
        waiting: dict[int, list[int]] = defaultdict(list)  # of each person, for the next that was drawn
        for row, moment in enumerate(moments):
            if row not in drawn:
                waiting[moment.person].append(row)
                continue
            for between in waiting.pop(moment.person, []):
                before, earlier = self._last[moment.person]
                share = (moments[between].time_sec - before.time_sec) / (moment.time_sec - before.time_sec)
                blend = earlier + np.float32(share) * (all_of_them[row].astype(np.float32) - earlier)
                all_of_them[between] = np.rint(blend)
            self._last[moment.person] = moment, all_of_them[row]
        return all_of_them
