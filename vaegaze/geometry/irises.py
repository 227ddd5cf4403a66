"""The irises of a photo in the place of those of a drawing, which are softer, and often of another colour.

The photo's iris is taken off in polar coordinates, Daugman's rubber sheet, and laid where the drawing's was
(`iris_search` finds both), which the white of the drawn eye covers first. What the lids cover of it in the photo is
filled from the same ring; what they cover in the drawing stays the drawing's. The lights that an iris mirrors
(`mirrored`) follow it half-way.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageDraw

from vaegaze.geometry.iris_rings import OUT_TO, means, rings_at
from vaegaze.geometry.mirrored import MIRRORED, Lights, without_lights
from vaegaze.geometry.sampling import averaged, edge_repeated, sampled, step
from vaegaze.geometry.transforms import move, scale_of, to_crop

BALL_MM, LEAST_NARROW = 10.5, 0.6  # from the eyeball's middle to the iris; the narrowest that an iris is taken for
SURE, FADE = 0.98, 1.18  # radii between which the photo's iris fades into the drawing
FINE_UP_TO_PX, FINE = 50, 4  # up to this radius the lids' outline is drawn so many times finer
LID_EDGE = 0.12  # of the radius: half the width of the lids' soft edge
LID_LIKE = (0.3, 0.7)  # of the difference between lid and iris: below, a pixel is taken for lid; above, for iris
TOLD_APART = (40.0, 80.0)  # levels between lid and iris: below, neither is told from the other; above, surely
SURELY_BETWEEN = 0.4  # radii from the lids that were read: from here on a drawing shows no lid, whatever it looks like
HIDDEN = 0.1  # radii around a lid that are taken for hidden, too: it throws a shadow
WITHOUT_IRIS = (1.15, 1.4)  # radii up to which the white of the eye covers the drawing's own iris
BORDER = 0.15  # of the radius: half the width of an iris's border to the white, which may look like a lid
WHITE_FROM = (0.6, 0.1), (1.5, 0.8)  # radii across and down from which it is taken: first of all, and where none is
WELL_BETWEEN = 0.5  # radii from the lids that were read, which may lie beside them: nearer, what is white is not sure
RIM = (0.9, 1.02)  # radii between which the photo's iris ends where white is not sure
BESIDE = (0.4, 0.8)  # cosines of the angle to the line through the eye's corners: from here on white is sure
OUTSIDE = (1.0, 1.2)  # radii: beyond these the drawing's own iris lies beside the laid one
LIGHTS_FOLLOW = 0.53  # of the iris's way: the cornea mirrors, whose centre lies nearer to the eyeball's
AROUND = 2.0  # radii around an iris that are looked at


@dataclass(frozen=True)
class Iris:
    """An iris and the lids around it, in a picture."""

    centre: np.ndarray  # (2,) x, y
    radius: float
    lids: np.ndarray  # (K, 2): the outline of the eye's opening
    ball: np.ndarray  # (2,): the eyeball's middle, around which the iris turns
    px_per_mm: float
    contrast: float = 0.0  # levels: how much brighter it is beside the iris than in it, on the duller side
    covers: np.ndarray | None = None  # (2,): where the drawing has its own iris, which white covers first, if any does

    def on(self, transform: np.ndarray) -> "Iris":
        """In the target of a similarity."""
        scale = scale_of(transform)
        centre, lids, ball = (move(transform, points) for points in (self.centre, self.lids, self.ball))
        covers = None if self.covers is None else move(transform, self.covers)
        return Iris(centre, self.radius * scale, lids, ball, self.px_per_mm * scale, self.contrast, covers)

    @property
    def narrow(self) -> float:
        """Its width / its height: the cosine of how far it is turned away."""
        return float(self._narrow(self.centre)[0])

    def seen_from_ahead(self, off: np.ndarray) -> np.ndarray:
        """Places (..., 2) off the centre as if the iris looked this way: it is narrower, the farther it is turned."""
        narrow, way = self._narrow(self.centre), self._way(self.centre)
        return off @ (np.eye(2) + (1 / narrow - 1) * np.outer(way, way))

    def as_it_is(self, off: np.ndarray, centre: np.ndarray | None = None) -> np.ndarray:
        """The way back; were the iris at `centre` (..., 2)."""
        centre = self.centre if centre is None else centre
        narrow, way = self._narrow(centre), self._way(centre)
        return off + (narrow - 1) * np.einsum("...k,...k->...", off, way)[..., None] * way

    def _narrow(self, centre: np.ndarray) -> np.ndarray:
        turned = (centre - self.ball) / (BALL_MM * self.px_per_mm)
        return np.sqrt(np.clip(1 - np.einsum("...k,...k->...", turned, turned)[..., None], LEAST_NARROW**2, 1))

    def _way(self, centre: np.ndarray) -> np.ndarray:
        way = centre - self.ball
        return way / np.maximum(np.hypot(way[..., :1], way[..., 1:]), 1e-6)


def disc(iris: Iris, shape: tuple[int, int]) -> np.ndarray:
    """(H, W) bool: the pixels of an iris."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    return np.hypot(x - iris.centre[0], y - iris.centre[1]) <= iris.radius


