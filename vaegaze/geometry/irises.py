"""The irises of a photo in the place of those of a drawing, which are softer, and often of another colour.

The photo's iris is taken off in polar coordinates, Daugman's rubber sheet, and laid where the drawing's was
(`iris_search` finds both), whose rim the white of the drawn eye covers first. What the lids cover of it in the photo is
filled from the same ring; what they cover in the drawing stays the drawing's. The lights that an iris mirrors follow it
half-way.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageDraw

from vaegaze.geometry.transforms import move, scale_of, to_crop

BALL_MM, LEAST_NARROW = 10.5, 0.6  # from the eyeball's middle to the iris; the narrowest that an iris is taken for
OUT_TO = 1.25  # radii that a polar picture reaches
SURE, FADE = 0.98, 1.18  # radii between which the photo's iris fades into the drawing
FINE_UP_TO_PX, FINE = 50, 4  # up to this radius the lids' outline is drawn so many times finer
LID_EDGE = 0.12  # of the radius: half the width of the lids' soft edge
LID_LIKE = (0.3, 0.7)  # of the difference between lid and iris: below, a pixel is taken for lid; above, for iris
TOLD_APART = (40.0, 80.0)  # levels between lid and iris: below, neither is told from the other; above, surely
SURELY_BETWEEN = 0.4  # radii from the lids that were read: from here on a drawing shows no lid, whatever it looks like
HIDDEN = 0.1  # radii around a lid that are taken for hidden, too: it throws a shadow
WITHOUT_IRIS = (1.25, 1.5)  # radii up to which the white of the eye covers the drawing's own iris
WHITE_FROM = (0.6, 0.1), (1.5, 0.8)  # radii across and down from which it is taken: first of all, and where none is
MIRRORED = 20.0  # levels above its ring: from here on a pixel mirrors a light; from twice as many, nothing else
MIRRORED_EDGE = 0.12  # radii: a light's soft edge
PUPIL = 0.5  # radii: it is no larger
MIRRORED_WITHIN = (0.8, 0.95)  # radii: farther out it may be the white of the eye
MOST_MIRRORED = (0.12, 0.16)  # of an iris; more is light that falls on it from the side
MIRRORED_FOLLOWS = 0.53  # of the iris's way: the cornea mirrors, whose centre lies nearer to the eyeball's
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

    def on(self, transform: np.ndarray) -> "Iris":
        """In the target of a similarity."""
        scale = scale_of(transform)
        centre, lids, ball = (move(transform, points) for points in (self.centre, self.lids, self.ball))
        return Iris(centre, self.radius * scale, lids, ball, self.px_per_mm * scale, self.contrast)

    @property
    def narrow(self) -> float:
        """Its width / its height: the cosine of how far it is turned away."""
        return float(self._narrow(self.centre)[0])

    def seen_from_ahead(self, off: np.ndarray) -> np.ndarray:
        """Places (..., 2) off the centre as if the iris looked this way: it is narrower, the farther it is turned."""
        narrow, way = self._narrow(self.centre), self._way(self.centre)
        return off + (1 / narrow - 1) * (off * way).sum(axis=-1, keepdims=True) * way

    def as_it_is(self, off: np.ndarray, centre: np.ndarray | None = None) -> np.ndarray:
        """The way back; were the iris at `centre` (..., 2)."""
        centre = self.centre if centre is None else centre
        narrow, way = self._narrow(centre), self._way(centre)
        return off + (narrow - 1) * (off * way).sum(axis=-1, keepdims=True) * way

    def _narrow(self, centre: np.ndarray) -> np.ndarray:
        turned = (centre - self.ball) / (BALL_MM * self.px_per_mm)
        return np.sqrt(np.clip(1 - (turned**2).sum(axis=-1, keepdims=True), LEAST_NARROW**2, 1))

    def _way(self, centre: np.ndarray) -> np.ndarray:
        way = centre - self.ball
        return way / np.maximum(np.linalg.norm(way, axis=-1, keepdims=True), 1e-6)


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
    return _averaged(share, max(1, round(LID_EDGE * iris.radius)))


def with_irises(
    drawn: np.ndarray,
    photo: np.ndarray,
    to_photo: np.ndarray,
    pairs: Sequence[tuple[Iris, Iris]],
    detailed: np.ndarray | None = None,
    *,
    painted_over: bool = True,
) -> np.ndarray:
    """A drawing (H, W, 3) uint8 that lies on a photo of the same size, with the photo's irises in its own's places.

    `detailed` is the drawing with other detail of the photo, which stays where no iris is laid. The drawing's own
    irises are `painted_over`, unless their place is known too roughly for that.
    """
    detailed = drawn if detailed is None else detailed
    result = detailed.copy()
    for pair in pairs:
        source, target = (iris.on(to_photo) for iris in pair)
        centres = np.stack([source.centre, target.centre])
        window = window_around(centres, AROUND * source.radius, drawn.shape[:2])
        if window is not None:
            top, left = (part.start for part in window)
            to_window = to_crop(np.eye(2, 3), left, top)
            source, target = source.on(to_window), target.on(to_window)
            result[window] = _laid(drawn[window], detailed[window], photo[window], source, target, painted_over)
    return result


def window_around(centres: np.ndarray, reach_px: float, shape: tuple[int, int]) -> tuple[slice, slice] | None:
    """Rows and columns around irises' centres (K, 2); None if they lie outside of the picture (H, W)."""
    left, top = np.clip(np.floor(centres.min(axis=0) - reach_px).astype(int), 0, shape[::-1])
    right, bottom = np.clip(np.ceil(centres.max(axis=0) + reach_px).astype(int), 0, shape[::-1])
    return (slice(top, bottom), slice(left, right)) if top < bottom and left < right else None


