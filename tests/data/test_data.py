"""The HDF5 side of the data room, on files written as the published writers write them: lzf, one-sample chunks."""

import logging
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from vaegaze.data import hdf5
from vaegaze.data.layouts import LAYOUTS
from vaegaze.data.selection import choose_person, choose_samples
from vaegaze.errors import UserError
from vaegaze.geometry.alignment import place
from vaegaze.geometry.camera import EYE_CENTRES_MM, Camera, canvas_camera, gaze_vector, head_rotation
from vaegaze.geometry.circles import enclosing_circle
from vaegaze.geometry.eye_regions import circles_from_parsing, draw_squares, pose_mask
from vaegaze.geometry.pasting import inward_alpha
from vaegaze.geometry.transforms import inverse, move, similarity, warp
from vaegaze.images.blobs import find_blobs, without_specks

SKIN, BLUE = (200, 170, 150), (0, 0, 255)
FRAMES = {"ST-ED": (128, 128), "FAZE": (64, 256), "upstream": (256, 256)}
LABEL_WIDTHS = {"ST-ED": 8, "FAZE": 4, "upstream": 4}


def camera_of(layout_name: str) -> Camera:
    return next(row for row in LAYOUTS if row.name == layout_name).camera(*FRAMES[layout_name])


def iris_points(camera: Camera, head, gaze) -> np.ndarray:
    """(2, 2) pixels: the iris centres of eyeballs 11 mm in radius that lie 8 mm behind the eye centres."""
    eyeballs_mm = EYE_CENTRES_MM + np.array([0, 0, 8])
    return camera.project(eyeballs_mm + 11 * gaze_vector(gaze) @ head_rotation(head), head)


def draw_face(camera: Camera, head, gaze) -> np.ndarray:
    """Skin and two blue irises, 5.5 mm in radius."""
    frame = np.full((camera.height_px, camera.width_px, 3), SKIN, dtype=np.uint8)
    ys, xs = np.mgrid[: camera.height_px, : camera.width_px] + 0.5
    for x, y in iris_points(camera, head, gaze):
        frame[np.hypot(xs - x, ys - y) <= 5.5 * camera.focal_px / camera.distance_mm] = BLUE
    return frame


def blueness(image: np.ndarray) -> np.ndarray:
    return np.clip((image[..., 2].astype(float) - image[..., 0]) / 255, 0, 1)


def write(path: Path, persons: dict[str, dict[str, np.ndarray]]) -> Path:
    with h5py.File(path, "w") as file:
        for person_id, datasets in persons.items():
            group = file.create_group(person_id)
            for key, data in datasets.items():
                group.create_dataset(key, data=data, chunks=(1, *data.shape[1:]), compression="lzf")
    return path


