"""One photo of any size and its eye mask: brought onto the canvas by its eyes, and a drawing pasted back into it."""

import logging
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vaegaze.config import UserError
from vaegaze.data.blobs import find_blobs, without_specks
from vaegaze.data.geometry import EYE_CENTRES_MM, canvas_camera, rolled
from vaegaze.data.masks import FEATHER_OF_CANVAS, draw_mask, inward_alpha, threshold
from vaegaze.data.pictures import read_grey, read_rgb
from vaegaze.data.placement import draw, inverse, roll_of, scale_of, similarity
from vaegaze.data.samples import Samples

log = logging.getLogger(__name__)

SPECK_OF_LARGEST = 0.01  # parts of the mask below this share of the largest are stray pixels, not eyes


@dataclass(frozen=True)
class Photo:
    """A photo, upright and at full size, and the one sample that it is on the canvas."""

    samples: Samples  # N = 1; its gaze and head are the canvas's
    picture: np.ndarray  # (H, W, 3) uint8 RGB
    mask: np.ndarray  # (H, W) bool, True on the eyes, without specks
    to_canvas: np.ndarray  # (2, 3) similarity, photo pixel → canvas pixel
    gaze: np.ndarray  # (2,) float32 pitch, yaw in radians as seen in the upright picture
    head: np.ndarray  # (2,) float32 the same
    ignored_specks: int  # stray parts that were dropped from the mask
    colour_profile: bytes | None  # ICC; a phone's colours look dull without it

    @property
    def roll_rad(self) -> float:
        """How far the canvas turns the picture; `geometry.rolled(direction, roll_rad)` turns a gaze along with it."""
        return roll_of(self.to_canvas)


def load_photo(image_path: str | Path, mask_path: str | Path | None, gaze, head, size_px: int) -> Photo:
    """Reads a photo and its eye mask, and draws both on the canvas of size_px × size_px.

    `gaze` and `head` are (pitch, yaw) in radians as seen in the upright picture. UserError when a file is missing or
    unreadable, when the mask is empty or of another size than the upright photo, and when it has not two blobs.
    """
    if not mask_path:
        raise UserError("--image needs --mask: a grey picture of the photo's size, white on both eyes, else black")
    picture, profile = read_rgb(image_path, "--image")
    mask = threshold(read_grey(mask_path, "--mask"))
    if mask.shape != picture.shape[:2]:
        raise UserError(
            f"--mask: {mask_path} has {mask.shape[1]}×{mask.shape[0]} pixels, but the upright photo has "
            f"{picture.shape[1]}×{picture.shape[0]}; draw the mask on the photo at its full size"
        )
    mask, specks, eyes = _two_eyes(mask, mask_path)
    gaze, head = np.asarray(gaze, dtype=np.float32), np.asarray(head, dtype=np.float32)
    to_canvas = align(eyes, head, size_px)
    log.debug("photo → canvas: scale %.4f, roll %.4f rad, eyes at %s", scale_of(to_canvas), roll_of(to_canvas), eyes)

    image, valid = draw(picture, to_canvas, size_px, size_px)
    eye_mask = draw_mask(mask, to_canvas, size_px)
    if not eye_mask.any():
        raise UserError(f"--mask: {mask_path} has areas too small for the distance between them; cover both eyes whole")
    roll_rad = roll_of(to_canvas)
    samples = Samples(
        images=image[None],
        eye_masks=eye_mask[None],
        valid=valid[None],
        gaze=rolled(gaze, roll_rad).astype(np.float32)[None],
        head=rolled(head, roll_rad).astype(np.float32)[None],
        indices=np.zeros(1, dtype=np.int64),
    )
    return Photo(samples, picture, mask, to_canvas, gaze, head, specks, profile)


def align(eyes: np.ndarray, head: np.ndarray, size_px: int) -> np.ndarray:
    """The similarity (2, 3), photo → canvas, that brings eye centres (2, 2) to where this head's eyes lie there.

    The head's pose on the canvas depends a little on the roll, which depends on where its eyes lie: a few rounds
    settle both.
    """
    roll_rad = 0.0
    for _ in range(10):
        target = canvas_camera(size_px).project(EYE_CENTRES_MM, rolled(head, roll_rad))
        to_canvas = similarity(eyes, target)
        roll_rad = roll_of(to_canvas)
    return to_canvas


def paste(photo: Photo, drawn: np.ndarray) -> np.ndarray:
    """A drawing on the canvas (S, S, 3) uint8 put back into the full photo → (H, W, 3) uint8.

    Only pixels inside the photo's mask are rewritten, with a soft edge that lies inside it.
    """
    pasted = photo.picture.copy()
    rows, columns = (np.flatnonzero(photo.mask.any(axis=axis)) for axis in (1, 0))
    top, left = max(rows[0] - 1, 0), max(columns[0] - 1, 0)  # one pixel of margin, so that the mask's edge is seen
    window = (slice(top, rows[-1] + 2), slice(left, columns[-1] + 2))
    mask, below = photo.mask[window], photo.picture[window]

    to_window = inverse(photo.to_canvas) - np.array([[0, 0, left], [0, 0, top]])
    above, covered = draw(drawn, to_window, *mask.shape)
    feather_px = FEATHER_OF_CANVAS * len(drawn) * scale_of(to_window)
    alpha = (inward_alpha(mask, feather_px) * covered)[..., None]
    blended = below + alpha * (above.astype(np.float32) - below)
    pasted[window] = np.where(alpha > 0, np.rint(blended), below).astype(np.uint8)
    return pasted


def _two_eyes(mask: np.ndarray, mask_path: str | Path) -> tuple[np.ndarray, int, np.ndarray]:
    """The mask without specks, how many those were, and its blobs' centres (2, 2), the picture's left one first."""
    if not mask.any():
        raise UserError(f"--mask: {mask_path} is empty; paint both eyes white (128 or more) on black")
    areas, centres = find_blobs(mask)
    min_area = SPECK_OF_LARGEST * areas[0]
    blobs = int((areas >= min_area).sum())
    if blobs != 2:
        raise UserError(
            f"--mask: {mask_path} has {blobs} separate white area{'s' if blobs > 1 else ''}; exactly two are needed, "
            "one on each eye"
        )
    if np.linalg.norm(centres[0] - centres[1]) < math.sqrt(areas[0]) / 2:  # a ring around a dot, say
        raise UserError(f"--mask: {mask_path} has two white areas about the same centre; paint one on each eye")
    left_first = np.argsort(centres[:2, 0])
    return without_specks(mask, min_area), len(areas) - blobs, centres[left_first]
