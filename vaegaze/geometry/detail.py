"""Detail that a drawing lacks, taken from the photo it goes into: skin, lashes, rims of glasses, an iris's texture.

A drawing is softer than the photo around it. So the photo is softened alike and moved across the drawing; where it then
looks like the drawing, what the softening took is added, moved likewise. Few moves serve a whole eye: none for skin,
the iris's, the lids' (statistics of patch offsets: He and Sun, ECCV 2012). Where no move fits, as where the old iris
was, the drawing stays as it is.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vaegaze.geometry.camera import Camera
from vaegaze.geometry.transforms import chain, move, to_crop, warp

# In halves of the distance between a frontal eye's corners:
REACH = (0.75, 0.5)  # farthest move, across and down
PATCH, SPOT = 0.18, 0.08  # sigma of the patches by which moves are chosen, and by which their detail is trusted
BLEND = 0.06  # sigma of the change from one move to another
MOVES = 7  # of an eye, at most
STEP_PX = 2  # of the first search, on the canvas
SOFTEST_PX = 3.0  # sigma
# In levels squared, mean of the colours:
ALIKE, ALIKE_SHARE = 100.0, 0.1  # the difference at which a third of the detail is added: this, and of the variance
BRIGHTNESS = 0.15  # weight of a difference that is the same all over a patch: the drawing's light need not agree
STAY = 2.0  # how much better a move must fit than none, for each e-fold of its length
CLEAR = 13.0  # difference at which the second-best move has a third of the best one's weight


@dataclass(frozen=True)
class Moves:
    """Where on the canvas (H, W) each part of the drawing has its detail from."""

    soft: np.ndarray  # (H, W, 3) uint8: the photo, as soft as the drawing
    moves: np.ndarray  # (K, 2) x, y on the canvas
    weights: np.ndarray  # (K, H, W) float32, together at most 1


def find_moves(picture: np.ndarray, drawn: np.ndarray, mask: np.ndarray, canvas: Camera) -> list[Moves]:
    """For each eye of a picture on the canvas (H, W, 3) uint8 and a drawing of the same place; `mask` (H, W) bool."""
    found, radius = [], canvas.eye_radius_px
    for window in _eye_windows(mask):
        true, drawing = (_planes(each[window]) for each in (picture, drawn))
        soft = _as_soft_as(true, drawing, mask[window])
        moves, weights = _weighed(soft, drawing, mask[window], radius)
        whole, placed = picture.copy(), np.zeros((len(moves), *canvas.shape), np.float32)
        whole[window] = np.rint(np.moveaxis(soft, 0, -1)).clip(0, 255)
        placed[(slice(None), *window)] = weights
        found.append(Moves(whole, moves, placed))
    return found


def with_detail(drawn: np.ndarray, photo: np.ndarray, to_photo: np.ndarray, eyes: list[Moves]) -> np.ndarray:
    """A drawing (H, W, 3) uint8 that lies on a photo of the same size, with the photo's detail.

    `to_photo` (2, 3) is the similarity from the canvas. Of the colours' broad differences the photo's tint is taken,
    too, which gives an iris its own; the brightness stays the drawing's.
    """
    added, linear = np.zeros(drawn.shape, np.float32), to_photo[:, :2]
    for eye in eyes:
        window = _seen(eye.weights.max(axis=0), to_photo, drawn.shape[:2])
        if window is None:
            continue
        (top, left), here, shape = (part.start for part in window), drawn[window], drawn[window].shape[:2]
        to_window = to_crop(to_photo, left, top)
        for step, weight in zip(eye.moves, eye.weights):
            there = np.column_stack([np.eye(2), linear @ step])
            detailed = warp(photo[window], there, *shape)[0].astype(np.float32)
            soft = warp(eye.soft, chain(to_window, there), *shape)[0].astype(np.float32)
            tint = soft - here
            tint -= tint.mean(axis=-1, keepdims=True)
            share = warp(np.rint(255 * weight).astype(np.uint8), to_window, *shape)[0][..., None] / np.float32(255)
            added[window] += share * (detailed - soft + tint)
    return np.rint((drawn + added).clip(0, 255)).astype(np.uint8)


def _seen(weights: np.ndarray, to_photo: np.ndarray, shape: tuple[int, int]) -> tuple[slice, slice] | None:
    """The rows and columns of a photo (H, W) where weights on the canvas count; None if there are none."""
    rows, columns = (np.flatnonzero(weights.max(axis=axis) > 0.5 / 255) for axis in (1, 0))
    if not len(rows):
        return None
    ends = np.array([(x, y) for x in (columns[0], columns[-1] + 1) for y in (rows[0], rows[-1] + 1)])
    places = move(to_photo, ends)
    left, top = np.clip(np.floor(places.min(axis=0)).astype(int), 0, shape[::-1])
    right, bottom = np.clip(np.ceil(places.max(axis=0)).astype(int), 0, shape[::-1])
    return (slice(top, bottom), slice(left, right)) if top < bottom and left < right else None


def _weighed(soft: np.ndarray, drawn: np.ndarray, mask: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """The moves (K, 2) that serve an eye best, and their weights (K, h, w)."""
    moves = _few_moves(soft.mean(axis=0)[None], drawn.mean(axis=0)[None], mask, radius)
    costs = _costs(_unlike(soft, drawn, moves, radius), moves)
    weights = np.exp((costs.min(axis=0) - costs) / CLEAR)
    weights = _blurred(weights / weights.sum(axis=0), BLEND * radius)
    unlike = _unlike(soft, drawn, moves, radius, SPOT)
    contrast = _blurred(drawn**2, PATCH * radius) - _blurred(drawn, PATCH * radius) ** 2
    return moves, weights * np.exp(-unlike / (ALIKE + ALIKE_SHARE * contrast.mean(axis=0)))


def _few_moves(soft: np.ndarray, drawn: np.ndarray, mask: np.ndarray, radius: float) -> np.ndarray:
    """None, and those by which the most of what stands out in a grey drawing (1, h, w) has its best fit: (K, 2)."""
    across, down = (np.arange(-(far // STEP_PX), far // STEP_PX + 1) * STEP_PX for far in _reach(radius))
    grid = np.stack(np.meshgrid(across, down), axis=-1)  # (rows, columns, 2)
    moves = grid.reshape(-1, 2)
    best = _costs(_unlike(soft, drawn, moves, radius), moves).argmin(axis=0)
    salience = np.hypot(*np.gradient(drawn[0])) * mask
    votes = np.bincount(best.ravel(), weights=salience.ravel(), minlength=len(moves))
    votes = _blurred(votes.reshape(grid.shape[:2]).astype(np.float32), 0.5)
    chosen, row, column = [(0, 0)], len(down) // 2, len(across) // 2
    for _ in range(MOVES - 1):
        votes[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2] = 0
        row, column = np.unravel_index(votes.argmax(), votes.shape)
        near = grid[row, column] + np.stack(np.meshgrid((-1, 0, 1), (-1, 0, 1)), axis=-1).reshape(-1, 2)
        voters = salience * (best == row * len(across) + column)
        costs = _costs(_unlike(soft, drawn, near, radius), near)
        chosen.append(tuple(near[(costs * voters).sum(axis=(1, 2)).argmin()].tolist()))
    return np.array(list(dict.fromkeys(chosen)))


def _unlike(soft: np.ndarray, drawn: np.ndarray, moves: np.ndarray, radius: float, patch: float = PATCH) -> np.ndarray:
    """(K, h, w): how unlike the drawing's patches (C, h, w) are those of the moved picture, in levels squared."""
    (height, width), margin = drawn.shape[-2:], max(_reach(radius)) + 1
    padded = np.pad(soft, ((0, 0), (margin, margin), (margin, margin)), mode="edge")
    parts = (padded[:, margin - y : margin - y + height, margin - x : margin - x + width] for x, y in moves)
    off = np.stack([drawn - part for part in parts])
    mean = _blurred(off, patch * radius)
    unlike = _blurred(off**2, patch * radius) - (1 - BRIGHTNESS) * mean**2
    return np.maximum(unlike, 0).mean(axis=1)


