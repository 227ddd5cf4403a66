"""Whether something covers an eye: a hand, a cup, a passer-by; and whether a picture is smeared by motion.

Landmarks do not tell: they see eyes through whatever is painted over them, and take smeared ones for closed. So each
eye with its lids is compared with how it looked before, by the correlation of blurred brightness. Light and contrast
cancel out, and another gaze changes little. Rendered persons who look around stay above 0.7 after half a second, and
above 0.28 in blinks; whatever covered an eye was below 0.1.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from vaegaze.faces.face import around
from vaegaze.geometry.transforms import similarity, warp

EYE_DISTANCE_PX = 40  # in the view that is compared
WIDTH_PX, HEIGHT_PX = 26, 18  # of the part around each eye: a little wider than it, from brow to cheek
MARGIN_PX, BLUR_PX = 4, 2.0
UNLIKE, ALIKE = 0.2, 0.3  # correlation with the usual: below the first an eye is covered, above the other it is not
UNLIKE_SMEARED = 0.05  # the same where the picture is smeared
SMEARED = 0.6  # of the usual sharpness
SHARPNESS_PX = (96, 48)  # of the view in which it is measured
FADE_SEC = 1.0  # after which the weight of how it looked has fallen to a third
USUAL_AFTER_SEC = 5.0  # what looks different for so long is the new usual


@dataclass(frozen=True)
class Seen:
    """What a frame shows of the eyes."""

    covered: np.ndarray  # (2,) bool
    smeared: bool


class UsualEyes:
    """How both eyes look as a rule."""

    def __init__(self):
        self._looks: np.ndarray | None = None  # (2, H, W)
        self._sharpness, self._sharp_sec = 0.0, 0.0
        self._seen_sec = np.zeros(2)
        self._covered = np.zeros(2, bool)
        self._judged: tuple[np.ndarray, float] | None = None  # looks and sharpness of the picture judged last

    def judge(self, picture: np.ndarray, eyes: np.ndarray, time_sec: float) -> Seen:
        """What a picture (H, W, 3) uint8 shows of the eyes at (2, 2). Unlike eyes become usual after a while."""
        looks, sharpness = self._judged = _looks(picture, eyes), _sharpness(picture, eyes)
        if self._looks is None:
            return Seen(np.zeros(2, bool), False)
        smeared = sharpness < SMEARED * self._sharpness and time_sec - self._sharp_sec < USUAL_AFTER_SEC
        covered = _correlation(looks, self._looks) < (
            UNLIKE_SMEARED if smeared else np.where(self._covered, ALIKE, UNLIKE)
        )
        self._covered = covered & (time_sec - self._seen_sec < USUAL_AFTER_SEC)
        return Seen(self._covered, smeared)

    def learn(self, time_sec: float) -> None:
        """Adds the picture judged last, if it is one in which the eyes are open and sharp; not those covered."""
        looks, sharpness = self._judged
        if self._looks is None:
            self._looks, self._sharpness = looks, sharpness
            self._seen_sec, self._sharp_sec = np.full(2, time_sec), time_sec
            return
        kept = np.exp((self._seen_sec - time_sec) / FADE_SEC)
        kept = np.where(_correlation(looks, self._looks) < UNLIKE, 0.0, kept)  # the new usual
        learnt = ~self._covered
        self._looks[learnt] += ((1 - kept)[:, None, None] * (looks - self._looks))[learnt]
        self._sharpness += (1 - np.exp((self._sharp_sec - time_sec) / FADE_SEC)) * (sharpness - self._sharpness)
        self._sharp_sec = time_sec
        self._seen_sec[learnt] = time_sec


def _correlation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(2, H, W) twice, with mean 0 → (2,)."""
    energy = (one**2).mean(axis=(1, 2)) * (other**2).mean(axis=(1, 2))
    return (one * other).mean(axis=(1, 2)) / np.sqrt(energy + 1e-9)


def _looks(picture: np.ndarray, eyes: np.ndarray) -> np.ndarray:
    """The blurred brightness (2, H, W) of each eye, upright, with mean 0."""
    corner, near = around(picture, eyes, reach=1.0)
    height, width = HEIGHT_PX + 2 * MARGIN_PX, WIDTH_PX + 2 * MARGIN_PX
    first = np.array([width, height]) / 2
    to_view = similarity(eyes - corner, first + np.array([[0, 0], [EYE_DISTANCE_PX, 0]]))
    view, _ = warp(np.asarray(Image.fromarray(near).convert("L")), to_view, height, width + EYE_DISTANCE_PX)
    view = np.asarray(Image.fromarray(view).filter(ImageFilter.GaussianBlur(BLUR_PX)), np.float64)
    rows = slice(MARGIN_PX, MARGIN_PX + HEIGHT_PX)
    looks = np.stack([view[rows, x : x + WIDTH_PX] for x in (MARGIN_PX, MARGIN_PX + EYE_DISTANCE_PX)])
    return looks - looks.mean(axis=(1, 2), keepdims=True)


def _sharpness(picture: np.ndarray, eyes: np.ndarray) -> float:
    """The mean slope of the brightness around both eyes, in levels per pixel of a small view."""
    _, near = around(picture, eyes, reach=0.5)
    small = Image.fromarray(near).convert("L").resize(SHARPNESS_PX, Image.Resampling.BILINEAR, reducing_gap=2.0)
    down, across = np.gradient(np.asarray(small, np.float64))
    return float(np.hypot(down, across).mean())
