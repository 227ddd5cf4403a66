"""Plausible mistakes: each is understood, or answered by a line that says what to do."""

import bz2
import gzip
import lzma
import os
import shutil
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from command_runs import BASE_INFO, PERSON, PHOTO, ROOT, RUN, assert_one_line, command, invoke
from conftest import process_restored
from PIL import Image
from videos import encoded

import vaegaze
from vaegaze.commands import (
    compare,
    convert,
    inspect,
    prepare,
    pretrain,
    redirect,
    render,
    train,
    train_all,
    train_estimator,
)
from vaegaze.commands.redirect_settings import RedirectConfig
from vaegaze.config.finetune import parse_command
from vaegaze.config.tree import resolve
from vaegaze.data.frame_labels import FrameLabel, in_degrees, read_labels
from vaegaze.data.labelled_frames import labelled_frames
from vaegaze.data.photo import load_photo
from vaegaze.errors import UserError
from vaegaze.geometry.camera import canvas_camera
from vaegaze.images.video.still import frame_at
from vaegaze.models.checkpoint import load_checkpoint
from vaegaze.models.tensor_files import load_tensors, save_safetensors
from vaegaze.runs import person_list
from vaegaze.runs.person import load_person

SHIPPED = "configs/finetune/finetune_photo.yaml"


def photo_settings(*flags):
    return parse_command(["--config", SHIPPED, *map(str, flags)]).config.oneshot_params.photo_params


def test_an_image_of_ones_own_never_takes_another_pictures_mask():
    assert photo_settings().mask == "./docs/images/astronaut_mask.png"
    assert photo_settings("--image", "me.jpg").mask == "auto"
    assert photo_settings("--image", "me.jpg", "--face", 2).face == 2
    assert photo_settings("--image", "me.jpg", "--mask", "eyes.png").mask == "eyes.png"
    assert photo_settings("--image", "./docs/images/astronaut.png").mask == "./docs/images/astronaut_mask.png"
    resolved = parse_command(["--config", SHIPPED, "--image", "me.jpg"]).resolved
    assert resolved.origins["oneshot_params.photo_params.mask"] == "by default for another --image"


@pytest.mark.parametrize("words", [["--head", "auto"], ["--head=auto"]])
def test_a_head_to_be_read_wins_over_the_files(words, tmp_path):
    (tmp_path / "me.yaml").write_text(Path(SHIPPED).read_text().replace("    head: null", "    head: [0.1, 0.2]"))
    given = ["--config", str(tmp_path / "me.yaml"), "--image", "me.jpg"]
    assert parse_command(given).config.oneshot_params.photo_params.head == (0.1, 0.2)
    assert parse_command([*given, *words]).config.oneshot_params.photo_params.head is None
    with pytest.raises(UserError, match=r"--head .*expected list of 2"):
        parse_command([*given, "--head", "0.1"])


def test_mask_auto_means_the_same_in_redirect():
    flags = {"checkpoint": "c.pth", "image": "a.png", "gaze": ["0", "0"], "output": "o.png", "mask": "auto"}
    assert resolve(RedirectConfig, flags=flags).config.redirect_params.mask_path is None
    assert resolve(RedirectConfig, flags=flags | {"face": "2"}).config.redirect_params.face == 2


def test_a_video_given_as_a_picture(world, tmp_path, capsys):
    (tmp_path / "talk.mp4").write_bytes(b"whatever")
    flags = ("--no-use_gazecapture", "--image", tmp_path / "talk.mp4", "--mask", PHOTO[4], "--gaze", 0, 0)
    assert_one_line(command(*world.photo_flags, *flags, "--save_dir", tmp_path), "is a video", "--at SECONDS")
    flags = [
        "--checkpoint",
        world.base,
        "--image",
        tmp_path / "talk.mp4",
        "--gaze",
        0,
        0,
        "--output",
        tmp_path / "o.png",
    ]
    with process_restored():
        assert redirect.main([str(flag) for flag in flags]) == 2
    assert "--video" in capsys.readouterr().err


