"""A face in detail, by MediaPipe's networks: mesh (Kartynnik et al. 2019) and irises (Ablavatski et al. 2020)."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from vaegaze.faces.cascades import opencv
from vaegaze.faces.detector import SAME_FACE_OVERLAP, SURE, Region, find_regions, overlap
from vaegaze.faces.face import Face
from vaegaze.faces.networks import network
from vaegaze.faces.pose import head_pose
from vaegaze.geometry.camera import EYE_CENTRES_MM, EYE_CORNERS_MM
from vaegaze.geometry.transforms import from_crop, glimpse, inverse, move, scale_of

MIN_CONFIDENCE = 0.5  # of the mesh network, that it sees a face
FACE_MARGIN = 1.5  # side of the square that the mesh network sees / longer side of the mesh
WIDER = 1.24  # side of another square, in which the head's pose is read once more / of that one
# By which a reading in it is off, beyond `pose.PITCH_RAD`: so that the mean of all is right; by benchmarks/faces.py.
WIDER_PITCH_RAD = np.radians(3.7)
EYE_MARGIN = 2.3  # side of the square that the iris network sees / distance of the eye's corners
EYE_CORNERS = ((33, 133), (263, 362))  # of the mesh: the outer and inner corner of the picture's left eye, of the right
LID_POINTS = 16  # the first points of the iris network: outer corner, 7 below, inner corner, 7 above
CORNERS = (0, 8)  # of these: the outer and the inner one
BELOW, ABOVE = (3, 4, 5), (11, 12, 13)  # opposite each other, in the middle of the lids
# The network's corners lie a little further in and down than those of `geometry.camera`, in distances of the eyes;
# measured by benchmarks/faces.py.
OUTWARDS, UPWARDS = 0.038, 0.017
OPEN_GAP = 0.385  # gap of the lids / width of the eye, of eyes wide open: openness 1
# Mean openness of both eyes. Of 274 faces in photographs ten lay below: six look down or are shut, four are small and
# blurred. Of the shut pairs that benchmarks/faces.py draws two in three do, of the others none. See docs/faces.md.
CLOSED_BELOW = 0.4
EYE_DISTANCE_MM = float(np.linalg.norm(EYE_CENTRES_MM[1] - EYE_CENTRES_MM[0]))
EYE_WIDTH_MM = float(np.linalg.norm(EYE_CORNERS_MM[0, 0] - EYE_CORNERS_MM[0, 1]))


def read_faces(
    picture: np.ndarray, thorough: bool = True, of_video: bool = False
) -> tuple[list[Face], list[np.ndarray]]:
    """The faces in a picture (H, W, 3) uint8, from left to right; the places (2,) of faces that could not be read.

    See `find_regions` for `thorough`, `read_region` for `of_video`.
    """
    found: list[tuple[Region, Face]] = []
    unread: list[Region] = []
    for region in find_regions(picture, thorough):
        read = read_region(picture, region, of_video=of_video)
        if read is None:
            unread.append(region)
        elif all(overlap(read[0], other) < SAME_FACE_OVERLAP for other, _ in found):
            found.append(read)
    faces = sorted((face for _, face in found), key=lambda face: tuple(face.eyes.mean(axis=0)))
    partly = [each for each in unread if each.score >= SURE and all(overlap(each, other) == 0 for other, _ in found)]
    return faces, [each.centre for each in partly]


def read_region(
    picture: np.ndarray, region: Region, rounds: int = 3, of_video: bool = False
) -> tuple[Region, Face] | None:
    """The face in a square of a picture, and the square around its mesh; None if there is no face.

    Each round looks at the square around the mesh that the one before found. The head's pose is the mean of several
    readings; in frames `of_video`, which follow each other, one for each.
    """
    for _ in range(rounds):
        mesh, confidence = _mesh(picture, region)
        if confidence < MIN_CONFIDENCE:
            return None
        region = _region_of(mesh, confidence)
    head, roll_rad, px_per_mm = head_pose(mesh)
    if not of_video:
        head = np.mean([head, *_other_readings(picture, region)], axis=0)
    ends = mesh[np.array(EYE_CORNERS), :2]
    lids, irises = zip(*(_eye(picture, *ends[eye], eye, roll_rad) for eye in range(2)))
    lids, irises = np.stack(lids), np.stack(irises)
    corners = lids[:, CORNERS]  # (2, 2, 2)
    openness = _openness(lids, px_per_mm)
    outline = opencv().convexHull(mesh[:, :2].astype(np.float32))[:, 0]
    return region, Face(_centred(corners.mean(axis=1)), openness, confidence, head, corners, lids, irises, outline)


def read_eyes(picture: np.ndarray, eyes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The irises (2, 3), the lids (2, 16, 2) and the openness (2,) of eyes whose centres (2, 2) are known."""
    across = eyes[1] - eyes[0]
    roll_rad, px_per_mm = float(np.arctan2(across[1], across[0])), float(np.linalg.norm(across)) / EYE_DISTANCE_MM
    half = across * EYE_WIDTH_MM / EYE_DISTANCE_MM / 2
    lids, irises = zip(*(_eye(picture, centre - half, centre + half, eye, roll_rad) for eye, centre in enumerate(eyes)))
    return np.stack(irises), np.stack(lids), _openness(np.stack(lids), px_per_mm)


