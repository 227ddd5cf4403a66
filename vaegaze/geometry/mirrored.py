"""The lights that an iris mirrors, taken off it: in its pupil, which is plain and dark, and on the iris around that."""

from dataclasses import dataclass

import numpy as np

from vaegaze.geometry.iris_rings import means, radii_of, rings_at, spread
from vaegaze.geometry.sampling import step

MIRRORED = (
    20.0  # levels above what lies around it: from here on a pixel mirrors a light; from twice as many, nothing else
)
EDGE, NEAR = 0.12, 0.3  # radii around a light: its soft edge, and how far it may light a pupil up
EDGE_GAIN, NEAR_GAIN = 4.0, 8.0  # by which what a light spreads there counts, up to 1
WITHIN = (0.8, 0.95)  # radii: farther out it may be the white of the eye
MOST = (0.12, 0.16)  # of an iris; more is light that falls on it from the side
BRIGHTEST = 0.9  # quantile of a light's brightness: above it lies its colour, which blur has made fainter elsewhere
DARKER = 0.4  # quantile of a ring near the middle, or of the pupil: so much of it no light is expected to cover
LIT = 10.0  # levels above the pupil's own, near a light: from here on nothing of the pupil is seen
MIDDLE = 0.5  # radii: larger pupils are not looked for
PUPILS = np.arange(0.2, MIDDLE, 0.04)  # radii that are tried
BESIDE = np.arange(-0.15, 0.16, 0.05)  # radii, across and down, that a pupil's middle may be off the iris's
OFF_MIDDLE = 100.0  # levels that it costs a pupil to be a radius off, by the square
LEAST_CLEAR = 5.0  # levels, less that, between a pupil and the iris around it: below, none is seen
PUPIL_EDGE, PUPIL_SIDES = 0.06, 16  # radii: half of its soft edge; places on its outline that are compared
IRIS_RINGS = (0.5, 0.8)  # radii of those that tell how bright the iris is


@dataclass(frozen=True)
class Lights:
    """What an iris mirrors, in polar coordinates: lights of one colour, that of the brightest."""

    opacity: np.ndarray  # (R, A, 1) 0..1
    colour: np.ndarray  # (C,)


def without_lights(rings: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, Lights]:
    """A polar picture of an iris (R, A, C) without the lights on it, and these lights.

    `seen` (R, A, 1) in 0..1 is how much of each place the photo shows; the rest was filled in.
    """
    grey, rho = rings.mean(axis=-1, keepdims=True), radii_of(rings)
    plain_grey, middle = np.median(grey, axis=1, keepdims=True), rho < MIDDLE
    # Where a light lies over the middle, its darker part tells how dark it is, and so do the rings around it.
    plain_grey[middle] = np.quantile(grey[middle], DARKER, axis=1, keepdims=True)
    plain_grey[middle] = np.minimum.accumulate(plain_grey[middle][::-1])[::-1]
    inner = rho < WITHIN[1]
    if not ((grey - plain_grey)[inner] > MIRRORED).any():
        return rings, Lights(np.zeros_like(grey), np.zeros(rings.shape[-1]))

    # Rings around a pupil that is off the middle are partly iris: there, a light is brighter than that.
    beyond, iris_grey = _pupil(grey, seen, rho)
    pupil = 1 - step(-PUPIL_EDGE, PUPIL_EDGE, beyond)
    beside = middle[:, None, None] * step(-3 * PUPIL_EDGE, -PUPIL_EDGE, beyond)
    above = (grey - np.maximum(plain_grey, iris_grey * beside)) / MIRRORED
    core = np.clip(above - 1, 0, 1) * (1 - step(*WITHIN, rho))[:, None, None] * seen
    small = np.interp(np.average(core[inner].mean(axis=(1, 2)), weights=rho[inner]), MOST, (1, 0))
    bright = np.maximum(core, np.clip(EDGE_GAIN * spread(core, EDGE), 0, 1) * np.clip(4 * above, 0, 1))
    without = np.broadcast_to(means(rings, seen * (1 - bright) * (1 - pupil)), rings.shape)

    dark = (pupil * seen > 0.8)[..., 0]
    if dark.any():
        unlit = dark & (core[..., 0] == 0)
        dark = unlit if unlit.any() else dark
        dark &= grey[..., 0] <= np.quantile(grey[dark], DARKER)
        without = without + pupil * (rings[dark].mean(axis=0) - without)
        lit = np.clip((grey - without.mean(axis=-1, keepdims=True)) / LIT, 0, 1)
        bright = np.maximum(bright, pupil * np.clip(NEAR_GAIN * spread(core, NEAR), 0, 1) * lit)
    plain = rings + small * bright * (without - rings)
    return plain, _lights(rings, plain, core)


def _lights(rings: np.ndarray, plain: np.ndarray, core: np.ndarray) -> Lights:
    """What makes a picture (R, A, C) of one without them."""
    grey, sure = rings.mean(axis=-1), core[..., 0] >= 0.5 * core.max()
    colour = rings[sure & (grey >= np.quantile(grey[sure], BRIGHTEST))].mean(axis=0)
    most = np.maximum((colour - plain).mean(axis=-1, keepdims=True), MIRRORED)
    return Lights(np.clip((rings - plain).mean(axis=-1, keepdims=True) / most, 0, 1), colour)


def _pupil(grey: np.ndarray, seen: np.ndarray, rho: np.ndarray) -> tuple[np.ndarray, float]:
    """(R, A, 1): how many radii beyond the pupil's outline each place lies; and how bright the iris is.

    The pupil is the disc with the clearest outline in a polar picture (R, A, 1); all is far beyond it, in an iris of 0
    levels, where none is seen.
    """
    none = np.full_like(grey, np.inf), 0.0
    iris = (rho > IRIS_RINGS[0]) & (rho < IRIS_RINGS[1])
    shown = seen[iris] > 0.9
    if not shown.any():
        return none
    iris_grey = float(np.median(grey[iris][shown]))
    no_brighter = np.minimum(grey, iris_grey)  # so that lights count as iris
    across, down, radius = (each.ravel() for each in np.meshgrid(BESIDE, BESIDE, PUPILS))
    sides = np.arange(PUPIL_SIDES) / PUPIL_SIDES * 2 * np.pi
    both, found = np.concatenate([no_brighter, seen], axis=-1), []
    for far in (-PUPIL_EDGE, PUPIL_EDGE):
        x, y = (at[:, None] + (radius + far)[:, None] * way(sides) for at, way in ((across, np.cos), (down, np.sin)))
        found.append(np.moveaxis(rings_at(both, np.hypot(x, y), np.arctan2(y, x)), -1, 0))
    (inside, inside_seen), (outside, outside_seen) = found
    weight = inside_seen * outside_seen + 1e-3
    clear = ((outside - inside) * weight).sum(axis=-1) / weight.sum(axis=-1) - OFF_MIDDLE * (across**2 + down**2)
    best = clear.argmax()
    if clear[best] < LEAST_CLEAR:
        return none
    theta = np.arange(grey.shape[1]) / grey.shape[1] * 2 * np.pi
    x, y = rho[:, None] * np.cos(theta) - across[best], rho[:, None] * np.sin(theta) - down[best]
    return np.hypot(x, y)[..., None] - radius[best], iris_grey
