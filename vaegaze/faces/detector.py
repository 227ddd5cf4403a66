"""Where faces may be in a picture: BlazeFace (Bazarevsky et al. 2019), as MediaPipe trained it."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from vaegaze.faces.networks import network
from vaegaze.geometry.transforms import similarity

MIN_SCORE, SAME_FACE_OVERLAP = 0.5, 0.3
SURE = 0.75  # score from which a face is there, even if it cannot be read
STRIDES = {"face_detection_short_range": (8, 16, 16, 16), "face_detection_full_range": (4,)}
ANCHORS_PER_LAYER = {"face_detection_short_range": 2, "face_detection_full_range": 1}
TILE_PX, TILE_OVERLAP = (240, 768), 0.25  # a picture is also searched tile by tile; the least side, by its size
TILE_OF_LARGEST = 2.0  # side of the least tile / side of the largest face's square
MESH_MARGIN = 1.5  # side of the square that the mesh network sees / that of the face's box


@dataclass(frozen=True)
class Region:
    """A square of a picture, turned with the face."""

    centre: np.ndarray  # (2,) x, y
    side_px: float
    roll_rad: float  # of the line from the picture's left eye to its right one, from x towards y
    score: float = 1.0

    def to_square(self, size_px: int) -> np.ndarray:
        """The similarity (2, 3), picture → the upright square of this size."""
        half = self.side_px / 2 * np.array([np.cos(self.roll_rad), np.sin(self.roll_rad)])
        return similarity(
            np.array([self.centre - half, self.centre + half]), np.array([[0, size_px / 2], [size_px, size_px / 2]])
        )


def find_regions(picture: np.ndarray, thorough: bool = True) -> list[Region]:
    """Squares about whatever looks like a face in a picture (H, W, 3) uint8, the surest first.

    `thorough` also searches tile by tile, for small faces, and turned by quarters if nothing is found. Tiles that would
    hardly hold the largest face are left out: beside it small ones are in the background, or none.
    """
    found = _search(picture, 0, 0)
    if thorough:
        least_px = TILE_OF_LARGEST * max((region.side_px for region in found if region.score >= SURE), default=0)
        for left, top, side in _tiles(picture.shape):
            if side >= least_px:
                found += _search(picture[top : top + side, left : left + side], left, top)
        if not found:
            found = _search_turned(picture)
    return _without_doubles(found)


def _search(picture: np.ndarray, left: int, top: int) -> list[Region]:
    return [region for name in STRIDES for region in _detect(picture, name, left, top)]


def _search_turned(picture: np.ndarray) -> list[Region]:
    """As in a picture that lies on its side or stands on its head."""
    height, width = picture.shape[:2]
    found = []
    for quarters in (1, 2, 3):  # np.rot90 turns against the clock
        turned = np.ascontiguousarray(np.rot90(picture, quarters))
        corner = {1: (width, 0), 2: (width, height), 3: (0, height)}[quarters]  # where the turned picture's origin lies
        angle = quarters * np.pi / 2  # clockwise, turned → upright picture
        cos, sin = round(np.cos(angle)), round(np.sin(angle))
        turn = np.array([[cos, -sin], [sin, cos]])
        for region in _search(turned, 0, 0):
            found.append(Region(turn @ region.centre + corner, region.side_px, region.roll_rad + angle, region.score))
    return found


def _detect(picture: np.ndarray, name: str, left: int, top: int) -> list[Region]:
    """The faces that one network sees in a picture whose corner lies at `left`, `top` of the whole."""
    detector = network(name)
    height, width = picture.shape[:2]
    longer = max(height, width)
    size = [max(1, round(side * detector.size_px / longer)) for side in (width, height)]
    square = np.zeros((detector.size_px, detector.size_px, 3), np.uint8)
    square[: size[1], : size[0]] = Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    boxes, scores = detector(square, low=-1.0)  # (A, 16): centre, size, six points; (A, 1)
    scores = 1 / (1 + np.exp(-np.clip(scores[:, 0], -80, 80)))
    sure = scores > MIN_SCORE
    points = boxes[sure].reshape(-1, 8, 2) / detector.size_px  # of the square
    anchors = _anchors(name, detector.size_px)[sure]
    points[:, [0, 2, 3, 4, 5, 6, 7]] += anchors[:, None]
    points *= longer
    found, corner = [], np.array([left, top])
    for (centre, box, one_eye, other_eye, *_), score in zip(points.astype(np.float64), scores[sure]):
        across = other_eye - one_eye
        roll_rad = float(np.arctan2(across[1], across[0]))
        found.append(Region(centre + corner, MESH_MARGIN * max(box), roll_rad, float(score)))
    return found


def _anchors(name: str, size_px: int) -> np.ndarray:
    """(A, 2): where the network's cells lie, x and y in 0..1."""
    anchors = []
    for stride in STRIDES[name]:
        cells = size_px // stride
        ys, xs = np.mgrid[:cells, :cells]
        grid = (np.stack([xs, ys], axis=-1).reshape(-1, 2) + 0.5) / cells
        anchors.append((stride, grid))
    per_cell = ANCHORS_PER_LAYER[name]
    merged = []  # layers of one stride share their cells
    for stride in dict.fromkeys(STRIDES[name]):
        grids = [grid for each, grid in anchors if each == stride]
        merged.append(np.repeat(grids[0], per_cell * len(grids), axis=0))
    return np.concatenate(merged)


def _tiles(shape: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """Left, top and side of overlapping squares, each half as large as the ones before, down to about a quarter."""
    height, width = shape[:2]
    tiles, side = [], max(height, width) // 2
    least = np.clip(max(height, width) // 4, *TILE_PX)
    while side >= least:
        steps = [
            np.linspace(0, max(0, length - side), 1 + int(np.ceil(max(0, length - side) / ((1 - TILE_OVERLAP) * side))))
            for length in (height, width)
        ]
        tiles += [(int(left), int(top), side) for top in steps[0] for left in steps[1]]
        side //= 2
    return tiles


def _without_doubles(regions: list[Region]) -> list[Region]:
    kept: list[Region] = []
    for region in sorted(regions, key=lambda region: -region.score):
        if all(overlap(region, other) < SAME_FACE_OVERLAP for other in kept):
            kept.append(region)
    return kept


def overlap(one: Region, other: Region) -> float:
    """The squares' intersection / their union, as if they were upright."""
    sides = np.minimum(one.centre + one.side_px / 2, other.centre + other.side_px / 2)
    sides = sides - np.maximum(one.centre - one.side_px / 2, other.centre - other.side_px / 2)
    common = np.prod(np.maximum(sides, 0))
    return float(common / (one.side_px**2 + other.side_px**2 - common))