def test_a_picture_has_no_frame_at_a_time(world, tmp_path):
    outcome = command(*world.photo_flags, *PHOTO, "--at", 1, "--save_dir", tmp_path)
    assert_one_line(outcome, "is not a video", "leave out --at")


def write_video(path, frames, per_sec: int) -> None:
    """Grey frames, each of its own brightness."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=per_sec)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for value in frames:
            picture = np.full((64, 64, 3), value, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def test_the_frame_at_a_time(tmp_path):
    path = tmp_path / "talk.mp4"
    write_video(path, [20, 60, 100, 140, 180], per_sec=10)
    for time_sec, value in [(0, 20), (0.1, 60), (0.14, 60), (0.16, 100), (0.4, 180), (0.49, 180)]:
        assert abs(frame_at(path, time_sec, "image").mean() - value) < 6, time_sec
    with pytest.raises(UserError, match=r"ends at 0\.50 s"):
        frame_at(path, 0.6, "image")


def test_an_eye_cut_by_the_border_is_said(tmp_path):
    picture, mask = (np.asarray(Image.open(PHOTO[i])) for i in (2, 4))
    whole = load_photo(PHOTO[2], PHOTO[4], (0, 0), (0, 0), canvas_camera(32))
    assert not any("border" in note for note in whole.notes)
    left = int(np.flatnonzero(mask.reshape(*mask.shape[:2], -1)[..., 0].any(axis=0))[0]) + 4
    Image.fromarray(picture[:, left:]).save(tmp_path / "photo.png")
    Image.fromarray(mask[:, left:]).save(tmp_path / "mask.png")
    cut = load_photo(tmp_path / "photo.png", tmp_path / "mask.png", (0, 0), (0, 0), canvas_camera(32))
    assert any("border" in note for note in cut.notes)


def test_an_eye_beyond_the_border_is_said(landmarks_installed, tmp_path):
    """The other one's mask does not touch it."""
    Image.open(PHOTO[2]).crop((226, 40, 512, 512)).save(tmp_path / "photo.png")
    cut = load_photo(tmp_path / "photo.png", None, None, None, canvas_camera(32))
    assert cut.eyes[0, 0] < 0 and any("border" in note for note in cut.notes)


def test_equal_labels_are_said(world, tmp_path, capsys):
    with h5py.File(world.hdf_path) as file, h5py.File(tmp_path / "a.h5", "w") as copy:
        file.copy(PERSON, copy)
        copy[PERSON]["labels"][:, :2] = 0.1
    with process_restored():
        assert inspect.main([str(world.hdf_path), "--output", str(tmp_path / "a.png")]) == 0
        assert "the same" not in capsys.readouterr().out
        assert inspect.main([str(tmp_path / "a.h5"), "--output", str(tmp_path / "b.png")]) == 0
    assert "labels are the same" in capsys.readouterr().out


@pytest.mark.skipif(sys.platform == "darwin", reason="its file systems take both spellings for one")
def test_a_name_spelt_in_another_unicode_form(tmp_path):
    composed, decomposed = "Zo\u00e9.png", "Zoe\u0301.png"
    folder = tmp_path / "frames"
    folder.mkdir()
    Image.new("RGB", (8, 8)).save(folder / decomposed)
    label = FrameLabel(2, composed, np.zeros(2), np.zeros(2))
    with labelled_frames(folder, [label], "labels.csv") as frames:
        (((_, pixels),),) = (list(frames),)
    assert pixels.shape == (8, 8, 3)
    with (
        pytest.raises(UserError, match="is not in"),
        labelled_frames(folder, [FrameLabel(2, "Zoë.png", 0, 0)], "l.csv"),
    ):
        pass


