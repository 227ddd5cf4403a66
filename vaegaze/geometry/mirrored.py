"""The lights that an iris mirrors, taken off it: in its pupil, which is plain and dark, and on the iris around that."""

from dataclasses import dataclass

import numpy as np

from vaegaze.geometry.iris_rings import means, radii_of, spread, step, unrolled

MIRRORED = 20.0  # levels above its ring: from here on a pixel mirrors a light; from twice as many, nothing else
EDGE = 0.12  # radii: a light's soft edge
WITHIN = (0.8, 0.95)  # radii: farther out it may be the white of the eye
MOST = (0.12, 0.16)  # of an iris; more is light that falls on it from the side
DARKER = 0.4  # share of a ring near the middle that no light is expected to cover
MIDDLE = 0.5  # radii: a pupil is no larger
PUPILS = np.arange(0.2, MIDDLE + 0.01, 0.04)  # radii
BESIDE = np.arange(-0.15, 0.16, 0.05)  # radii that a pupil's middle may be off the iris's, across and down
OFF_MIDDLE = 100.0  # levels by which it must be clearer a radius off, by the square
LEAST_CLEAR = 5.0  # levels between a pupil and the iris around it: below, none is seen
PUPIL_EDGE, PUPIL_SIDES = 0.06, 24  # radii: half of its soft edge; places on its outline that are compared
IRIS = (0.5, 0.8)  # radii of rings that tell how bright the iris is
LIT = 10.0  # levels above its own: from here on nothing of a pupil is seen
BRIGHTEST = 0.9  # a tenth of a light is as bright as all of it were it in focus
NEAR = 0.3  # radii around a light that it may light a pupil up


@dataclass(frozen=True)
class Lights:
    """What an iris mirrors, in polar coordinates."""

    opacity: np.ndarray  # (R, A, 1) 0..1
    colour: np.ndarray  # (C,)


def without_lights(rings: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, Lights]:
    """A polar picture of an iris (R, A, C) without what it mirrors, where it is `seen` (R, A, 1); and that."""
    grey, rho = rings.mean(axis=-1, keepdims=True), radii_of(rings)
    plain_grey, middle = np.median(grey, axis=1, keepdims=True), rho < MIDDLE
    # Where a light lies over the middle, its darker part tells how dark it is, and so do the rings around it.
    plain_grey[middle] = np.quantile(grey[middle], DARKER, axis=1, keepdims=True)
    plain_grey[middle] = np.minimum.accumulate(plain_grey[middle][::-1])[::-1]
    above = (grey - plain_grey) / MIRRORED
    core = np.clip(above - 1, 0, 1) * (1 - step(*WITHIN, rho))[:, None, None] * seen
    inner = rho < WITHIN[1]
    core *= np.interp(np.average(core[inner].mean(axis=(1, 2)), weights=rho[inner]), MOST, (1, 0))
    bright = np.maximum(core, np.clip(4 * spread(core, EDGE), 0, 1) * np.clip(4 * above, 0, 1))

    pupil = _pupil(grey, seen, rho)
    without = np.broadcast_to(means(rings, seen * (1 - bright) * (1 - pupil)), rings.shape)
    dark = (pupil * seen > 0.8)[..., 0]
    if dark.any():
        dark &= grey[..., 0] <= np.quantile(grey[dark], DARKER)
        without = without + pupil * (rings[dark].mean(axis=0) - without)
        lit = np.clip((grey - without.mean(axis=-1, keepdims=True)) / LIT, 0, 1)
        bright = np.maximum(bright, pupil * np.clip(8 * spread(core, NEAR), 0, 1) * lit)
    plain = rings + bright * (without - rings)
    return plain, _lights(rings, plain, core)


def _lights(rings: np.ndarray, plain: np.ndarray, core: np.ndarray) -> Lights:
    grey, sure = rings.mean(axis=-1), core[..., 0] > 0.5
    if not sure.any():
        return Lights(np.zeros_like(core), np.zeros(rings.shape[-1]))
    colour = rings[sure & (grey >= np.quantile(grey[sure], BRIGHTEST))].mean(axis=0)
    most = np.maximum((colour - plain).mean(axis=-1, keepdims=True), MIRRORED)
    return Lights(np.clip((rings - plain).mean(axis=-1, keepdims=True) / most, 0, 1), colour)


def _pupil(grey: np.ndarray, seen: np.ndarray, rho: np.ndarray) -> np.ndarray:
    """(R, A, 1) 0..1: the pupil in a polar picture (R, A, 1), with a soft edge: the disc with the clearest outline."""
    iris = (rho > IRIS[0]) & (rho < IRIS[1])
    shown = seen[iris] > 0.9
    if not shown.any():
        return np.zeros_like(grey)
    no_brighter = np.minimum(grey, np.median(grey[iris][shown]))  # lights are as bright as the iris
    across, down, radius = (each.ravel() for each in np.meshgrid(BESIDE, BESIDE, PUPILS))
    sides = np.arange(PUPIL_SIDES) / PUPIL_SIDES * 2 * np.pi
    both = np.concatenate([no_brighter, seen], axis=-1)
    found = []
    for far in (-PUPIL_EDGE, PUPIL_EDGE):
        x, y = (at[:, None] + (radius + far)[:, None] * way(sides) for at, way in ((across, np.cos), (down, np.sin)))
        found.append(np.moveaxis(unrolled(both, np.hypot(x, y), np.arctan2(y, x)), -1, 0))
    (inside, inside_seen), (outside, outside_seen) = found
    weight = inside_seen * outside_seen + 1e-3
    clear = ((outside - inside) * weight).sum(axis=-1) / weight.sum(axis=-1) - OFF_MIDDLE * (across**2 + down**2)
    best = clear.argmax()
    if clear[best] < LEAST_CLEAR:
        return np.zeros_like(grey)
    theta = np.arange(grey.shape[1]) / grey.shape[1] * 2 * np.pi
    x, y = rho[:, None] * np.cos(theta) - across[best], rho[:, None] * np.sin(theta) - down[best]
    return 1 - step(radius[best] - PUPIL_EDGE, radius[best] + PUPIL_EDGE, np.hypot(x, y))[..., None]