def _openness(lids: np.ndarray, px_per_mm: float) -> np.ndarray:
    gaps_px = np.linalg.norm(lids[:, ABOVE] - lids[:, BELOW], axis=-1).mean(axis=-1)
    return gaps_px / (OPEN_GAP * px_per_mm * EYE_WIDTH_MM)


def _mesh(picture: np.ndarray, region: Region) -> tuple[np.ndarray, float]:
    """The mesh (468, 3) in the picture's pixels, z from the face's middle away from the camera, and its confidence."""
    seen_by = network("face_landmark")
    square, to_square = _square(picture, region, seen_by.size_px)
    points, logit = seen_by(square)
    points = points.reshape(468, 3).astype(np.float64)
    in_picture = move(inverse(to_square), points[:, :2])
    depth = points[:, 2:] / scale_of(to_square)
    return np.hstack([in_picture, depth]), float(1 / (1 + np.exp(-np.clip(logit.item(), -80, 80))))


def _other_readings(picture: np.ndarray, region: Region) -> Iterator[np.ndarray]:
    """The head (2,) as read in a mirror and in a wider square: what the network gets wrong differs between them."""
    mirror, in_mirror = picture[:, ::-1], (picture.shape[1] - region.centre[0], region.centre[1])
    turned = replace(region, centre=np.array(in_mirror), roll_rad=-region.roll_rad)
    for seen, square, wider, sign in (
        (picture, region, True, 1),
        (mirror, turned, False, -1),
        (mirror, turned, True, -1),
    ):
        square = replace(square, side_px=WIDER * square.side_px) if wider else square
        mesh, confidence = _mesh(seen, square)
        if confidence >= MIN_CONFIDENCE:
            pitch, yaw = head_pose(mesh)[0]
            yield np.array([pitch - wider * WIDER_PITCH_RAD, sign * yaw])


def _region_of(mesh: np.ndarray, confidence: float) -> Region:
    across = mesh[263, :2] - mesh[33, :2]
    roll_rad = float(np.arctan2(across[1], across[0]))
    cos, sin = np.cos(roll_rad), np.sin(roll_rad)
    upright = mesh[:, :2] @ np.array([[cos, -sin], [sin, cos]])
    low, high = upright.min(axis=0), upright.max(axis=0)
    centre = np.array([[cos, -sin], [sin, cos]]) @ ((low + high) / 2)
    return Region(centre, FACE_MARGIN * float((high - low).max()), roll_rad, confidence)


def _centred(middles: np.ndarray) -> np.ndarray:
    """The eyes (2, 2) as `geometry.camera` has them, from the middles of the network's corners."""
    across = middles[1] - middles[0]
    up = np.array([across[1], -across[0]])
    return middles + OUTWARDS * across * np.array([[-1], [1]]) + UPWARDS * up


def _eye(
    picture: np.ndarray, outer: np.ndarray, inner: np.ndarray, eye: int, roll_rad: float
) -> tuple[np.ndarray, np.ndarray]:
    """The lids (16, 2) and the iris (3,) of one eye with about these corners (2,).

    The network knows the picture's left eye; the other is mirrored.
    """
    seen_by = network("iris_landmark")
    region = Region((outer + inner) / 2, EYE_MARGIN * float(np.linalg.norm(outer - inner)), roll_rad)
    square, to_square = _square(picture, region, seen_by.size_px)
    if eye == 1:
        square = square[:, ::-1]
    lids, iris = (points.reshape(-1, 3)[:, :2].astype(np.float64) for points in seen_by(square))
    if eye == 1:
        lids, iris = (np.column_stack([seen_by.size_px - points[:, 0], points[:, 1]]) for points in (lids, iris))
    lids, iris = (move(inverse(to_square), points) for points in (lids[:LID_POINTS], iris))
    radius_px = np.linalg.norm(iris[1:] - iris[0], axis=1).mean()
    return lids, np.array([*iris[0], radius_px])


def _square(picture: np.ndarray, region: Region, size_px: int) -> tuple[np.ndarray, np.ndarray]:
    """The upright square (S, S, 3) uint8 and the transform (2, 3) of the picture onto it."""
    to_square = region.to_square(size_px)
    reach = region.side_px * 0.75  # more than half the diagonal
    last = np.array(picture.shape[1::-1])
    left, top = np.clip(np.floor(region.centre - reach), 0, last - 1).astype(int)
    right, bottom = np.clip(np.ceil(region.centre + reach), (left + 1, top + 1), last).astype(int)
    part = np.ascontiguousarray(picture[top:bottom, left:right])
    return glimpse(part, from_crop(to_square, left, top), size_px, size_px), to_square
