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
# Levels by which an iris must be clearer a millimetre off where it was read, or told to look; by the square:
OFF_READ, OFF_TOLD = 1.0, 20.0
RING = 0.1  # of the radius: how far inside and outside of the outline pictures are compared
DULLER = 0.7  # weight of the side of an outline that is less clear
# Where less is seen, the drawing keeps its own irises:
LEAST_AHEAD = 0.85  # width / height of the photo's
LEAST_CONTRAST = 8.0  # levels between inside and outside, on the duller side
LEAST_DRAWN = 3.0  # the same of a drawing's irises, of which it is known where they should be
LEAST_BETWEEN = 0.3  # of the photo's, between its lids
# The place between a grid's points, where pictures follow each other: the mean of those near the clearest one
NEAR_PX, NEAR_STEP_PX, NEAR_CLEAR = 1.5, 0.5, 2.0  # how far around it, and levels by which e times less counts


def matched(
    picture: np.ndarray, drawn: np.ndarray, in_picture: Sequence[Iris], in_drawing: Sequence[Iris], gaze: np.ndarray,
    own_gaze: np.ndarray | None = None,
) -> list[tuple[Iris, Iris]]:  # fmt: skip
    """Both eyes' irises in a picture (H, W, 3) uint8 and in a drawing of the same place that looks at `gaze` (2,).

    They lie near where they were read in the picture, and near where the gaze puts them in the drawing; if it is known
    where the picture looks (2,), as far off as there. Nothing where they are not clear to see, or where the photo's
    look far to the side.
    """
    true, drawing = (each.astype(np.float32).mean(axis=-1) for each in (picture, drawn))
    sources = refined(true, in_picture)
    targets = _moved(drawing, looking_at(sources, gaze, own_gaze))
    targets = [replace(iris, lids=read.lids) for iris, read in zip(targets, in_drawing)]
    return list(zip(sources, targets)) if are_clear(sources, targets, picture.shape[:2], LEAST_DRAWN) else []


def are_clear(
    sources: Sequence[Iris], targets: Sequence[Iris], shape: tuple[int, int], least_drawn: float = LEAST_CONTRAST
) -> bool:
    """Whether a photo's irises (H, W) can go into a drawing of the same place, whose own have a least contrast."""
    return (
        min(iris.narrow for iris in sources) >= LEAST_AHEAD
        and min(iris.contrast for iris in sources) >= LEAST_CONTRAST
        and min(iris.contrast for iris in targets) >= least_drawn
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


def refined(grey: np.ndarray, read: Sequence[Iris]) -> list[Iris]:
    """Irises of one size that were read in a picture (H, W), each placed where its outline is clearest."""
    px_per_mm, steps = read[0].px_per_mm, np.zeros((len(read), 2))
    radii = IRIS_MM * px_per_mm * np.arange(LEAST, MOST + 0.01, 0.05)
    for grid in (_grid(np.array(REACH_MM) * px_per_mm, 1.0), _grid(np.ones(2), 0.25)):
        found = []
        for radius in radii:
            scores = [_scores(grey, iris, step + grid, radius, OFF_READ) for iris, step in zip(read, steps)]
            best = [clearness.argmax() for clearness, _ in scores]
            clear = sum(clearness[at] for (clearness, _), at in zip(scores, best))
            found.append((clear, float(radius), steps + grid[best], [each[at] for (_, each), at in zip(scores, best)]))
        _, radius, steps, contrasts = max(found, key=lambda each: each[0])
        radii = radius * np.array([0.97, 1.0, 1.03])
    return [
        replace(iris, centre=iris.centre + step, radius=radius, contrast=float(contrast))
        for iris, step, contrast in zip(read, steps, contrasts)
    ]


def looking_at(irises: Sequence[Iris], gaze: np.ndarray, own_gaze: np.ndarray | None = None) -> list[Iris]:
    """Both irises where eyes that look at `gaze` (2,) have them.

    Nobody's eyes are quite parallel, nor in the middle of their lids: how these differ from one another is kept. Where
    they look now (2,) tells how they differ from other people's, which is kept, too.
    """
    there = [expected(iris, gaze) for iris in irises]
    now = there if own_gaze is None else [expected(iris, own_gaze) for iris in irises]
    off = np.stack([iris.centre - each.centre for iris, each in zip(irises, now)])
    off -= off.mean(axis=0) if own_gaze is None else 0
    return [replace(iris, centre=iris.centre + each) for iris, each in zip(there, off)]


def _moved(grey: np.ndarray, irises: Sequence[Iris]) -> list[Iris]:
    """Both irises in a drawing (H, W): moved alike, and little, so that both are clear."""
    step = np.zeros(2)
    for grid in (_grid(np.array(REACH_MM) * irises[0].px_per_mm, 1.0), _grid(np.ones(2), 0.25)):
        found = [_scores(grey, iris, step + grid, iris.radius, OFF_TOLD) for iris in irises]
        at = sum(clearness for clearness, _ in found).argmax()
        step = step + grid[at]
    contrasts = [float(each[at]) for _, each in found]
    moved = [replace(iris, centre=iris.centre + step, contrast=each) for iris, each in zip(irises, contrasts)]

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


def _scores(
    grey: np.ndarray, iris: Iris, steps: np.ndarray, radius: float, off: float
) -> tuple[np.ndarray, np.ndarray]:
    """(P,) of places so far from an iris's (P, 2): how clear it is there, less `off` levels a mm²; and its contrast."""
    clearest, duller = _contrast(grey, iris, iris.centre + steps, radius)
    return clearest - off * ((steps / iris.px_per_mm) ** 2).sum(axis=-1), duller


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
