"""Lights on an iris: what is left without them, and that both together are the picture again."""

import numpy as np
import pytest

from vaegaze.geometry.iris_rings import OUT_TO
from vaegaze.geometry.mirrored import without_lights

RINGS, ANGLES = 36, 180
BROWN, BLACK, LIGHT = (95.0, 70.0, 50.0), (15.0, 15.0, 15.0), (250.0, 245.0, 235.0)


def iris(light=(9.0, 9.0), light_radius: float = 0.15, *, pupil=(0.0, 0.0), colour=BROWN) -> np.ndarray:
    """(R, A, 3): with a pupil of 0.35 radii and a square light, each with its middle there; edges are soft."""
    rho = (np.arange(RINGS) + 0.5)[:, None] / RINGS * OUT_TO
    theta = np.arange(ANGLES) / ANGLES * 2 * np.pi
    x, y = rho * np.cos(theta), rho * np.sin(theta)

    def mixed(picture, colour, beyond):
        share = np.clip(0.5 - beyond / 0.08, 0, 1)[..., None]
        return picture + share * (np.array(colour) - picture)

    picture = np.broadcast_to(np.array(colour) + 8 * np.sin(12 * theta)[:, None], (RINGS, ANGLES, 3))
    picture = mixed(picture, BLACK, np.hypot(x - pupil[0], y - pupil[1]) - 0.35)
    return mixed(picture, LIGHT, np.maximum(abs(x - light[0]), abs(y - light[1])) - light_radius)


@pytest.mark.parametrize("light", [(0.0, 0.0), (0.12, -0.1), (0.3, 0.1), (0.5, 0.0)])
@pytest.mark.parametrize("pupil", [(0.0, 0.0), (0.1, 0.05)])
def test_a_light_comes_off(light, pupil):
    """Over the pupil, on its border and beside it: the pupil is a whole disc, the iris as around it."""
    lit, true = iris(light, pupil=pupil), iris(pupil=pupil)
    plain, lights = without_lights(lit, np.ones((RINGS, ANGLES, 1)))
    assert abs(plain - true).mean(axis=-1).max() < 50 and abs(plain - true).mean() < 2
    again = plain + lights.opacity * (lights.colour - plain)
    assert abs(again - lit).mean(axis=-1).max() < 12
    np.testing.assert_allclose(lights.colour, LIGHT, atol=3)


@pytest.mark.parametrize("colour", [BROWN, (30.0, 25.0, 22.0)])  # the second hides its pupil
def test_an_iris_without_a_light_stays_as_it_is(colour):
    plain, lights = without_lights(iris(colour=colour), np.ones((RINGS, ANGLES, 1)))
    np.testing.assert_array_equal(plain, iris(colour=colour))
    assert not lights.opacity.any()


def test_light_on_a_whole_side_is_no_mirrored_light():
    lit = iris() + np.where(np.arange(ANGLES) < ANGLES / 3, 60.0, 0.0)[:, None]
    plain, _ = without_lights(lit, np.ones((RINGS, ANGLES, 1)))
    assert abs(plain - lit).max() < 10
