"""vaegaze prepare: somebody's own frames become a data file that training and inspect read as any other."""

import csv
import os
import shlex
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from command_runs import ROOT, Outcome, assert_one_line, command, files_in, invoke
from conftest import process_restored
from PIL import Image, ImageFilter

from benchmarks.rendered_video import BLINKS_SEC, rendered_video
from vaegaze.commands import inspect, prepare
from vaegaze.config.finetune import parse_command
from vaegaze.data import hdf5, labelled_frames
from vaegaze.data.frame_labels import FrameLabel
from vaegaze.errors import UserError
from vaegaze.geometry.alignment import align
from vaegaze.geometry.camera import canvas_camera, eye_circles, rolled
from vaegaze.geometry.eye_regions import circles_from_parsing, pose_mask, pose_parsing
from vaegaze.geometry.transforms import roll_of
from vaegaze.images.sharpness import MIN_SHARPNESS, sharpness
from vaegaze.images.video import write_video
from vaegaze.images.video.still import frame_at
from vaegaze.renderer import data_set as synthetic

PHOTO = ROOT / "docs" / "images" / "astronaut.png"
ANGLES = "file_or_time,pitch_deg,yaw_deg"
PERSON, SIZE_PX, FRAMES = 1, 192, (0, 1, 2, 3)
SEEN = (slice(20, 190), slice(130, 330))  # the photo's face


@pytest.fixture(scope="module")
def rendered() -> tuple[list[Image.Image], np.ndarray]:
    """A person's frames, and their labels (N, 8)."""
    person = synthetic.person_from_seed(0, PERSON)
    scenes = [synthetic.scene_from_seed(0, PERSON, number) for number in FRAMES]
    pictures = [Image.fromarray(synthetic.render(person, scene, canvas_camera(SIZE_PX)).image) for scene in scenes]
    return pictures, np.stack([synthetic.labels(person, scene) for scene in scenes])


@pytest.fixture(scope="module")
def face() -> Image.Image:
    pytest.importorskip("cv2")
    return Image.fromarray(np.asarray(Image.open(PHOTO))[SEEN])


@pytest.fixture
def run(tmp_path):
    """The command on the pictures and the lines of a table; returns how it ended."""
    pytest.importorskip("cv2")

    def run(pictures=None, lines=None, *flags, ok=True, columns=ANGLES):
        folder = tmp_path / "frames"
        folder.mkdir(exist_ok=True)
        for name, picture in (pictures or {}).items():
            (folder / name).parent.mkdir(exist_ok=True)
            picture.save(folder / name)
        if lines is not None:
            (tmp_path / "labels.csv").write_text("\n".join([columns, *lines, ""]))
        own = ("--frames", folder, "--labels", tmp_path / "labels.csv", "--output", tmp_path / "me.h5")
        return invoke(prepare.main, *own, "--person_id", "me", *flags, ok=ok)

    return run


def refused_after_work(outcome: Outcome, *words: str) -> None:
    """One line at the end, and nothing but progress before it."""
    lines = [line for line in outcome.err.splitlines(keepends=True) if not line.startswith("preparing")]
    assert_one_line(Outcome(outcome.code, outcome.out, "".join(lines)), *words)


def refused(outcome: Outcome, *words: str) -> None:
    """One line, and not a word about any frame before it."""
    assert_one_line(outcome, *words)
    assert outcome.out == ""


def read(path: Path, person_id: str = "me", size_px: int = 128) -> hdf5.PersonData:
    rows = range(hdf5.sample_count(path, person_id))
    return hdf5.read_person(path, person_id, rows, canvas_camera(size_px))


