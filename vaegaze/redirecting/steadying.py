"""Broad colours of drawn eyes that follow those around them, frame by frame, without pulsing."""

import numpy as np

from vaegaze.geometry.camera import Camera
from vaegaze.geometry.pasting import corrected, surroundings_correction

FADE_SEC = 0.2  # after which the weight of an earlier correction has fallen to a third
FORGOTTEN_SEC = 2.0  # after which nothing of it is left
JUMP = 12.0  # levels: a correction that differs by more, as after a cut, counts at once


class SteadyColours:
    """Each person's last correction."""

    def __init__(self):
        self._last: dict[int, tuple[float, np.ndarray]] = {}  # time, (H, W, 3)

    def matched(
        self,
        drawn: np.ndarray,
        pictures: np.ndarray,
        masks: np.ndarray,
        valid: np.ndarray,
        canvas: Camera,
        persons: list[tuple[int, float]],
    ) -> np.ndarray:
        """As `match_surroundings`, for drawings (N, H, W, 3) of (person, time in seconds) in the order of time."""
        corrections = surroundings_correction(drawn, pictures, masks, valid, canvas)
        if corrections is None:
            return drawn
        for number, (person, time_sec) in enumerate(persons):
            if person in self._last:
                last_sec, last = self._last[person]
                change = corrections[number] - last
                if abs(change[masks[number]]).mean() < JUMP:
                    corrections[number] = last + (1 - np.exp((last_sec - time_sec) / FADE_SEC)) * change
            self._last[person] = time_sec, corrections[number]
        since = persons[-1][1] - FORGOTTEN_SEC
        self._last = {person: last for person, last in self._last.items() if last[0] >= since}
        return corrected(drawn, corrections)
