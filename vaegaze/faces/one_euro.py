"""The 1 € filter (Casiez, Roussel and Vogel, CHI 2012): steady at rest, quick in motion, without looking ahead."""

import math

import numpy as np

LEAST_HZ, SPEED_HZ = 1.0, 1.0  # cutoff at rest, and that of the speed
GAIN = 2.0  # Hz of cutoff for each unit a second of speed


class OneEuroFilter:
    """Of values (K,); for angles in radians as they stand."""

    def __init__(self, least_hz: float = LEAST_HZ, gain: float = GAIN):
        self._least_hz, self._gain = least_hz, gain
        self._time_sec = 0.0
        self._value: np.ndarray | None = None
        self._speed: np.ndarray | None = None

    def __call__(self, value: np.ndarray, time_sec: float) -> np.ndarray:
        """The filtered value at a time later than the last."""
        step_sec = time_sec - self._time_sec
        if self._value is None or step_sec <= 0:
            self._speed = np.zeros_like(value) if self._value is None else self._speed
            self._value = value if self._value is None else self._value
        else:
            speed = (value - self._value) / step_sec
            self._speed = self._speed + _share(SPEED_HZ, step_sec) * (speed - self._speed)
            cutoff_hz = self._least_hz + self._gain * float(np.linalg.norm(self._speed))
            self._value = self._value + _share(cutoff_hz, step_sec) * (value - self._value)
        self._time_sec = max(time_sec, self._time_sec)
        return self._value


def _share(cutoff_hz: float, step_sec: float) -> float:
    """How much a step of the low-pass filter takes over of a new value."""
    return 1 / (1 + 1 / (2 * math.pi * cutoff_hz * step_sec))
