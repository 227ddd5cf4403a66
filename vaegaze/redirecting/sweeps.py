"""Sequences of gazes: sweeps with a name, and lists; and the pictures of them."""

import numpy as np
from PIL import Image

from vaegaze.data.photo import Photo, own_irises, paste
from vaegaze.images.pictures import rgb_over_white

SWEEPS = ("circle", "horizontal", "vertical", "grid")
SWEEP_PITCH_RAD, SWEEP_YAW_RAD = 0.3, 0.4  # farthest from the camera
SWEEP_FRAMES = 24
GRID_PITCHES_RAD, GRID_YAWS_RAD = (0.3, 0.0, -0.3), (0.4, 0.2, 0.0, -0.2, -0.4)  # from up and left on
SWEEP_MS, LISTED_MS = 80, 600  # a frame of a smooth sweep, and one of a list
MAX_LISTED = 240
FRAME_PX, CELL_PX = (320, 512), (224, 224)  # longer side, least and most: of a frame, of a picture in the grid


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


def close_ups(photo: Photo, drawn: np.ndarray, gazes: np.ndarray, least_px: int, most_px: int) -> list[np.ndarray]:
    """The photo's face with each drawing (K, H, W, 3) of gazes (K, 2) pasted in: pictures (H, W, 3) uint8.

    Their longer side is scaled into the range from `least_px` to `most_px`. All have the photo's own irises, or none,
    since the photo alone decides.
    """
    face = photo.around_face()
    irises = [own_irises(face, *each) for each in zip(drawn, gazes)]
    return [scaled(paste(face, each, irises=own), least_px, most_px) for each, own in zip(drawn, irises)]


def scaled(pixels: np.ndarray, least_px: int, most_px: int) -> np.ndarray:
    """Pixels (H, W, C) uint8 as (H, W, 3), over white, their longer side scaled into that range."""
    height, width = pixels.shape[:2]
    factor = min(max(height, width, least_px), most_px) / max(height, width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return np.asarray(Image.fromarray(rgb_over_white(pixels)).resize(size, Image.Resampling.LANCZOS))