def opening(iris: Iris, shape: tuple[int, int]) -> np.ndarray:
    """(H, W) float32 0..1: how far each pixel lies between the lids, with a soft edge."""
    finer = FINE if iris.radius <= FINE_UP_TO_PX else 1
    fine = Image.new("L", (shape[1] * finer, shape[0] * finer))
    ImageDraw.Draw(fine).polygon([tuple(point) for point in iris.lids * finer], fill=255)
    share = np.asarray(fine.reduce(finer), np.float32) / 255
    return averaged(share, max(1, round(LID_EDGE * iris.radius)))


def with_irises(
    drawn: np.ndarray,
    photo: np.ndarray,
    to_photo: np.ndarray,
    pairs: Sequence[tuple[Iris, Iris]],
    detailed: np.ndarray | None = None,
) -> np.ndarray:
    """A drawing (H, W, 3) uint8 that lies on a photo of the same size, with the photo's irises in its own's places.

    `detailed` is the drawing with other detail of the photo, which stays where no iris is laid.
    """
    detailed = drawn if detailed is None else detailed
    result = detailed.copy()
    for pair in pairs:
        source, target = (iris.on(to_photo) for iris in pair)
        centres = [source.centre, target.centre, *([] if target.covers is None else [target.covers])]
        window = window_around(np.stack(centres), AROUND * max(source.radius, target.radius), drawn.shape[:2])
        if window is not None:
            top, left = (part.start for part in window)
            to_window = to_crop(np.eye(2, 3), left, top)
            source, target = source.on(to_window), target.on(to_window)
            result[window] = _laid(drawn[window], detailed[window], photo[window], source, target)
    return result


def window_around(centres: np.ndarray, reach_px: float, shape: tuple[int, int]) -> tuple[slice, slice] | None:
    """Rows and columns around irises' centres (K, 2); None if they lie outside of the picture (H, W)."""
    left, top = np.clip(np.floor(centres.min(axis=0) - reach_px).astype(int), 0, shape[::-1])
    right, bottom = np.clip(np.ceil(centres.max(axis=0) + reach_px).astype(int), 0, shape[::-1])
    return (slice(top, bottom), slice(left, right)) if top < bottom and left < right else None


