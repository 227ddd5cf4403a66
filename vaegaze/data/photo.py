"""One photo of any size and its eye mask: brought onto the canvas by its eyes, and a drawing pasted back into it."""

import logging
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from vaegaze.data.samples import Samples
from vaegaze.errors import UserError
from vaegaze.faces.cascades import find_eyes
from vaegaze.faces.openness import CLOSED_BELOW, eye_openness
from vaegaze.geometry.alignment import AROUND_FACE, align
from vaegaze.geometry.camera import EYE_CENTRES_MM, canvas_camera, rolled
from vaegaze.geometry.eye_regions import FEATHER_OF_CANVAS, draw_mask, inward_alpha, pose_mask_in_photo, threshold
from vaegaze.geometry.transforms import draw, inverse, move, roll_of, scale_of
from vaegaze.images.blobs import find_blobs, without_specks
from vaegaze.images.pictures import read_grey, read_picture

log = logging.getLogger(__name__)

SPECK_OF_LARGEST = 0.01  # parts of the mask below this share of the largest are stray pixels, not eyes


@dataclass(frozen=True)
class Photo:
    """A photo, upright and at full size, and the one sample that it is on the canvas."""

    samples: Samples  # N = 1; its gaze and head are the canvas's
    picture: np.ndarray  # (H, W, 3) uint8 RGB, transparent parts over white: what the model sees
    original: np.ndarray  # (H, W, C) uint8, the channels of `pictures.Picture`: what a drawing is pasted into
    mask: np.ndarray  # (H, W) bool, True on the eyes, without specks
    eyes: np.ndarray  # (2, 2) x, y of the eyes' centres, the picture's left one first
    to_canvas: np.ndarray  # (2, 3) similarity, photo pixel → canvas pixel
    gaze: np.ndarray  # (2,) float32 pitch, yaw in radians as seen in the upright picture
    head: np.ndarray  # (2,) float32 the same
    ignored_specks: int = 0  # stray parts that were dropped from the mask
    eyes_closed: bool = False  # as far as can be seen, of eyes that were found
    colour_profile: bytes | None = None  # ICC

    @property
    def notes(self) -> list[str]:
        """A line about each thing that its user should know."""
        specks = [f"⚠️ Ignored {self.ignored_specks} specks of the mask"] if self.ignored_specks else []
        closed = ["⚠️ The eyes look closed: if they are, give a photo with open eyes"] if self.eyes_closed else []
        return specks + closed

    @property
    def roll_rad(self) -> float:
        """How far the canvas turns the picture; `geometry.rolled(direction, roll_rad)` turns a gaze along with it."""
        return roll_of(self.to_canvas)

    def around_face(self) -> "Photo":
        """What there is of the photo in a square window around the face."""
        size_px = self.samples.images.shape[1]
        side = AROUND_FACE * size_px / scale_of(self.to_canvas)
        available = np.array(self.mask.shape[::-1])
        width, height = np.minimum(math.ceil(side), available)
        centre = move(inverse(self.to_canvas), np.full(2, size_px / 2))
        left, top = np.clip(np.rint(centre - side / 2).astype(int), 0, available - (width, height))
        window = (slice(top, top + height), slice(left, left + width))
        return replace(
            self,
            picture=self.picture[window],
            original=self.original[window],
            mask=self.mask[window],
            eyes=self.eyes - (left, top),
            to_canvas=np.column_stack([self.to_canvas[:, :2], move(self.to_canvas, np.array([left, top]))]),
        )


