"""A photo's irises in a drawing whose own are soft and of another colour, on eyes whose geometry is known."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageFilter

from vaegaze.geometry import irises
from vaegaze.geometry.camera import pitch_yaw
from vaegaze.geometry.iris_search import (
    OFF_READ,
    apart,
    are_clear,
    found_near,
    looking_at,
    matched,
    refined,
)
from vaegaze.geometry.irises import BALL_MM, Iris, with_irises

HEIGHT, WIDTH, PX_PER_MM = 96, 192, 5 / 3
BALLS = np.array([[45.0, 50.0], [147.0, 50.0]])
SKIN, WHITE, BROWN, BLUE = (190, 150, 130), (230, 228, 225), (95, 70, 50), (70, 110, 150)
TO_FINE = np.array([[3.0, 0, 0], [0, 3.0, 0]])
RADIUS = 5.9 * PX_PER_MM


def lids_of(ball: np.ndarray, height: float = 9.0) -> np.ndarray:
    turn = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    return ball + np.stack([22 * np.cos(turn), height * np.sin(turn)], axis=-1)


def picture(
    way=(0.0, 0.0), colour=BROWN, *, size: int = 1, height: float = 9.0, pupil: bool = True,
    radius: float = RADIUS, light=(5.0, -3.0), light_px: float = 1.2, skin=SKIN,
) -> np.ndarray:  # fmt: skip
    """Two eyes whose irises are `way` off the middle, drawn fine and reduced; with pupils, and a light in each."""
    fine = 4 * size
    y, x = (np.mgrid[: HEIGHT * fine, : WIDTH * fine] + 0.5) / fine
    pixels = np.empty((*x.shape, 3), np.float32)
    pixels[:] = skin
    for ball in BALLS:
        open_ = ((x - ball[0]) / 22) ** 2 + ((y - ball[1]) / height) ** 2 < 1
        off = np.hypot(x - ball[0] - way[0], y - ball[1] - way[1])
        pixels[open_] = WHITE
        pixels[open_ & (off < radius)] = colour
        if pupil:
            pixels[open_ & (off < 0.4 * RADIUS)] = 15
            from_light = np.hypot(x - ball[0] - light[0] - 0.53 * way[0], y - ball[1] - light[1] - 0.53 * way[1])
            pixels[open_ & (from_light < light_px)] = 250
    return np.asarray(Image.fromarray(pixels.astype(np.uint8)).reduce(4))


def soft(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(1.5)))


def read(way=(0.0, 0.0), height: float = 9.0) -> list[Iris]:
    """As a reader gives them, a millimetre off."""
    return [
        Iris(ball + np.array(way) + np.array([1.5, -1.5]), 8.5, lids_of(ball, height), ball, PX_PER_MM)
        for ball in BALLS
    ]


def covered(pairs: list[tuple[Iris, Iris]]) -> list[tuple[Iris, Iris]]:
    """What the drawing has where the iris is laid is covered by white first."""
    return [(source, replace(target, covers=target.centre)) for source, target in pairs]


def told(way=(0.0, 0.0)) -> np.ndarray:
    """The gaze of eyes whose irises are `way` off the middle."""
    x, y = np.array(way) / (BALL_MM * PX_PER_MM)
    return pitch_yaw(np.array([x, y, -np.sqrt(max(1 - x * x - y * y, 0))]))


@pytest.mark.parametrize("off", [(0.0, 0.0), (1.0, -1.0)])  # how far the drawing has missed the told gaze
@pytest.mark.parametrize("way", [(0.0, 0.0), (7.0, 0.0), (-6.0, 1.0)])
def test_irises_are_found_where_they_are(way, off):
    here = np.array(way) - off
    pairs = matched(picture(), soft(picture(way, BLUE, pupil=False)), read(), read(way), told(here))
    for (source, target), ball in zip(pairs, BALLS, strict=True):
        np.testing.assert_allclose(source.centre, ball, atol=0.6)
        np.testing.assert_allclose(target.centre, ball + way, atol=1.0)
        assert source.radius == pytest.approx(RADIUS, rel=0.06)


def test_faint_irises_lie_where_the_gaze_puts_them():
    faint, way = tuple(level - 45 for level in WHITE), (3.0, 0.0)
    pairs = matched(picture(), soft(picture(way, faint, pupil=False)), read(), read(way), told(way))
    for (source, target), ball in zip(pairs, BALLS, strict=True):
        np.testing.assert_allclose(target.centre, ball + way, atol=1.0)
        assert target.contrast < 8 < source.contrast


def test_both_irises_have_one_size():
    """Shadows beside one of them say otherwise."""
    photo = picture().copy()
    for left in (33, 55):
        photo[42:58, left : left + 2] = 100
    grey = photo.astype(np.float32).mean(axis=-1)
    shaded, plain = (refined(grey, [iris])[0].radius for iris in read())
    irises = refined(grey, read())
    assert shaded != plain and irises[0].radius == irises[1].radius == pytest.approx(RADIUS, rel=0.06)
    np.testing.assert_allclose([iris.centre for iris in irises], BALLS, atol=1.0)


def test_eyes_that_squint_go_on_squinting():
    inwards = [replace(iris, centre=iris.ball + side) for iris, side in zip(read(), [(2.0, 0.0), (-2.0, 0.0)])]
    left, right = looking_at(read(), told((6.0, 1.0)), apart(inwards))
    np.testing.assert_allclose([left.centre, right.centre], BALLS + np.array([(8.0, 1.0), (4.0, 1.0)]), atol=1e-6)


def test_eyes_go_on_looking_past_where_they_should_if_that_is_known():
    """Their balls are not where everybody's are, or their visual axis is not where the pupil points."""
    aside = [replace(iris, centre=iris.ball + np.array([3.0, 1.5])) for iris in read()]
    there = [iris.centre for iris in looking_at(read(), told((6.0, 1.0)), apart(aside, told((1.0, 1.0))))]
    np.testing.assert_allclose(there, BALLS + np.array([8.0, 1.5]), atol=1e-6)
    wrong = apart(aside, told((-9.0, 0.0)))
    np.testing.assert_allclose(np.linalg.norm(wrong, axis=1), 1.5 * PX_PER_MM)  # no more: a label may be wrong
    there = [iris.centre for iris in looking_at(read(), told((6.0, 1.0)), apart(aside))]
    np.testing.assert_allclose(there, BALLS + np.array([6.0, 1.0]), atol=1e-6)


