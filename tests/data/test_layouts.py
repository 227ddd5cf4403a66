"""Colours and signs of every published layout, told by the pictures: where irises and faces lie in what is read."""

import os

import h5py
import numpy as np
import pytest
from published_layouts import CAMERAS, normalised, scene, somebody, write

from vaegaze.data import hdf5
from vaegaze.data.layouts import LAYOUTS
from vaegaze.errors import UserError
from vaegaze.geometry import camera as geometry
from vaegaze.geometry.camera import canvas_camera
from vaegaze.renderer.data_set import render
from vaegaze.renderer.persons import eyeball_centres_mm

GAZES = {"up": (0.3, 0.0), "down": (-0.3, 0.0), "left": (0.0, 0.3), "right": (0.0, -0.3)}
HEADS = [(0.3, 0.35), (-0.3, 0.35), (0.3, -0.35), (-0.3, -0.35)]
SCENES = [scene(gaze) for gaze in GAZES.values()] + [scene((0.1, -0.05), head) for head in HEADS]
LAYOUT_NAMES = {"ETH-XGaze 224": "ETH-XGaze"}  # one layout in two sizes
SIZE_PX = 128


@pytest.fixture(scope="module", params=CAMERAS)
def layout(request):
    return request.param


@pytest.fixture(scope="module")
def data(layout, tmp_path_factory):
    """The scenes as they are read, each a sample, from a file as the layout's writer writes it."""
    path = write(tmp_path_factory.mktemp("layouts") / "00002.h5", layout, SCENES)
    return hdf5.read_person(path, "00002", range(len(SCENES)), canvas_camera(SIZE_PX))


def blueness(image: np.ndarray) -> np.ndarray:
    return np.clip(image[..., 2].astype(float) - image[..., 0], 0, None)


def irises(image: np.ndarray, mask: np.ndarray, head: np.ndarray) -> np.ndarray:
    """(2, 2) x, y of the blue spot in each eye's mask, from that eye's centre; the eye on the image's left first."""
    ys, xs = np.mgrid[:SIZE_PX, :SIZE_PX] + 0.5
    found = []
    for x, y, radius in geometry.eye_circles(head, geometry.canvas_camera(SIZE_PX)):
        weight = blueness(image) * mask * (np.hypot(xs - x, ys - y) < radius)
        found.append([(weight * xs).sum() / weight.sum() - x, (weight * ys).sum() / weight.sum() - y])
    return np.array(found)


def test_the_layout_is_told_by_the_file_itself(layout, data):
    assert data.layout == LAYOUT_NAMES.get(layout, layout)
    masks = {"upstream": "face_parsing"} | dict.fromkeys(
        [name for name in CAMERAS if "GazeNeRF" in name], "left_eye_mask, right_eye_mask"
    )
    assert data.mask_source == masks.get(layout, "head pose")


def test_colours(data):
    """Irises are blue, and the skin around the eyes is not."""
    for image, mask, valid, head in zip(
        data.samples.images, data.samples.eye_masks, data.samples.valid, data.samples.head
    ):
        x, y = np.rint(geometry.canvas_camera(SIZE_PX).project(geometry.EYE_CENTRES_MM, head).mean(axis=0)).astype(int)
        bridge = image[y - 2 : y + 3, x - 2 : x + 3].reshape(-1, 3).mean(axis=0)  # of the nose
        assert bridge[0] > bridge[2] + 20
        assert (blueness(image) > 40)[mask].sum() > 20, "each mask shows an iris"
        assert mask[valid].any() and (blueness(image) > 40)[valid & mask].sum() > 20


def test_gaze_signs_by_where_the_irises_lie(data):
    """Pitch > 0 is up in the picture, yaw > 0 to its left; the labels as read say which picture is which."""
    samples = data.samples.take(slice(len(GAZES)))
    lie = np.stack([irises(*sample) for sample in zip(samples.images, samples.eye_masks, samples.head)]).mean(axis=1)
    labels = samples.gaze
    up, down, left, right = labels[:, 0].argmax(), labels[:, 0].argmin(), labels[:, 1].argmax(), labels[:, 1].argmin()
    assert lie[up, 1] < lie[down, 1] - 3 and abs(lie[up, 0] - lie[down, 0]) < 1
    assert lie[left, 0] < lie[right, 0] - 3 and abs(lie[left, 1] - lie[right, 1]) < 1


