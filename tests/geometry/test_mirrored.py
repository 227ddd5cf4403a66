"""Lights on an iris: what is left without them, and that both together are the picture again."""

import numpy as np
import pytest

from vaegaze.geometry.iris_rings import OUT_TO
from vaegaze.geometry.mirrored import without_lights

RINGS, ANGLES = 36, 180
BROWN, DARK, BLACK, LIGHT = (95.0, 70.0, 50.0), (30.0, 25.0, 22.0), (15.0, 15.0, 15.0), (250.0, 245.0, 235.0)


SEEN = np.ones((RINGS, ANGLES, 1))


def iris(
    light=(9.0, 9.0), light_radius: float = 0.15, *, pupil=(0.0, 0.0), colour=BROWN, shape=(RINGS, ANGLES)
) -> np.ndarray:
    """(R, A, 3): with a pupil of 0.35 radii and a square light, each with its middle there; edges are soft."""
    rho = (np.arange(shape[0]) + 0.5)[:, None] / shape[0] * OUT_TO
    theta = np.arange(shape[1]) / shape[1] * 2 * np.pi
    x, y = rho * np.cos(theta), rho * np.sin(theta)

    def mixed(picture, colour, beyond):
        share = np.clip(0.5 - beyond / 0.08, 0, 1)[..., None]
        return picture + share * (np.array(colour) - picture)

    picture = np.broadcast_to(np.array(colour) + 8 * np.sin(12 * theta)[:, None], (*shape, 3))
    picture = mixed(picture, BLACK, np.hypot(x - pupil[0], y - pupil[1]) - 0.35)
    return mixed(picture, LIGHT, np.maximum(abs(x - light[0]), abs(y - light[1])) - light_radius)


@pytest.mark.parametrize("light", [(0.0, 0.0), (0.12, -0.1), (0.3, 0.1), (0.5, 0.0)])
@pytest.mark.parametrize("pupil", [(0.0, 0.0), (0.1, 0.05)])
@pytest.mark.parametrize("colour", [BROWN, DARK])
def test_a_light_comes_off(light, pupil, colour):
    """Over the pupil, on its border and beside it: the pupil is a whole disc, the iris as around it."""
    lit, true = iris(light, pupil=pupil, colour=colour), iris(pupil=pupil, colour=colour)
    plain, lights = without_lights(lit, SEEN)
    assert abs(plain - true).mean(axis=-1).max() < 50 and abs(plain - true).mean() < 2
    again = plain + lights.opacity * (lights.colour - plain)
    assert abs(again - lit).mean(axis=-1).max() < 12
    np.testing.assert_allclose(lights.colour, LIGHT, atol=3)


@pytest.mark.parametrize("light_radius", [0.26, 0.28, 0.29, 0.3, 0.31, 0.33])
def test_a_light_of_any_size_is_given_back(light_radius):
    """Too large a light is none that an iris mirrors; in between, part of it stays on the iris."""
    lit = iris((0.45, 0.0), light_radius)
    plain, lights = without_lights(lit, SEEN)
    again = plain + lights.opacity * (lights.colour - plain)
    assert abs(again - lit).mean(axis=-1).max() < 25 and abs(again - lit).mean() < 1
    assert abs(plain - lit).max() > 100 or light_radius > 0.28


@pytest.mark.parametrize("colour", [BROWN, DARK, (120.0, 140.0, 165.0)])
@pytest.mark.parametrize("pupil", [(0.0, 0.0), (0.05, 0.0), (0.12, 0.1)])
def test_an_iris_without_a_light_stays_as_it_is(colour, pupil):
    lit = iris(colour=colour, pupil=pupil)
    plain, lights = without_lights(lit, SEEN)
    assert abs(plain - lit).max() < 6 and lights.opacity.max() < 0.1


def test_light_on_a_whole_side_is_no_mirrored_light():
    lit = iris() + np.where(np.arange(ANGLES) < ANGLES / 3, 60.0, 0.0)[:, None]
    plain, _ = without_lights(lit, SEEN)
    assert abs(plain - lit).max() < 10


@pytest.mark.parametrize("shape", [(20, 48), (250, 1250)])  # of an iris of 3 px, or 200
def test_irises_of_any_size(shape):
    lit = iris((0.12, -0.1), shape=shape)
    plain, _ = without_lights(lit, np.ones((*shape, 1)))
    assert abs(plain - iris(shape=shape)).mean() < 3


def test_hidden_parts_are_finite():
    for seen in (0 * SEEN, np.where(np.arange(ANGLES) < ANGLES / 2, 1.0, 0.0)[:, None] * SEEN):
        plain, lights = without_lights(iris((0.1, 0.1)), seen)
        assert np.isfinite(plain).all() and np.isfinite(lights.opacity).all()
