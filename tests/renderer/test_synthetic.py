"""The rendered world: geometry, gaze, masks, determinism, files."""

import itertools
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from vaegaze.commands import render as render_command
from vaegaze.errors import UserError
from vaegaze.geometry import camera as geometry
from vaegaze.geometry.camera import canvas_camera, gaze_vector
from vaegaze.geometry.eye_regions import lids_depth, pixel_centres
from vaegaze.renderer import data_set as synthetic
from vaegaze.renderer.data_set import Scene, eye_gazes, labels, person_from_seed, render, scene_from_seed
from vaegaze.renderer.persons import eyeball_centres_mm

HEADS = [(0.0, 0.0), (0.3, 0.3), (-0.3, 0.4), (0.2, -0.4), (-0.25, -0.3)]
PLAIN = Scene(blur_px=0, noise=0, lid_opening=4.0, light_colour=(0, 0, 0), ambient_colour=(0.9, 0.9, 0.9), pupil_mm=1.5)


def wide_open_person():
    """Someone with a plain dark iris that a threshold tells from the white."""
    person = person_from_seed(0, 1)
    dark = (0.02, 0.02, 0.02)
    return replace(
        person, glasses=False, iris_contrast=0.0, limbus=0.0, iris_colour=dark, iris_ring_colour=dark, lashes=0.0,
        eyeliner=0.0, sclera_redness=0.0, epicanthus=0.0, lid_peak=0.0,
    )  # fmt: skip


def iris_centre_px(person, scene, size, side):
    """Where the middle of the iris' circle lands."""
    camera = geometry.canvas_camera(size)
    rotation = geometry.head_rotation(scene.head)
    to_plane_mm = np.sqrt(person.eyeball_radius_mm**2 - person.iris_radius_mm**2)
    axis = rotation.T @ gaze_vector(eye_gazes(person, scene)[side])
    return camera.project(eyeball_centres_mm(person)[side] + to_plane_mm * axis, scene.head)


def gaze_from_iris_pixels(image, person, scene, side):
    """Pitch and yaw from the picture alone, given where the eyeball is: an ellipse fitted to the iris' outline."""
    size = len(image)
    camera = geometry.canvas_camera(size)
    x, y, radius = geometry.eye_circles(scene.head, camera)[side]
    grey = image.astype(float).mean(axis=-1)
    rows, columns = np.mgrid[:size, :size]
    near = np.hypot(columns - x, rows - y) < 0.85 * radius
    dark = near & (grey < 0.5 * (grey[near].min() + np.percentile(grey[near], 95)))

    # Outline: along every row, where the brightness crosses half way.
    points = []
    half = 0.5 * (np.median(grey[dark]) + np.median(grey[near & ~dark]))
    for row in np.flatnonzero(dark.any(axis=1)):
        runs = np.split(np.flatnonzero(dark[row]), 1 + np.flatnonzero(np.diff(np.flatnonzero(dark[row])) > 1))
        inside = max(runs, key=len)
        if len(inside) < 4:  # the lashes' line
            continue
        for column, step in ((inside[0], -1), (inside[-1], 1)):
            here, there = grey[row, column], grey[row, column + step]
            if here < half < there:
                points.append((column + 0.5 + step * (half - here) / (there - here), row + 0.5))
    px, py = (np.array(points) - (x, y)).T / radius
    a, b, c, d, e = np.linalg.lstsq(np.stack([px**2, px * py, py**2, px, py], 1), np.ones(len(px)), rcond=None)[0]
    centre = np.linalg.solve([[2 * a, b], [b, 2 * c]], [-d, -e]) * radius + (x, y)

    # The ray through it meets the sphere that the iris' middle moves on.
    ray = np.append((centre - size / 2) / camera.focal_px, 1.0)
    rotation = geometry.head_rotation(scene.head)
    ball = rotation @ (eyeball_centres_mm(person)[side] - camera.origin_mm) + (0, 0, camera.distance_mm)
    reach2 = person.eyeball_radius_mm**2 - person.iris_radius_mm**2
    along = ray @ ball / (ray @ ray)
    step = along - np.sqrt(along**2 - (ball @ ball - reach2) / (ray @ ray))
    return geometry.pitch_yaw(step * ray - ball)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("gaze", [(0.0, 0.0), (0.15, 0.2), (-0.15, 0.2), (0.15, -0.2), (-0.15, -0.2)])