def test_irises_lie_where_gaze_and_head_as_read_put_them(data):
    """Also of turned heads: only the right frame of reference gives all of them."""
    person, camera = somebody(), geometry.canvas_camera(SIZE_PX)
    to_plane_mm = np.sqrt(person.eyeball_radius_mm**2 - person.iris_radius_mm**2)
    for image, mask, gaze, head in zip(
        data.samples.images, data.samples.eye_masks, data.samples.gaze, data.samples.head
    ):
        axis = geometry.gaze_vector(gaze) @ geometry.head_rotation(head)
        expected = camera.project(eyeball_centres_mm(person) + to_plane_mm * axis, head)
        offset = expected - camera.project(geometry.EYE_CENTRES_MM, head)
        found = irises(image, mask, head)
        assert abs(found.mean(axis=0) - offset.mean(axis=0)).max() < 1.6, (found, offset)


def test_head_signs_by_the_face(data):
    """Drawn by the head pose as read, the face is the one in the picture; by any other signs it is another."""
    samples = data.samples.take(slice(len(GAZES), None))
    for image, valid, gaze, head in zip(samples.images, samples.valid, samples.gaze, samples.head):
        errors = {}
        for signs in ((1, 1), (-1, 1), (1, -1), (-1, -1)):
            drawn = render(somebody(), scene(tuple(gaze), tuple(head * signs)), canvas_camera(SIZE_PX)).image
            errors[signs] = abs(drawn.astype(float) - image)[valid].mean()
        others = [error for signs, error in errors.items() if signs != (1, 1)]
        assert errors[1, 1] < 0.6 * min(others), errors


# --- Files and folders of one person each -----------------------------------------------------------------------------