def load_photo(
    image_path: str | Path, mask_path: str | Path | None, gaze, head, size_px: int, face: int | None = None
) -> Photo:
    """Reads a photo and its eye mask, and draws both on the canvas of size_px × size_px.

    `gaze` and `head` are (pitch, yaw) in radians as seen in the upright picture. Without a mask the eyes are found, of
    the `face` of this number if there are several, and masked as the head pose has it. UserError when a file is missing
    or unreadable, when the mask is empty or of another size than the upright photo, when it has not two blobs, and when
    the eyes are not found.
    """
    picture = read_picture(image_path, "--image")
    rgb = picture.rgb()
    gaze, head = np.asarray(gaze, dtype=np.float32), np.asarray(head, dtype=np.float32)
    specks, eyes_closed = 0, False
    if mask_path:
        mask = threshold(read_grey(mask_path, "--mask"))
        if mask.shape != rgb.shape[:2]:
            raise UserError(
                f"--mask: {mask_path} has {mask.shape[1]}×{mask.shape[0]} pixels, but the upright photo has "
                f"{rgb.shape[1]}×{rgb.shape[0]}; draw the mask on the photo at its full size"
            )
        mask, specks, eyes = _two_eyes(mask, mask_path)
        to_canvas = align(eyes, head, size_px)
    else:
        eyes = find_eyes(rgb, f"--image: {image_path}", face)
        eyes_closed = bool(eye_openness(rgb, eyes).mean() < CLOSED_BELOW)
        to_canvas = align(eyes, head, size_px)
        mask = pose_mask_in_photo(rgb.shape[:2], to_canvas, rolled(head, roll_of(to_canvas)), size_px)
    roll_rad = roll_of(to_canvas)
    log.debug("photo → canvas: scale %.4f, roll %.4f rad, eyes at %s", scale_of(to_canvas), roll_rad, eyes)

    image, valid = draw(rgb, to_canvas, size_px, size_px)
    eye_mask = draw_mask(mask, to_canvas, size_px)
    if not eye_mask.any():
        raise UserError(f"--mask: {mask_path} has areas too small for the distance between them; cover both eyes whole")
    samples = Samples(
        images=image[None],
        eye_masks=eye_mask[None],
        valid=valid[None],
        gaze=rolled(gaze, roll_rad).astype(np.float32)[None],
        head=rolled(head, roll_rad).astype(np.float32)[None],
        indices=np.zeros(1, dtype=np.int64),
    )
    return Photo(
        samples, rgb, picture.pixels, mask, eyes, to_canvas, gaze, head, specks, eyes_closed, picture.colour_profile
    )


def photo_of_frame(samples: Samples) -> Photo:
    """A data set's one frame (N = 1), which lies on the canvas already, as a photo of the canvas's size."""
    image, mask, size_px = samples.images[0], samples.eye_masks[0] & samples.valid[0], samples.images.shape[1]
    eyes = canvas_camera(size_px).project(EYE_CENTRES_MM, samples.head[0])
    return Photo(samples, image, image, mask, eyes, np.eye(2, 3), samples.gaze[0], samples.head[0])


def eyes_text(photo: Photo) -> str:
    """Where the eyes are, in words."""
    return " and ".join(f"at ({x:.0f}, {y:.0f})" for x, y in photo.eyes)


def paste(photo: Photo, drawn: np.ndarray) -> np.ndarray:
    """A drawing on the canvas (S, S, 3) uint8 put back into the full photo → (H, W, C) uint8, as the original.

    Only pixels inside the photo's mask are rewritten, with a soft edge that lies inside it; and no transparency.
    """
    pasted = photo.original.copy()
    rows, columns = (np.flatnonzero(photo.mask.any(axis=axis)) for axis in (1, 0))
    top, left = max(rows[0] - 1, 0), max(columns[0] - 1, 0)  # one pixel of margin, so that the mask's edge is seen
    window = (slice(top, rows[-1] + 2), slice(left, columns[-1] + 2))
    colours = 3 if pasted.shape[-1] >= 3 else 1
    mask, below = photo.mask[window], photo.original[window][..., :colours]

    to_window = inverse(photo.to_canvas) - np.array([[0, 0, left], [0, 0, top]])
    above, covered = draw(drawn, to_window, *mask.shape)
    if colours == 1:
        above = np.asarray(Image.fromarray(above).convert("L"))[..., None]
    feather_px = FEATHER_OF_CANVAS * len(drawn) * scale_of(to_window)
    alpha = (inward_alpha(mask, feather_px) * covered)[..., None]
    blended = below + alpha * (above.astype(np.float32) - below)
    pasted[window][..., :colours] = np.where(alpha > 0, np.rint(blended), below)
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