def test_irises_lie_where_the_geometry_says(head, gaze):
    person = wide_open_person()
    scene = replace(PLAIN, head=head, gaze=tuple(np.add(gaze, np.multiply(head, 0.7))))
    parsing = render(person, scene, canvas_camera(256)).face_parsing
    for side in range(2):
        rows, columns = np.nonzero(parsing == 3 + side)
        found = np.array([columns.mean() + 0.5, rows.mean() + 0.5])
        assert np.abs(found - iris_centre_px(person, scene, 256, side)).max() < 1.0


def test_signs():
    person = wide_open_person()

    def middle(gaze):
        parsing = render(person, replace(PLAIN, gaze=gaze)).face_parsing
        rows, columns = np.nonzero(parsing == 3)
        return columns.mean(), rows.mean()

    x, y = middle((0.0, 0.0))
    assert middle((0.0, 0.3))[0] < x - 2 and middle((0.0, -0.3))[0] > x + 2
    assert middle((0.3, 0.0))[1] < y - 2 and middle((-0.3, 0.0))[1] > y + 2


@pytest.mark.parametrize(("size", "tolerance_deg"), [(1024, 0.2), (128, 1.0)])
def test_gaze_can_be_read_off_the_iris_pixels(size, tolerance_deg):
    person = wide_open_person()
    for head, gaze in [
        ((0, 0), (0, 0)),
        ((0.1, 0.2), (0.2, 0.4)),
        ((-0.2, -0.1), (-0.3, -0.3)),
        ((0.2, -0.3), (0.1, 0)),
    ]:
        scene = replace(PLAIN, head=head, gaze=gaze)
        image = render(person, scene, canvas_camera(size)).image
        for side, truth in enumerate(eye_gazes(person, scene)):
            found = gaze_from_iris_pixels(image, person, scene, side)
            cosine = gaze_vector(found) @ gaze_vector(truth)
            assert np.degrees(np.arccos(min(cosine, 1))) < tolerance_deg


def test_both_eyes_meet_at_the_target():
    person = person_from_seed(0, 2)
    scene = Scene(gaze=(0.1, 0.2), head=(0.1, -0.1), target_mm=500.0)
    centres = eyeball_centres_mm(person) @ geometry.head_rotation(scene.head).T
    target = 500.0 * gaze_vector(scene.gaze)
    for centre, gaze in zip(centres, eye_gazes(person, scene)):
        distance = np.linalg.norm(target - centre)
        np.testing.assert_allclose(centre + distance * gaze_vector(gaze), target, atol=1e-9)


@pytest.mark.parametrize("number", range(1, 7))
def test_another_gaze_changes_nothing_but_the_eyes(number):
    person, scene = person_from_seed(0, number), scene_from_seed(0, number, 3)
    scene = replace(scene, jpeg_quality=60 if number % 2 else 0)
    outside = np.ones((128, 128), bool)
    middle = np.arange(128) + 0.5
    for x, y, radius in geometry.eye_circles(scene.head, geometry.canvas_camera(128)):
        half = 1.4 * radius
        outside &= ~((np.abs(middle[:, None] - y) <= half) & (np.abs(middle - x) <= half))
    first, second = (render(person, replace(scene, gaze=gaze)) for gaze in ((0.35, 0.4), (-0.35, -0.4)))
    assert np.array_equal(first.image[outside], second.image[outside])
    assert np.abs(first.image[~outside].astype(int) - second.image[~outside]).max() > 40
    assert not first.face_parsing[outside].any()


