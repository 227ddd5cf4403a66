"""Short looks away, as of one who talks: who gazes without pause stares.

People are at ease with about 3.3 s of mutual gaze (Binetti et al., Royal Society Open Science 2016).
"""

import numpy as np

CONTACT_SEC, AWAY_SEC = (2.3, 4.3), (0.5, 1.4)  # how long the eyes stay, shortest and longest
MOVE_SEC = 0.08  # that a look there or back takes
SPREAD_RAD = np.radians([3.0, 9.0])  # standard deviation of pitch and yaw
LEAST_RAD = np.radians(4.0)  # a smaller look away is none


class Glances:
    """Where the eyes are, beside where they are told to look; the same for the same seed."""

    def __init__(self, seed: int):
        self._rng = np.random.default_rng(seed)
        self._begins_sec: float | None = None
        self._ends_sec, self._away = 0.0, np.zeros(2)

    def offset(self, time_sec: float) -> np.ndarray:
        """(2,) pitch, yaw in radians, at a time that grows from call to call."""
        while self._begins_sec is None or time_sec > self._ends_sec:
            last_sec = time_sec if self._begins_sec is None else self._ends_sec
            self._begins_sec = last_sec + self._rng.uniform(*CONTACT_SEC)
            self._ends_sec = self._begins_sec + self._rng.uniform(*AWAY_SEC)
            self._away = np.zeros(2)
            while np.hypot(*self._away) < LEAST_RAD:
                self._away = self._rng.normal(0, SPREAD_RAD)
        since = min(time_sec - self._begins_sec, self._ends_sec - time_sec) / MOVE_SEC
        share = float(np.clip(since, 0, 1))
        return self._away * share**2 * (3 - 2 * share)
