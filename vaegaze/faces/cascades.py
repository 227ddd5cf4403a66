"""Where the eyes of a face are in a picture, by OpenCV's Haar cascades (Viola & Jones 2001), which its package ships.

They find faces seen from the front, then eyes in them. A face counts only if two of its eyes make a plausible pair:
that rules out patterns in the wall.
"""

import logging
import math
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from vaegaze.config.finetune import VISION_HINT
from vaegaze.errors import UserError
from vaegaze.faces.face import Face, around
from vaegaze.faces.openness import eye_openness
from vaegaze.geometry.transforms import chain, inverse, move, scale_of, similarity

log = logging.getLogger(__name__)

FACE_CASCADES = (
    "haarcascade_frontalface_alt2.xml",
    "haarcascade_frontalface_default.xml",
)  # the more reliable one first
EYE_CASCADES = ("haarcascade_eye_tree_eyeglasses.xml", "haarcascade_eye.xml")  # the better centred one first
PICTURE_PX, LEAST_FACE_PX = 1024, 40  # longer side of the picture searched, and the least width of a face in it
FACE_PX, LEAST_EYE_PX = 240, 24  # width at which a face is searched for eyes, and the least width of an eye in it
UPPER_PART = 0.62  # of a face's height, which holds the eyes
VIEW_PX = (228, 124)  # width and height of the view in which known eyes are found again, with a face FACE_PX wide
KNOWN_EYE_PX = (38, 92)  # of the eyes' squares in that view, the least and the most
REACH_FOR_VIEW = 0.6  # around the eyes, in eye distances: more than the view shows
CENTRE_OF_PIXEL = np.array([[0, 0, 0.5], [0, 0, 0.5]])
SAME_FACE = 0.3  # in eye distances: how far from the expected place eyes may be found
FACE_NEIGHBOURS, EYE_NEIGHBOURS = 4, 3  # overlapping detections that confirm a face, an eye

# A pair of eyes, in face widths: the usual values, and how far from them a pair is still accepted.
USUAL_DISTANCE, DISTANCE_RATIO = 0.46, 1.42
USUAL_SIZE, SIZE_RATIO = 0.54, 1.45  # of an eye's square / eye distance
USUAL_MIDDLE, MIDDLE_OFF = np.array([0.5, 0.37]), 0.12
MUCH_SMALLER = 0.35  # of the largest face's width: a smaller one needs both face cascades
MAX_SLOPE = 0.27  # of the line through both eyes: 15°; a head tilted farther is rarely found at all

_of_thread = threading.local()  # a cascade searches one picture at a time


@dataclass(frozen=True, eq=False)
class _Face:
    left: float  # of the face's square, in pixels of the photo
    top: float
    width: float
    eyes: np.ndarray | None  # (2, 2) x, y of their centres, the picture's left one first; None without a plausible pair


def read_faces(picture: np.ndarray) -> tuple[list[Face], list[np.ndarray]]:
    """The faces with eyes in a picture (H, W, 3) uint8, from left to right; the places (2,) of faces without."""
    with_eyes, seen = _faces_with_eyes(picture)
    faces = [Face(each.eyes, eye_openness(picture, each.eyes), 1.0) for each in with_eyes]
    partly = [each for each in sorted(seen, key=lambda each: -each.width) if each.eyes is None]
    places = [np.array([each.left + each.width / 2, each.top + each.width / 2]) for each in partly]
    near = [face.eyes.mean(axis=0) for face in faces]
    return faces, [
        place
        for place, each in zip(places, partly)
        if all(np.linalg.norm(place - other) > each.width for other in near)
    ]