def _laid(drawn: np.ndarray, detailed: np.ndarray, photo: np.ndarray, source: Iris, target: Iris) -> np.ndarray:
    """A drawing (H, W, 3) uint8 with the photo's iris."""
    soft, shape = drawn.astype(np.float32), drawn.shape[:2]
    places = np.stack(np.meshgrid(*(np.arange(side, dtype=np.float32) + 0.5 for side in shape[::-1])), axis=-1)
    plain, lights = _taken_off(photo.astype(np.float32), source)
    rho, theta = _around(target, places)
    lids_apart = opening(target, shape)
    near, well = (averaged(lids_apart, max(1, round(far * target.radius))) for far in (SURELY_BETWEEN, WELL_BETWEEN))
    between = lids_apart * np.maximum(_no_lids(soft, target, lids_apart, rho, theta), step(0.7, 0.98, near))
    surely_white = step(0.7, 1.0, well)
    beside = np.maximum(surely_white, step(*BESIDE, np.abs(np.cos(theta - _line_of_corners(target)))))
    result = detailed.astype(np.float32)
    if target.covers is not None:
        own_rho, _ = _around(replace(target, centre=target.covers), places)
        own, laid = _fading(own_rho, *WITHOUT_IRIS), _fading(rho, *WITHOUT_IRIS)
        white = _without_iris(soft, between, np.maximum(own, laid), target.radius)
        # Where the drawing's own iris lies beside the laid one, what is not lid is white.
        share = between * np.maximum(own * np.maximum(beside, step(*OUTSIDE, rho)), laid * beside)
        result += share[..., None] * (white - result)
    within = np.maximum(surely_white, 1 - step(*RIM, rho)) * _fading(rho)
    result += (between * within)[..., None] * (rings_at(plain, rho, theta) - result)
    follows = replace(target, centre=source.centre + LIGHTS_FOLLOW * (target.centre - source.centre))
    rho, theta = _around(follows, places)
    opacity = (between * _fading(rho))[..., None] * rings_at(lights.opacity, rho, theta)
    result += opacity * np.maximum(lights.colour - result, 0)
    return np.rint(result.clip(0, 255)).astype(np.uint8)


def _without_iris(drawn: np.ndarray, between: np.ndarray, covered: np.ndarray, radius: float) -> np.ndarray:
    """A drawing (H, W, 3) in which the white beside, where there is any, covers what is to be `covered` (H, W)."""
    white = (between**2 * (1 - covered))[..., None]
    total, share = np.zeros_like(drawn), np.zeros_like(white)
    for weight, reach in zip((1.0, 0.01), WHITE_FROM):
        across, down = (max(1, round(radii * radius)) for radii in reach)
        near = averaged(averaged(white, across, down), across, down)
        total += weight * averaged(averaged(white * drawn, across, down), across, down)
        share += weight * near
    # Where there is no white even far off, the drawing stays.
    painted = np.clip(30 * near, 0, 1) * (between * covered)[..., None]
    return drawn + painted * (total / np.maximum(share, 1e-7) - drawn)


