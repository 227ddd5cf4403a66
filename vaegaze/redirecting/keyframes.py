"""Which frames of a video the model draws, and what the frames between them show: a blend of both drawings.

On the canvas a face does not move, so drawings of frames that follow each other closely differ by little, unless
the lids move: a frame is drawn from itself, and has its lids.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

APART_SEC = 0.34  # of drawn frames, at most: every eighth one at 25 a second
GAZE_RAD, HEAD_RAD, OPENNESS = 0.02, 0.09, 0.08  # by which frames may differ
LEVELS, CELL_PX = 5.0, 4  # of the eyes' regions, on average over cells, so that grain does not count


@dataclass(frozen=True)
class Moment:
    """A face that is to be drawn, on the canvas."""

    person: int
    time_sec: float
    image: np.ndarray  # (H, W, 3) uint8
    gaze: np.ndarray  # (2,) pitch, yaw in radians, as told
    head: np.ndarray  # (2,)
    eye_mask: np.ndarray  # (H, W) bool
    steady: bool  # neither eye is shut, nor is it beside a blink; counts only where the openness is unknown
    openness: np.ndarray | None = None  # (2,) of the eyes, if it was read

    def is_like(self, other: "Moment") -> bool:
        return (
            abs(self.gaze - other.gaze).max() <= GAZE_RAD
            and abs(self.head - other.head).max() <= HEAD_RAD
            and self._is_as_open_as(other)
            and self._looks_like(other)
        )

    def _is_as_open_as(self, other: "Moment") -> bool:
        if self.openness is None or other.openness is None:
            return self.steady and other.steady
        return bool(abs(self.openness - other.openness).max() <= OPENNESS)

    def _looks_like(self, other: "Moment") -> bool:
        off = abs(self._cells - other._cells)[self._cells_in_eyes]
        return bool(off.sum() <= LEVELS * len(off))

    @cached_property
    def _cells(self) -> np.ndarray:
        """The mean brightness (h, w) of each cell."""
        return _in_cells(self.image.mean(axis=-1))

    @cached_property
    def _cells_in_eyes(self) -> np.ndarray:
        """(h, w) bool: the cells of which the eye mask covers more than half."""
        return _in_cells(self.eye_mask) > 0.5


def _in_cells(values: np.ndarray) -> np.ndarray:
    """The mean (h, w) of (H, W) values in each whole cell."""
    height, width = (side // CELL_PX for side in values.shape)
    whole = values[: height * CELL_PX, : width * CELL_PX]
    return whole.reshape(height, CELL_PX, width, CELL_PX).mean(axis=(1, 3))


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
        in_turn = before.time_sec < this.time_sec < after.time_sec <= before.time_sec + self._apart_sec
        return in_turn and before.is_like(this) and before.is_like(after)

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
        since = moments[-1].time_sec - self._apart_sec
        self._last = {person: last for person, last in self._last.items() if last[0].time_sec >= since}
        return all_of_them