def _laid(
    drawn: np.ndarray, detailed: np.ndarray, photo: np.ndarray, source: Iris, target: Iris, painted_over: bool
) -> np.ndarray:
    """A drawing (H, W, 3) uint8 with the photo's iris."""
    soft, shape = drawn.astype(np.float32), drawn.shape[:2]
    places = np.stack(np.meshgrid(*(np.arange(side, dtype=np.float32) + 0.5 for side in shape[::-1])), axis=-1)
    plain, mirrored = _taken_off(photo.astype(np.float32), source)
    rho, theta = _around(target, places)
    between = opening(target, shape)
    surely = _step(0.7, 0.98, _averaged(between, max(1, round(SURELY_BETWEEN * target.radius))))
    between = between * np.maximum(_no_lids(soft, target, between, rho, theta), surely)
    white = _without_iris(soft, between, rho, target.radius) if painted_over else soft
    result = detailed + (between * _fading(rho, *WITHOUT_IRIS))[..., None] * (white - detailed)
    result += (between * _fading(rho))[..., None] * (unrolled(plain, rho, theta) - result)
    follows = replace(target, centre=source.centre + MIRRORED_FOLLOWS * (target.centre - source.centre))
    rho, theta = _around(follows, places)
    result += (between * _fading(rho))[..., None] * unrolled(mirrored, rho, theta)
    return np.rint(result.clip(0, 255)).astype(np.uint8)


def _without_iris(drawn: np.ndarray, between: np.ndarray, rho: np.ndarray, radius: float) -> np.ndarray:
    """A drawing (H, W, 3) whose iris is painted over with the white beside it, where there is any."""
    white = (between**2 * (1 - _fading(rho, *WITHOUT_IRIS)))[..., None]
    total, share = np.zeros_like(drawn), np.zeros_like(white)
    for weight, reach in zip((1.0, 0.01), WHITE_FROM):
        across, down = (max(1, round(radii * radius)) for radii in reach)
        near = _averaged(_averaged(white, across, down), across, down)
        total += weight * _averaged(_averaged(white * drawn, across, down), across, down)
        share += weight * near
    # Where there is no white even far off, the drawing stays.
    painted = np.clip(30 * near, 0, 1) * (between * _fading(rho, *WITHOUT_IRIS))[..., None]
    return drawn + painted * (total / np.maximum(share, 1e-7) - drawn)