def test_an_iris_of_known_size_is_placed_between_pixels():
    ways = np.arange(0, 2, 0.25)
    pictures = [picture((way, 0.0)).astype(np.float32).mean(axis=-1) for way in ways]
    for side, ball in enumerate(BALLS):
        here = [replace(read((way, 0.0))[side], radius=RADIUS) for way in ways]
        found = np.stack([found_near(each, [iris], OFF_READ)[0].centre for each, iris in zip(pictures, here)])
        assert abs(found - ball - np.stack([ways, 0 * ways], axis=-1)).max() < 0.25
        assert abs(np.diff(found[:, 0]) - 0.25).max() < 0.12 and abs(np.diff(found[:, 1])).max() < 0.06


def test_an_iris_outside_of_the_picture_is_not_clear():
    away = [replace(iris, centre=iris.centre - (0, 70), ball=iris.ball - (0, 70), contrast=50.0) for iris in read()]
    assert not are_clear(away, (HEIGHT, WIDTH))


@pytest.mark.parametrize(
    "aside_mm, contrast, clear", [(0, 10.0, True), (0, 6.0, False), (6, 10.0, False), (6, 20.0, True), (8, 60.0, False)]
)
def test_irises_that_look_aside_must_be_clearer(aside_mm, contrast, clear):
    """0, 35 and 50° aside."""
    way = np.array([aside_mm * PX_PER_MM, 0.0])
    sources = [replace(iris, centre=iris.ball + way, lids=iris.lids + way, contrast=contrast) for iris in read()]
    assert are_clear(sources, (HEIGHT, WIDTH)) == clear


@pytest.mark.parametrize("way", [(0.0, 0.0), (7.0, 0.0)])
def test_the_photos_irises_go_where_the_drawing_has_them(way):
    """Its colour, pupils and lights, the lights half as far; in a photo three times as large."""
    photo, true = picture(size=3), picture(way, size=3)
    drawn = soft(picture(way, BLUE, pupil=False))
    large = np.asarray(Image.fromarray(drawn).resize(photo.shape[1::-1], Image.Resampling.BICUBIC))
    result = with_irises(large, photo, TO_FINE, matched(picture(), drawn, read(), read(way), told(way)))
    y, x = np.mgrid[: photo.shape[0], : photo.shape[1]] / 3
    for ball in BALLS:
        iris = np.hypot(x - ball[0] - way[0], y - ball[1] - way[1]) < 0.9 * RADIUS
        iris &= ((x - ball[0]) / 22) ** 2 + ((y - ball[1]) / 7) ** 2 < 1
        errors = [abs(each.astype(float) - true)[iris].mean() for each in (large, result)]
        assert errors[1] < 0.35 * errors[0]
    far = np.abs(x - BALLS[:, None, None, 0]).min(axis=0) > 25
    np.testing.assert_array_equal(result[far], large[far])