def test_how_well_a_strangers_gaze_can_be_known():
    """Whoever sees head and irises exactly, but takes everybody's eyeballs for average ones, is a degree off: no
    estimator that sees a stranger's picture can do much better."""
    average_mm = geometry.EYE_CENTRES_MM + np.array([0, 0, 8.3])
    errors = []
    for number in range(300):
        person = person_from_seed(0, number, "test")
        to_plane_mm = np.sqrt(person.eyeball_radius_mm**2 - person.iris_radius_mm**2)
        for sample in range(4):
            scene = scene_from_seed(0, number, sample, "test")
            rotation = geometry.head_rotation(scene.head)
            irises_mm = eyeball_centres_mm(person) @ rotation.T + to_plane_mm * gaze_vector(eye_gazes(person, scene))
            across = (irises_mm - average_mm @ rotation.T)[:, :2].mean(axis=0) / np.sqrt(12.0**2 - 5.9**2)
            estimate = np.array([*across, -np.sqrt(1 - across @ across)])
            errors.append(np.degrees(np.arccos(np.clip(estimate @ gaze_vector(scene.gaze), -1, 1))))
    assert 1.0 < np.mean(errors) < 1.3


def test_face_parsing_agrees_with_the_picture():
    person = wide_open_person()
    for head in HEADS:
        image, parsing = vars(render(person, replace(PLAIN, head=head, gaze=head, lid_opening=1.0))).values()
        assert set(np.unique(parsing)) == {0, 1, 2, 3, 4}
        for side in range(2):
            assert image[parsing == 3 + side].mean() < image[parsing == 1 + side].mean() - 60
        columns = [np.nonzero(parsing == part)[1].mean() for part in (1, 2)]
        assert columns[0] < columns[1]


@pytest.mark.parametrize("head", [(0.0, 0.0), (0.2, 0.3), (-0.3, 0.3), (0.1, -0.35)])
def test_eyes_end_at_the_projected_corners(head):
    person = replace(wide_open_person(), corner_lift_mm=0.0)
    parsing = render(person, replace(PLAIN, head=head, gaze=head, lid_opening=1.0), canvas_camera(512)).face_parsing
    corners_px = geometry.canvas_camera(512).project(geometry.EYE_CORNERS_MM, head)
    for side in range(2):
        columns = np.nonzero(np.isin(parsing, (1 + side, 3 + side)))[1]
        left, right = sorted(corners_px[side, :, 0])
        assert abs(columns.min() - left) < 4 and abs(columns.max() + 1 - right) < 4  # 1 px of 128


def test_every_sample_shows_both_eyes():
    for number in range(1, 7):
        for sample in range(3):
            parsing = render(person_from_seed(3, number), scene_from_seed(3, number, sample)).face_parsing
            assert min((np.isin(parsing, (1 + side, 3 + side))).sum() for side in range(2)) > 25


