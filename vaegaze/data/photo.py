"""One photo of any size and its eye mask: aligned to the canvas by its eyes, and drawn eyes pasted back into it."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vaegaze.data.samples import Samples
from vaegaze.errors import UserError
from vaegaze.faces import networks
from vaegaze.faces.gaze import gaze_of
from vaegaze.faces.irises import matched_irises
from vaegaze.faces.reader import NO_LANDMARKS, find_face, head_at
from vaegaze.geometry.alignment import align_face, face_window
from vaegaze.geometry.camera import EYE_CENTRES_MM, Camera, rolled
from vaegaze.geometry.detail import find_moves
from vaegaze.geometry.eye_regions import mask_in_photo, pose_parsing, threshold, warp_mask
from vaegaze.geometry.irises import Iris
from vaegaze.geometry.pasting import match_surroundings, paste_in_mask
from vaegaze.geometry.transforms import from_crop, roll_of
from vaegaze.images.blobs import find_blobs, without_specks
from vaegaze.images.pictures import Picture, read_grey, read_picture
from vaegaze.images.video.still import frame_at

log = logging.getLogger(__name__)

NO_FACE_AT_MASK = (
    "⚠️ No face is seen whose eyes the mask covers, so the head is taken as facing the camera: is it the mask of this "
    "picture, and as upright?"
)
# Of what a drawing of the photo as it is gets wrong, so much is taken off other drawings: see docs/faces.md.
OWN_SHARE = 0.6
ALIKE_RAD = np.array([0.2, 0.4])  # of pitch and yaw, by which the share falls to 1 / e: lids move with the pitch
SPECK_OF_LARGEST = 0.01  # parts of the mask below this share of the largest are stray pixels, not eyes


@dataclass(frozen=True)
class Photo:
    """A photo, upright and at full size, and the one sample that it gives on the canvas."""

    samples: Samples  # N = 1; its gaze and head are the canvas's; gaze (0, 0) if nobody told it
    picture: np.ndarray  # (H, W, 3) uint8 RGB, transparent parts over white, as the model sees it
    original: np.ndarray  # (H, W, C) uint8, channels as in `pictures.Picture`: drawings are pasted into this
    mask: np.ndarray  # (H, W) bool, True on the eyes, without specks
    eyes: np.ndarray  # (2, 2) x, y of the eyes' centres, the picture's left one first
    to_canvas: np.ndarray  # (2, 3) similarity, photo pixel → canvas pixel
    gaze: np.ndarray | None  # (2,) float32 pitch, yaw in radians as seen in the upright picture; None if nobody told it
    head: np.ndarray  # (2,) float32 the same
    ignored_specks: int = 0  # stray parts dropped from the mask
    found_notes: tuple[str, ...] = ()  # on the picture, and on the face if it was found
    colour_profile: bytes | None = None  # ICC
    read_gaze: np.ndarray | None = None  # (2,) where landmarks see the eyes look, as seen in the upright picture

    @property
    def notes(self) -> list[str]:
        """One line for each thing that the user should know."""
        specks = [f"⚠️ Ignored {self.ignored_specks} specks of the mask"] if self.ignored_specks else []
        border = "⚠️ An eye lies at the picture's border or beyond it and is cut off: expect it to be misplaced"
        return [*specks, *self.found_notes, *([border] if self.eye_cut else [])]

    @property
    def eye_cut(self) -> bool:
        """Whether the picture ends within the mask, or within an eye, as `vaegaze prepare` judges it."""
        eyes = pose_parsing(self.samples.head[0], self.samples.canvas) > 0  # beyond the picture there is no mask
        at_border = self.mask[[0, -1]].any() or self.mask[:, [0, -1]].any()
        return bool(at_border or not self.samples.valid[0][eyes].all())

    @property
    def roll_rad(self) -> float:
        """How far the canvas turns the picture; `camera.rolled(direction, roll_rad)` turns a gaze along with it."""
        return roll_of(self.to_canvas)

    def around_face(self) -> "Photo":
        """The photo cropped to a square window around the face, as far as there is that much of it."""
        centre, side = face_window(self.to_canvas, self.samples.head[0], self.samples.canvas)
        available = np.array(self.mask.shape[::-1])
        width, height = np.minimum(math.ceil(side), available)
        left, top = np.clip(np.rint(centre - side / 2).astype(int), 0, available - (width, height))
        window = (slice(top, top + height), slice(left, left + width))
        return replace(
            self,
            picture=self.picture[window],
            original=self.original[window],
            mask=self.mask[window],
            eyes=self.eyes - (left, top),
            to_canvas=from_crop(self.to_canvas, left, top),
        )


def load_photo(
    image_path: str | Path,
    mask_path: str | Path | None,
    gaze,
    head,
    canvas: Camera,
    face: int | None = None,
    at_sec: float | None = None,
) -> Photo:
    """Reads a photo and its eye mask, and draws both on the canvas. With `at_sec` the photo is a video's frame.

    `gaze` and `head` are (pitch, yaw) in radians as seen in the upright picture. A `gaze` of None is not known; a
    `head` of None is read from the picture where landmarks are installed, and (0, 0) otherwise. Without a mask the eyes
    are found (of face number `face` if there are several), and their corners or the head pose give the mask.
    UserError when a file is missing or unreadable, when the mask is empty, of another size than the upright photo or
    not of two blobs, and when the eyes are not found.
    """
    if at_sec is None:
        picture = read_picture(image_path, "image")
    else:
        picture = Picture(frame_at(image_path, at_sec, "image"), None)
    rgb = picture.rgb()
    mask, corners, read_gaze, specks, notes = None, None, None, 0, ()
    if picture.first_of_several:
        notes += ("⚠️ It has several frames or pages: the first is used",)
    if mask_path is not None:
        mask, specks, eyes = _read_mask(mask_path, rgb.shape[:2])
        head = head_at(rgb, eyes) if head is None else head
        if head is None and networks.installed():
            notes += (NO_FACE_AT_MASK,)
    else:
        found = find_face(rgb, f"image: {image_path}", face)
        eyes, corners, notes = found.face.eyes, found.face.corners, (*notes, *found.notes)
        if found.face.irises is not None:
            read_gaze = gaze_of(eyes, found.face.irises, found.face.head)
        head = found.face.head if head is None else head
    if head is None and not networks.installed():
        notes += (NO_LANDMARKS,)
    gaze = None if gaze is None else np.asarray(gaze, dtype=np.float32)
    head = np.asarray((0, 0) if head is None else head, dtype=np.float32)
    aligned = align_face(rgb, eyes, head, canvas)
    log.debug("photo → canvas: %s, eyes at %s", aligned.to_canvas.tolist(), eyes.tolist())
    if mask is None:
        mask = mask_in_photo(rgb.shape[:2], aligned.to_canvas, aligned.head, canvas, corners)

    eye_mask = warp_mask(mask, aligned.to_canvas, canvas)
    if not eye_mask.any():
        if mask_path is None:
            raise UserError(f"image: {image_path} shows the eyes too small, or cut off; give a photo of the whole face")
        raise UserError(f"mask: {mask_path} has areas too small for the distance between them; cover both eyes whole")
    samples = Samples(
        images=aligned.image[None],
        eye_masks=eye_mask[None],
        valid=aligned.valid[None],
        gaze=rolled(np.zeros(2) if gaze is None else gaze, aligned.roll_rad).astype(np.float32)[None],
        head=aligned.head.astype(np.float32)[None],
        indices=np.zeros(1, dtype=np.int64),
        canvas=canvas,
    )
    original, profile = picture.pixels, picture.colour_profile
    return Photo(samples, rgb, original, mask, eyes, aligned.to_canvas, gaze, head, specks, notes, profile, read_gaze)


def photo_of_frame(samples: Samples) -> Photo:
    """A data set's one frame (N = 1), which lies on the canvas already, as a photo of the canvas's size."""
    image, mask = samples.images[0], samples.eye_masks[0] & samples.valid[0]
    eyes = samples.canvas.project(EYE_CENTRES_MM, samples.head[0])
    return Photo(samples, image, image, mask, eyes, np.eye(2, 3), samples.gaze[0], samples.head[0])


def eyes_text(photo: Photo) -> str:
    """Where the eyes are, in words."""
    return " and ".join(f"at ({x:.0f}, {y:.0f})" for x, y in photo.eyes)


def paste(
    photo: Photo,
    drawn: np.ndarray,
    *,
    detail: bool = True,
    irises: Sequence[tuple[Iris, Iris]] = (),
) -> np.ndarray:
    """A drawing on the canvas (H, W, 3) uint8 put back into the full photo, whose size and channels the result has.

    Only pixels inside the photo's mask change, with a soft edge inside it; transparency stays. With `detail`,
    what the drawing lacks comes from the photo, where that shows the same; and so do `irises`, see `own_irises`.
    """
    samples, canvas = photo.samples, photo.samples.canvas
    matching = _matching(photo, drawn)
    if not detail:
        return paste_in_mask(photo.original, photo.mask, matching, photo.to_canvas, canvas)
    moves = find_moves(samples.images[0], matching, samples.eye_masks[0], canvas)
    return paste_in_mask(photo.original, photo.mask, matching, photo.to_canvas, canvas, moves, irises)


def without_own_error(photo: Photo, drawn: np.ndarray, gazes: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Drawings on the canvas (K, H, W, 3) uint8, of gazes (K, 2) as seen in the photo, less what the model gets wrong.

    That shows in `own` (H, W, 3), its drawing of where the photo looks, which must be known. Lids, lashes and white
    that are wrong there are so at other gazes, too, and the more, the nearer these are.
    """
    error = own.astype(np.float32) - photo.samples.images[0]
    off = (np.asarray(gazes) - photo.gaze) / ALIKE_RAD
    share = OWN_SHARE * np.exp(-(off**2).sum(axis=-1)).astype(np.float32)
    return np.rint((drawn - share[:, None, None, None] * error).clip(0, 255)).astype(np.uint8)