def person(layout_name: str, count: int = 4, seed: int = 0) -> dict[str, np.ndarray]:
    """Faces drawn by the layout's camera, with heads within ±25° and gazes within ±20°."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((count, LABEL_WIDTHS[layout_name]), dtype=np.float32)
    labels[:, 2:4] = np.radians(rng.uniform(-25, 25, (count, 2)))
    labels[:, 0:2] = labels[:, 2:4] + np.radians(rng.uniform(-20, 20, (count, 2)))
    camera = camera_of(layout_name)
    return {"pixels": np.stack([draw_face(camera, row[2:4], row[:2]) for row in labels]), "labels": labels}


@pytest.mark.parametrize("name", FRAMES)
@pytest.mark.parametrize("size_px", [128, 256])
def test_every_layout_lands_where_the_canvas_camera_sees_it(tmp_path, name, size_px):
    path = write(tmp_path / "a.h5", {"00002": person(name, count=40)})
    # A strip's camera looks at another point, so it sees an eyeball from a slightly other side.
    tolerance_px = (1.0 if name == "FAZE" else 0.3) * size_px / 128
    data = hdf5.read_person(path, "00002", range(40), canvas_camera(size_px))
    assert (data.layout, data.mask_source) == (name, "head pose")

    for image, mask, valid, gaze, head in zip(
        data.samples.images, data.samples.eye_masks, data.samples.valid, data.samples.gaze, data.samples.head
    ):
        blue = blueness(image) * valid
        expected = iris_points(canvas_camera(size_px), head, gaze)
        assert blue.sum() > 0.8 * 2 * np.pi * (5.5 * size_px / 128 * 500 / 600) ** 2, "both irises are drawn"
        assert (blue * mask).sum() > 0.99 * blue.sum(), "the irises lie inside the eye mask"
        ys, xs = np.mgrid[:size_px, :size_px] + 0.5
        for half, (x, y) in zip((xs < expected[:, 0].mean(), xs >= expected[:, 0].mean()), expected):
            weight = blue * half
            centre = np.array([(weight * xs).sum(), (weight * ys).sum()]) / weight.sum()
            assert np.linalg.norm(centre - (x, y)) < tolerance_px


@pytest.mark.parametrize("name", FRAMES)
def test_signs_pitch_up_yaw_left(tmp_path, name):
    centred = {}
    for direction, gaze in {"up": (0.3, 0), "down": (-0.3, 0), "left": (0, 0.3), "right": (0, -0.3)}.items():
        frame = draw_face(camera_of(name), (0, 0), gaze)
        labels = np.zeros((1, LABEL_WIDTHS[name]), dtype=np.float32)
        labels[0, :2] = gaze
        path = write(tmp_path / f"{direction}.h5", {"00002": {"pixels": frame[None], "labels": labels}})
        samples = hdf5.read_person(path, "00002", [0], canvas_camera(128)).samples
        np.testing.assert_allclose(samples.gaze[0], gaze, atol=1e-6)
        centred[direction] = np.argwhere(blueness(samples.images[0]) > 0.5).mean(axis=0)  # y, x
    assert centred["up"][0] < centred["down"][0] - 3
    assert centred["left"][1] < centred["right"][1] - 3


def test_frontal_eyes_stand_where_the_facts_say():
    np.testing.assert_allclose(
        canvas_camera(128).project(EYE_CENTRES_MM, (0, 0)), [[36.8, 39.0], [91.2, 39.0]], atol=0.05
    )
    strip = camera_of("FAZE").project(EYE_CENTRES_MM, (0, 0))
    np.testing.assert_allclose(strip, [[57.6, 28.8], [198.4, 28.8]], atol=0.1)


def test_a_strip_covers_part_of_the_canvas_and_the_mask_stays_inside(tmp_path):
    samples = hdf5.read_person(
        write(tmp_path / "a.h5", {"1": person("FAZE")}), "1", range(4), canvas_camera(128)
    ).samples
    share = samples.valid.mean()
    assert 0.1 < share < 64 * 256 * (500 / 1300) ** 2 / 128**2
    assert not (samples.eye_masks & ~samples.valid).any()
    assert (samples.images[~samples.valid] == SKIN).mean() > 0.9, "around the strip its edge is repeated"


def test_same_size_is_untouched_and_half_size_is_a_plain_resize(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (2, 256, 256, 3), dtype=np.uint8)
    labels = np.full((2, 4), 0.2, dtype=np.float32)
    path = write(tmp_path / "a.h5", {"1": {"pixels": noise, "labels": labels}})
    same = hdf5.read_person(path, "1", [0, 1], canvas_camera(256)).samples
    assert (same.images == noise).all() and same.valid.all()
    half = hdf5.read_person(path, "1", [1], canvas_camera(128)).samples
    assert (half.images[0] == np.asarray(Image.fromarray(noise[1]).resize((128, 128), Image.Resampling.BICUBIC))).all()
    assert half.valid.all()


def test_float_pixels_mean_the_same(tmp_path):
    stored = person("upstream")
    unit = {**stored, "pixels": (stored["pixels"] / 255).astype(np.float32)}
    full = {**stored, "pixels": stored["pixels"].astype(np.float64)}
    path = write(tmp_path / "a.h5", {"bytes": stored, "unit": unit, "full": full})
    expected = hdf5.read_person(path, "bytes", [0, 1], canvas_camera(128)).samples.images
    for name in ("unit", "full"):
        assert (hdf5.read_person(path, name, [0, 1], canvas_camera(128)).samples.images == expected).all()


def test_floats_that_resizing_left_a_little_too_large(tmp_path):
    """Rounding is no matter; beyond it a picture in 0..1 must not pass for a black one in 0..255."""
    stored = person("upstream")
    unit = (stored["pixels"] / 255).astype(np.float32)
    unit[:, :8] = 0, 1, 1
    persons = {
        "unit": unit,
        "rounded": np.where(unit == 1, 1 + 1e-6, np.where(unit == 0, -1e-6, unit)),
        "overshot": np.where(unit == 1, 1.04, unit),
    }
    stored = {name: {**stored, "pixels": pixels.astype("f4")} for name, pixels in persons.items()}
    path = write(tmp_path / "a.h5", stored)
    read = (hdf5.read_person(path, name, [0], canvas_camera(128)) for name in ("unit", "rounded"))
    unit, rounded = (data.samples.images for data in read)
    assert (unit == rounded).all() and unit.mean() > 100
    with pytest.raises(UserError, match=r"row 0: pixels from 0 to 1.04, which fit neither 0..1 nor 0..255"):
        hdf5.read_person(path, "overshot", [0], canvas_camera(128))


def test_floats_of_another_range(tmp_path):
    """To clip what was normalised would make its dark half black."""
    stored = person("upstream")
    unit = stored["pixels"].astype("f4") / 255
    mean, spread = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    persons = {
        "signed": (2 * unit - 1, "undo what normalised them"),
        "standardised": ((unit - mean) / spread, "undo what normalised them"),
        "unknown": (np.where(unit > 0.5, np.nan, unit), "in place of NaN"),
        "overshot": (260 * unit - 4, "clip them to one"),
    }
    for values, _ in persons.values():
        values[:, 0, 0], values[:, 0, 1] = np.nanmin(values), np.nanmax(values)
    path = write(tmp_path / "a.h5", {name: {**stored, "pixels": values} for name, (values, _) in persons.items()})
    for name, (_, words) in persons.items():
        with pytest.raises(UserError, match=words):
            hdf5.read_person(path, name, [0], canvas_camera(128))


def test_the_order_of_rows_is_kept_and_the_file_closed(tmp_path):
    stored = person("ST-ED", count=6)
    path = write(tmp_path / "a.h5", {"1": stored})
    samples = hdf5.read_person(path, "1", np.array([4, 0, 5]), canvas_camera(128)).samples
    assert samples.indices.tolist() == [4, 0, 5]
    assert (samples.images == stored["pixels"][[4, 0, 5]]).all()
    np.testing.assert_array_equal(samples.gaze, stored["labels"][[4, 0, 5], :2])
    assert samples.gaze.dtype == samples.head.dtype == np.float32
    h5py.File(path, "a").close()  # refused while a reader has it open


def parsing_of(head, camera: Camera) -> np.ndarray:
    """A face parsing with eyes 20 px and 28 px wide, each with its iris."""
    parsing = np.zeros((camera.height_px, camera.width_px), dtype=np.uint8)
    ys, xs = np.mgrid[: camera.height_px, : camera.width_px] + 0.5
    for (x, y), eye, iris, width in zip(camera.project(EYE_CENTRES_MM, head), (1, 2), (3, 4), (20, 28)):
        parsing[((xs - x) / (width / 2)) ** 2 + ((ys - y) / (width / 4)) ** 2 <= 1] = eye
        parsing[np.hypot(xs - x, ys - y) <= width / 5] = iris
    return parsing


def test_masks_from_face_parsing_and_a_blink_from_the_head_pose(tmp_path, caplog):
    stored = person("upstream", count=3)
    camera = camera_of("upstream")
    stored["face_parsing"] = np.stack([parsing_of(row[2:4], camera) for row in stored["labels"]])
    stored["face_parsing"][1] = 0  # both eyes closed
    stored["face_parsing"][2][np.isin(stored["face_parsing"][2], (1, 3))] = 0  # one eye hidden
    with caplog.at_level(logging.DEBUG):
        data = hdf5.read_person(write(tmp_path / "a.h5", {"1": stored}), "1", [0, 1, 2], canvas_camera(128))
    assert data.mask_source == "face_parsing (2 of 3 samples: head pose)"
    assert "face_parsing" in caplog.text

    open_eyes, blink, one_eye = data.samples.eye_masks
    for (x, y), width in zip(canvas_camera(128).project(EYE_CENTRES_MM, stored["labels"][0, 2:4]), (20, 28)):
        rows, columns = np.nonzero(open_eyes & (abs(np.arange(128) + 0.5 - x) < 20))
        assert abs(np.ptp(columns) + 1 - 1.4 * width / 2) <= 2 and abs(np.ptp(rows) + 1 - 1.4 * width / 2) <= 2
        assert abs(columns.mean() + 0.5 - x) < 0.7 and abs(rows.mean() + 0.5 - y) < 0.7
    assert (blink == pose_mask(stored["labels"][1, 2:4], canvas_camera(128))).all()
    assert find_blobs(one_eye)[0].size == 2


@pytest.mark.parametrize("key", ["face_parsing", "mask"])
def test_eyes_of_less_than_a_pixel_come_from_the_head_pose(tmp_path, key):
    stored, canvas = person("upstream", count=2), canvas_camera(32)
    stored[key] = np.zeros((2, 256, 256), dtype=np.uint8)
    for eye, (x, y) in enumerate(camera_of("upstream").project(EYE_CENTRES_MM, stored["labels"][0, 2:4]).astype(int)):
        value = 255 if key == "mask" else eye + 1
        stored[key][0, y, x] = value
        stored[key][1, y - 20 : y + 20, x - 20 : x + 20] = value
    data = hdf5.read_person(write(tmp_path / "a.h5", {"1": stored}), "1", [0, 1], canvas)
    assert data.mask_source == f"{key} (1 of 2 samples: head pose)" and data.mask_by_pose.tolist() == [True, False]
    assert (data.samples.eye_masks[0] == pose_mask(stored["labels"][0, 2:4], canvas)).all()
    assert data.samples.eye_masks[1].sum() > 20


@pytest.mark.parametrize("full_scale", [1, 255, 1.0])
def test_legacy_mask(tmp_path, full_scale):
    stored = person("upstream", count=2)
    stored["mask"] = np.zeros((2, 256, 256), dtype=type(full_scale) if isinstance(full_scale, float) else np.uint8)
    stored["mask"][0, 60:100, 40:80] = full_scale
    data = hdf5.read_person(write(tmp_path / "a.h5", {"1": stored}), "1", [0, 1], canvas_camera(128))
    assert data.mask_source == "mask (1 of 2 samples: head pose)"
    expected = np.zeros((128, 128), dtype=bool)
    expected[30:50, 20:40] = True
    assert (data.samples.eye_masks[0] == expected).all() and data.samples.eye_masks[1].any()


@pytest.mark.parametrize("name", FRAMES)
def test_mask_picture_named_by_the_config(tmp_path, name):
    stored = person(name)
    stored["labels"][:, 2:4] = 0  # frontal, so that a strip lies alike in every sample
    path = write(tmp_path / "a.h5", {"1": stored})
    canvas_mask = np.zeros((128, 128), dtype=np.uint8)
    canvas_mask[34:44, 30:50] = 255
    to_frame = inverse(place(camera_of(name), (0, 0), canvas_camera(128)))
    for kind, grey in {"canvas": canvas_mask, "frame": warp(canvas_mask, to_frame, *FRAMES[name])[0]}.items():
        mask_path = tmp_path / f"{kind}.png"
        Image.fromarray(grey).save(mask_path)
        data = hdf5.read_person(path, "1", [0, 1], canvas_camera(128), mask_path)
        assert data.mask_source == str(mask_path)
        for mask in data.samples.eye_masks:
            assert (mask != (canvas_mask > 0)).sum() <= (0 if kind == "canvas" else 20)
    Image.new("L", (100, 90)).save(tmp_path / "other.png")
    with pytest.raises(UserError, match=rf"100×90 pixels; expected {FRAMES[name][1]}×{FRAMES[name][0]}.* 128×128"):
        hdf5.read_person(path, "1", [0], canvas_camera(128), tmp_path / "other.png")
    with pytest.raises(UserError, match=r"mask_path: .*none.png does not exist"):
        hdf5.read_person(path, "1", [0], canvas_camera(128), tmp_path / "none.png")


def test_masks_in_the_file_win_over_a_mask_picture_and_it_is_said(tmp_path):
    path = write(tmp_path / "a.h5", {"1": {**person("upstream"), "mask": np.ones((4, 256, 256))}})
    data = hdf5.read_person(path, "1", [0], canvas_camera(128), tmp_path / "none.png")
    assert data.mask_source.startswith("mask (") and data.mask_source.endswith("is not used: the file has masks)")


def test_an_id_that_would_write_to_the_terminal_is_never_drawn(tmp_path):
    path = write(tmp_path / "a.h5", {"00002": person("ST-ED", 3), "\x1b[2J": person("ST-ED", 5)})
    assert hdf5.person_counts(path) == {"00002": 3, "\x1b[2J": 0}


def test_counts_and_finding_a_person(tmp_path):
    path = write(tmp_path / "a.h5", {"00002": person("ST-ED", 3), "00010": person("ST-ED", 1), "empty": {}})
    assert hdf5.person_counts(path) == {"00002": 3, "00010": 1, "empty": 0}
    assert hdf5.sample_count(path, "00002") == 3
    for wrong in ("00003", "2", "../00002", "00002/pixels", ""):
        with pytest.raises(UserError, match=r"is not among the file's 3; .*'00002'"):
            hdf5.sample_count(path, wrong)


def broken(change: str) -> dict[str, np.ndarray]:
    stored = person("ST-ED")
    match change:
        case "no images":
            del stored["pixels"]
        case "no labels":
            del stored["labels"]
        case "wrong width":
            stored["labels"] = stored["labels"][:, :3]
        case "different lengths":
            stored["labels"] = stored["labels"][:3]
        case "no known layout":
            stored["pixels"] = stored["pixels"][:, :50]
        case "of shape .4, 64, 64.; expected the frames'":
            stored["mask"] = np.ones((4, 64, 64))
        case "no angles":
            stored["labels"][2, 1] = np.nan
        case "degrees":
            stored["labels"][2, :2] = 20.0
        case "pixels of type int32":
            stored["pixels"] = stored["pixels"].astype(np.int32)
        case "pixels from -1 to":
            stored["pixels"] = np.linspace(-1, 1, stored["pixels"].size, dtype="f4").reshape(stored["pixels"].shape)
        case "pixels from nan":
            stored["pixels"] = np.full(stored["pixels"].shape, np.nan, dtype=np.float32)
    return stored


@pytest.mark.parametrize(
    ("change", "row"),
    [
        ("no images", None),
        ("no labels", None),
        ("wrong width", None),
        ("different lengths", None),
        ("no known layout", None),
        ("of shape .4, 64, 64.; expected the frames'", None),
        ("no angles", 2),
        ("degrees", 2),
        ("pixels of type int32", None),
        ("pixels from -1 to", 0),
        ("pixels from nan", 0),
    ],
)
def test_what_is_wrong_with_a_person_is_said(tmp_path, change, row):
    path = write(tmp_path / "a.h5", {"00007": broken(change)})
    with pytest.raises(UserError, match=change) as error:
        if change != "pixels from -1 to":
            hdf5.read_person(path, "00007", range(3), canvas_camera(128))
        hdf5.read_person(path, "00007", range(4), canvas_camera(128))
    assert "person '00007'" in str(error.value) and "\n" not in str(error.value)
    assert row is None or f"row {row}:" in str(error.value)


def test_an_empty_mask_picture_leaves_it_to_the_head_pose(tmp_path):
    path = write(tmp_path / "a.h5", {"1": person("FAZE", 1)})
    Image.new("L", (256, 64)).save(tmp_path / "none.png")
    data = hdf5.read_person(path, "1", [0], canvas_camera(128), tmp_path / "none.png")
    assert data.mask_source.endswith("none.png (1 of 1 samples: head pose)") and data.samples.eye_masks.any()


def make_hostile(kind: str, path: Path) -> None:
    """A file with a good person '1' and a hostile or damaged one '2'."""
    good = person("ST-ED", 2)
    write(path, {"1": good, "2": {"labels": good["labels"]}})
    elsewhere = write(path.with_name("elsewhere.h5"), {"1": good})
    with h5py.File(path, "a") as file:
        match kind:
            case "soft link":
                file["2/pixels"] = h5py.SoftLink("/1/pixels")
            case "soft link to a person":
                del file["2"]
                file["2"] = h5py.SoftLink("/1")
            case "external link":
                file["2/pixels"] = h5py.ExternalLink(elsewhere.name, "/1/pixels")
            case "external storage":
                path.with_name("raw.bin").write_bytes(good["pixels"].tobytes())
                raw = [(str(path.with_name("raw.bin")), 0, h5py.h5f.UNLIMITED)]
                file["2"].create_dataset("pixels", shape=(2, 128, 128, 3), dtype="u1", external=raw)
            case "virtual dataset":
                layout = h5py.VirtualLayout(shape=(2, 128, 128, 3), dtype="u1")
                layout[:] = h5py.VirtualSource(str(elsewhere), "1/pixels", shape=(2, 128, 128, 3))
                file["2"].create_virtual_dataset("pixels", layout)
            case "giant frame":
                shape = (2, 100_000, 100_000, 3)
                file["2"].create_dataset("pixels", shape=shape, dtype="u1", chunks=(1, 128, 128, 3))
            case "giant count":
                shape = (10**12, 128, 128, 3)
                file["2"].create_dataset("pixels", shape=shape, dtype="u1", chunks=(1, 128, 128, 3))
            case "giant chunk":
                shape = (20_000, 128, 128, 3)
                file["2"].create_dataset("pixels", shape=shape, dtype="u1", chunks=shape)
            case "object type":
                file["2"].create_dataset("pixels", shape=(2, 128, 128, 3), dtype=h5py.vlen_dtype(np.uint8))
            case "group for a dataset":
                file["2"].create_group("pixels")
            case "dataset for a person":
                del file["2"]
                file["2"] = np.zeros(3)


HOSTILE = {
    "soft link": "is a link",
    "soft link to a person": "is a link",
    "external link": "is a link",
    "external storage": "in other files",
    "virtual dataset": "in other files",
    "giant frame": "at most 64 MB a sample",
    "giant count": "expected 1 to 1000000 samples",
    "giant chunk": "256 MB a chunk",
    "object type": "expected plain numbers",
    "group for a dataset": "is no dataset",
    "dataset for a person": "is no group",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_files_are_refused_and_others_stay_usable(tmp_path, kind):
    make_hostile(kind, tmp_path / "a.h5")
    with pytest.raises(UserError, match=HOSTILE[kind]) as error:
        hdf5.read_person(tmp_path / "a.h5", "2", [0], canvas_camera(128))
    assert "\n" not in str(error.value) and "person '2'" in str(error.value)
    counts = hdf5.person_counts(tmp_path / "a.h5")
    assert counts["1"] == 2 and counts["2"] <= 20_000
    if "link" in kind or kind in ("giant count", "group for a dataset", "dataset for a person"):
        assert counts["2"] == 0
    assert len(hdf5.read_person(tmp_path / "a.h5", "1", [0, 1], canvas_camera(128)).samples) == 2


def test_unusable_files(tmp_path):
    good = write(tmp_path / "good.h5", {"1": person("ST-ED")})
    data = good.read_bytes()
    (tmp_path / "short.h5").write_bytes(data[: len(data) // 2])
    (tmp_path / "text.h5").write_text("GazeCapture")
    (tmp_path / "empty.h5").write_bytes(b"")
    h5py.File(tmp_path / "nobody.h5", "w").close()
    expected = {
        "none.h5": "does not exist$",
        ".": "empty.h5 is not an HDF5 file; none of the 5 persons can be used",
        "short.h5": "damaged or cut short",
        "text.h5": "not an HDF5 file",
        "empty.h5": "not an HDF5 file",
        "nobody.h5": "holds no samples",
    }
    for name, message in expected.items():
        with pytest.raises(UserError, match=message) as error:
            hdf5.person_counts(tmp_path / name)
        assert "\n" not in str(error.value) and str(tmp_path) in str(error.value)


def test_a_damaged_sample_is_one_clear_line(tmp_path):
    path = write(tmp_path / "a.h5", {"1": person("ST-ED")})
    with h5py.File(path) as file:
        chunk = file["1/pixels"].id.get_chunk_info(2)
    with open(path, "r+b") as file:
        file.seek(chunk.byte_offset)
        file.write(b"\xff" * chunk.size)
    with pytest.raises(UserError, match="damaged or cut short"):
        hdf5.read_person(path, "1", range(4), canvas_camera(128))


def test_persons_are_chosen_by_the_seed_and_evenly():
    counts = {f"{number:05d}": number for number in range(40)}
    backwards = dict(reversed(counts.items()))
    assert choose_person(counts, 30, 1) == choose_person(backwards, 30, 1)
    drawn = [choose_person(counts, 30, seed) for seed in range(2000)]
    people, times = np.unique(drawn, return_counts=True)
    assert people.tolist() == [f"{number:05d}" for number in range(30, 40)] and times.min() > 140
    with pytest.raises(
        UserError, match=r"nobody in the file has 50 samples: the most is 39 \(person '00039'\)"
    ) as caught:
        choose_person(counts, 50, 0)
    assert caught.value.about == "num_samples"
    with pytest.raises(UserError, match="holds no persons"):
        choose_person({}, 1, 0)


def test_samples_are_chosen_by_the_seed_and_disjoint():
    train, held_out = choose_samples(100, 30, 32, seed=3)
    assert len(set(train)) == 30 and len(set(held_out)) == 32 and not set(train) & set(held_out)
    assert (np.diff(train) > 0).all() and (np.diff(held_out) > 0).all()
    assert all((choose_samples(100, 30, count, seed=3)[0] == train).all() for count in (0, 5, 1000))
    assert (choose_samples(100, 30, 32, seed=3)[1] == held_out).all()
    assert (choose_samples(100, 30, 32, seed=4)[0] != train).any()
    everything, nothing = choose_samples(20, 30, 32, seed=3)
    assert everything.tolist() == list(range(20)) and len(nothing) == 0
    assert len(choose_samples(35, 30, 32, seed=3)[1]) == 5


def test_enclosing_circle_is_the_smallest():
    assert enclosing_circle(np.array([[3.5, 4.5]])) == (3.5, 4.5, 0)
    np.testing.assert_allclose(enclosing_circle(np.array([[0, 0], [4, 0], [2, 0]])), (2, 0, 2))
    np.testing.assert_allclose(enclosing_circle(np.array([[0, 0], [4, 0], [4, 4], [0, 4], [1, 2]])), (2, 2, 8**0.5))
    rng = np.random.default_rng(0)
    for _ in range(50):
        points = rng.integers(0, 60, (rng.integers(2, 200), 2)) + 0.5
        x, y, radius = enclosing_circle(points)
        assert np.hypot(*(points - (x, y)).T).max() <= radius + 1e-6
        for step in ((1e-3, 0), (-1e-3, 0), (0, 1e-3), (0, -1e-3)):  # from any other centre more is needed
            assert np.hypot(*(points - (x, y) - step).T).max() > radius - 1e-9


def test_squares_around_circles():
    mask = draw_squares(np.array([[10.0, 12.0, 5.0]]), (32, 32))
    assert mask.sum() == 14 * 14 and mask[5:19, 3:17].all()
    assert draw_squares(np.array([[10.0, 12.0, 5.0]]), (32, 32), factor=1).sum() == 100
    parsing = np.zeros((32, 32), dtype=np.uint8)
    parsing[10, 4:9] = 1
    circles = circles_from_parsing(parsing)
    np.testing.assert_allclose(circles[0], (6.5, 10.5, 2.0))
    assert np.isnan(circles[1]).all()


def test_alpha_rises_inwards_only():
    rng = np.random.default_rng(0)
    mask = np.zeros((2, 40, 50), dtype=bool)
    mask[0, 5:30, 8:40], mask[1, 10:40, 20:50] = True, True
    mask[:, 12:16, 25:27] = rng.random((2, 4, 2)) > 0.5
    alpha = inward_alpha(mask, 4.0)
    assert alpha.dtype == np.float32 and (alpha[~mask] == 0).all() and (alpha[mask] > 0).all() and alpha.max() == 1
    for layer, got in zip(mask, alpha):
        outside = np.argwhere(~layer)
        distances = [np.hypot(*(outside - point).T).min() for point in np.argwhere(layer)]
        np.testing.assert_allclose(got[layer], np.clip((np.array(distances) - 0.5) / 4, 0, 1), atol=1e-5)
    assert (inward_alpha(mask, 0) == mask).all()


def test_blobs_touching_at_corners_are_one():
    mask = np.array([[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]], dtype=bool)
    areas, centres = find_blobs(mask)
    assert areas.tolist() == [2, 2, 1]
    np.testing.assert_allclose(centres, [[1, 1], [3.5, 1], [0.5, 3.5]])
    assert without_specks(mask, 2).sum() == 4 and not without_specks(mask, 2)[3, 0]
    spiral = np.zeros((9, 9), dtype=bool)
    spiral[[0, 8], :] = spiral[:, 8] = spiral[2:, 0] = spiral[2, 2:7] = spiral[2:7, 6] = True
    assert find_blobs(spiral)[0].size == 2


def test_transforms_bring_points_over():
    points = np.array([[10.0, 20.0], [30.0, 25.0], [15.0, 60.0]])
    turn = np.array([[1.2, -0.5, 7.0], [0.5, 1.2, -3.0]])
    np.testing.assert_allclose(similarity(points, move(turn, points)), turn, atol=1e-12)
    np.testing.assert_allclose(move(inverse(turn), move(turn, points)), points)
    np.testing.assert_allclose(
        place(camera_of("upstream"), (0.3, -0.4), canvas_camera(128)), [[0.5, 0, 0], [0, 0.5, 0]], atol=1e-9
    )


def test_drawing_keeps_smooth_pictures():
    ys, xs = np.mgrid[:300, :400] + 0.5
    picture = np.stack([xs / 2, ys / 2, 100 + 50 * np.sin(xs / 30)], axis=-1)
    transform = np.array([[0.21, -0.1, 30.0], [0.1, 0.21, 5.0]])
    drawn, valid = warp(picture.astype(np.uint8), transform, 96, 100)
    ys, xs = np.mgrid[:96, :100] + 0.5
    x, y = np.moveaxis(move(inverse(transform), np.stack([xs, ys], axis=-1)), -1, 0)
    expected = np.stack([x / 2, y / 2, 100 + 50 * np.sin(x / 30)], axis=-1)
    assert 0.5 < valid.mean() < 1 and abs(drawn - expected)[valid].max() < 3.5
    assert drawn[~valid].max() <= 200


def test_reading_leaves_the_file_alone(tmp_path):
    path = write(tmp_path / "a.h5", {"1": person("ST-ED")})
    before = shutil.copy(path, tmp_path / "before.h5")
    hdf5.read_person(path, "1", [0], canvas_camera(128))
    assert path.read_bytes() == Path(before).read_bytes()


def test_a_sample_without_eye_pixels_is_refused(rendered_samples):
    rendered_samples.refuse_empty_masks("somebody")
    eye_masks = rendered_samples.eye_masks.copy()
    eye_masks[4] = False
    with pytest.raises(UserError, match=r"somebody: the eye mask of sample 4 is empty$") as caught:
        replace(rendered_samples, eye_masks=eye_masks).refuse_empty_masks("somebody")
    assert caught.value.about == "sample"