def test_a_link_to_a_disk_that_is_not_there(world, tmp_path):
    gone = tmp_path / "gone"
    (tmp_path / "results").symlink_to(gone)
    outcome = command(*world.flags, *RUN, "--save_dir", tmp_path / "results" / "here")
    assert_one_line(outcome, f"a link to {gone}, which is not there")
    assert "🧠" not in outcome.out, "before anything is read"


def test_a_link_as_output_is_replaced_only_when_told_to_and_never_what_it_points_to(tmp_path):
    away, there = tmp_path / "away.h5", tmp_path / "there.h5"
    there.write_text("mine")
    for target in (away, there):
        link = tmp_path / f"link_to_{target.name}"
        link.symlink_to(target)
        flags = ("--persons", 1, "--samples", 1, "--size", 16, "--output", link)
        assert_one_line(invoke(render.main, *flags), "exists", "--overwrite")
        assert link.is_symlink()
        assert invoke(render.main, *flags, "--overwrite").code == 0
        assert not link.is_symlink() and h5py.is_hdf5(link)
    assert not away.exists() and there.read_text() == "mine"


@pytest.mark.parametrize("address", ["https://example.com/me.jpg", "http://example.com/talk.mp4"])
def test_an_address_is_no_path(address, world, tmp_path):
    flags = (*world.photo_flags, "--no-use_gazecapture", "--gaze", 0, 0, "--save_dir", tmp_path)
    outcome = command(*flags, "--image", address)
    assert_one_line(outcome, "is an address", "download")
    assert_one_line(command(*flags, "--image", PHOTO[2], "--checkpoint_path", address), "is an address", "download")
    outcome = invoke(prepare.main, "--frames", address, "--labels", "l.csv", "--person_id", "me", "--output", "me.h5")
    assert outcome.code == 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "git lfs pull"),
        (b"<!DOCTYPE html>\n<html><body>Not found</body></html>", "web page"),
        (b"  <html><head></head></html>", "web page"),
        (gzip.compress(b"the file itself"), "is compressed"),
        (bz2.compress(b"the file itself"), "is compressed"),
        (lzma.compress(b"the file itself"), "is compressed"),
    ],
)
@pytest.mark.parametrize("name", ["base.pth", "base.safetensors", "data.h5", "photo.png"])
def test_what_a_download_left_in_place_of_the_file(content, words, name, world, tmp_path):
    (tmp_path / name).write_bytes(content)
    flag = {"data.h5": "--hdf_path", "photo.png": "--image"}.get(name, "--checkpoint_path")
    flags = (*world.photo_flags, *PHOTO) if flag == "--image" else (*world.flags, *RUN)
    assert_one_line(command(*flags, "--save_dir", tmp_path, flag, tmp_path / name), name, words)


def test_angles_in_radians_are_noticed(tmp_path):
    def lines(*rows):
        (tmp_path / "labels.csv").write_text("\n".join(["file_or_time,pitch_deg,yaw_deg", *rows, ""]))
        return in_degrees(read_labels(tmp_path / "labels.csv"))

    assert not lines("a.png,0.31,-0.12", "b.png,0.02,0.4", "c.png,-0.2,0.25")
    assert lines("a.png,0.31,-0.12", "b.png,0.02,14", "c.png,-0.2,0.25")
    assert lines("a.png,0,0", "b.png,0,0"), "into the camera all the time"


@pytest.mark.parametrize(("gaze_deg", "is_said"), [((86, 0), True), ((0, -60), True), ((20, 30), False)])
def test_a_gaze_farther_than_eyes_turn(gaze_deg, is_said, world, tmp_path):
    flags = ("--checkpoint", world.base, "--image", PHOTO[2], "--mask", PHOTO[4], "--head", 0, 0, "--device", "cpu")
    outcome = invoke(redirect.main, *flags, "--gaze_deg", *gaze_deg, "--output", tmp_path / "o.png", ok=True)
    assert ("Eyes do not turn" in outcome.out) is is_said


def test_the_shipped_photo_file_is_in_place():
    assert (ROOT / SHIPPED).is_file()