def own_irises(photo: Photo, drawn: np.ndarray, gaze: np.ndarray) -> list[tuple[Iris, Iris]]:
    """Both of the photo's irises and where they are in a drawing; empty where they cannot be put there.

    `gaze` (2,) is the drawn one, as seen in the upright picture.
    """
    samples, on_canvas = photo.samples, rolled(gaze, photo.roll_rad)
    own_gaze = None if photo.gaze is None else samples.gaze[0]
    matching = _matching(photo, drawn)
    return matched_irises(samples.images[0], matching, samples.head[0], on_canvas, samples.canvas, own_gaze)


def _matching(photo: Photo, drawn: np.ndarray) -> np.ndarray:
    samples = photo.samples
    return match_surroundings(drawn[None], samples.images, samples.eye_masks, samples.valid, samples.canvas)[0]


def _read_mask(mask_path: str | Path, shape: tuple[int, int]) -> tuple[np.ndarray, int, np.ndarray]:
    """The mask (H, W) bool without specks, their number, and the eyes' centres (2, 2), the picture's left one first."""
    mask = threshold(read_grey(mask_path, "mask"))
    if mask.shape != shape:
        raise UserError(
            f"mask: {mask_path} has {mask.shape[1]}×{mask.shape[0]} pixels, but the upright photo has "
            f"{shape[1]}×{shape[0]}; draw the mask on the photo at its full size"
        )
    if not mask.any():
        raise UserError(f"mask: {mask_path} is empty; paint both eyes white (128 or more) on black")
    areas, centres = find_blobs(mask)
    min_area = SPECK_OF_LARGEST * areas[0]
    blobs = int((areas >= min_area).sum())
    if blobs != 2:
        raise UserError(
            f"mask: {mask_path} has {blobs} separate white area{'s' if blobs > 1 else ''}; exactly two are needed, "
            "one on each eye"
        )
    if np.linalg.norm(centres[0] - centres[1]) < math.sqrt(areas[0]) / 2:  # a ring around a dot, say
        raise UserError(f"mask: {mask_path} has two white areas about the same centre; paint one on each eye")
    left_first = np.argsort(centres[:2, 0])
    return without_specks(mask, min_area), len(areas) - blobs, centres[left_first]
