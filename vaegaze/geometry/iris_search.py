"""Where irises are in a picture, by Daugman's integro-differential operator (IEEE TPAMI 15, 1993)."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from vaegaze.geometry.camera import gaze_vector
from vaegaze.geometry.irises import AROUND, BALL_MM, Iris, disc, opening, sampled, window_around
from vaegaze.geometry.transforms import to_crop

IRIS_MM, LEAST, MOST = 5.9, 0.85, 1.15  # radius of an adult's iris, and the smallest and largest, of that
REACH_MM = (3.0, 3.5)  # across and down: how far off an iris may have been read
SIDES_RAD = np.radians(np.concatenate([np.arange(-70, 71, 10), np.arange(110, 251, 10)]))  # 0: right, 90: down
LARGER = np.arange(0.95, 1.21, 0.05)  # radius of the drawing's iris / of the photo's
RING = 0.1  # of the radius: how far inside and outside of the outline pictures are compared
DULLER = 0.7  # weight of the side of an outline that is less clear
# Where less is seen, the drawing keeps its own irises:
LEAST_AHEAD = 0.85  # width / height of the photo's
LEAST_CONTRAST = 8.0  # levels between inside and outside, on the duller side
LEAST_BETWEEN = 0.3  # of the photo's, between its lids
# The place between a grid's points, where pictures follow each other: the mean of those near the clearest one
NEAR_PX, NEAR_STEP_PX, NEAR_CLEAR = 1.5, 0.5, 2.0  # how far around it, and levels by which e times less counts


def matched(
    picture: np.ndarray, drawn: np.ndarray, in_picture: Sequence[Iris], in_drawing: Sequence[Iris]
) -> list[tuple[Iris, Iris]]:
    """Both eyes' irises in a picture (H, W, 3) uint8 and in a drawing of the same place, from where they were read.

    Nothing where they are not clear to see, or where the photo's look far to the side.
    """
    true, drawing = (each.astype(np.float32).mean(axis=-1) for each in (picture, drawn))
    sources = [refined(true, iris) for iris in in_picture]
    targets = _moved(drawing, sources, [there.centre - here.centre for here, there in zip(in_picture, in_drawing)])
    targets = [replace(iris, lids=read.lids) for iris, read in zip(targets, in_drawing)]
    return list(zip(sources, targets)) if are_clear(sources, targets, picture.shape[:2]) else []


def are_clear(sources: Sequence[Iris], targets: Sequence[Iris], shape: tuple[int, int]) -> bool:
    """Whether a photo's irises (H, W) can go into a drawing of the same place."""
    return (
        min(iris.narrow for iris in sources) >= LEAST_AHEAD
        and min(iris.contrast for iris in (*sources, *targets)) >= LEAST_CONTRAST
        and min(_between_lids(iris, shape) for iris in sources) >= LEAST_BETWEEN
    )


def _between_lids(iris: Iris, shape: tuple[int, int]) -> float:
    """How much of an iris in a picture (H, W) lies between its lids, 0..1."""
    window = window_around(iris.centre[None], AROUND * iris.radius, shape)
    if window is None:
        return 0.0
    near = iris.on(to_crop(np.eye(2, 3), window[1].start, window[0].start))
    shape = tuple(part.stop - part.start for part in window)
    inside = disc(near, shape)
    return float(opening(near, shape)[inside].mean()) if inside.any() else 0.0


def refined(grey: np.ndarray, read: Iris) -> Iris:
    """An iris that was read in a picture (H, W), placed where its outline is clearest."""
    radii = IRIS_MM * read.px_per_mm * np.arange(LEAST, MOST + 0.01, 0.05)
    for grid in (_grid(np.array(REACH_MM) * read.px_per_mm, 1.0), _grid(np.ones(2), 0.25)):
        found = [_contrast(grey, read, read.centre + grid, radius) for radius in radii]
        best = max(range(len(radii)), key=lambda i: found[i][0].max())
        clearest, duller = found[best]
        at = clearest.argmax()
        read = replace(read, centre=read.centre + grid[at], radius=float(radii[best]), contrast=float(duller[at]))
        radii = read.radius * np.array([0.97, 1.0, 1.03])
    return read


def _moved(grey: np.ndarray, sources: Sequence[Iris], ways: Sequence[np.ndarray]) -> list[Iris]:
    """Both irises in a drawing (H, W): moved alike, as eyes turn, near where they were read, so that both are clear."""
    way = np.mean(ways, axis=0)
    for grid in (_grid(np.array(REACH_MM) * sources[0].px_per_mm, 1.0), _grid(np.ones(2), 0.25)):
        found = [_contrast(grey, iris, iris.centre + way + grid, iris.radius) for iris in sources]
        at = sum(clearest for clearest, _ in found).argmax()
        way = way + grid[at]
    contrasts = [float(duller[at]) for _, duller in found]
    moved = [replace(iris, centre=iris.centre + way, contrast=each) for iris, each in zip(sources, contrasts)]

    larger = larger_in(grey, moved)
    return [replace(iris, radius=larger * iris.radius) for iris in moved]


def larger_in(grey: np.ndarray, irises: Sequence[Iris]) -> float:
    """How many times larger irises are in a drawing (H, W), so that no rim of the drawing's own shows around them."""

    def clear(larger: float) -> float:
        return sum(_contrast(grey, iris, iris.centre[None], larger * iris.radius)[0].item() for iris in irises)

    return float(max(LARGER, key=clear))


def expected(read: Iris, gaze: np.ndarray) -> Iris:
    """An iris whose lids and ball were read, where an eye that looks at `gaze` (2,) has it."""
    return replace(read, centre=read.ball + BALL_MM * read.px_per_mm * gaze_vector(gaze)[:2])


def found_near(grey: np.ndarray, read: Iris) -> Iris:
    """An iris of known radius in a picture (H, W), near where it was read, placed between the grid's points."""
    centre = read.centre
    for grid in (_grid(np.array(REACH_MM) * read.px_per_mm, NEAR_PX), _grid(np.full(2, NEAR_PX), NEAR_STEP_PX)):
        clearest, duller = _contrast(grey, read, centre + grid, read.radius)
        at = clearest.argmax()
        weights = np.exp((clearest - clearest[at]) / NEAR_CLEAR)
        around, centre = centre, centre + grid[at]
    mean = around + weights @ grid / weights.sum()
    return replace(read, centre=mean, contrast=float(duller[at]))


def _grid(reach: np.ndarray, step: float) -> np.ndarray:
    """(P, 2): x, y from −reach to reach."""
    x, y = (np.arange(-round(far / step), round(far / step) + 1) * step for far in reach)
    return np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)


def _contrast(grey: np.ndarray, iris: Iris, centres: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """(P,) of each of the centres (P, 2): how clear the outline's sides are, the duller one first of all; and that one.

    Clear is what is brighter outside than inside, in levels.
    """
    sides = np.stack([np.cos(SIDES_RAD), np.sin(SIDES_RAD)], axis=-1)
    ways = radius * iris.as_it_is(sides, centres[:, None])  # (P, A, 2)
    inside, outside = (sampled(grey, centres[:, None] + share * ways) for share in (1 - RING, 1 + RING))
    halves = (outside - inside).reshape(len(centres), 2, -1).mean(axis=-1)
    duller = halves.min(axis=-1)
    return DULLER * duller + (1 - DULLER) * halves.max(axis=-1), duller