# --- Pictures, lists and tables ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["me.png", "talk.gif"])
def test_a_picture_given_as_a_video(world, tmp_path, name):
    pytest.importorskip("av")
    Image.open(PHOTO[2]).convert("RGB").save(tmp_path / name)
    flags = ("--checkpoint", world.base, "--gaze", 0, 0, "--output", tmp_path / "o.mp4")
    outcome = invoke(redirect.main, *flags, "--video", tmp_path / name)
    assert_one_line(outcome, name, "is a picture", "--image")


def test_of_an_animation_the_first_frame_is_used_and_it_is_said(tmp_path):
    face = Image.open(PHOTO[2])
    face.save(tmp_path / "a.png", save_all=True, append_images=[Image.new("RGB", face.size), face])
    paths = tmp_path / "a.png", PHOTO[2]
    moving, still = (load_photo(path, PHOTO[4], (0, 0), (0, 0), canvas_camera(32)) for path in paths)
    assert (moving.picture == still.picture).all()
    assert any("has several frames" in note for note in moving.notes)
    assert not any("frames" in note for note in still.notes)


def test_equal_labels_are_said_in_training(world, tmp_path):
    with h5py.File(world.hdf_path) as file, h5py.File(tmp_path / "a.h5", "w") as copy:
        file.copy(PERSON, copy)
        copy[PERSON]["labels"][:, :2] = 0.1
    flags = (*world.flags, "--person_id", PERSON, "--save_dir", tmp_path, "--dry_run")
    assert "labels are the same" in command(*flags, "--hdf_path", tmp_path / "a.h5").out
    assert "labels are the same" not in command(*flags).out


def test_a_table_of_ones_own_beside_the_output_is_not_replaced(world, tmp_path):
    """A video's or a data file's report takes a name of its own."""
    pytest.importorskip("av")
    own = tmp_path / "me.frames.csv"
    (tmp_path / "frames").mkdir()
    Image.open(PHOTO[2]).convert("RGB").crop((130, 20, 330, 190)).save(tmp_path / "frames/a.png")
    (tmp_path / "labels.csv").write_text("file_or_time,pitch_deg,yaw_deg\na.png,5,2\n")
    write_video(tmp_path / "talk.mp4", [20, 60], per_sec=25)
    prepares = ("--frames", tmp_path / "frames", "--labels", tmp_path / "labels.csv", "--person_id", "me")
    redirects = ("--checkpoint", world.base, "--video", tmp_path / "talk.mp4", "--gaze", 0, 0)
    for main, flags in (
        (prepare.main, (*prepares, "--output", tmp_path / "me.h5")),
        (redirect.main, (*redirects, "--output", tmp_path / "me.mp4")),
    ):
        own.write_text("line,of my own")
        assert_one_line(invoke(main, *flags), "me.frames.csv exists and is not an earlier result")
        assert own.read_text() == "line,of my own"
    own.unlink()
    assert invoke(prepare.main, *prepares, "--output", tmp_path / "me.h5").code == 0
    reported = own.read_text()
    assert_one_line(invoke(redirect.main, *redirects, "--output", tmp_path / "me.mp4"), "me.frames.csv exists")
    assert own.read_text() == reported


@pytest.mark.parametrize(("name", "words"), [("/dev/zero", "is larger than"), ("large.txt", "is larger than")])
def test_an_endless_list_of_persons(world, tmp_path, monkeypatch, name, words):
    monkeypatch.setattr(person_list, "MAX_LIST_BYTES", 1000)
    (tmp_path / "large.txt").write_text("person_001\n" * 100)
    flags = (*world.flags, "--save_dir", tmp_path / "runs", "--persons_file", tmp_path / name)
    assert_one_line(invoke(train_all.main, *flags), "persons_file", words)


# --- Files of one's own making that are read, but not as they were meant ---------------------------------------------