def _around(iris: Iris, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Radii, 1 on the outline, and angles of places (..., 2)."""
    across, down = np.moveaxis(iris.seen_from_ahead(places - iris.centre), -1, 0)
    return np.hypot(across, down) / iris.radius, np.arctan2(down, across)


def _no_lids(picture: np.ndarray, iris: Iris, between: np.ndarray, rho: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """(H, W) 0..1: where a picture (H, W, 3) shows no lid, though lids may lie elsewhere than `between` them says.

    Lid is what looks like the skin above or below the eye and hangs together with it.
    """
    inner = (rho < 0.7) & (between > 0.9)
    share = np.ones(rho.shape, np.float32)
    if not inner.any():
        return share
    own = np.median(picture[inner], axis=0)
    across, down = iris.lids[len(iris.lids) // 2] - iris.lids[0]  # from one corner of the eye to the other
    axis = 0 if abs(across) >= abs(down) else 1  # of the picture, from lid to lid
    first = np.sign((across, -down)[axis])
    for side in (-1, 1):
        from_skin = slice(None) if side * first < 0 else slice(None, None, -1)
        from_skin = (from_skin, slice(None)) if axis == 0 else (slice(None), from_skin)
        skin = (rho > 1.3) & (rho < 1.9) & (side * np.sin(theta - np.arctan2(down, across)) > 0.7) & (between < 0.02)
        if skin.any():
            lid = np.median(picture[skin], axis=0)
            levels = float(np.linalg.norm(own - lid))
            unlike = np.linalg.norm(picture - lid, axis=-1) / max(levels, 1.0)
            unlike = np.clip((unlike - LID_LIKE[0]) / (LID_LIKE[1] - LID_LIKE[0]), 0, 1)
            unlike = np.maximum(unlike, 1 - _step(*TOLD_APART, np.float32(levels)))
            light = (picture.mean(axis=-1) - lid.mean()) / MIRRORED - 1
            unlike = np.maximum(unlike, np.clip(light, 0, 1)) * (between > 0.02)
            share = np.minimum(share, np.maximum.accumulate(unlike[from_skin], axis=axis)[from_skin])
    return share


def _fading(rho: np.ndarray, sure: float = SURE, fade: float = FADE) -> np.ndarray:
    return 1 - _step(sure, fade, rho)


def _step(low: float, high: float, values: np.ndarray) -> np.ndarray:
    """0 up to `low`, 1 from `high` on, smooth in between."""
    share = np.clip((values - low) / (high - low), 0, 1)
    return share * share * (3 - 2 * share)


def _taken_off(photo: np.ndarray, iris: Iris) -> tuple[np.ndarray, np.ndarray]:
    """An iris (R, A, C), whole behind the lids, without the lights that it mirrors; and these."""
    rings, seen = polar(photo, iris), polar(_seen(photo, iris)[..., None], iris)
    whole = seen * rings + (1 - seen) * _ring_means(rings, seen)
    grey = whole.mean(axis=-1, keepdims=True)
    rho = (np.arange(len(rings)) + 0.5) / len(rings) * OUT_TO
    plain_grey, pupil = np.median(grey, axis=1, keepdims=True), rho < PUPIL
    # Where a light lies over the pupil's middle, the rings around that tell how dark it is.
    plain_grey[pupil] = np.minimum.accumulate(plain_grey[pupil][::-1])[::-1]
    above = (grey - plain_grey) / MIRRORED
    core = np.clip(above - 1, 0, 1) * _fading(rho, *MIRRORED_WITHIN)[:, None, None] * seen
    reach = max(1, round(MIRRORED_EDGE * len(rings) / OUT_TO))
    closed = np.pad(core, [(0, 0), (reach, reach), (0, 0)], mode="wrap")
    around = np.clip(4 * _averaged(closed, reach)[:, reach:-reach], 0, 1)
    bright = np.maximum(core, around * np.clip(4 * above, 0, 1))
    inner = rho < MIRRORED_WITHIN[1]
    bright *= np.interp(np.average(core[inner].mean(axis=(1, 2)), weights=rho[inner]), MOST_MIRRORED, (1, 0))
    plain = whole + bright * (_ring_means(rings, seen * (1 - bright)) - whole)
    return plain, whole - plain


def _seen(photo: np.ndarray, iris: Iris) -> np.ndarray:
    """(H, W) 0..1: what a photo shows of an iris, and of the white around it, which may look like a lid in shadow."""
    between = opening(iris, photo.shape[:2])
    places = np.stack(np.meshgrid(*(np.arange(side, dtype=np.float32) + 0.5 for side in photo.shape[1::-1])), axis=-1)
    rho, theta = _around(iris, places)
    no_lids = _no_lids(photo, iris, between, rho, theta)
    no_lids = np.clip(2 * _averaged(no_lids, max(1, round(HIDDEN * iris.radius))) - 1, 0, 1)
    return between * np.maximum(no_lids, _step(0.9, 1.0, rho))


def _ring_means(rings: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(R, 1, C): of each ring the mean of what is seen of it; of one that is hidden whole, that of the next one out."""
    total, seen = (rings * weight).sum(axis=1, keepdims=True), weight.sum(axis=1, keepdims=True)
    last = len(rings)
    shown = np.where(seen[:, 0, 0] > 1e-3, np.arange(last), last)
    shown = np.minimum.accumulate(shown[::-1])[::-1]
    of_all = total.sum(axis=0, keepdims=True) / np.maximum(seen.sum(axis=0, keepdims=True), 1e-3)
    return np.concatenate([total / np.maximum(seen, 1e-3), of_all])[shown]


def polar(picture: np.ndarray, iris: Iris) -> np.ndarray:
    """(R, A, C): from the middle of an iris out to OUT_TO radii, around from the right by way of below."""
    rings, angles = max(20, round(OUT_TO * iris.radius)), max(48, round(2 * np.pi * iris.radius))
    rho = (np.arange(rings) + 0.5) / rings * OUT_TO * iris.radius
    theta = np.arange(angles) / angles * 2 * np.pi
    off = rho[:, None, None] * np.stack([np.cos(theta), np.sin(theta)], axis=-1)
    return sampled(picture, iris.centre + iris.as_it_is(off))


def unrolled(rings: np.ndarray, rho: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """A polar picture (R, A, C) at radii (…), 1 on the outline, and angles (…) in radians."""
    around = np.concatenate([rings[:, -1:], rings, rings[:, :1]], axis=1)
    turn = theta / (2 * np.pi) % 1 * rings.shape[1]
    return sampled(around, np.stack([turn + 1.5, rho / OUT_TO * len(rings)], axis=-1))


def sampled(picture: np.ndarray, places: np.ndarray) -> np.ndarray:
    """A picture (H, W) or (H, W, C) at places (..., 2) x, y, between its pixels' centres; its edges repeat."""
    height, width = picture.shape[:2]
    x, y = (np.clip(places[..., k] - 0.5, 0, side - 1.001) for k, side in enumerate((width, height)))
    left, top = x.astype(int), y.astype(int)
    across, down = (part.reshape(*part.shape, *[1] * (picture.ndim - 2)) for part in (x - left, y - top))
    right, below = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    upper = picture[top, left] * (1 - across) + picture[top, right] * across
    lower = picture[below, left] * (1 - across) + picture[below, right] * across
    return upper * (1 - down) + lower * down


def _averaged(picture: np.ndarray, reach: int, down: int | None = None) -> np.ndarray:
    """(H, W, …): each pixel's mean over those at most `reach` away across, and `down` (or as many) down."""
    for axis, far in enumerate((reach if down is None else down, reach)):
        padding = [(0, 0)] * picture.ndim
        padding[axis] = (far + 1, far)
        sums = np.cumsum(np.pad(picture, padding, mode="edge"), axis=axis, dtype=np.float64)
        ends = np.arange(2 * far + 1, sums.shape[axis])
        picture = (sums.take(ends, axis) - sums.take(ends - 2 * far - 1, axis)) / (2 * far + 1)
    return picture.astype(np.float32)