def report(tmp_path: Path) -> list[dict[str, str]]:
    with open(tmp_path / "me.frames.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def line_of(name: str, angles) -> str:
    return ",".join([name, *(f"{angle:.4f}" for angle in np.degrees(angles))])


HEADS = f"{ANGLES},head_pitch_deg,head_yaw_deg"


# --- What comes out ---------------------------------------------------------------------------------------------------


def test_rendered_frames_come_back(run, rendered, tmp_path):
    pictures, labels = rendered
    names = [f"{number}.png" for number in FRAMES]
    lines = [line_of(name, label[:4]) for name, label in zip(names, labels)]
    outcome = run(dict(zip(names, pictures)), lines, columns=HEADS)
    assert f"kept {len(FRAMES)} of {len(FRAMES)} frames" in outcome.out
    assert [row["row"] for row in report(tmp_path)] == ["0", "1", "2", "3"]

    data = read(tmp_path / "me.h5")
    assert data.layout == "upstream" and data.mask_source == "face_parsing"
    samples = data.samples
    off_deg = np.degrees(np.abs(np.hstack([samples.gaze, samples.head]) - labels[:, :4]))
    assert off_deg.max() < 2, "the frames were upright: only what the eyes were found askew is turned"
    for position, picture in enumerate(pictures):
        true = np.asarray(picture.resize((128, 128), Image.Resampling.BICUBIC))
        assert abs(samples.images[position].astype(float) - true).mean() < 16
        mask, expected = samples.eye_masks[position], pose_mask(labels[position, 2:4], canvas_camera(128))
        assert (mask & expected).sum() > 0.6 * (mask | expected).sum()


def test_the_file_is_of_the_upstream_layout(run, face, tmp_path):
    run({"a.png": face}, ["a.png,10,-20"], "--size", 160)
    with h5py.File(tmp_path / "me.h5") as file:
        assert list(file) == ["me"] and sorted(file["me"]) == ["face_parsing", "labels", "pixels"]
        shapes = {key: (data.shape, data.dtype) for key, data in file["me"].items()}
        assert shapes["pixels"] == ((1, 160, 160, 3), np.uint8)
        assert shapes["face_parsing"] == ((1, 160, 160), np.uint8)
        assert shapes["labels"] == ((1, 4), np.float32)
        assert file["me/pixels"].chunks == (1, 160, 160, 3) and file["me/pixels"].compression == "lzf"
        assert set(np.unique(file["me/face_parsing"])) == {0, 1, 2}
        left, right = (np.nonzero(file["me/face_parsing"][0] == label)[1].mean() for label in (1, 2))
        assert left < 80 < right, "1 is the picture's left eye"


@pytest.mark.parametrize("degrees", [-9, 9])
def test_the_labels_are_turned_with_the_picture(run, face, tmp_path, degrees):
    """The same face upright and on one side: the file's labels agree, if those of the table are each as one sees it."""
    gaze = np.radians([5.0, 25.0])
    tilted = rolled(gaze, np.radians(-degrees))  # Pillow turns against the clock
    pictures = {"up.png": face, "tilted.png": face.rotate(degrees, Image.Resampling.BICUBIC)}
    run(pictures, [line_of("up.png", gaze), line_of("tilted.png", tilted)])
    up, turned = np.degrees(read(tmp_path / "me.h5").samples.gaze)
    assert abs(up - turned).max() < 1.5 < abs(np.degrees(tilted - gaze)).max()


def test_points_that_somebody_looks_at(run, face, tmp_path):
    lines = ["a.png,-150,0,600", "b.png,0,-150,600"]
    run({"a.png": face, "b.png": face}, lines, columns="file_or_time,point_x_mm,point_y_mm,distance_mm")
    left, up = np.degrees(read(tmp_path / "me.h5").samples.gaze)
    assert abs(left[1] - 14) < 1 and abs(up[0] - 14) < 1, "her eyes are found askew by 3°"
    assert abs(left[0]) < 2 and abs(up[1]) < 2


def test_pose_parsing_gives_the_circles_back():
    for head in ((0, 0), (0.2, -0.3)):
        found = circles_from_parsing(pose_parsing(np.array(head), canvas_camera(128)))
        np.testing.assert_allclose(found, eye_circles(head, canvas_camera(128)), atol=0.8)


def test_the_proposed_commands_work(run, face, world, tmp_path):
    names = [f"{number}.png" for number in range(4)]
    tinted = {name: face.point(lambda value, n=n: value * (10 - n) // 10) for n, name in enumerate(names)}
    out = run(tinted, [f"{name},{n},{n}" for n, name in enumerate(names)]).out.splitlines()
    look, train = (next(shlex.split(line) for line in out if line.startswith(start)) for start in ("look:", "train:"))
    assert look[1:5] == ["python", "-m", "vaegaze", "inspect"] and train[1:3] == ["python", "oneshot_training.py"]
    with process_restored():
        assert inspect.main([*look[5:], "--output", str(tmp_path / "sheet.png")]) == 0
    flags = [str(ROOT / word) if word.startswith("configs/") else word for word in train[3:]]
    tiny = [*world.photo_flags, "--num_steps", 2, "--save_dir", tmp_path / "runs"]
    outcome = command(*flags, *tiny)
    assert outcome.code == 0 and "held out: 1 samples" in outcome.out, outcome
    assert (tmp_path / "runs" / "me" / "finetuned_model.pth").is_file()


def test_the_proposed_commands_take_names_that_begin_as_flags_do(run, face, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = run({"a.png": face}, ["a.png,0,0"], "--output", "./-me.h5", "--person_id=-me").out.splitlines()
    look, train = (next(shlex.split(line) for line in out if line.startswith(start)) for start in ("look:", "train:"))
    with process_restored():
        assert inspect.main([*look[5:], "--output", "sheet.png"]) == 0
    flags = [str(ROOT / word) if word.startswith("configs/") else word for word in train[3:]]
    params = parse_command(flags).config.oneshot_params.gazecapture_params
    assert params.person_id == "-me" and Path(params.hdf_path) == Path("-me.h5")


def test_it_is_the_same_each_time(run, face, tmp_path):
    run({"a.png": face}, ["a.png,1,2"])
    first = [(tmp_path / name).read_bytes() for name in ("me.h5", "me.frames.csv")]
    run(None, None, "--overwrite")
    assert [(tmp_path / name).read_bytes() for name in ("me.h5", "me.frames.csv")] == first


def test_frames_are_read_one_by_one(face, tmp_path, monkeypatch):
    read, labels = [], []
    for name in "abc":
        face.save(tmp_path / f"{name}.png")
        labels.append(FrameLabel(len(labels) + 2, f"{name}.png", np.zeros(2), np.zeros(2)))
    original = labelled_frames.read_picture
    monkeypatch.setattr(labelled_frames, "read_picture", lambda path, key: read.append(path) or original(path, key))
    with labelled_frames.labelled_frames(tmp_path, labels, "labels.csv") as frames:
        for count in (1, 2, 3):
            next(frames)
            assert len(read) == count


# --- Frames that cannot be used ---------------------------------------------------------------------------------------


def test_each_is_told_with_its_reason(run, face, tmp_path, cascades_only):
    eyes_covered = np.asarray(face).copy()
    eyes_covered[70:95, 50:140] = eyes_covered[110:111, 50:140]
    pictures = {
        "good.png": face,
        "wall.png": Image.new("RGB", (120, 90), "grey"),
        "two.png": Image.fromarray(np.hstack([np.asarray(face)] * 2)),
        "closed.png": Image.fromarray(eyes_covered),
        "blurred.png": face.filter(ImageFilter.GaussianBlur(3)),
        "far.png": face.resize((80, 68), Image.Resampling.BICUBIC),
        "aside.png": face,
        "cut.png": face.crop((61, 0, *face.size)),
        "extra.png": face,
    }
    names = [*list(pictures)[:-1], "text.png"]
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "text.png").write_text("no picture")
    (tmp_path / "frames" / "loop.png").symlink_to("loop.png")
    head_yaw_deg = {"aside.png": 70, "cut.png": -58}
    lines = [f"{name},0,0,0,{head_yaw_deg.get(name, 0)}" for name in names]
    outcome = run(pictures, lines, columns=HEADS)
    assert "kept 1 of 9 frames" in outcome.out and "2 more pictures" in outcome.out
    reasons = {row["file_or_time"]: row["left_out"] for row in report(tmp_path)}
    assert reasons == {
        "good.png": "",
        "wall.png": "no face",
        "two.png": "several faces",
        "closed.png": "no two open eyes",
        "blurred.png": "blurred",
        "far.png": "face too small",
        "aside.png": "head turned away",
        "cut.png": "eyes cut off",
        "text.png": "unreadable",
    }
    for name, reason in reasons.items():
        assert not reason or f"1  {reason}: {name}" in outcome.out
    assert len(read(tmp_path / "me.h5").samples) == 1
    assert next(row["line"] for row in report(tmp_path) if row["file_or_time"] == "text.png") == "10"

    (tmp_path / "labels.csv").write_text(f"{ANGLES}\ngood.png,0,0\n")
    (tmp_path / "me.h5").unlink()
    for flags, reason in ((("--face", 2), "no face 2"), (("--min_openness", 9), "eyes closed")):
        run(None, None, *flags, ok=False)
        assert report(tmp_path)[0]["left_out"] == reason
    docs = (ROOT / "docs" / "prepare.md").read_text(encoding="utf-8")
    table = docs.partition("| reason | |\n|---|---|\n")[2].partition("\n\n")[0]
    told = {*reasons.values(), "no face N", "eyes closed"} - {""}
    assert {line.split("`")[1] for line in table.splitlines()} == told


def test_of_several_faces_one_is_said(run, face, tmp_path):
    two = Image.fromarray(np.hstack([np.asarray(face), np.asarray(face) // 2]))
    run({"two.png": two}, ["two.png,0,0"], "--face", 1)
    bright = read(tmp_path / "me.h5").samples.images[0].mean()
    run(None, None, "--face", 2, "--overwrite")
    assert read(tmp_path / "me.h5").samples.images[0].mean() < 0.6 * bright


def test_many_are_named_in_part(run, face, tmp_path):
    walls = {f"{number}.png": Image.new("RGB", (60, 60), "grey") for number in range(7)}
    outcome = run({"a.png": face, **walls}, ["a.png,0,0", *(f"{name},0,0" for name in walls)])
    assert "    7  no face: 0.png, 1.png, 2.png, 3.png, 4.png, …\n" in outcome.out
    assert len(report(tmp_path)) == 8


def test_where_none_is_left(run, tmp_path):
    outcome = run({"wall.png": Image.new("RGB", (60, 60), "grey")}, ["wall.png,0,0"], ok=False)
    refused_after_work(outcome, "none of the 1 frames can be used", "me.frames.csv", "no data file was written")
    assert "kept 0 of 1 frames" in outcome.out and report(tmp_path)[0]["left_out"] == "no face"
    assert files_in(tmp_path) == {"frames/wall.png", "labels.csv", "me.frames.csv"}


def test_after_none_was_left_it_can_be_tried_again(run, face, tmp_path):
    run({"a.png": Image.new("RGB", (60, 60), "grey")}, ["a.png,0,0"], ok=False)
    run({"a.png": face}, None)
    assert report(tmp_path)[0]["row"] == "0"


def test_where_none_is_left_an_older_file_stays_with_its_report(run, face, tmp_path):
    run({"a.png": face}, ["a.png,0,0"])
    before = [(tmp_path / name).read_bytes() for name in ("me.h5", "me.frames.csv")]
    outcome = run({"a.png": Image.new("RGB", (60, 60), "grey")}, None, "--overwrite", ok=False)
    refused_after_work(outcome, "none of the 1 frames can be used", "me.h5 was not changed")
    assert "1  no face: a.png" in outcome.out
    assert [(tmp_path / name).read_bytes() for name in ("me.h5", "me.frames.csv")] == before


def test_the_least_sharpness_can_be_said(run, face, tmp_path):
    run({"a.png": face.filter(ImageFilter.GaussianBlur(3))}, ["a.png,0,0"], "--min_sharpness", 0)
    assert len(read(tmp_path / "me.h5").samples) == 1


def test_blur_is_seen_and_noise_and_light_are_not():
    person = synthetic.person_from_seed(0, 2, "test")
    scene = synthetic.scene_from_seed(0, 2, 0, "test")
    canvas, noise = canvas_camera(128), np.random.default_rng(0)
    picture = Image.fromarray(synthetic.render(person, scene, canvas_camera(128)).image)
    levels = []
    for blur_px in (0, 0.5, 1, 2, 3):
        blurred = np.asarray(picture.filter(ImageFilter.GaussianBlur(blur_px)) if blur_px else picture)
        levels.append(sharpness(blurred, scene.head, canvas))
        noisy = np.clip(blurred + noise.normal(0, 2.5, blurred.shape), 0, 255).astype(np.uint8)
        assert sharpness(noisy, scene.head, canvas) < 1.2 * levels[-1] + 0.01
        assert sharpness(blurred // 2, scene.head, canvas) == pytest.approx(levels[-1], rel=0.1)
    assert levels == sorted(levels, reverse=True)
    assert levels[1] > MIN_SHARPNESS > levels[4]
    assert sharpness(np.full((128, 128, 3), 90, np.uint8), scene.head, canvas) == 0


# --- A video ----------------------------------------------------------------------------------------------------------

RATE = 25


@pytest.fixture(scope="module")
def stripes(tmp_path_factory) -> Path:
    """Eight frames, each of another grey."""
    pytest.importorskip("av")
    path = tmp_path_factory.mktemp("video") / "stripes.mp4"
    with write_video(path, 64, 48, RATE) as writer:
        for number in range(8):
            writer.write(np.full((48, 64, 3), 30 * number + 10, np.uint8))
        writer.finish(whole=True)
    return path


def label_at(time, line=2) -> FrameLabel:
    return FrameLabel(line, str(time), np.zeros(2), np.zeros(2))


def frames_at(video: Path, *times) -> list[tuple[str, int]]:
    """The times in the order in which they came, with the number of each one's frame."""
    labels = [label_at(time, line) for line, time in enumerate(times, 2)]
    with labelled_frames.labelled_frames(video, labels, "labels.csv") as found:
        return [(label.frame, round((picture.mean() - 10) / 30)) for label, picture in found]


def test_the_frame_that_is_nearest(stripes):
    found = frames_at(stripes, 0.119, 0, 0.021, 0.141, 0.319)
    assert found == [("0", 0), ("0.021", 1), ("0.119", 3), ("0.141", 4), ("0.319", 7)]
    assert frames_at(stripes, "  7e-2") == [("  7e-2", 2)]


@pytest.mark.parametrize(
    "times, words",
    [
        ((0, 0.5), "line 3: 0.5 s is beyond the end of .*, 0.32 s"),
        ((3600, 0), "line 2: 3600 s is beyond the end of .*, 0.32 s"),
        ((0.04, 0.05), "line 3: 0.05 s is the same frame of the video as 0.04 s in line 2"),
        ((0, "a.png"), "line 3: file_or_time is a.png; expected a time in the video, in seconds"),
        ((-0.1,), "line 2: file_or_time is -0.1"),
        (("nan",), "line 2: file_or_time is nan"),
        (("inf",), "line 2: file_or_time is inf"),
        (("1:05",), "line 2: file_or_time is 1:05"),
        (("0_04",), "line 2: file_or_time is 0_04"),
    ],
)
def test_times_that_are_none(stripes, times, words):
    with pytest.raises(UserError, match=f"^labels.csv, {words}"):
        frames_at(stripes, *times)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_pictures_that_begin_later_than_the_sound(tmp_path, suffix):
    """A time before the first one is none, unless they are but a moment late, as recorders' are. MP4 states how long
    they are from their first on, which must not cut off the last.
    """
    pytest.importorskip("av")
    from videos import with_sound

    greys = np.concatenate([np.full((1, 48, 64, 3), 30 * number + 10, np.uint8) for number in range(8)])
    late, moment = tmp_path / f"late{suffix}", tmp_path / f"moment{suffix}"
    with_sound(late, greys, late=2 * RATE)
    with_sound(moment, greys, late=2)
    assert frames_at(moment, 0, 0.12) == [("0", 0), ("0.12", 1)]
    assert frames_at(late, 1.98, 2.12, 2.3) == [("1.98", 0), ("2.12", 3), ("2.3", 7)]
    with pytest.raises(UserError, match=r"^labels\.csv, line 3: 1\.5 s is before .* 2\.00 s"):
        frames_at(late, 2.2, 1.5)
    assert abs(frame_at(moment, 0, "image").mean() - 10) < 6 and abs(frame_at(late, 1.98, "image").mean() - 10) < 6
    with pytest.raises(UserError, match=r"image: .* begins at 2\.00 s, not at 0 s"):
        frame_at(late, 0, "image")


@pytest.mark.parametrize("line", ["0,0,0", "a.png,0,0"])
def test_what_is_no_video(run, tmp_path, line):
    talk = tmp_path / "talk.mp4"
    talk.write_text("no video")
    refused(run(None, [line], "--frames", talk, ok=False), "frames: ", "talk.mp4 cannot be read as a video")
    talk.write_bytes(b"")
    refused(run(None, None, "--frames", talk, ok=False), "frames: ", "talk.mp4 is empty")
    assert not (tmp_path / "me.h5").exists()


def test_a_time_far_beyond_the_end_is_said_before_the_work(run, stripes):
    refused(run(None, ["0,0,0", "3600,0,0"], "--frames", stripes, ok=False), "line 3: 3600 s is beyond the end")


def test_without_pyav_it_is_said_how_to_get_it(run, stripes, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    refused(run(None, ["0,0,0"], "--frames", stripes, ok=False), "PyAV", "opencv-python")


def test_a_talk_with_a_blink(run, tmp_path):
    pytest.importorskip("av")
    true = rendered_video(seconds=1.2)
    with write_video(tmp_path / "talk.mp4", 480, 360, RATE) as writer:
        for frame in true.frames:
            writer.write(frame)
        writer.finish(whole=True)
    blink = round(BLINKS_SEC[0] * RATE)
    numbers = [12, 0, blink, 5]
    lines = [line_of(f"{number / RATE:.3f}", np.hstack([true.gaze[number], true.head[number]])) for number in numbers]
    outcome = run(None, lines, "--frames", tmp_path / "talk.mp4", columns=HEADS)
    assert "kept 3 of 4 frames" in outcome.out
    rows = {round(float(row["file_or_time"]) * RATE): row for row in report(tmp_path)}
    assert [rows[number]["row"] for number in numbers] == ["2", "0", "", "1"], "in order of time"
    assert rows[blink]["left_out"] in ("eyes closed", "no two open eyes")
    samples = read(tmp_path / "me.h5").samples
    for position, number in enumerate((0, 5, 12)):
        to_canvas = align(true.eyes[number], true.head[number], canvas_camera(128))
        expected = rolled(np.stack([true.gaze[number], true.head[number]]), roll_of(to_canvas))
        assert np.degrees(abs(np.stack([samples.gaze[position], samples.head[position]]) - expected)).max() < 1.5


def test_of_several_faces_in_a_video_the_one_before_is_taken(run, tmp_path):
    pytest.importorskip("av")
    true = rendered_video(seconds=0.4)
    stranger = np.asarray(Image.open(PHOTO).crop((130, 20, 330, 190)).resize((240, 204)))
    wide = np.full((len(true.frames), 360, 736, 3), 120, np.uint8)
    wide[:, :, 256:] = true.frames
    wide[4:, 80:284, 8:248] = stranger
    for name, frames in (("talk.mp4", wide), ("meeting.mp4", wide[4:])):
        with write_video(tmp_path / name, 736, 360, RATE) as writer:
            for frame in frames:
                writer.write(frame)
            writer.finish(whole=True)
    lines = [line_of(f"{number / RATE:.3f}", np.hstack([true.gaze[number], (0, 0)])) for number in (0, 5)]
    outcome = run(None, lines, "--frames", tmp_path / "talk.mp4", columns=HEADS)
    assert "kept 2 of 2 frames" in outcome.out and "1 of them show several faces" in outcome.out, outcome
    first, second = read(tmp_path / "me.h5").samples.images.astype(int)
    assert abs(first - second).mean() < 10, "the same person"
    both = run(None, lines, "--frames", tmp_path / "meeting.mp4", "--overwrite", columns=HEADS, ok=False)
    assert "2  several faces" in both.out, "nobody was there before"


# --- Mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lines, words",
    [
        (["a.png,0,0", "b.png,0,0"], ["line 3", "b.png is not in"]),
        (["a.png,0,0", "a.png,1,0"], ["line 3", "a.png is in line 2"]),
        (["a.png,0,0", "sub/../a.png,1,0"], ["line 3", "is in line 2"]),
        (["../secret.png,0,0"], ["line 2", "../secret.png lies outside"]),
        (["/etc/passwd,0,0"], ["line 2", "/etc/passwd lies outside"]),
        (["link.png,0,0"], ["line 2", "link.png lies outside"]),
        (["sub,0,0"], ["line 2", "sub is not in"]),
        (["loop.png,0,0"], ["line 2", "loop.png is not in"]),
        (["a\0.png,0,0"], ["line 2"]),
        ([f"{'a' * 3000},0,0"], ["line 2", "is not in"]),
        (["\x1b[31m.png,0,0"], ["line 2", r"\x1b[31m.png is not in"]),
        (["a.png,north,0"], ["line 2", "pitch_deg is north", "degrees"]),
    ],
)
def test_lines_that_name_no_frame(run, face, tmp_path, lines, words):
    face.save(tmp_path / "secret.png")
    (tmp_path / "frames" / "sub").mkdir(parents=True)
    (tmp_path / "frames" / "link.png").symlink_to(tmp_path / "secret.png")
    (tmp_path / "frames" / "loop.png").symlink_to("loop.png")
    refused(run({"a.png": face}, lines, ok=False), str(tmp_path / "labels.csv"), *words)
    assert not (tmp_path / "me.h5").exists() and not (tmp_path / "me.frames.csv").exists()


def test_flags_that_are_missing_or_wrong(capsys):
    with process_restored():
        assert prepare.main(["--person_id", "a/b", "--output", "me.csv", "--size", "5000"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: 5 mistakes:") and "Traceback" not in err
    for words in ("--frames PATH", "--labels CSV", "without / or control characters", "ends in .h5", "<= 1024"):
        assert words in err


def test_frames_that_are_not_there(run, tmp_path):
    outcome = run(None, ["a.png,0,0"], "--frames", tmp_path / "none", ok=False)
    refused(outcome, "frames: ", "none does not exist", "a folder of pictures, or a video")


def test_nothing_is_replaced_unasked(run, face, tmp_path):
    run({"a.png": face}, ["a.png,0,0"])
    (tmp_path / "me.h5").write_text("mine")
    before = (tmp_path / "me.frames.csv").read_bytes()
    refused(run(None, None, ok=False), "me.h5 exists", "--overwrite")
    assert (tmp_path / "me.h5").read_text() == "mine" and (tmp_path / "me.frames.csv").read_bytes() == before
    refused(run(None, None, "--output", tmp_path / "a.h5" / "b.h5", "--labels", "x", ok=False), "labels: x")
    os.link(tmp_path / "labels.csv", tmp_path / "labels.frames.csv")
    refused(run(None, None, "--output", tmp_path / "labels.h5", ok=False), "the input --labels")
    os.link(tmp_path / "labels.csv", tmp_path / "labels.h5")
    refused(run(None, None, "--output", tmp_path / "labels.h5", "--overwrite", ok=False), "the input --labels")


@pytest.mark.parametrize("name", ["me.hdf5", "me.HDF5"])
def test_the_report_of_a_file_with_another_ending_is_kept(run, face, tmp_path, name):
    run({"a.png": face}, ["a.png,0,0"])
    before = (tmp_path / "me.frames.csv").read_bytes()
    other = run({"b.png": face}, ["a.png,5,5", "b.png,5,5"], "--output", tmp_path / name, ok=False)
    refused(other, "me.frames.csv is the report of", "me.h5", "--overwrite")
    assert (tmp_path / "me.frames.csv").read_bytes() == before
    run(None, None, "--output", tmp_path / name, "--overwrite")
    assert (tmp_path / "me.frames.csv").read_bytes() != before


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_half_a_file_is_none(run, face, tmp_path, monkeypatch, interruption):
    def fail(*_):
        raise interruption

    monkeypatch.setattr(prepare, "sharpness", fail)
    outcome = run({"a.png": face}, ["a.png,0,0"], ok=False)
    assert outcome.code == (130 if interruption is KeyboardInterrupt else 2)
    assert "Traceback" not in outcome.err
    assert files_in(tmp_path) == {"frames/a.png", "labels.csv"}


def test_without_opencv_it_is_said_how_to_get_it(run, face, no_opencv):
    outcome = run({"a.png": face}, ["a.png,0,0"], ok=False)
    refused(outcome, "OpenCV", "opencv-python")
    assert "--mask" not in outcome.err


def test_a_table_of_ones_own_is_kept_even_with_overwrite(run, face, tmp_path):
    run({"a.png": face}, ["a.png,0,0"])
    own = tmp_path / "me.frames.csv"
    own.write_text("time,gaze_x,gaze_y\n")
    outcome = run(None, None, "--overwrite", ok=False)
    refused(outcome, "me.frames.csv exists and is not an earlier result", "another name")
    assert own.read_text() == "time,gaze_x,gaze_y\n"


def test_angles_that_cannot_be_meant(run, face):
    columns, radians, too_far = f"{ANGLES},head_pitch_deg,head_yaw_deg", "No head pose in it is above 1.6°", "eyes turn"
    out = run({"a.png": face}, ["a.png,10,12,0.1,0.2"], columns=columns).out
    assert radians in out and too_far not in out
    out = run(None, ["a.png,10,12,5,0"], "--overwrite", columns=columns).out
    assert radians not in out and too_far not in out
    assert too_far in run(None, ["a.png,10,72,5,10"], "--overwrite", columns=columns).out


@pytest.mark.parametrize(("written", "meant"), [("A.PNG", "a.png"), ("sub\\b.png", "sub/b.png"), ("x/a.png", "a.png")])
def test_a_name_from_another_system(run, tmp_path, written, meant):
    picture = Image.new("RGB", (8, 8))
    outcome = run({"a.png": picture, "sub/b.png": picture}, [f"{written},0,0"], ok=False)
    if (tmp_path / "frames" / written).exists():
        pytest.skip("this disk takes both names for one")
    refused(outcome, f"did you mean {meant}?")


@pytest.mark.parametrize("name", ["c.png", "../a.png", "sub/../../b"])
def test_a_name_that_means_nothing_there(run, tmp_path, name):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    outcome = run({"a.png": Image.new("RGB", (8, 8))}, [f"{name},0,0"], ok=False)
    refused(outcome, name, "expected the name of a picture in it")
