"""Finding eyes without a mask: a real face, mirrored, tilted, twice; and pictures without a face."""

import re
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from command_runs import ROOT, command
from PIL import Image

from vaegaze import renderer
from vaegaze.data.photo import load_photo
from vaegaze.errors import UserError
from vaegaze.faces import cascades
from vaegaze.faces.cascades import plausible_pairs
from vaegaze.faces.reader import find_face
from vaegaze.geometry.camera import canvas_camera
from vaegaze.geometry.transforms import move
from vaegaze.renderer.canvas import View
from vaegaze.renderer.data_set import scene_from_seed

DOCS = ROOT / "docs" / "images"
PHOTO, MASK = DOCS / "astronaut.png", DOCS / "astronaut_mask.png"
EYES = np.array([[203.0, 101.0], [247.5, 103.5]])  # see test_photo
NEAR_PX = 2.0  # of an eye 22 px wide


@pytest.fixture(scope="module")
def face():
    """The photo, as far as there is face in it: (170, 200, 3) uint8; and where the eyes are in there."""
    pytest.importorskip("cv2")
    return np.asarray(Image.open(PHOTO))[20:190, 130:330], EYES - (130, 20)


def find_eyes(picture, name, face=None):
    return find_face(picture, name, face, by="cascades").face.eyes


def off(found, expected) -> float:
    return np.linalg.norm(found - expected, axis=1).max()


def test_the_eyes_of_the_shipped_photo():
    pytest.importorskip("cv2")
    picture = np.asarray(Image.open(PHOTO))
    found = find_eyes(picture, "photo")
    assert found.shape == (2, 2) and off(found, EYES) < NEAR_PX
    assert (find_eyes(picture, "photo") == found).all(), "the same each time"


def test_in_a_mirror_they_are_mirrored(face):
    picture, expected = face
    found = find_eyes(np.ascontiguousarray(picture[:, ::-1]), "photo")
    assert off(found, (picture.shape[1] - expected[:, 0])[::-1, None] * (1, 0) + expected[::-1] * (0, 1)) < NEAR_PX


@pytest.mark.parametrize("degrees", [-10, 10])
def test_a_tilted_head(face, degrees):
    picture, expected = face
    turned = np.asarray(Image.fromarray(picture).rotate(degrees, Image.Resampling.BICUBIC))  # against the clock
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    centre = np.array([picture.shape[1], picture.shape[0]]) / 2
    linear = np.array([[cos, sin], [-sin, cos]])
    there = move(np.column_stack([linear, centre - linear @ centre]), expected)
    assert off(find_eyes(turned, "photo"), there) < NEAR_PX


@pytest.mark.parametrize("factor", [0.6, 3, 8])
def test_at_every_size(face, factor):
    picture, expected = face
    size = round(picture.shape[1] * factor), round(picture.shape[0] * factor)
    resized = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))
    assert off(find_eyes(resized, "photo") / factor, expected) < NEAR_PX


def test_a_face_cut_by_the_picture_is_still_placed_right(face):
    picture, expected = face
    for cut in (52, 60):  # her right cheek and temple are outside
        assert off(find_eyes(np.ascontiguousarray(picture[:, cut:]), "photo"), expected - (cut, 0)) < NEAR_PX


def test_no_cascade_is_shared_by_threads(face, monkeypatch):
    """OpenCV's objects are not made for it, and a page reads a photo while it reads a video."""
    cv2, used_by = cascades.opencv(), {}

    class Recorded:
        def __init__(self, path):
            self._cascade = cv2_cascade(path)

        def detectMultiScale(self, *args, **limits):
            used_by.setdefault(id(self), set()).add(threading.get_ident())
            return self._cascade.detectMultiScale(*args, **limits)

    cv2_cascade = cv2.CascadeClassifier
    monkeypatch.setattr(cv2, "CascadeClassifier", Recorded)
    monkeypatch.setattr(cascades, "_of_thread", threading.local())
    kept_alive = threading.Barrier(2)

    def read(_):
        kept_alive.wait()
        return [find_eyes(face[0], "photo"), find_eyes(face[0], "photo")]

    with ThreadPoolExecutor(2) as threads:
        (one, again), (other, _) = threads.map(read, range(2))
    assert (one == other).all() and (one == again).all()
    assert all(len(threads) == 1 for threads in used_by.values())
    assert len(set().union(*used_by.values())) == 2