def changed_person(world, path, **changes):
    """A file with one person whose datasets are changed by functions."""
    with h5py.File(world.hdf_path) as file, h5py.File(path, "w") as copy:
        for key in ("pixels", "labels"):
            copy[f"{PERSON}/{key}"] = changes.get(key, lambda stored: stored)(file[PERSON][key][:])
        if "mask" in changes:
            copy[f"{PERSON}/mask"] = changes["mask"](file[PERSON]["face_parsing"][:])
        if "face_parsing" in changes:
            copy[f"{PERSON}/face_parsing"] = changes["face_parsing"](file[PERSON]["face_parsing"][:])
    return path


def small_degrees(labels):
    """Gazes of up to ±3°, which radians might be as well."""
    labels[:, :2] = np.clip(np.degrees(labels[:, :2]) / 10, -3, 3)
    return labels


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, None),
        ({"labels": small_degrees}, "farther than eyes turn"),
        ({"labels": lambda labels: np.rint(2 * labels).astype(np.int16)}, "were they rounded"),
        ({"pixels": np.zeros_like}, "of one colour throughout"),
        ({"mask": lambda parsing: (parsing > 0).astype(np.uint8)}, None),
        ({"mask": lambda parsing: (parsing == 0).astype(np.uint8)}, "are they inverted"),
        ({"face_parsing": lambda parsing: np.where(parsing > 0, 4, 1).astype(np.uint8)}, "are they inverted"),
    ],
    ids=["as it should be", "degrees", "whole numbers", "never written", "mask", "inverted mask", "other labels"],
)
def test_what_looks_like_a_mistake_in_a_file_is_said(changes, words, world, tmp_path):
    path = changed_person(world, tmp_path / "a.h5", **changes)
    inspected = invoke(inspect.main, path, "--output", tmp_path / "a.png", ok=True).out
    trained = command(*world.flags, "--hdf_path", path, "--person_id", PERSON, "--save_dir", tmp_path, "--dry_run")
    assert trained.code == 0
    for out in (inspected, trained.out):
        assert words in out if words else "⚠️" not in out, out


def test_held_out_frames_that_are_trained_on_are_said(world, tmp_path):
    """Rows stored twice fall on both sides."""
    twice = dict.fromkeys(["pixels", "labels"], lambda stored: np.concatenate([stored, stored]))
    path = changed_person(world, tmp_path / "a.h5", **twice)
    for hdf_path, is_twice in ((path, True), (world.hdf_path, False)):
        flags = (*world.flags, "--hdf_path", hdf_path, "--person_id", PERSON)
        lines = []
        person = load_person(
            parse_command(list(map(str, flags))).config.oneshot_params, canvas_camera(32), lines.append
        )
        rows, held_out = (set(samples.indices % 12) for samples in (person.train, person.held_out))
        warnings = [line for line in lines if "⚠️" in line]
        assert len(warnings) == is_twice
        if is_twice:
            assert f"{len(rows & held_out)} of the {len(person.held_out)} held-out" in warnings[0]


def test_two_angles_that_no_head_came_with(world, tmp_path):
    path = changed_person(world, tmp_path / "a.h5", labels=lambda labels: labels[:, :2])
    assert_one_line(invoke(inspect.main, path), "(12, 2)", "pitch and yaw of the gaze, then of the head")


def test_the_word_camera_means_the_same_in_training(world, tmp_path):
    flags = (*world.photo_flags, *PHOTO[:-3], "--save_dir", tmp_path, "--dry_run", "--gaze")
    assert command(*flags, "camera").code == 0
    assert_one_line(command(*flags, "left"), "'left'", "camera")


def test_two_videos_of_one_name_do_not_share_a_table(world, tmp_path):
    pytest.importorskip("av")
    (tmp_path / "a.frames.csv").write_text("time_sec,strength,why\n0.000,1.000,\n")
    write_video(tmp_path / "talk.mp4", [20, 60], per_sec=25)
    flags = ("--checkpoint", world.base, "--video", tmp_path / "talk.mp4", "--gaze", 0, 0)
    outcome = invoke(redirect.main, *flags, "--output", tmp_path / "a.mov")
    assert_one_line(outcome, "a.frames.csv exists", "--overwrite")


