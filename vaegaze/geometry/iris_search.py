"""Where irises are in a picture, by Daugman's integro-differential operator (IEEE TPAMI 15, 1993)."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from vaegaze.geometry.camera import gaze_vector
from vaegaze.geometry.irises import AROUND, BALL_MM, Iris, disc, opening, window_around
from vaegaze.geometry.sampling import sampled
from vaegaze.geometry.transforms import to_crop

IRIS_MM, LEAST, MOST = 5.9, 0.85, 1.15  # radius of an adult's iris, and the smallest and largest, of that
REACH_MM = (3.0, 3.5)  # across and down: how far off an iris may have been read
SIDES_RAD = np.radians(np.concatenate([np.arange(-70, 71, 10), np.arange(110, 251, 10)]))  # 0: right, 90: down
LARGER = np.arange(0.95, 1.21, 0.05)  # radius of the drawing's iris / of the photo's
CLEAR_OWN = 8.0  # levels between inside and outside of a drawn iris: above, it is believed to lie elsewhere than told
LEAST_DRAWN = 3.0  # levels between inside and outside of a drawn iris: below, nothing can be learnt from it
# Levels by which an iris must be clearer a millimetre off where it was read, or told to look; by the square:
OFF_READ, OFF_TOLD = 1.0, 20.0
MOST_OFF_MM = 1.5  # by which both irises are off where an average eye has them: 8° of gaze
RING = 0.1  # of the radius: how far inside and outside of the outline pictures are compared
DULLER = 0.7  # weight of the side of an outline that is less clear
# Of a photo's irises their width / their height, the levels between inside and outside on the duller side, and how much
# of them lies between the lids: where less is seen, looking ahead or aside, the drawing keeps its own.
AHEAD, ASIDE = (0.85, 8.0, 0.3), (0.72, 15.0, 0.6)
# The place between a grid's points is the mean of those near the clearest one:
NEAR_PX, NEAR_STEP_PX, NEAR_CLEAR = 1.5, 0.5, 2.0  # how far around it, and levels by which e times less counts


def matched(
    picture: np.ndarray, drawn: np.ndarray, in_picture: Sequence[Iris], in_drawing: Sequence[Iris], gaze: np.ndarray,
    own_gaze: np.ndarray | None = None,
) -> list[tuple[Iris, Iris]]:  # fmt: skip
    """Both eyes' irises in a picture (H, W, 3) uint8 and in a drawing of the same place that looks at `gaze` (2,).

    They lie near where they were read in the picture, and near where the gaze puts them in the drawing, however faint
    it has them there; if it is known where the picture looks (2,), as far off as there. Nothing where the photo's are
    not clear to see, or look far to the side.
    """
    true, drawing = (each.astype(np.float32).mean(axis=-1) for each in (picture, drawn))
    sources = refined(true, in_picture)
    if not are_clear(sources, picture.shape[:2]):
        return []
    targets = found_near(drawing, looking_at(sources, gaze, apart(sources, own_gaze)), OFF_TOLD)
    own = [_own(drawing, iris) for iris in targets]
    radius = larger_in(drawing, targets) * targets[0].radius
    targets = [
        replace(iris, lids=read.lids, radius=radius, covers=each.centre)
        for iris, each, read in zip(targets, own, in_drawing)
    ]
    return list(zip(sources, targets))


def _own(drawing: np.ndarray, told: Iris) -> Iris:
    """A drawing's own iris (H, W), of one eye by itself; where it is told to be, if it is not clear to see."""
    own = found_near(drawing, [told], OFF_READ)[0]
    return own if own.contrast > CLEAR_OWN else told


def are_clear(irises: Sequence[Iris], shape: tuple[int, int]) -> bool:
    """Whether a photo (H, W) shows enough of its irises to lay them into a drawing."""
    seen = (
        min(iris.narrow for iris in irises),
        min(iris.contrast for iris in irises),
        min(_between_lids(iris, shape) for iris in irises),
    )
    return any(np.greater_equal(seen, least).all() for least in (AHEAD, ASIDE))


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


def apart(irises: Sequence[Iris], gaze: np.ndarray | None = None) -> np.ndarray:
    """How far both irises (2, 2) are off where parallel eyes in the middle of their lids have them.

    If it is known where they look (2,), this tells how both differ from other people's; else only how one differs from
    the other, so that both together are 0, 0.
    """
    if gaze is None:
        off = np.stack([iris.centre - iris.ball for iris in irises])
        return off - off.mean(axis=0)
    off = np.stack([iris.centre - iris.ball - _turned(iris, gaze) for iris in irises])
    both = off.mean(axis=0)
    most = MOST_OFF_MM * irises[0].px_per_mm  # more is an error of what is known
    return off - both + both * min(1, most / max(float(np.linalg.norm(both)), 1e-6))


def looking_at(irises: Sequence[Iris], gaze: np.ndarray, off: np.ndarray) -> list[Iris]:
    """Irises where eyes that look at `gaze` (2,) have them, but for what is `off` (K, 2), see `apart`.

    Nobody's eyes are quite parallel, nor in the middle of their lids: how these differ is kept.
    """
    return [replace(iris, centre=iris.ball + _turned(iris, gaze) + each) for iris, each in zip(irises, off)]


def _turned(iris: Iris, gaze: np.ndarray) -> np.ndarray:
    """(2,): where a gaze (2,) puts an iris, from its ball's middle."""
    return BALL_MM * iris.px_per_mm * gaze_vector(gaze)[:2]


def found_near(grey: np.ndarray, irises: Sequence[Iris], off: float) -> list[Iris]:
    """Irises of known radius in a picture (H, W), moved alike to where they are clearest, between a grid's points.

    A millimetre costs `off` levels, by the square: OFF_READ or OFF_TOLD.
    """
    step = np.zeros(2)
    for grid in (_grid(np.array(REACH_MM) * irises[0].px_per_mm, NEAR_PX), _grid(np.full(2, NEAR_PX), NEAR_STEP_PX)):
        found = [_scores(grey, iris, step + grid, iris.radius, off) for iris in irises]
        clearness = np.mean([each for each, _ in found], axis=0)
        at = clearness.argmax()
        weights = np.exp((clearness - clearness[at]) / NEAR_CLEAR)
        around, step = step, step + grid[at]
    step = around + weights @ grid / weights.sum()
    contrasts = [float(each[at]) for _, each in found]
    return [replace(iris, centre=iris.centre + step, contrast=each) for iris, each in zip(irises, contrasts)]


def larger_in(grey: np.ndarray, irises: Sequence[Iris]) -> float:
    """How many times larger irises are in a drawing (H, W), so that no rim of the drawing's own shows around them.

    1 where these are too faint to tell.
    """
    if min(iris.contrast for iris in irises) < LEAST_DRAWN:
        return 1.0

    def clear(larger: float) -> float:
        return sum(_contrast(grey, iris, iris.centre[None], larger * iris.radius)[0].item() for iris in irises)

    return float(max(LARGER, key=clear))


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