def test_same_numbers_same_pixels():
    first, second = (render(person_from_seed(1, 2), scene_from_seed(1, 2, 5)).image for _ in range(2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, render(person_from_seed(1, 2), scene_from_seed(1, 2, 6)).image)


def test_proportions_hold_at_any_size():
    person, scene = person_from_seed(0, 1), replace(scene_from_seed(0, 1, 0), noise=0.0)
    small = render(person, scene, canvas_camera(64)).image.astype(float)
    large = render(person, scene, canvas_camera(256)).image.reshape(64, 4, 64, 4, 3).mean(axis=(1, 3))
    assert np.abs(small - large).mean() < 6


def test_no_split_shows_anothers_persons():
    persons = [person_from_seed(0, number, split) for split in synthetic.SPLITS for number in range(1, 30)]
    assert len({person.texture_seed for person in persons}) == len(persons)


def test_file_has_the_upstream_layout(tmp_path):
    path = tmp_path / "faces.h5"
    synthetic.write_hdf5(path, 2, size=32, seed=5, samples=(3, 6), split="train")
    with h5py.File(path) as file:
        assert list(file) == ["person_001", "person_002"]
        first, second = file["person_001"], file["person_002"]
        assert first["pixels"].shape == (60, 32, 32, 3) and first["pixels"].dtype == np.uint8
        assert first["pixels"].chunks == (1, 32, 32, 3) and first["pixels"].compression == "lzf"
        assert first["labels"].shape == (60, 8) and first["labels"].dtype == np.float32
        assert first["face_parsing"].shape == (60, 32, 32) and first["face_parsing"].dtype == np.uint8
        assert 3 <= len(second["labels"]) <= 6
        person, scene = person_from_seed(5, 2, "train"), scene_from_seed(5, 2, 1, "train")
        np.testing.assert_array_equal(second["pixels"][1], render(person, scene, canvas_camera(32)).image)
        np.testing.assert_array_equal(second["labels"][1], labels(person, scene))
        assert file.attrs["split"] == second.attrs["split"] == b"train"


def test_one_file_holds_all_splits(tmp_path):
    path = tmp_path / "faces.h5"
    flags = ["--persons", "10", "--samples", "1:2", "--size", "16", "--seed", "3"]
    assert render_command.main(["--output", str(path), *flags]) == 0
    with h5py.File(path) as file:
        assert file.attrs["split"] == b"all"
        splits = [group.attrs["split"] for group in file.values()]
        assert splits == [b"train"] * 8 + [b"val", b"test"]
        for number in (1, 9, 10):
            group, split = file[f"person_{number:03d}"], splits[number - 1].decode()
            assert (group.attrs["seed"], group.attrs["number"]) == (3, number)
            person, scene = person_from_seed(3, number, split), scene_from_seed(3, number, 0, split)
            np.testing.assert_array_equal(group["pixels"][0], render(person, scene, canvas_camera(16)).image)


@pytest.mark.parametrize("persons", [1, 2, 3, 10, 200])
def test_splits_have_their_shares(persons):
    splits = [synthetic.split_of(number, persons) for number in range(1, persons + 1)]
    share = 0 if persons < 3 else max(1, persons // 10)
    assert splits.count("val") == splits.count("test") == share and splits.count("train") == persons - 2 * share


def test_an_existing_file_is_kept(tmp_path, capsys):
    path = tmp_path / "faces.h5"
    path.write_bytes(b"precious")
    with pytest.raises(UserError, match="exists already"):
        synthetic.write_hdf5(path, 1, size=16)
    assert render_command.main(["--output", str(path), "--persons", "1", "--size", "16"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert path.read_bytes() == b"precious"
    assert render_command.main(["--output", str(path), "--persons", "1", "--size", "16", "--overwrite"]) == 0
    with h5py.File(path) as file:
        assert len(file["person_001/labels"]) == 60


def test_interrupted_writing_leaves_nothing(tmp_path, monkeypatch):
    calls = iter(range(5))

    def interrupted(*args):
        if next(calls) == 4:
            raise KeyboardInterrupt
        return render(*args)

    monkeypatch.setattr(synthetic, "render", interrupted)
    assert render_command.main(["--output", str(tmp_path / "faces.h5"), "--persons", "1", "--size", "16"]) == 130
    assert list(tmp_path.iterdir()) == []


def test_demo_file_is_made_once(tmp_path, monkeypatch):
    monkeypatch.setattr(synthetic, "DEMO_SAMPLES", {1: 60, 2: 2})
    path = synthetic.demo_file(tmp_path / "deep" / "demo.h5")
    made = path.stat().st_mtime_ns
    assert synthetic.demo_file(path) == path and path.stat().st_mtime_ns == made


def test_a_rule_chooses_the_demos_person():
    """The first seed whose person_001 wears no glasses and is at most as blurred as the median of all."""

    def blur_px(split, seed, number):
        return synthetic._recording(split, seed, number).places[0].blur_px

    median_px = np.median([blur_px("train", 0, number) for number in range(1, 1001)])
    fitting = (
        s for s in itertools.count() if not person_from_seed(s, 1).glasses and blur_px("demo", s, 1) <= median_px
    )
    assert next(fitting) == synthetic.DEMO_SEED


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--output", "a.h5", "--person", "2"], ["--person: unknown flag; did you mean --persons?"]),
        (["--output", "a.h5", "--persons", "0"], ["--persons", "got '0'", "whole number >= 1"]),
        (["--output", "a.h5", "--samples", "5:x"], ["--samples", "got '5:x'", "N | LOW:HIGH"]),
        (["--output", "a.h5", "--samples", "0:5"], ["--samples", "got '0:5'"]),
        (["--output", "a.h5", "--samples", "9:5"], ["--samples", "the lower number first"]),
        (["--output", "a.h5", "--seed", "-1"], ["--seed", "got '-1'"]),
        (["--output", "a.h5", "--split", "tset"], ["--split", "did you mean test?"]),
        (["--persons", "2"], ["give --output PATH"]),
        (["--output", "."], ["--output: . is a folder"]),
        (["--output", "file/a.h5"], ["--output: cannot write to file"]),
    ],
)
def test_mistakes_are_one_line(flags, words, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("in the way")
    assert render_command.main(flags) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1 and all(word in err for word in words), err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_whom_chance_draws():
    """One in six with glasses, and every tone of the Monk scale."""
    persons = [person_from_seed(0, number, "train") for number in range(2000)]
    assert 0.14 < np.mean([person.glasses for person in persons]) < 0.195  # three standard deviations
    tones = np.array([person.skin_tone for person in persons])
    shares = np.histogram(tones, bins=10, range=(0, 9))[0] / len(tones)
    assert tones.min() >= 0 and tones.max() <= 9 and shares.min() > 0.03, shares


def test_the_same_pixels_on_any_machine():
    """To a level of 255, as they were once stored: without JPEG, whose decoders differ by more."""
    scene = replace(scene_from_seed(0, 1, 0), jpeg_quality=0)
    stored = np.asarray(Image.open(Path(__file__).with_name("rendered_face.png")), int)
    assert np.abs(render(person_from_seed(0, 1), scene, canvas_camera(64)).image - stored).max() <= 1


def area_depth(head, camera):
    """(2, H, W): how deep pixels lie in the region in the shape of each eye."""
    points = np.moveaxis(pixel_centres(camera.shape)[::-1], 0, -1)
    return np.stack([lids_depth(corners, points) for corners in camera.project(geometry.EYE_CORNERS_MM, head)])


@pytest.mark.parametrize("camera", [canvas_camera(128), geometry.Camera(192, 96, 1000, geometry.BETWEEN_EYES_MM)])
@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_gaze_stays_within_the_shape_of_eyes(number, camera):
    person, scene = person_from_seed(0, number), scene_from_seed(0, number, 3)
    scene = replace(scene, jpeg_quality=60 if number % 2 else 0)
    first, second = (render(person, replace(scene, gaze=gaze), camera) for gaze in ((0.35, 0.4), (-0.35, -0.4)))
    outside = (area_depth(scene.head, camera) < 0).all(axis=0)
    assert np.array_equal(first.image[outside], second.image[outside])
    assert not first.face_parsing[outside].any() and not second.face_parsing[outside].any()


@pytest.mark.parametrize("number", [1, 2, 3])
def test_visible_irises_follow_a_look_down(number):
    """The lids leave at least four fifths of the travel that wide open eyes show."""
    person = replace(person_from_seed(0, number), glasses=False)

    def travel(lid_opening):
        def middle(pitch):
            scene = Scene(gaze=(pitch, 0.0), lid_opening=lid_opening, blur_px=0, noise=0)
            parsing = render(person, scene, canvas_camera(512)).face_parsing
            return np.mean([np.nonzero(parsing == label)[0].mean() for label in (3, 4)])

        return middle(-0.35) - middle(0.0)

    assert 0.8 < travel(1.0) / travel(2.5) < 1.1


def test_irises_have_all_colours():
    persons = [person_from_seed(0, number, "train") for number in range(1000)]
    red, _, blue = np.transpose([person.iris_colour for person in persons])
    fair = np.array([person.skin_tone for person in persons]) < 3
    assert np.mean(blue[fair] > red[fair]) > 0.1 and np.mean(red[fair] > 2 * blue[fair]) > 0.3
    assert 0 < np.mean(blue[~fair] > red[~fair]) < 0.1


def test_many_faces_are_sharp_at_512_px():
    sigma_px = [4 * scene_from_seed(0, number, 0, "train").blur_px for number in range(300)]
    assert np.mean(np.array(sigma_px) < 1) > 0.2 and np.mean(np.array(sigma_px) > 2) > 0.05


def test_pictures_too_small_for_eyes(tmp_path, capsys):
    flags = ["--output", str(tmp_path / "faces.h5"), "--persons", "1", "--samples", "1"]
    assert render_command.main([*flags, "--size", "8"]) == 2
    assert "--size" in capsys.readouterr().err and not list(tmp_path.iterdir())
    assert render_command.main([*flags, "--size", "16"]) == 0
    assert "faces.h5: 1 person, 16 × 16 px" in capsys.readouterr().out