def eyes_about(picture: np.ndarray, expected: np.ndarray) -> np.ndarray | None:
    """The eyes (2, 2) of a face whose eyes are `expected` (2, 2) to be nearby; None if they are not seen there.

    The picture (H, W, 3) uint8 is first turned and scaled to the expected face, so that the time does not depend on its
    size, and a tilted head is found as well.
    """
    cv2 = opencv()
    corner, near = around(picture, expected, REACH_FOR_VIEW)
    half = np.array([USUAL_DISTANCE * FACE_PX / 2, 0])
    middle = np.array(VIEW_PX) / 2
    scale = min(1.0, scale_of(similarity(expected, np.array([middle - half, middle + half]))))
    size = [max(1, round(side * scale)) for side in near.shape[1::-1]]
    grey = cv2.cvtColor(np.ascontiguousarray(near), cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)  # avoids aliasing; the view is no smaller
    shrunk = np.array(size) / near.shape[1::-1]
    to_view = similarity((expected - corner) * shrunk, np.array([middle - half, middle + half]))
    centred = chain(
        chain(np.eye(2, 3) + CENTRE_OF_PIXEL, to_view), np.eye(2, 3) - CENTRE_OF_PIXEL
    )  # OpenCV counts from pixel centres
    view = cv2.warpAffine(small, centred, VIEW_PX, borderMode=cv2.BORDER_REPLICATE)
    corner_of_face = middle - FACE_PX * USUAL_MIDDLE
    for cascade in EYE_CASCADES:
        squares = np.array(_detect(cv2, view, cascade, *KNOWN_EYE_PX, EYE_NEIGHBOURS, 1.1)).reshape(-1, 3)
        pairs = plausible_pairs((squares - np.array([*corner_of_face, 0])) / FACE_PX)
        if pairs:
            eyes = move(inverse(to_view), pairs[0] * FACE_PX + corner_of_face) / shrunk + corner
            near_px = SAME_FACE * np.linalg.norm(expected[1] - expected[0])
            return eyes if np.linalg.norm(eyes - expected, axis=1).max() < near_px else None
    return None


def _faces_with_eyes(picture: np.ndarray) -> tuple[list[_Face], list[_Face]]:
    """The faces with eyes, from left to right; and everything that looks like a face."""
    cv2 = opencv()
    grey = np.asarray(Image.fromarray(picture).convert("L"))
    seen: list[_Face] = []
    for face_cascade in FACE_CASCADES:
        faces = [_find_eyes_in(cv2, grey, box) for box in _faces(cv2, grey, face_cascade)]
        log.debug("%s sees %s", face_cascade, faces)
        seen = seen or faces
        with_eyes = _without_doubles([each for each in faces if each.eyes is not None])
        if with_eyes:
            break
    return _without_false(cv2, grey, with_eyes, face_cascade), seen


def _without_false(cv2, grey: np.ndarray, faces: list[_Face], seen_by: str) -> list[_Face]:
    """The faces without those much smaller than the largest which the other cascade does not see."""
    small = [face for face in faces if face.width < MUCH_SMALLER * max(each.width for each in faces)]
    if not small:
        return faces
    (other,) = (cascade for cascade in FACE_CASCADES if cascade != seen_by)
    middles = [np.array([x + w / 2, y + w / 2]) for x, y, w in _faces(cv2, grey, other)]

    def confirmed(face: _Face) -> bool:
        middle = np.array([face.left, face.top]) + face.width / 2
        return any(np.linalg.norm(middle - each) < face.width / 2 for each in middles)

    return [face for face in faces if face not in small or confirmed(face)]


def opencv(about: str = ""):
    """The package cv2 with its cascades. UserError, `about` that, if either is missing."""
    try:
        import cv2

        cascades = Path(cv2.data.haarcascades)
    except (ImportError, AttributeError) as error:
        raise UserError(f"finding the eyes in a picture needs OpenCV: {VISION_HINT}", about=about) from error
    missing = [name for name in (*FACE_CASCADES, *EYE_CASCADES) if not (cascades / name).is_file()]
    if missing or not hasattr(cv2, "CascadeClassifier"):
        raise UserError(f"OpenCV {cv2.__version__} has no cascades any more: {VISION_HINT}", about=about)
    return cv2