@pytest.mark.parametrize("lids", [6.0, 9.0])
def test_an_iris_that_the_photo_shows_less_of_is_whole(lids):
    """A squint becomes an open eye, also where its lids were read too wide open."""
    drawn, true = soft(picture(colour=BLUE, pupil=False)), picture()
    photo = picture(height=6.0)
    result = with_irises(drawn, photo, np.eye(2, 3), matched(photo, drawn, read(height=lids), read(), told()))
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    for ball in BALLS:
        above = (np.hypot(x - ball[0], y - ball[1]) < 0.85 * RADIUS) & (abs(y - ball[1]) > 6.5)
        errors = [abs(each.astype(float) - true)[above].mean() for each in (drawn, result)]
        assert above.any() and errors[1] < 0.5 * errors[0]


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_at_any_roll_of_the_head(turns):
    photo, drawn = picture(height=6.0), soft(picture((2.0, 3.0), BLUE, pupil=False))
    sources = [replace(iris, centre=iris.ball, radius=RADIUS) for iris in read(height=9.0)]
    pairs = covered([(each, replace(each, centre=each.ball + np.array([2.0, 3.0]))) for each in sources])
    upright = with_irises(drawn, photo, np.eye(2, 3), pairs)
    cosine, sine = [(0, 1), (-1, 0), (0, -1)][turns - 1]
    shift = {1: (0, WIDTH), 2: (WIDTH, HEIGHT), 3: (HEIGHT, 0)}[turns]
    roll = np.array([[cosine, sine, shift[0]], [-sine, cosine, shift[1]]], float)
    rolled = [tuple(iris.on(roll) for iris in pair) for pair in pairs]
    result = with_irises(np.rot90(drawn, turns), np.rot90(photo, turns), np.eye(2, 3), rolled)
    assert abs(np.rot90(result, -turns).astype(float) - upright).max() < 25  # white is taken from along rows: 18


def test_the_rim_of_the_drawings_larger_iris_does_not_show():
    drawn, true = soft(picture(colour=BROWN, pupil=False, radius=1.2 * RADIUS)), picture()
    pairs = [(replace(iris, centre=iris.ball, radius=RADIUS, covers=iris.ball),) * 2 for iris in read()]
    result = with_irises(drawn, picture(), np.eye(2, 3), pairs)
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    for ball in BALLS:
        beside = abs(np.hypot(x - ball[0], y - ball[1]) / RADIUS - 1.15) < 0.07
        beside &= abs(y - ball[1]) < 4
        errors = [abs(each.astype(float) - true)[beside].mean() for each in (drawn, result)]
        assert errors[1] < 0.3 * errors[0]


@pytest.mark.parametrize("colour, believed", [(BLUE, True), ((215, 212, 208), False)])
def test_each_eyes_own_iris_is_covered_where_the_drawing_has_it(colour, believed):
    """Though it is laid where the gaze puts it; a faint one is taken to be there."""
    way, far = (-1.0, 0.0), (3.0, 0.0)
    drawn = soft(picture(far, colour, pupil=False))
    for ball, (_, target) in zip(BALLS, matched(picture(), drawn, read(), read(way), told(way)), strict=True):
        assert np.linalg.norm(target.centre - ball - way) < 1.5
        where = ball + far if believed else target.centre
        assert np.linalg.norm(target.covers - where) < 1.0


def test_what_is_covered_may_lie_far_from_where_the_iris_is_laid(monkeypatch):
    """The white for it lies farther still."""
    way, far, radius = (-3.0, 0.0), (3.0, 0.0), 1.2 * RADIUS
    drawn = soft(picture(far, BROWN, pupil=False, radius=radius))
    source = [replace(iris, centre=iris.ball + np.array(way), radius=RADIUS) for iris in read()]
    pairs = [(iris, replace(iris, radius=radius, covers=iris.ball + np.array(far))) for iris in source]
    result = with_irises(drawn, picture(way), np.eye(2, 3), pairs).astype(float)
    monkeypatch.setattr(irises, "AROUND", 4.0)
    assert abs(result - with_irises(drawn, picture(way), np.eye(2, 3), pairs)).max() < 10