def _around(iris: Iris, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Radii, 1 on the outline, and angles of places (..., 2)."""
    across, down = np.moveaxis(iris.seen_from_ahead(places - iris.centre), -1, 0)
    return np.hypot(across, down) / iris.radius, np.arctan2(down, across)


def _no_lids(picture: np.ndarray, iris: Iris, between: np.ndarray, rho: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """(H, W) 0..1: where a picture (H, W, 3) shows no lid, though lids may lie elsewhere than `between` them says.

    Lid is what looks like the skin above or below the eye and hangs together with it; the narrow blend of
    iris and white may look like skin, too, and is none.
    """
    inner = (rho < 0.7) & (between > 0.9)
    share = np.ones(rho.shape, np.float32)
    if not inner.any():
        return share
    own, grey = np.median(picture[inner], axis=0), picture.mean(axis=-1)
    line = _line_of_corners(iris)
    axis = 0 if abs(np.cos(line)) >= abs(np.sin(line)) else 1  # of the picture, from lid to lid
    first = np.sign((np.cos(line), -np.sin(line))[axis])
    for side in (-1, 1):
        from_skin = slice(None) if side * first < 0 else slice(None, None, -1)
        from_skin = (from_skin, slice(None)) if axis == 0 else (slice(None), from_skin)
        skin = (rho > 1.3) & (rho < 1.9) & (side * np.sin(theta - line) > 0.7) & (between < 0.02)
        if skin.any():
            lid = np.median(picture[skin], axis=0)
            levels = float(np.linalg.norm(own - lid))
            off = picture - lid
            unlike = np.sqrt(np.einsum("hwc,hwc->hw", off, off)) / max(levels, 1.0)
            unlike = np.clip((unlike - LID_LIKE[0]) / (LID_LIKE[1] - LID_LIKE[0]), 0, 1)
            unlike = np.maximum(unlike, 1 - step(*TOLD_APART, np.float32(levels)))
            light = (grey - lid.mean()) / MIRRORED - 1
            unlike = np.maximum(unlike, np.clip(light, 0, 1)) * (between > 0.02)
            unlike = _without_slits(unlike, max(1, round(BORDER * iris.radius)), 1 - axis)
            share = np.minimum(share, np.maximum.accumulate(unlike[from_skin], axis=axis)[from_skin])
    return share


def _without_slits(values: np.ndarray, reach: int, axis: int) -> np.ndarray:
    """(H, W) in which every run of low values along an axis, at most 2 · `reach` long, is as high as its lower end."""
    values = edge_repeated(np.moveaxis(values, axis, 0), 2 * reach, 2 * reach, 0)
    for extreme in (np.maximum, np.minimum):
        length, all_of_it = 1, 2 * reach + 1
        while length < all_of_it:  # each value becomes the extreme of those up to `length` behind it
            further = min(length, all_of_it - length)
            values, length = extreme(values[:-further], values[further:]), length + further
    return np.moveaxis(values, 0, axis)


def _line_of_corners(iris: Iris) -> float:
    """Radians from the picture's right to the way from one corner of the eye to the other."""
    across, down = iris.lids[len(iris.lids) // 2] - iris.lids[0]
    return float(np.arctan2(down, across))


def _fading(rho: np.ndarray, sure: float = SURE, fade: float = FADE) -> np.ndarray:
    return 1 - step(sure, fade, rho)


def _taken_off(photo: np.ndarray, iris: Iris) -> tuple[np.ndarray, Lights]:
    """An iris (R, A, C), whole behind the lids, without the lights that it mirrors, and these lights."""
    rings, seen = polar(photo, iris), polar(_seen(photo, iris)[..., None], iris)
    return without_lights(seen * rings + (1 - seen) * means(rings, seen), seen)


def _seen(photo: np.ndarray, iris: Iris) -> np.ndarray:
    """(H, W) 0..1: what a photo shows of an iris, and of the white around it, which may look like a lid in shadow."""
    between = opening(iris, photo.shape[:2])
    places = np.stack(np.meshgrid(*(np.arange(side, dtype=np.float32) + 0.5 for side in photo.shape[1::-1])), axis=-1)
    rho, theta = _around(iris, places)
    no_lids = _no_lids(photo, iris, between, rho, theta)
    no_lids = np.clip(2 * averaged(no_lids, max(1, round(HIDDEN * iris.radius))) - 1, 0, 1)
    return between * np.maximum(no_lids, step(0.9, 1.0, rho))


def polar(picture: np.ndarray, iris: Iris) -> np.ndarray:
    """(R, A, C): from the middle of an iris out to OUT_TO radii, around from the right by way of below."""
    rings, angles = max(20, round(OUT_TO * iris.radius)), max(48, round(2 * np.pi * iris.radius))
    rho = (np.arange(rings) + 0.5) / rings * OUT_TO * iris.radius
    theta = np.arange(angles) / angles * 2 * np.pi
    off = rho[:, None, None] * np.stack([np.cos(theta), np.sin(theta)], axis=-1)
    return sampled(picture, iris.centre + iris.as_it_is(off))