def test_several_faces_need_a_number(face):
    picture, expected = face
    twice = np.hstack([picture, picture])
    with pytest.raises(UserError, match=r"^me\.jpg shows 2 faces, 1 at \(9\d, 8\d\), 2 at \(29\d, 8\d\)$"):
        find_eyes(twice, "me.jpg")
    assert off(find_eyes(twice, "me.jpg", face=1), expected) < NEAR_PX
    assert off(find_eyes(twice, "me.jpg", face=2), expected + np.array([200, 0])) < NEAR_PX
    with pytest.raises(UserError, match=r"shows 2 faces with eyes, no face 3$"):
        find_eyes(twice, "me.jpg", face=3)
    assert off(find_eyes(picture, "me.jpg", face=1), expected) < NEAR_PX
    with pytest.raises(UserError, match=r"shows 1 face with eyes, no face 2$"):
        find_eyes(picture, "me.jpg", face=2)


def test_a_face_that_is_partly_read_is_never_passed_over(face):
    picture, expected = face
    hidden = picture.copy()
    for x, y in expected.round().astype(int):
        hidden[y - 14 : y + 14, x - 16 : x + 16] = hidden[y + 27 : y + 28, x - 16 : x + 16]
    more = r"more faces that could not be read: at \(4\d\d, \d+\)"
    three = np.hstack([picture, picture, hidden])
    with pytest.raises(UserError, match=rf"shows 2 faces, 1 at .*, 2 at \(29\d, 8\d\); {more}$"):
        find_eyes(three, "me.jpg")
    with pytest.raises(UserError, match=rf"shows 2 faces with eyes, no face 3; {more}$"):
        find_eyes(three, "me.jpg", face=3)
    (note,) = find_face(three, "me.jpg", 2, by="cascades").notes
    assert re.search(rf"^⚠️ M{more[1:]}$", note)


def test_a_small_face_that_one_cascade_alone_sees_is_none(face):
    """As in hair or curtains."""
    picture, _ = face
    cv2 = cascades.opencv()
    grey = np.asarray(Image.fromarray(picture).convert("L"))
    (known,), _ = cascades._faces_with_eyes(picture)
    corner = (8.0, 4.0)
    fancied = cascades._Face(*corner, 0.2 * known.width, np.array([[12.0, 10.0], [20.0, 10.0]]))
    for seen_by in cascades.FACE_CASCADES:
        assert cascades._without_false(cv2, grey, [fancied, known], seen_by) == [known]

    large = np.full((510, 800, 3), 120, np.uint8)
    large[:, 200:] = np.asarray(Image.fromarray(picture).resize((600, 510)))
    large[200 : 200 + 85, 20:120] = np.asarray(Image.fromarray(picture).resize((100, 85)))
    with pytest.raises(UserError, match="shows 2 faces"):  # both cascades see this one
        find_eyes(large, "us.jpg")


def test_hidden_eyes(face):
    picture, expected = face
    for covered in ([1], [0, 1]):
        hidden = picture.copy()
        for x, y in expected[covered].round().astype(int):
            hidden[y - 14 : y + 14, x - 16 : x + 16] = hidden[y + 27 : y + 28, x - 16 : x + 16]
        with pytest.raises(
            UserError, match=r"me\.jpg shows a face at \(\d+, \d+\), but not two open eyes in it .*askew"
        ) as error:
            find_eyes(hidden, "me.jpg")
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["noise", "background", "grey", "line", "upside down"])
def test_where_there_is_no_face(face, kind):
    scene = scene_from_seed(0, 1, 0)
    background = renderer._background(scene, View.of(scene.head, canvas_camera(256))).transpose(1, 2, 0)
    pictures = {
        "noise": np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8),
        "background": (255 * background / background.max()).astype(np.uint8),
        "grey": np.full((100, 100, 3), 128, dtype=np.uint8),
        "line": np.zeros((1, 3000, 3), dtype=np.uint8),
        "upside down": np.ascontiguousarray(face[0][::-1]),
    }
    with pytest.raises(UserError, match=r"me\.jpg shows no face that is upright"):
        find_eyes(pictures[kind], "me.jpg")


def test_without_opencv_the_error_names_the_package(no_opencv):
    with pytest.raises(UserError, match=r"needs OpenCV: pip install "):
        find_eyes(np.zeros((8, 8, 3), dtype=np.uint8), "me.jpg")


