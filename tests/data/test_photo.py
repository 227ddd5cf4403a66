"""Photos: alignment by the mask's two blobs, labels that turn along, and a paste that changes nothing else."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from vaegaze.data.photo import load_photo, paste
from vaegaze.errors import UserError
from vaegaze.geometry.camera import EYE_CENTRES_MM, canvas_camera, eye_circles, rolled
from vaegaze.geometry.transforms import inverse, move
from vaegaze.images.pictures import read_picture
from vaegaze.runs.folder import RunFolder

DOCS = Path(__file__).parents[2] / "docs" / "images"
SIZE = 128
CANVAS = canvas_camera(SIZE)
HEAD, GAZE = np.array([0.1, -0.2]), np.array([-0.15, 0.25])  # on the canvas
EXIF_ORIENTATION = 0x0112


def turn(scale: float, degrees: float, shift) -> np.ndarray:
    """Canvas → photo."""
    cos, sin = scale * np.cos(np.radians(degrees)), scale * np.sin(np.radians(degrees))
    return np.array([[cos, -sin, shift[0]], [sin, cos, shift[1]]])


def paint(to_photo: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A photo of a smooth face with dark irises, and its eye mask, painted analytically at its own resolution."""
    ys, xs = np.mgrid[:height, :width] + 0.5
    x, y = np.moveaxis(move(inverse(to_photo), np.stack([xs, ys], axis=-1)), -1, 0)  # canvas coordinates
    photo = np.stack([150 + 30 * np.sin(x / 9), 130 + 30 * np.cos(y / 11), 120 + 20 * np.sin((x + y) / 13)], axis=-1)
    mask = np.zeros((height, width), dtype=bool)
    for eye_x, eye_y, radius in eye_circles(HEAD, CANVAS):
        dark = np.clip(5 - np.hypot(x - eye_x, y - eye_y), 0, 1)[..., None]
        photo = photo * (1 - dark) + 20 * dark
        mask |= np.maximum(abs(x - eye_x), abs(y - eye_y)) <= 1.2 * radius
    return np.rint(photo).astype(np.uint8), mask


def save(folder: Path, photo: np.ndarray, mask: np.ndarray, **options) -> tuple[Path, Path]:
    paths = folder / "photo.png", folder / "mask.png"
    Image.fromarray(photo).save(paths[0], **options)
    Image.fromarray(mask.astype(np.uint8) * 255).save(paths[1])
    return paths


@pytest.mark.parametrize(
    ("scale", "degrees", "height", "width"),
    [(1, 0, 128, 128), (1.5, 0, 300, 320), (1.5, 20, 400, 420), (1.5, -35, 400, 420), (6, 20, 1000, 1100)],
)
def test_eyes_land_where_the_canvas_has_them(tmp_path, scale, degrees, height, width):
    to_photo = turn(scale, degrees, (width / 2, height / 2))
    to_photo[:, 2] -= to_photo[:, :2] @ (64, 50)
    photo, mask = paint(to_photo, height, width)
    seen_gaze, seen_head = (rolled(angles, np.radians(degrees)) for angles in (GAZE, HEAD))
    loaded = load_photo(*save(tmp_path, photo, mask), seen_gaze, seen_head, CANVAS)

    assert (loaded.picture == photo).all() and (loaded.mask == mask).all() and loaded.ignored_specks == 0
    eyes = CANVAS.project(EYE_CENTRES_MM, HEAD)
    assert np.linalg.norm(move(loaded.to_canvas, move(to_photo, eyes)) - eyes, axis=1).max() < 0.5
    np.testing.assert_allclose(loaded.roll_rad, -np.radians(degrees), atol=0.02)
    np.testing.assert_allclose(loaded.samples.head[0], HEAD, atol=0.02)
    np.testing.assert_allclose(loaded.samples.gaze[0], GAZE, atol=0.02)
    np.testing.assert_allclose(loaded.gaze, seen_gaze, atol=1e-6)

    straight, straight_mask = paint(np.eye(2, 3), SIZE, SIZE)
    valid = loaded.samples.valid[0]
    assert valid.mean() > 0.6
    assert abs(loaded.samples.images[0].astype(int) - straight)[valid].mean() < 3, (
        "the picture lies where its face does"
    )
    assert (loaded.samples.eye_masks[0] != straight_mask).sum() < 0.12 * straight_mask.sum()
    assert loaded.samples.images.shape == (1, SIZE, SIZE, 3) and len(loaded.samples) == 1