# --- Names and flags --------------------------------------------------------------------------------------------------


def test_weights_are_told_by_their_content_not_by_their_name(world, tmp_path):
    pytest.importorskip("safetensors")
    (tmp_path / "base.safetensors").write_bytes(world.base.read_bytes())
    assert load_checkpoint(tmp_path / "base.safetensors").info == BASE_INFO
    save_safetensors(tmp_path / "a.safetensors", load_checkpoint(world.base).model.state_dict())
    (tmp_path / "a.pth").write_bytes((tmp_path / "a.safetensors").read_bytes())
    assert load_tensors(tmp_path / "a.pth").keys() == load_tensors(tmp_path / "a.safetensors").keys()


def test_no_model_is_written_under_the_name_of_another_format(world, tmp_path):
    output = tmp_path / "a.safetensors"
    assert_one_line(invoke(convert.main, "--checkpoint", world.base, "--output", output), "--output", ".pth")
    assert_one_line(invoke(pretrain.main, "--save_dir", tmp_path / "run", "--output", output), "--output", ".pth")
    with pytest.raises(UserError, match=r"ends in \.pth"):
        vaegaze.save_model(load_checkpoint(world.base), output)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("main", "flags"),
    [
        (train.main, ["--config", "a.yaml", "--config", "b.yaml"]),
        (train_all.main, ["--persons", "a", "--persons", "b"]),
        (pretrain.main, ["--sources", "a.h5", "--sources", "rendered"]),
    ],
)
def test_a_flag_given_twice_where_both_may_be_meant(main, flags):
    assert_one_line(invoke(main, *flags), f"{flags[0]}: given twice")


@pytest.mark.parametrize("count", ["99999999999999999999", "1e300"])
def test_a_number_far_too_large(count, world, tmp_path):
    flags = (*world.flags, "--person_id", PERSON, "--save_dir", tmp_path)
    assert_one_line(command(*flags, "--num_samples", count), "--num_samples", "too large")


@pytest.mark.parametrize("flags", [("--size", 100_000), ("--samples", "9" * 20), ("--persons", 10**9)])
def test_a_file_too_large_to_render(flags, tmp_path):
    assert_one_line(invoke(render.main, "--output", tmp_path / "a.h5", *flags), flags[0], "expected")