def test_an_opencv_without_cascades(monkeypatch, tmp_path):
    """As 5.0 is."""
    other = SimpleNamespace(__version__="5.0.0", data=SimpleNamespace(haarcascades=str(tmp_path)))
    monkeypatch.setitem(sys.modules, "cv2", other)
    with pytest.raises(UserError, match=r"OpenCV 5\.0\.0 has no cascades any more: pip install"):
        find_eyes(np.zeros((8, 8, 3), dtype=np.uint8), "me.jpg")


# Squares: left, top, width, in widths of the face.
LEFT, RIGHT = (0.15, 0.25, 0.24), (0.6, 0.26, 0.25)


@pytest.mark.parametrize(
    "squares",
    [
        [],
        [LEFT],
        [LEFT, (0.2, 0.5, 0.24)],  # one below the other
        [LEFT, (0.35, 0.25, 0.24)],  # too near
        [LEFT, (0.6, 0.26, 0.1)],  # of other sizes
        [(0.15, 0.45, 0.24), (0.6, 0.46, 0.25)],  # on the mouth
        [LEFT, (0.6, 0.45, 0.25)],  # a steep line
    ],
)
def test_what_is_no_pair_of_eyes(squares):
    assert plausible_pairs(np.array(squares).reshape(-1, 3)) == []


def test_the_likeliest_pair_comes_first_whatever_the_order():
    squares = [RIGHT, (0.4, 0.4, 0.1), LEFT, (0.53, 0.29, 0.22)]
    for order in (squares, squares[::-1]):
        first = plausible_pairs(np.array(order))[0]
        np.testing.assert_allclose(first, [[0.27, 0.37], [0.725, 0.385]], atol=1e-9)


# --- A photo without a mask -------------------------------------------------------------------------------------------


def test_the_mask_resembles_a_painted_one():
    pytest.importorskip("cv2")
    found, painted = (
        load_photo(PHOTO, None, (0, 0), (0, 0), canvas_camera(128)),
        load_photo(PHOTO, MASK, (0, 0), (0, 0), canvas_camera(128)),
    )
    assert (found.mask & painted.mask).sum() > 0.75 * (found.mask | painted.mask).sum()
    assert abs(found.to_canvas - painted.to_canvas)[:, :2].max() < 0.03 and off(found.eyes, EYES) < NEAR_PX
    eye_masks = found.samples.eye_masks[0], painted.samples.eye_masks[0]
    assert (eye_masks[0] & eye_masks[1]).sum() > 0.75 * (eye_masks[0] | eye_masks[1]).sum()


def test_a_turned_heads_mask_is_narrower():
    pytest.importorskip("cv2")
    frontal, turned = (load_photo(PHOTO, None, (0, 0), (0, yaw), canvas_camera(128)).samples for yaw in (0, 0.6))
    assert turned.eye_masks.any() and abs(turned.head[0] - (0, 0.6)).max() < 0.1
    assert (turned.eye_masks != frontal.eye_masks).any()


def test_fine_tuning_on_closed_eyes_warns(world, talking, tmp_path):
    pytest.importorskip("cv2")
    Image.fromarray(talking.frames[24]).save(tmp_path / "me.png")
    config = (
        "--config",
        ROOT / "configs" / "finetune" / "finetune_photo.yaml",
        "--replay",
        0,
        "--mask",
        "auto",
        "--gaze",
        0,
        0,
    )
    outcome = command(*world.photo_flags, *config, "--image", tmp_path / "me.png", "--dry_run", "--save_dir", tmp_path)
    assert outcome.code == 0, outcome
    assert "⚠️ The eyes look closed: if they are, give a photo with open eyes\n" in outcome.out


def test_fine_tuning_on_a_photo_without_a_mask(world, tmp_path):
    pytest.importorskip("cv2")
    config = ("--config", ROOT / "configs" / "finetune" / "finetune_photo.yaml", "--mask", "auto")
    photo = (*config, "--image", PHOTO, "--gaze", 0, 0, "--num_steps", 2, "--replay", 0)
    outcome = command(*world.photo_flags, *photo, "--save_dir", tmp_path)
    assert outcome.code == 0, outcome
    assert (
        re.search(r"👁️ Eyes found at \(20\d, 10\d\) and at \(24\d, 10\d\)", outcome.out) and "closed" not in outcome.out
    )
    changed = (
        np.asarray(Image.open(tmp_path / "astronaut" / "photo_result.png")) != np.asarray(Image.open(PHOTO))
    ).any(-1)
    mask = load_photo(PHOTO, None, (0, 0), None, canvas_camera(32)).mask
    assert changed[mask].mean() > 0.5 and not changed[~mask].any()