def test_turning_a_picture_turns_its_directions():
    right = rolled((0.0, -0.3), np.pi / 2)  # to the picture's right, turned a quarter from x (right) towards y (down)
    np.testing.assert_allclose(right, (-0.3, 0), atol=1e-12)
    np.testing.assert_allclose(rolled((0.3, 0), np.pi / 2), (0, -0.3), atol=1e-12)  # up becomes right
    np.testing.assert_allclose(rolled(rolled(GAZE, 0.4), -0.4), GAZE, atol=1e-12)
    np.testing.assert_allclose(rolled(GAZE, np.pi), -GAZE, atol=1e-12)


@pytest.mark.parametrize(
    ("orientation", "stored"),
    [
        (2, lambda upright: upright[:, ::-1]),  # mirrored
        (6, lambda upright: np.rot90(upright, 1)),  # a phone held upright
    ],
)
def test_exif_orientation_is_honoured(tmp_path, orientation, stored):
    photo, mask = paint(turn(1.5, 10, (60, 40)), 300, 340)
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    paths = save(tmp_path, np.ascontiguousarray(stored(photo)), mask, exif=exif)
    loaded = load_photo(*paths, GAZE, HEAD, CANVAS)
    assert (loaded.picture == photo).all()
    if orientation == 6:
        Image.fromarray(np.rot90(mask, 1).astype(np.uint8) * 255).save(paths[1])
        with pytest.raises(UserError, match="300×340 pixels, but the upright photo has 340×300"):
            load_photo(*paths, GAZE, HEAD, CANVAS)


def test_only_the_mask_is_rewritten_with_a_soft_edge(tmp_path):
    photo, mask = paint(turn(3, 15, (150, 40)), 500, 560)
    loaded = load_photo(*save(tmp_path, photo, mask), GAZE, HEAD, CANVAS)
    pasted = paste(loaded, np.zeros((SIZE, SIZE, 3), dtype=np.uint8))
    assert pasted.shape == photo.shape and pasted.dtype == np.uint8
    assert (pasted[~mask] == photo[~mask]).all()
    assert (pasted[mask] == 0).mean() > 0.6, "the inside is the drawing"
    middle = np.argwhere(mask[:, :280]).mean(axis=0).astype(int)
    brightness = pasted[middle[0], : middle[1], 0].astype(float) / np.maximum(photo[middle[0], : middle[1], 0], 1)
    inside = brightness[mask[middle[0], : middle[1]]]
    assert (np.diff(inside[:8]) <= 0.02).all() and 0.6 < inside[0] < 1, "and its edge rises inwards"
    assert (loaded.picture == photo).all()


def test_the_colour_profile_is_kept(tmp_path):
    photo, mask = paint(turn(2, 0, (20, 10)), 256, 300)
    assert load_photo(*save(tmp_path, photo, mask), GAZE, HEAD, CANVAS).colour_profile is None
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert load_photo(*save(tmp_path, photo, mask, icc_profile=profile), GAZE, HEAD, CANVAS).colour_profile == profile
    RunFolder(str(tmp_path), "a").write_picture("b.png", photo, profile)
    with Image.open(tmp_path / "a" / "b.png") as written:
        assert written.info["icc_profile"] == profile


def test_pasting_around_the_face_equals_pasting_into_the_whole(tmp_path):
    photo, mask = paint(turn(1, 12, (300, 40)), 260, 700)
    loaded = load_photo(*save(tmp_path, photo, mask), GAZE, HEAD, CANVAS)
    face = loaded.around_face()
    side = len(face.mask)
    assert face.mask.shape == (side, side) and abs(side - 1.6 * SIZE) < 3
    assert (face.mask.sum(), face.ignored_specks) == (loaded.mask.sum(), 0)
    drawn = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    left, top = np.rint(loaded.eyes[0] - face.eyes[0]).astype(int)
    whole = paste(loaded, drawn)[top : top + side, left : left + side]
    assert abs(whole.astype(int) - paste(face, drawn)).max() <= 1
    narrow = load_photo(*save(tmp_path, photo[:, 300:430], mask[:, 300:430]), GAZE, HEAD, CANVAS).around_face()
    assert narrow.mask.shape[1] == 130 < len(narrow.mask) and narrow.mask.any(), "no more than there is"


@pytest.mark.parametrize("scale", [0.7, 1.5, 4])
def test_there_and_back(tmp_path, scale):
    photo, mask = paint(turn(scale, 12, (50 * scale, 10)), int(160 * scale), int(190 * scale))
    loaded = load_photo(*save(tmp_path, photo, mask), GAZE, HEAD, CANVAS)
    pasted = paste(loaded, loaded.samples.images[0])
    assert (pasted[~mask] == photo[~mask]).all()
    error = np.mean((pasted[mask].astype(float) - photo[mask]) ** 2)
    assert 10 * np.log10(255**2 / error) > 33


