"""Sequences of gazes: sweeps with a name, and lists."""

import numpy as np

SWEEPS = ("circle", "horizontal", "vertical", "grid")
SWEEP_PITCH_RAD, SWEEP_YAW_RAD = 0.3, 0.4  # farthest from the camera
SWEEP_FRAMES = 24
GRID_PITCHES_RAD, GRID_YAWS_RAD = (0.3, 0.0, -0.3), (0.4, 0.2, 0.0, -0.2, -0.4)  # from up and left on
SWEEP_MS, LISTED_MS = 80, 600  # a frame of a smooth sweep, and one of a list
MAX_LISTED = 240


def sweep_gazes(sweep: str) -> np.ndarray:
    """The gaze (K, 2) = pitch, yaw in radians of each frame. ValueError if `sweep` is neither a name nor a list."""
    turn = np.arange(SWEEP_FRAMES) / SWEEP_FRAMES * 2 * np.pi
    there_and_back, still = -np.cos(turn), np.zeros(SWEEP_FRAMES)
    if sweep == "circle":
        return np.round(np.stack([SWEEP_PITCH_RAD * np.sin(turn), SWEEP_YAW_RAD * np.cos(turn)], axis=1), 4)
    if sweep == "horizontal":
        return np.round(np.stack([still, SWEEP_YAW_RAD * there_and_back], axis=1), 4)
    if sweep == "vertical":
        return np.round(np.stack([SWEEP_PITCH_RAD * there_and_back, still], axis=1), 4)
    if sweep == "grid":
        return np.array([(pitch, yaw) for pitch in GRID_PITCHES_RAD for yaw in GRID_YAWS_RAD])
    expected = f"expected {', '.join(SWEEPS)}, or at most {MAX_LISTED} pairs PITCH,YAW in radians with ; between them"
    got = sweep if len(sweep) <= 60 else sweep[:57] + "..."
    try:
        pairs = [[float(angle) for angle in pair.split(",")] for pair in sweep.split(";") if pair.strip()]
        gazes = np.array(pairs).reshape(len(pairs), 2)
    except ValueError:
        raise ValueError(f"got {got!r}; {expected}") from None
    if not 1 <= len(gazes) <= MAX_LISTED or not (abs(gazes) <= np.pi / 2).all():
        raise ValueError(f"got {got!r}; {expected}, each from -1.5708 to 1.5708")
    return gazes


def frame_ms(sweep: str) -> int:
    """How long each of its gazes is shown."""
    return SWEEP_MS if sweep in SWEEPS else LISTED_MS