def _costs(unlike: np.ndarray, moves: np.ndarray) -> np.ndarray:
    return unlike + STAY * np.log1p(np.hypot(*moves.T)).astype(np.float32)[:, None, None]


def _reach(radius: float) -> list[int]:
    """The farthest move across and down, in pixels of the canvas."""
    return [max(STEP_PX, round(share * radius)) for share in REACH]


def _eye_windows(mask: np.ndarray) -> Iterator[tuple[slice, slice]]:
    """Rows and columns around each half's part of a mask, with a margin for the comparison of patches."""
    middle, margin = mask.shape[1] // 2, 6
    for left, right in ((0, middle), (middle, mask.shape[1])):
        rows, columns = (np.flatnonzero(mask[:, left:right].any(axis=axis)) for axis in (1, 0))
        if len(rows):
            top, first = max(rows[0] - margin, 0), max(left + columns[0] - margin, 0)
            yield slice(top, rows[-1] + margin + 1), slice(first, left + columns[-1] + margin + 1)


def _as_soft_as(true: np.ndarray, drawn: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A picture (3, h, w), softened until it is no sharper than the drawing."""
    aim, soft = _sharpness(drawn, mask), true
    for sigma in np.arange(0.4, SOFTEST_PX, 0.2):
        if _sharpness(soft, mask) <= aim:
            break
        soft = _blurred(true, sigma)
    return soft


def _sharpness(planes: np.ndarray, mask: np.ndarray) -> float:
    """The variance of the Laplacian."""
    around = np.pad(planes.mean(axis=0), 1, mode="edge")
    neighbours = around[:-2, 1:-1] + around[2:, 1:-1] + around[1:-1, :-2] + around[1:-1, 2:]
    return float((neighbours - 4 * around[1:-1, 1:-1])[mask].var())


def _blurred(planes: np.ndarray, sigma: float) -> np.ndarray:
    """(..., h, w), by a Gaussian that keeps to the picture."""
    down, across = (_gaussian(side, sigma) for side in planes.shape[-2:])
    return down @ planes @ across.T


def _gaussian(side: int, sigma: float) -> np.ndarray:
    apart = np.subtract.outer(np.arange(side), np.arange(side)) / sigma
    weights = np.exp(-0.5 * apart**2)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _planes(picture: np.ndarray) -> np.ndarray:
    """(h, w, 3) uint8 → (3, h, w) float32."""
    return np.moveaxis(picture, -1, 0).astype(np.float32)