@pytest.mark.parametrize("skin", [SKIN, (160, 140, 130)])  # the second lies between iris and white
def test_an_iris_that_the_drawing_has_elsewhere_does_not_show_beside_the_laid_one(skin):
    way, far = (-3.0, 0.0), (3.0, 0.0)  # 0.6 radii apart
    photo, drawn = picture(height=7.0, skin=skin), soft(picture(far, BROWN, pupil=False, height=7.0, skin=skin))
    sources = [replace(iris, centre=iris.ball, radius=RADIUS) for iris in read(height=7.0)]
    pairs = [
        (iris, replace(iris, centre=iris.ball + np.array(way), covers=iris.ball + np.array(far))) for iris in sources
    ]
    result, true = with_irises(drawn, photo, np.eye(2, 3), pairs), picture(way, height=7.0, skin=skin)
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    for ball in BALLS:
        beside = (np.hypot(x - ball[0] - way[0], y - ball[1]) > 1.2 * RADIUS) & (abs(y - ball[1]) < 4)
        beside &= abs(x - ball[0]) < 19
        left, before = (abs(each.astype(float) - true)[beside] for each in (result, drawn))
        assert left.mean() < 0.4 * before.mean()
        if skin != SKIN:
            assert left.max() < 50  # 113 where such a border counts as lid


@pytest.mark.parametrize("light, light_px", [((2.0, -1.0), 2.2), ((5.0, 0.0), 1.6)])
def test_a_light_moves_whole(light, light_px):
    """Its soft edge, too: nothing of it stays where the iris takes it. The first lies over the pupil."""
    way = (8.0, 0.0)
    photo, true = (soft(picture(each, light=light, light_px=light_px)) for each in ((0.0, 0.0), way))
    drawn = soft(picture(way, BLUE, pupil=False))
    pairs = [
        tuple(replace(iris, centre=iris.ball + each, radius=RADIUS) for each in ((0.0, 0.0), way)) for iris in read()
    ]
    result = with_irises(drawn, photo, np.eye(2, 3), covered(pairs))
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    for ball in BALLS:
        taken = np.hypot(x - ball[0] - way[0] - light[0], y - ball[1] - light[1]) < light_px + 1.5
        assert abs(result.astype(float) - true)[taken].mean() < 20


@pytest.mark.parametrize("height", [7.0, 8.0])
def test_no_white_above_an_iris_on_lids_as_dark_as_itself(height):
    """They were read too wide open, and nothing but their form tells them from the iris."""
    dark, brown = (88, 66, 54), (70, 50, 38)
    photo = soft(picture(colour=brown, height=6.0, skin=dark))
    drawn, true = (soft(picture((4.0, 0.0), brown, height=6.0, skin=dark, pupil=pupil)) for pupil in (False, True))
    pairs = [
        tuple(replace(iris, centre=iris.ball + np.array([way, 0]), radius=RADIUS) for way in (0, 4))
        for iris in read(height=height)
    ]
    result = with_irises(drawn, photo, np.eye(2, 3), covered(pairs)).astype(float)
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    for ball in BALLS:
        lid = (abs(x - ball[0] - 4) < 0.6 * RADIUS) & (((x - ball[0]) / 22) ** 2 + ((y - ball[1]) / 6) ** 2 > 1.3)
        assert (result - true)[lid].max() < 14


def test_drawn_lids_stay_over_the_irises():
    """Also where they were read too wide open."""
    photo, drawn = picture(), soft(picture((0.0, 3.0), BLUE, height=5.0, pupil=False))
    pairs = matched(photo, drawn, read(), read((0.0, 3.0), height=9.0), told((0.0, 3.0)))
    pairs = pairs or [(source, replace(source, centre=source.centre + np.array([0.0, 3.0]))) for source in read()]
    result = with_irises(drawn, photo, np.eye(2, 3), pairs)
    for x, y in BALLS.astype(int):
        lid = (slice(y - 9, y - 7), slice(x - 4, x + 5))
        assert abs(result[lid].astype(int) - SKIN).mean() < 12


@pytest.mark.parametrize(
    "photo, drawn",
    [
        (np.full((HEIGHT, WIDTH, 3), SKIN, np.uint8), picture()),
        (picture((21.0, 0.0)), picture()),  # the photo's look far to the side
    ],
)
def test_what_is_not_clear_to_see_stays_as_drawn(photo, drawn):
    where = (21.0, 0.0) if photo[50, 66].mean() < 120 else (0.0, 0.0)
    assert matched(photo, drawn, read(where), read(), told()) == []


def test_nothing_to_lay():
    drawn = picture()
    np.testing.assert_array_equal(with_irises(drawn, picture(), np.eye(2, 3), []), drawn)


def test_an_eye_at_the_pictures_border():
    pairs = [(iris, iris) for iris in read()]
    moved = [(iris.on(np.array([[1.0, 0, -60], [0, 1.0, 0]])),) * 2 for iris, _ in pairs]
    result = with_irises(picture(), picture(), np.eye(2, 3), moved)
    assert result.shape == (HEIGHT, WIDTH, 3) and result.dtype == np.uint8