def test_the_canvas_is_invalid_beyond_the_photo(tmp_path):
    photo, mask = paint(turn(2, 0, (0, -40)), 120, 256)  # from below the forehead to above the mouth
    samples = load_photo(*save(tmp_path, photo, mask), GAZE, HEAD, CANVAS).samples
    assert not samples.valid[0, :15].any() and not samples.valid[0, -40:].any() and samples.valid[0, 25:75, 3:-3].all()
    assert (samples.images[0, 5] > 60).all(), "the edge is repeated, not black"
    assert not (samples.eye_masks & ~samples.valid).any()


def test_every_kind_of_picture(tmp_path):
    photo, mask = paint(turn(1.5, 0, (60, 40)), 300, 320)
    mask_path = save(tmp_path, photo, mask)[1]
    grey = np.asarray(Image.fromarray(photo).convert("L"))
    alpha = np.full(grey.shape, 255, dtype=np.uint8)
    alpha[:10] = 0
    pictures = {
        "grey.png": Image.fromarray(grey),
        "deep.png": Image.fromarray(grey.astype(np.uint16) * 257),
        "alpha.png": Image.fromarray(np.dstack([photo, alpha])),
        "faint.png": Image.fromarray(np.dstack([grey, alpha])),
        "palette.png": Image.fromarray(photo).quantize(256),
        "cmyk.jpg": Image.fromarray(photo).convert("CMYK"),
        "photo.webp": Image.fromarray(photo),
    }
    for name, picture in pictures.items():
        picture.save(tmp_path / name)
        loaded = load_photo(tmp_path / name, mask_path, GAZE, HEAD, CANVAS)
        assert loaded.picture.shape == photo.shape and loaded.picture.dtype == np.uint8
        expected = np.repeat(grey[..., None], 3, axis=2) if name in ("grey.png", "deep.png", "faint.png") else photo
        assert abs(loaded.picture[20:].astype(int) - expected[20:]).mean() < 8, name
        assert name != "deep.png" or (loaded.picture == expected).all()
        assert name not in ("alpha.png", "faint.png") or (loaded.picture[:10] == 255).all()
        channels = {"grey.png": 1, "deep.png": 1, "faint.png": 2, "alpha.png": 4}.get(name, 3)
        pasted = paste(loaded, np.full((SIZE, SIZE, 3), (200, 20, 90), dtype=np.uint8))
        assert pasted.shape == loaded.original.shape == (*mask.shape, channels)
        assert (pasted[~mask] == loaded.original[~mask]).all() and (pasted[mask] != loaded.original[mask]).any(), name
        assert channels % 2 or (pasted[..., -1] == alpha).all(), "transparency stays"
    for scale, kind in ((1, np.uint8), (65535, np.uint16)):  # masks of 0 and 1, and of 16 bit
        Image.fromarray(mask.astype(kind) * scale).save(mask_path)
        assert (load_photo(tmp_path / "grey.png", mask_path, GAZE, HEAD, CANVAS).mask == mask).all()


def test_a_mask_may_be_painted_on_a_transparent_layer(tmp_path):
    photo, mask = paint(turn(1.5, 0, (60, 40)), 300, 320)
    image_path, mask_path = save(tmp_path, photo, mask)
    layer = np.full((*mask.shape, 4), 255, np.uint8)
    layer[..., 3] = mask * 255
    Image.fromarray(layer).save(mask_path)
    assert (load_photo(image_path, mask_path, GAZE, HEAD, CANVAS).mask == mask).all()


def test_a_mask_in_lab(tmp_path):
    photo, mask = paint(turn(1.5, 0, (60, 40)), 300, 320)
    image_path, _ = save(tmp_path, photo, mask)
    profiles = [ImageCms.createProfile(name) for name in ("sRGB", "LAB")]
    white_on_black = Image.fromarray(mask.astype(np.uint8) * 255).convert("RGB")
    ImageCms.profileToProfile(white_on_black, *profiles, outputMode="LAB").save(tmp_path / "mask.tif")
    assert (load_photo(image_path, tmp_path / "mask.tif", GAZE, HEAD, CANVAS).mask == mask).all()


def test_grey_that_fills_a_part_of_its_range(tmp_path):
    """As numpy's arrays are saved: floats from 0 to 1, and 8 bits in 16."""
    grey = np.linspace(0, 255, 400).reshape(20, 20).round().astype(np.uint8)
    for name, pixels in (("a.tif", (grey / 255).astype(np.float32)), ("b.png", grey.astype(np.uint16))):
        Image.fromarray(pixels).save(tmp_path / name)
        assert abs(read_picture(tmp_path / name, "image").pixels[..., 0].astype(int) - grey).max() <= 1, name
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "c.png")
    assert (read_picture(tmp_path / "c.png", "image").pixels[..., 0] == grey).all()