@pytest.mark.parametrize("path", ["$SCRATCH/runs", "/data/${USER}/runs", "runs/$SCRATCH"])
def test_a_variable_that_no_shell_replaced(path, world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text(f"oneshot_params:\n  save_dir: {path}\n")
    assert_one_line(command(*world.flags, "--config", "a.yaml"), "save_dir", "variables are not replaced")
    assert not (tmp_path / "$SCRATCH").exists()
    (tmp_path / "runs/$SCRATCH").mkdir(parents=True)
    (tmp_path / "$SCRATCH").mkdir()
    if not path.startswith("/"):
        assert command(*world.flags, "--config", "a.yaml", "--person_id", PERSON, "--dry_run").code == 0


def test_the_home_folder_behind_an_equals_sign(world, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert invoke(inspect.main, world.hdf_path, "--output=~/sheet.png").code == 0
    assert (tmp_path / "home/sheet.png").is_file() and not (tmp_path / "~").exists()


def test_a_mask_that_lies_on_no_face_is_said(landmarks_installed, tmp_path):
    Image.open(PHOTO[4]).transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png")
    for mask, is_said in ((PHOTO[4], False), (tmp_path / "turned.png", True)):
        photo = load_photo(PHOTO[2], mask, (0, 0), None, canvas_camera(32))
        assert any("No face is seen" in note for note in photo.notes) is is_said


def test_videos_given_to_compare_in_the_wrong_order(talking, tmp_path):
    pytest.importorskip("av")
    for name in ("talk.mp4", "look.mp4"):
        encoded(tmp_path / name, talking.frames[:3])
    look = tmp_path / "look.frames.csv"
    look.write_text("time_sec,strength,why\n" + "0.000,1.000,\n" * 3)
    right = invoke(compare.main, tmp_path / "talk.mp4", tmp_path / "look.mp4", ok=True)
    assert "is that the result" not in right.out
    swapped = invoke(compare.main, tmp_path / "look.mp4", tmp_path / "talk.mp4", ok=True)
    assert f"{look} tells how" in swapped.out and "is that the result" in swapped.out
    assert_one_line(invoke(compare.main, tmp_path / "talk.mp4", tmp_path / "talk.mp4"), "is the source itself")
    onto = invoke(compare.main, tmp_path / "talk.mp4", tmp_path / "look.mp4", "--output", look, "--overwrite")
    assert_one_line(onto, "beside --result", "never replaced")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes by name")
def test_what_is_no_plain_file_is_neither_replaced_nor_called_missing(world, tmp_path):
    """With `--output /dev/null --overwrite`, root would replace the device for all programs."""
    for name in ("pipe.h5", "pipe.mp4", "pipe.pth"):
        os.mkfifo(tmp_path / name)
    flags = ("--persons", 1, "--samples", 1, "--size", 16, "--overwrite")
    assert_one_line(invoke(render.main, "--output", tmp_path / "pipe.h5", *flags), "no plain file", "never replaced")
    assert_one_line(invoke(render.main, "--output", "/dev/stdout", *flags), "no plain file")
    look = ("--gaze", "camera", "--output", tmp_path / "o.mp4")
    video = invoke(redirect.main, "--checkpoint", world.base, "--video", tmp_path / "pipe.mp4", *look)
    assert_one_line(video, "pipe.mp4 is no plain file")
    model = invoke(redirect.main, "--checkpoint", tmp_path / "pipe.pth", "--video", tmp_path / "pipe.mp4", *look)
    assert_one_line(model, "pipe.pth is no plain file")
    assert all(not path.is_file() for path in tmp_path.glob("pipe.*"))


@pytest.mark.parametrize(("path", "words"), [("", "is empty"), ("/", "/ is a folder without")])
def test_a_path_without_a_name(path, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert_one_line(invoke(inspect.main, path), words)


def test_an_address_to_write_to(world, tmp_path, monkeypatch):
    """A folder `s3:` is not what was meant."""
    monkeypatch.chdir(tmp_path)
    for outcome in (
        command(*world.flags, *RUN, "--save_dir", "s3://bucket/runs"),
        invoke(inspect.main, world.hdf_path, "--output", "s3://bucket/sheet.png"),
    ):
        assert outcome.code == 2 and "is an address" in outcome.err and not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a name is text")
def test_a_photo_whose_name_is_no_text(world, tmp_path):
    name = os.fsdecode(bytes(tmp_path) + b"/caf\xe9")
    shutil.copy(PHOTO[2], f"{name}.png")
    flags = ("--no-use_gazecapture", "--image", f"{name}.png", *PHOTO[3:], "--num_steps", 2, "--save_dir", tmp_path)
    outcome = command(*world.photo_flags, *flags)
    assert outcome.code == 0, outcome
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    assert (folder / "report.html").is_file() and not (folder / "resume.pth").exists()
    assert command(*world.photo_flags, *flags, "--resume").code == 0


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a name is text")
def test_a_page_beside_a_model_whose_name_is_no_text(tmp_path):
    output = os.fsdecode(bytes(tmp_path) + b"/caf\xe9.pth")
    flags = ("--frames", 2, "--test_frames", 2, "--epochs", 1, "--workers", 0, "--precision", "fp32")
    for switch in ((), ("--overwrite",)):
        invoke(train_estimator.main, "--output", output, *flags, *switch, ok=True)
    assert Path(output).with_suffix(".md").read_bytes().startswith(b"# caf\\udce9.pth\n")
