"""A canvas that is not square: eyes lie where its camera projects them, and pastes stay inside masks."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vaegaze.data import hdf5
from vaegaze.data.photo import load_photo, paste
from vaegaze.evaluation.metrics import paste as paste_samples
from vaegaze.geometry.alignment import align_face
from vaegaze.geometry.camera import (
    BETWEEN_EYES_MM,
    EYE_CENTRES_MM,
    FACE_ORIGIN_MM,
    Camera,
    camera_from_config,
    canvas_camera,
    eye_circles,
)
from vaegaze.geometry.eye_regions import circles_from_parsing, pose_mask, pose_parsing, regions_in_photo
from vaegaze.geometry.pasting import FEATHER_OF_FACE, paste_in_regions
from vaegaze.geometry.transforms import move, scale_of
from vaegaze.images.sharpness import sharpness
from vaegaze.renderer import data_set as synthetic
from vaegaze.renderer.redrawing import RenderedPerson, other_gazes

DOCS = Path(__file__).parents[2] / "docs" / "images"
EYES = np.array([[203.0, 101.0], [247.5, 103.5]])  # of the astronaut, found by eye
NARROW = Camera(192, 64, 1000.0, BETWEEN_EYES_MM)
WIDE = Camera(256, 64, 1300.0, BETWEEN_EYES_MM)  # FAZE's
BANDS = pytest.mark.parametrize("canvas", [NARROW, WIDE], ids=["192x64", "256x64"])
HEADS = pytest.mark.parametrize("head", [(0.0, 0.0), (0.3, 0.25), (-0.25, -0.3)])


def config(**changes) -> dict:
    return {"width_px": 256, "height_px": 64, "focal_px": 1300, "looks_at": "eyes"} | changes


def noise(canvas: Camera, count: int = 1) -> np.ndarray:
    return np.random.default_rng(0).integers(256, size=(count, *canvas.shape, 3), dtype=np.uint8)


def test_a_config_names_a_camera():
    assert camera_from_config(config()) == WIDE
    square = config(width_px=128, height_px=128, focal_px=500, looks_at="face")
    assert camera_from_config(square) == canvas_camera(128) == Camera(128, 128, 500.0, FACE_ORIGIN_MM)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (None, "expected the keys width_px, height_px, focal_px, looks_at"),
        ({"width_px": 64}, "expected the keys"),
        (config(depth_px=3), "expected the keys"),
        (config(width_px=0), "canvas.width_px 0"),
        (config(height_px=64.0), "canvas.height_px 64.0"),
        (config(height_px=True), "canvas.height_px True"),
        (config(width_px=10**9), "canvas.width_px"),
        (config(focal_px=float("nan")), "canvas.focal_px nan"),
        (config(focal_px=float("inf")), "canvas.focal_px inf"),
        (config(focal_px="1300"), "canvas.focal_px '1300'"),
        (config(looks_at="nose"), "canvas.looks_at 'nose'"),
        (config(looks_at=[]), "canvas.looks_at"),
    ],
)
def test_a_config_that_names_none(wrong, words):
    with pytest.raises(ValueError, match=words.replace("(", r"\(")):
        camera_from_config(wrong)


def test_soft_edges_are_as_wide_on_the_face_whatever_the_canvas():
    for canvas in (canvas_camera(64), canvas_camera(128), NARROW, WIDE):
        feather_mm = FEATHER_OF_FACE * canvas.face_px * canvas.distance_mm / canvas.focal_px
        assert feather_mm == pytest.approx(2.4)
    assert canvas_camera(100).face_px == 100 and Camera(64, 64, 250.0, distance_mm=300.0).face_px == 128


@BANDS
@HEADS
def test_masks_lie_around_the_eyes(canvas, head):
    eyes = canvas.project(EYE_CENTRES_MM, head)
    assert ((eyes > 0) & (eyes < (canvas.width_px, canvas.height_px))).all()
    mask, parsing = pose_mask(head, canvas), pose_parsing(head, canvas)
    assert mask.shape == parsing.shape == canvas.shape
    found = circles_from_parsing(parsing)
    np.testing.assert_allclose(found[:, :2], eye_circles(head, canvas)[:, :2], atol=1)
    np.testing.assert_allclose(found[:, :2], eyes, atol=1)
    for x, y in eyes.astype(int):
        assert mask[y, x]


@BANDS
@HEADS
def test_the_renderer_draws_eyes_where_the_camera_sees_them(canvas, head):
    person = synthetic.person_from_seed(0, 2)
    scene = synthetic.Scene(head=head, gaze=head, lid_opening=1.0)
    rendering = synthetic.render(person, scene, canvas)
    assert rendering.image.shape == (*canvas.shape, 3) and rendering.face_parsing.shape == canvas.shape
    found, true = circles_from_parsing(rendering.face_parsing), eye_circles(head, canvas)
    assert (np.linalg.norm((found - true)[:, :2], axis=1) < 0.2 * true[:, 2]).all()
    np.testing.assert_allclose(found[:, 2], true[:, 2], rtol=0.15)
    assert sharpness(rendering.image, np.array(head), canvas) > 0.02


@BANDS
@pytest.mark.parametrize("jpeg_quality", [0, 60])
def test_gaze_changes_a_band_inside_the_eyes_squares_alone(canvas, jpeg_quality):
    person = synthetic.person_from_seed(0, 3)
    scenes = [
        synthetic.Scene(gaze=gaze, head=(0.1, -0.1), jpeg_quality=jpeg_quality) for gaze in ((0.3, 0.4), (-0.3, -0.4))
    ]
    first, second = (synthetic.render(person, scene, canvas).image.astype(int) for scene in scenes)
    changed = (first != second).any(axis=-1)
    assert changed.any() and not (changed & ~pose_mask((0.1, -0.1), canvas, factor=1.45)).any()


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("rendered") / "faces.h5"
    synthetic.write_hdf5(path, 2, size=128, seed=3, samples=6, split="val")
    return path


@BANDS
def test_rendered_frames_are_read_pasted_and_redrawn(file, canvas):
    data = hdf5.read_person(file, "person_002", [1, 4, 5], canvas)
    samples = data.samples
    assert samples.canvas == canvas and samples.images.shape == (3, *canvas.shape, 3)
    assert samples.valid.all() and samples.eye_masks.any(axis=(1, 2)).all()
    for mask, head in zip(samples.eye_masks, samples.head):
        overlap = (mask & pose_mask(head, canvas)).sum() / (mask | pose_mask(head, canvas)).sum()
        assert overlap > 0.7, "the file's parsing lies where the camera sees the eyes"

    rendered = RenderedPerson.from_attributes(data.attributes, data.frame_px)
    own = np.array([[synthetic.scene_from_seed(3, 2, sample, "val").gaze] for sample in (1, 4, 5)])
    np.testing.assert_array_equal(rendered.redraw(samples, own).images, samples.images)
    assert rendered.drew(samples)
    others = rendered.redraw(samples, other_gazes(samples))
    assert others.canvas == canvas and len(others) == 24

    pasted = paste_samples(noise(canvas, 3), samples)
    assert (pasted[~samples.eye_masks] == samples.images[~samples.eye_masks]).all()
    assert (pasted != samples.images).any(axis=-1)[samples.eye_masks].mean() > 0.9


@BANDS
@pytest.mark.parametrize("head", [(0.0, 0.0), (0.1, -0.15)])
def test_a_photo_is_aligned_and_pasted_inside_its_mask(canvas, head):
    photo = load_photo(DOCS / "astronaut.png", DOCS / "astronaut_mask.png", (0, 0), head, canvas)
    samples = photo.samples
    assert samples.images.shape == (1, *canvas.shape, 3) and samples.canvas == canvas and samples.valid.all()
    assert (
        np.linalg.norm(move(photo.to_canvas, EYES) - canvas.project(EYE_CENTRES_MM, samples.head[0]), axis=1).max() < 2
    )
    pasted = paste(photo, noise(canvas)[0])
    assert (pasted[~photo.mask] == photo.original[~photo.mask]).all()
    assert (pasted != photo.original).any(axis=-1)[photo.mask].mean() > 0.8
    back = paste(photo, samples.images[0])
    assert 10 * np.log10(255**2 / np.mean((back[photo.mask].astype(float) - photo.original[photo.mask]) ** 2)) > 34


def test_the_window_around_a_face_does_not_depend_on_the_canvas():
    windows = [
        load_photo(DOCS / "astronaut.png", DOCS / "astronaut_mask.png", (0, 0), (0, 0), canvas).around_face()
        for canvas in (canvas_camera(128), NARROW, WIDE)
    ]
    sides = [window.mask.shape for window in windows]
    assert np.ptp(sides, axis=0).max() <= 4 and np.ptp([window.eyes for window in windows], axis=0).max() < 4


@BANDS
def test_a_frame_is_aligned_and_pasted_inside_the_squares(canvas):
    frame = np.asarray(Image.open(DOCS / "astronaut.png").convert("RGB"))
    whole, near = (align_face(frame, EYES, np.zeros(2), canvas, near=each) for each in (False, True))
    np.testing.assert_array_equal(whole.to_canvas, near.to_canvas)
    assert np.abs(whole.image.astype(int) - near.image).mean() < 1 and near.valid.all()
    assert np.linalg.norm(move(near.to_canvas, EYES) - canvas.project(EYE_CENTRES_MM, near.head), axis=1).max() < 0.5

    pasted = paste_in_regions(frame, near.head, noise(canvas)[0], near.to_canvas, canvas)
    inside = np.zeros(frame.shape[:2], dtype=bool)
    for _, window, depth in regions_in_photo(frame.shape[:2], near.to_canvas, near.head, canvas):
        inside[window] |= depth >= 0
    changed = (pasted != frame).any(axis=-1)
    assert not changed[~inside].any() and changed[inside].mean() > 0.8
    half = paste_in_regions(frame, near.head, noise(canvas)[0], near.to_canvas, canvas, strength=0.5)
    assert np.abs(half - (pasted.astype(float) + frame) / 2).max() <= 1
    assert scale_of(near.to_canvas) > 1

    edge = 250  # through the right eye
    for right, same in ((edge, slice(0, edge - 20)), (2 * frame.shape[1], slice(None))):
        outline = np.array([[-9, -9], [right, -9], [right, 999], [-9, 999]])
        cut = paste_in_regions(frame, near.head, noise(canvas)[0], near.to_canvas, canvas, outline=outline)
        assert (cut[:, right:] == frame[:, right:]).all() and (cut[:, same] == pasted[:, same]).all()
    assert changed[:, edge:].any()


def test_a_larger_frame_is_aligned_nearly_as_well_when_near():
    frame = np.asarray(Image.open(DOCS / "astronaut.png").convert("RGB").resize((2400, 2400)))
    whole, near = (align_face(frame, EYES * 2400 / 512, np.zeros(2), NARROW, near=each) for each in (False, True))
    assert scale_of(near.to_canvas) < 1 and (near.valid == whole.valid).all()
    assert np.abs(whole.image.astype(int) - near.image).mean() < 1