def test_specks_in_the_mask_are_ignored_and_counted(tmp_path):
    photo, mask = paint(turn(3, 0, (20, 10)), 420, 440)
    speckled = mask.copy()
    speckled[5, 5] = speckled[400:402, 300] = True
    loaded = load_photo(*save(tmp_path, photo, speckled), GAZE, HEAD, CANVAS)
    assert loaded.ignored_specks == 2 and (loaded.mask == mask).all()


def test_wrong_masks(tmp_path):
    photo, mask = paint(turn(1.5, 0, (60, 40)), 300, 320)
    image_path, mask_path = save(tmp_path, photo, mask)
    one, three = mask.copy(), mask.copy()
    one[:, 160:] = False
    three[250:280, 100:130] = True
    pinpricks = np.zeros_like(mask)
    pinpricks[150, [10, 310]] = True
    masks = {
        "has 1 separate white area; exactly two": one,
        "has 3 separate white areas; exactly two": three,
        "is empty": np.zeros_like(mask),
        "319×300 pixels, but the upright photo has 320×300": mask[:, 1:],
        "too small": pinpricks,
    }
    for message, wrong in masks.items():
        Image.fromarray(wrong.astype(np.uint8) * 255).save(mask_path)
        with pytest.raises(UserError, match=message) as error:
            load_photo(image_path, mask_path, GAZE, HEAD, CANVAS)
        assert str(mask_path) in str(error.value) and "\n" not in str(error.value)


def test_files_that_are_no_pictures(tmp_path):
    photo, mask = paint(turn(1.5, 0, (60, 40)), 300, 320)
    image_path, mask_path = save(tmp_path, photo, mask)
    (tmp_path / "text.jpg").write_text("a photo")
    (tmp_path / "short.png").write_bytes(image_path.read_bytes()[:3000])
    (tmp_path / "script.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")
    (tmp_path / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    Image.new("1", (21_000, 10)).save(tmp_path / "wide.png")
    Image.new("1", (14_000, 14_000)).save(tmp_path / "bomb.png")
    expected = {
        "none.jpg": "does not exist",
        ".": "is a folder",
        "text.jpg": "cannot be read as a picture",
        "short.png": "cannot be read as a picture",
        "script.eps": "cannot be read as a picture",
        "phone.heic": "is HEIC, .* save it as JPEG or PNG",
        "wide.png": r"21000×10 pixels; at most 100 million pixels and 20000 a side",
        "bomb.png": "far too large; at most 100 million pixels",
    }
    for name, message in expected.items():
        with pytest.raises(UserError, match=message) as error:
            load_photo(tmp_path / name, mask_path, GAZE, HEAD, CANVAS)
        assert "\n" not in str(error.value)


def test_a_large_photo_below_the_limit_gives_no_warning(tmp_path, monkeypatch):
    paths = save(tmp_path, *paint(turn(1.5, 0, (60, 40)), 300, 320))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 60_000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_photo(*paths, GAZE, HEAD, CANVAS)


def test_a_real_face_lands_on_the_canvas():
    loaded = load_photo(DOCS / "astronaut.png", DOCS / "astronaut_mask.png", (0, 0), (0, 0), CANVAS)
    eyes = np.array([[203.0, 101.0], [247.5, 103.5]])  # centres of the eye openings, found by eye at eightfold size
    expected = CANVAS.project(EYE_CENTRES_MM, (0, 0))
    assert np.linalg.norm(move(loaded.to_canvas, eyes) - expected, axis=1).max() < 0.7

    grey = loaded.samples.images[0].astype(float).mean(axis=2)
    for x, y in expected:  # she looks into the camera, so the irises are the darkest spots, near the eye centres
        window = grey[int(y) - 6 : int(y) + 7, int(x) - 8 : int(x) + 9]
        rows, columns = np.nonzero(window <= np.sort(window.ravel())[25])
        assert np.hypot(rows.mean() - 6, columns.mean() - 8) < 2.5
    assert loaded.samples.valid.all()
    pasted = paste(loaded, loaded.samples.images[0])
    assert (pasted[~loaded.mask] == loaded.picture[~loaded.mask]).all()
    assert 10 * np.log10(255**2 / np.mean((pasted[loaded.mask].astype(float) - loaded.picture[loaded.mask]) ** 2)) > 34


def test_the_committed_photo_is_scikit_images():
    data = pytest.importorskip("skimage.data")
    assert (np.asarray(Image.open(DOCS / "astronaut.png")) == data.astronaut()).all()