def _faces(cv2, grey: np.ndarray, cascade: str) -> list[tuple[float, float, float]]:
    """Left, top and width of each face's square in a picture (H, W) uint8, from left to right."""
    scale = min(1.0, PICTURE_PX / max(grey.shape))
    size = [max(1, round(side * scale)) for side in grey.shape[::-1]]
    small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA) if scale < 1 else grey
    return [
        (x / scale, y / scale, w / scale)
        for x, y, w in _detect(cv2, small, cascade, LEAST_FACE_PX, PICTURE_PX, FACE_NEIGHBOURS)
    ]


def _find_eyes_in(cv2, grey: np.ndarray, box: tuple[float, float, float]) -> _Face:
    """The face in this box, with its eyes if its upper part shows a plausible pair."""
    left, top, width = box
    x, y = math.floor(left), math.floor(top)
    upper = grey[y : math.ceil(top + UPPER_PART * width), x : math.ceil(left + width)]
    scale = FACE_PX / upper.shape[1]
    size = (FACE_PX, max(1, round(upper.shape[0] * scale)))
    upper = cv2.resize(upper, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    for cascade in EYE_CASCADES:
        squares = np.array(_detect(cv2, upper, cascade, LEAST_EYE_PX, FACE_PX, EYE_NEIGHBOURS)).reshape(-1, 3)
        pairs = plausible_pairs(squares / FACE_PX)
        if pairs:
            return _Face(left, top, width, pairs[0] * FACE_PX / scale + (x, y))
    return _Face(left, top, width, None)


def plausible_pairs(squares: np.ndarray) -> list[np.ndarray]:
    """The pairs that could be a face's eyes, most plausible first: centres (2, 2) = x, y, the left one first.

    `squares` (K, 3) = left, top, width of possible eyes, in face widths from the face's upper left corner.
    """
    centres, widths = squares[:, :2] + squares[:, 2:] / 2, squares[:, 2]
    found = []
    for i, left in enumerate(centres):
        for j, right in enumerate(centres):
            across, down = right - left
            if across <= 0 or abs(down) > MAX_SLOPE * across:
                continue
            distance = math.hypot(across, down)
            distance_off = math.log(distance / USUAL_DISTANCE) / math.log(DISTANCE_RATIO)
            sizes_off = np.log(widths[[i, j]] / distance / USUAL_SIZE) / math.log(SIZE_RATIO)
            middle_off = ((left + right) / 2 - USUAL_MIDDLE) / MIDDLE_OFF
            off = np.array([distance_off, *sizes_off, *middle_off])
            if (abs(off) <= 1).all():
                found.append((float((off**2).sum()), i, j))
    return [centres[[i, j]] for _, i, j in sorted(found)]


def _detect(
    cv2, grey: np.ndarray, cascade: str, least_px: int, most_px: int, neighbours: int, step: float = 1.05
) -> list[tuple[int, int, int]]:
    """Left, top and width of every square in which the cascade detects its object, sorted."""
    loaded = vars(_of_thread)
    if cascade not in loaded:
        loaded[cascade] = cv2.CascadeClassifier(str(Path(cv2.data.haarcascades) / cascade))
    limits = {"minSize": (least_px, least_px), "maxSize": (most_px, most_px)}
    found = loaded[cascade].detectMultiScale(grey, step, neighbours, **limits)
    return sorted((int(x), int(y), int(width)) for x, y, width, _ in found)


def _without_doubles(faces: list[_Face]) -> list[_Face]:
    """The faces from left to right, each pair of eyes once."""
    kept: list[_Face] = []
    for face in faces:
        distance = np.linalg.norm(face.eyes[1] - face.eyes[0])
        if all(np.linalg.norm(other.eyes.mean(axis=0) - face.eyes.mean(axis=0)) > distance for other in kept):
            kept.append(face)
    return sorted(kept, key=lambda face: tuple(face.eyes.mean(axis=0)))