TWO = [scene(), scene((0.1, 0.1))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two persons of ETH-XGaze, and much that is nobody."""
    folder = tmp_path_factory.mktemp("xgaze")
    write(folder / "subject0003.h5", "ETH-XGaze 224", TWO)
    write(folder / "subject0000.h5", "ETH-XGaze 224", SCENES)
    whole = (folder / "subject0003.h5").read_bytes()
    (folder / "cut.h5").write_bytes(whole[: len(whole) // 2])
    (folder / "text.h5").write_text("no HDF5 file")
    (folder / "link.h5").symlink_to(folder / "subject0003.h5")  # as a download's cache keeps files, and subsets do
    (folder / "lost.h5").symlink_to(folder / "nowhere.h5")
    (folder / "folder.h5").mkdir()
    os.mkfifo(folder / "pipe.h5")
    (folder / "._subject0003.h5").write_bytes(b"what another system leaves beside it")
    (folder / "train_test_split.json").write_text("{}")
    write(folder / "group.h5", "ST-ED", TWO)
    return folder


def test_a_folder_is_a_data_set(folder):
    counts = hdf5.person_counts(folder)
    persons = {"subject0000": len(SCENES), "subject0003": 2, "link": 2}  # there is room for 18 times as many
    nobody = dict.fromkeys(["cut", "folder", "group", "lost", "pipe", "text"], 0)
    assert counts == persons | nobody
    assert hdf5.sample_count(folder, "subject0000") == len(SCENES)
    alone = hdf5.read_person(folder / "subject0003.h5", "subject0003", [1, 0], canvas_camera(SIZE_PX)).samples
    for person_id in ("subject0003", "link"):
        samples = hdf5.read_person(folder, person_id, [1, 0], canvas_camera(SIZE_PX)).samples
        for name in vars(samples):
            assert np.array_equal(getattr(samples, name), getattr(alone, name))


@pytest.mark.parametrize(
    ("person_id", "words"),
    [
        ("lost", "does not exist"),
        ("pipe", "is no plain file"),
        ("folder", "is no plain file"),
        ("cut", "damaged or cut short"),
        ("text", "not an HDF5 file"),
        ("group", r"group\.h5 holds 1 in groups; give that file itself"),
        ("subject3", "not among the folder's 9; the closest: 'subject0003'"),
        ("../x", "not among the folder's 9"),
        ("._subject0003", "not among the folder's 9"),
    ],
)
def test_whoever_is_no_person_of_the_folder(folder, person_id, words):
    with pytest.raises(UserError, match=words) as error:
        hdf5.read_person(folder, person_id, [0], canvas_camera(SIZE_PX))
    assert "\n" not in str(error.value) and person_id in str(error.value)


def test_folders_without_anybody(tmp_path):
    with pytest.raises(UserError, match=r"is a folder without \.h5 or \.hdf5 files"):
        hdf5.person_counts(tmp_path)
    h5py.File(tmp_path / "empty.h5", "w").close()
    with pytest.raises(UserError, match=r"holds no samples; .* a folder of one \.h5 file per person"):
        hdf5.person_counts(tmp_path)


def test_other_spellings_of_the_ending(tmp_path):
    for name in ("a.h5", "b.hdf5", "c.H5"):
        write(tmp_path / name, "ETH-XGaze 224", TWO)
    assert hdf5.person_counts(tmp_path) == {"a": 2, "b": 2, "c": 2}
    assert len(hdf5.read_person(tmp_path, "b", [1, 0], canvas_camera(SIZE_PX)).samples) == 2
    write(tmp_path / "a.hdf5", "ETH-XGaze 224", TWO)
    with pytest.raises(UserError, match=r"a.h5 and a.hdf5 are both of person 'a'"):
        hdf5.person_counts(tmp_path)


def test_a_grouped_file_in_a_folder_is_to_be_given_itself(tmp_path):
    for number in range(3):
        write(tmp_path / "GazeCapture.h5", "ST-ED", TWO[:1], person_id=f"{number:05d}")
    with pytest.raises(UserError, match=r"GazeCapture\.h5 holds 3 in groups; give that file itself"):
        hdf5.person_counts(tmp_path)


def test_one_file_is_a_data_set_of_one_person(folder):
    path = folder / "subject0003.h5"
    assert hdf5.person_counts(path) == {"subject0003": 2}
    with pytest.raises(UserError, match="'subject0000' is not among the file's 1; the closest: 'subject0003'"):
        hdf5.sample_count(path, "subject0000")
    with pytest.raises(UserError, match="'face_patch' is not among the file's 1"):
        hdf5.sample_count(path, "face_patch")


def change(path, **datasets):
    """Replace top-level datasets of a file; None leaves one out, and a link may stand for one."""
    with h5py.File(path, "r+") as file:
        for key, data in datasets.items():
            if key in file:
                del file[key]
            if data is not None:
                file[key] = data
    return path


REFUSED = {
    "no head rotation": (
        "GazeNeRF (GazeCapture)",
        {"face_head_pose": None},
        "gaze relative to the head .'pitchyaw_head'., and no 'face_head_pose': without the head's rotation",
    ),
    "labels withheld": ("ETH-XGaze 224", {"face_gaze": None}, "no labels: expected 'face_gaze' and 'face_head_pose'"),
    "no head pose": ("ETH-XGaze 224", {"face_head_pose": None}, "no labels: expected 'face_gaze' and 'face_head_pose'"),
    "a linked dataset": ("ETH-XGaze 224", {"face_gaze": h5py.SoftLink("/face_head_pose")}, "'face_gaze' is a link"),
    "another file's": (
        "ETH-XGaze 224",
        {"face_gaze": h5py.ExternalLink("a.h5", "/face_gaze")},
        "'face_gaze' is a link",
    ),
    "no square": ("ETH-XGaze 224", {"face_patch": np.zeros((36, 8, 9, 3), "u1")}, "frames of no known layout"),
    "three angles": ("ETH-XGaze 224", {"face_gaze": np.zeros((36, 3))}, "labels of the wrong width"),
    "too few": ("ETH-XGaze 224", {"face_gaze": np.zeros((3, 2))}, "different lengths"),
    "another size": ("GazeNeRF (ETH-XGaze)", {"left_eye_mask": np.zeros((2, 9, 9), "u1")}, "expected the frames'"),
    "degrees": ("ETH-XGaze 224", {"face_gaze": np.full((36, 2), 20.0)}, "are they degrees"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_wrong_with_a_one_person_file_is_said(what, tmp_path):
    name, datasets, words = REFUSED[what]
    path = change(write(tmp_path / "subject0001.h5", name, TWO), **datasets)
    with pytest.raises(UserError, match=words) as error:
        hdf5.read_person(path, "subject0001", [0], canvas_camera(SIZE_PX))
    assert "\n" not in str(error.value) and "person 'subject0001'" in str(error.value)


@pytest.mark.parametrize("what", ["no head rotation", "labels withheld", "no head pose", "a linked dataset"])
def test_where_nobody_can_be_used_the_counts_say_why(what, tmp_path):
    name, datasets, words = REFUSED[what]
    path = change(write(tmp_path / "subject0001.h5", name, TWO), **datasets)
    h5py.File(tmp_path / "a.h5", "w").close()  # without images, it says nothing
    with pytest.raises(UserError, match=words):
        hdf5.person_counts(path)
    with pytest.raises(UserError, match=f"'subject0001'.*{words}.*; none of the 2 persons can be used") as error:
        hdf5.person_counts(tmp_path)
    assert "\n" not in str(error.value)


def test_room_that_nobody_filled(tmp_path):
    path = write(tmp_path / "subject0001.h5", "ETH-XGaze 224", TWO)
    with h5py.File(path, "r+") as file:
        del file["face_patch"]
        file.create_dataset("face_patch", (36, 224, 224, 3), "u1", chunks=(1, 224, 224, 3))
    with pytest.raises(UserError, match="room for 36 samples, but none was written"):
        hdf5.sample_count(path, "subject0001")
    with pytest.raises(UserError, match="room for 36 samples, but none was written"):
        hdf5.person_counts(path)


def test_an_eye_without_a_mask_is_placed_by_the_head_pose(tmp_path):
    """The writer leaves a mask empty where a turned head hides the eye."""
    path = write(tmp_path / "subject0001.h5", "GazeNeRF (GazeCapture)", TWO)
    with h5py.File(path, "r+") as file:
        file["right_eye_mask"][1] = 0
    data = hdf5.read_person(path, "subject0001", [0, 1], canvas_camera(SIZE_PX))
    assert data.mask_source == "left_eye_mask, right_eye_mask (1 of 2 samples: head pose)"
    for mask in data.samples.eye_masks:
        assert mask[:, : SIZE_PX // 2].any() and mask[:, SIZE_PX // 2 :].any()


def test_gaze_in_the_heads_frame_turns_with_the_head():
    """Straight ahead for the head is where the head points, and 0 for the head is not 0 for the camera."""
    gaze = next(row.gaze for row in LAYOUTS if row.gaze.in_head_frame)
    for head in HEADS:
        np.testing.assert_allclose(gaze.in_camera(np.zeros(2), np.array(head)), head, atol=1e-12)
        sample = normalised(somebody(), scene((0.1, -0.05), head), CAMERAS["GazeNeRF (GazeCapture)"])
        v = sample.rotation.T @ sample.gaze
        stored = np.array([np.arcsin(v[1]), np.arctan2(-v[0], -v[2])])
        z = sample.rotation[:, 2]
        read = gaze.in_camera(stored, np.array([np.arcsin(z[1]), np.arctan2(z[0], z[2])]))
        np.testing.assert_allclose(geometry.gaze_vector(read), sample.gaze, atol=1e-12)
