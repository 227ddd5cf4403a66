"""vaegaze redirect --video: a rendered person looks elsewhere; blinks and everything else stay as they were."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
from command_runs import ROOT, Outcome, assert_one_line, files_in, start_process
from conftest import make_tiny_model, process_restored
from PIL import Image
from videos import read, sound_of, with_sound

from benchmarks.rendered_video import rendered_video
from vaegaze.commands import redirect
from vaegaze.commands.angle_words import with_camera_in_angles
from vaegaze.commands.frame_report import read_report
from vaegaze.commands.progress import STOPPING
from vaegaze.errors import UserError
from vaegaze.faces.follower import FollowedFrame
from vaegaze.geometry.alignment import align, align_face
from vaegaze.geometry.camera import canvas_camera, eye_circles
from vaegaze.geometry.eye_regions import SQUARE_FACTOR
from vaegaze.geometry.pasting import paste_in_regions
from vaegaze.geometry.transforms import move
from vaegaze.images.video import Frame, VideoWriter, writing
from vaegaze.images.video.recoverable import RecoverableFile
from vaegaze.models.checkpoint import load_checkpoint, save_checkpoint
from vaegaze.redirecting import drawing, irises
from vaegaze.redirecting.drawing import FollowedReferences
from vaegaze.redirecting.series import Look, Series

av, cv2 = pytest.importorskip("av"), pytest.importorskip("cv2")

CLIP = slice(12, 36)  # with the first blink
LOOK = ("--gaze", 0.2, 0.3)
CANVAS = canvas_camera(32)  # the tiny model's


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    path = tmp_path_factory.mktemp("base") / "base.pth"
    save_checkpoint(path, make_tiny_model(), {"drops_reference": True})
    return path


@pytest.fixture(scope="module")
def talk(talking, tmp_path_factory):
    """A second of the rendered video, with a tone."""
    path = tmp_path_factory.mktemp("talk") / "talk.mp4"
    with_sound(path, talking.frames[CLIP])
    return path


@pytest.fixture
def run(base, capfd):
    """The command on the tiny model; returns how it ended."""

    def run(*flags, ok=True):
        with process_restored():
            torch.set_num_threads(1)
            code = redirect.main(["--checkpoint", str(base), "--device", "cpu", *map(str, flags)])
        captured = capfd.readouterr()
        outcome = Outcome(code, captured.out, captured.err)
        assert (code == 0) is ok, outcome
        return outcome

    run.base = base
    return run


def differences(one, other) -> np.ndarray:
    return abs(one.astype(int) - other).max(axis=-1)


def squares(shape, eyes, canvas=CANVAS) -> np.ndarray:
    """(H, W) bool: the pixels whose centres lie in the eyes' squares of a frontal head."""
    ys, xs = np.mgrid[: shape[0], : shape[1]] + 0.5
    on_canvas = move(align(eyes, np.zeros(2), canvas), np.stack([xs, ys], axis=-1))
    circles = eye_circles((0, 0), canvas)
    return np.any([abs(on_canvas - (x, y)).max(axis=-1) <= SQUARE_FACTOR * radius for x, y, radius in circles], axis=0)


# --- The command ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_only_open_eyes_of_a_video_change(run, talk, talking, tmp_path, suffix):
    output = tmp_path / f"out{suffix}"
    outcome = run("--video", talk, *LOOK, "--output", output)
    assert "about 24 frames of 480×360 px, 25 a second" in outcome.out
    assert "24 frames, " in outcome.out and "19 redrawn, 5 left alone (blinks 5, no face 0)" in outcome.out
    assert "redrawing" in outcome.err and "frames/s" in outcome.err
    (before, times), (after, new_times) = read(talk), read(output)
    assert after.shape == before.shape
    np.testing.assert_allclose(np.diff(new_times), np.diff(times), atol=2e-3)
    for frame, result, eyes, openness in zip(before, after, talking.eyes[CLIP], talking.openness[CLIP]):
        inside, changed = squares(frame.shape, eyes), differences(frame, result)
        assert changed[~inside].mean() < 2, "but for encoding once more"
        assert changed[inside].mean() < 4 if openness < 0.5 else changed[inside].mean() > 6
    assert [packet for _, packet in sound_of(talk)] == [packet for _, packet in sound_of(output)]
    assert files_in(tmp_path) == {output.name, "out.frames.csv"}
    fates = read_report(tmp_path / "out.frames.csv")
    closed = [fate.time_sec for fate in fates if fate.why == "eyes closed"]
    assert len(fates) == 24 and f"{len(closed)}  eyes closed: {closed[0]:.2f}–{closed[-1]:.2f} s\n" in outcome.out


def test_a_video_as_a_phone_records_it(run, landmarks_installed, tmp_path):
    """Upright by its display matrix alone, 60 frames a second, with AAC sound."""
    true = rendered_video(240, 320, 192, seconds=1.1, frames_per_sec=60)
    true = true.take(slice(36, 66))  # with the first blink
    talk, output, turned = tmp_path / "talk.mp4", tmp_path / "out.mp4", [0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30]
    with_sound(talk, np.rot90(true.frames, axes=(1, 2)), rate=60, matrix=turned)
    outcome = run("--video", talk, *LOOK, "--output", output)
    assert "about 30 frames of 240×320 px, 60 a second" in outcome.out
    (before, times), (after, new_times) = read(talk), read(output)
    assert before.shape == after.shape == true.frames.shape and abs(before.astype(int) - true.frames).mean() < 3
    np.testing.assert_allclose(np.diff(new_times), 1 / 60, atol=2e-3)
    np.testing.assert_allclose(np.diff(times), 1 / 60, atol=2e-3)
    assert [packet for _, packet in sound_of(talk)] == [packet for _, packet in sound_of(output)]
    with av.open(str(output)) as container:
        assert container.streams.audio[0].codec_context.name == "aac"
    for frame, result, eyes, openness in zip(before, after, true.eyes, true.openness):
        inside, changed = squares(frame.shape, eyes), differences(frame, result)
        assert changed[~inside].mean() < 2
        if openness == 1:
            assert changed[inside].mean() > 6
        elif openness == 0:
            assert changed[inside].mean() < 4


def test_a_wink_leaves_one_eye_alone(run, talking, landmarks_installed, monkeypatch, tmp_path):
    monkeypatch.setattr("benchmarks.rendered_video.BLINKS_SEC", ())
    opened = rendered_video(seconds=CLIP.stop / talking.frames_per_sec).frames[CLIP]
    middles = talking.eyes[CLIP].mean(axis=1)[:, 0]
    on_left = np.arange(opened.shape[2]) < middles[:, None, None]  # (N, 1, W)
    with_sound(tmp_path / "talk.mp4", np.where(on_left[..., None], opened, talking.frames[CLIP]))
    run("--video", tmp_path / "talk.mp4", *LOOK, "--output", tmp_path / "out.mp4")
    before, after = read(tmp_path / "talk.mp4")[0], read(tmp_path / "out.mp4")[0]
    winks = np.flatnonzero(talking.openness[CLIP] == 0)
    for number in winks:
        inside, changed = (
            squares(opened.shape[1:3], talking.eyes[CLIP][number]),
            differences(before[number], after[number]),
        )
        left, right = inside & on_left[number], inside & ~on_left[number]
        assert changed[left].mean() > 6 and changed[right].mean() < 4, number
    assert len(winks) == 3


def test_every_face_is_redrawn(run, talking, tmp_path):
    one, other = talking.frames[:6, :, 60:-60], talking.frames[30:36, :, 60:-60]
    with_sound(tmp_path / "two.mp4", np.concatenate([one, other], axis=2))
    two = ("--video", tmp_path / "two.mp4", *LOOK)
    assert "--faces all redraws every one" in run(*two, "--output", tmp_path / "a.mp4", ok=False).err
    outcome = run(*two, "--faces", "all", "--output", tmp_path / "a.mp4")
    assert "6 redrawn, 0 left alone" in outcome.out
    assert "\n   Measured on one face of each frame, the one that was found first:\n   irises" in outcome.out
    changed = differences(read(tmp_path / "two.mp4")[0], read(tmp_path / "a.mp4")[0]) > 25
    assert changed[:, :, :360].any(axis=(1, 2)).all() and changed[:, :, 360:].any(axis=(1, 2)).all()


def test_a_strength_of_nothing_leaves_the_video(run, talk, tmp_path):
    outcome = run("--video", talk, *LOOK, "--strength", 0, "--output", tmp_path / "out.mp4")
    assert "0 redrawn, 24 left alone" in outcome.out and "strength 0 19" in outcome.out
    assert differences(read(talk)[0], read(tmp_path / "out.mp4")[0]).mean() < 2


def test_a_head_turned_far_is_left_alone(run, talk, tmp_path):
    outcome = run("--video", talk, *LOOK, "--head_deg", 0, 31, "--output", tmp_path / "out.mp4")
    assert "left alone (blinks 5, no face 0, head turned aside 19)" in outcome.out
    never = ("--fade_head_yaw", 3.2, 3.2, "--fade_gaze", 3.2, 3.2)
    outcome = run("--video", talk, *LOOK, "--head_deg", 0, 31, *never, "--output", tmp_path / "all.mp4")
    assert "19 redrawn, 5 left alone (blinks 5, no face 0)" in outcome.out


def test_side_by_side_no_wider_than_can_be_read_again(run, talk, tmp_path, monkeypatch):
    monkeypatch.setattr(redirect, "MAX_SIDE_PX", 900)
    outcome = run("--video", talk, "--gaze", "camera", "--output", tmp_path / "a.mp4", "--compare", ok=False)
    assert_one_line(outcome, "--compare", "480", "960", "900")
    assert not files_in(tmp_path), "and it says so before it draws"
    run("--video", talk, "--gaze", "camera", "--output", tmp_path / "a.mp4")


def test_side_by_side(run, talk, tmp_path):
    run("--video", talk, "--gaze", "camera", "--output", tmp_path / "a.mp4", "--compare")
    both, before = read(tmp_path / "a.mp4")[0], read(talk)[0]
    assert both.shape == (24, 360, 960, 3)
    assert (
        abs(both[:, :, :480].astype(int) - before).mean()
        < 2
        < abs(both[:, :, :480].astype(int) - both[:, :, 480:]).max()
    )


def test_closed_eyes_in_a_photo_give_a_warning(run, talking, tmp_path):
    for number, closed in ((0, False), (24, True)):
        Image.fromarray(talking.frames[number]).save(tmp_path / "me.png")
        outcome = run("--image", tmp_path / "me.png", *LOOK, "--output", tmp_path / f"{number}.png")
        assert ("⚠️ The eyes look closed: if they are, give a photo with open eyes\n" in outcome.out) is closed


def test_the_word_camera_is_two_angles(run, tmp_path):
    for flag in ("--gaze", "--gaze_deg"):
        for written in ([flag, "camera"], [f"{flag}=camera"]):
            assert with_camera_in_angles(["--label", *written, "--face", "2"]) == f"--label {flag} 0 0 --face 2".split()
    assert with_camera_in_angles(["--gaze_deg", "0", "10"]) == ["--gaze_deg", "0", "10"]
    with pytest.raises(UserError, match="--gaze_deg: got 'up'; expected PITCH YAW in degrees, or the word camera"):
        with_camera_in_angles(["--gaze_deg", "up"])
    assert with_camera_in_angles(["--output", "camera"]) == ["--output", "camera"]
    picture = ROOT / "docs" / "images" / "astronaut.png"
    for name, words in (("a", ["camera"]), ("b", [0, 0])):
        run("--image", picture, "--gaze", *words, "--output", tmp_path / f"{name}.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_a_video_of_what_was_done(run, talk, tmp_path, monkeypatch, signum):
    paste, calls = Series.paste, []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == 9:
            os.kill(os.getpid(), signum)
        return paste(*args)

    monkeypatch.setattr(Series, "paste", interrupted)
    output = tmp_path / "out.mp4"
    outcome = run("--video", talk, *LOOK, "--output", output, ok=False)
    assert outcome.code == 128 + signum and STOPPING in outcome.err
    assert f"stopped by {signum.name}; {output} holds the first 9 frames" in outcome.err
    assert len(read(output)[0]) == 9 and 0.25 < sound_of(output)[-1][0] < 0.45
    assert files_in(tmp_path) == {"out.mp4", "out.frames.csv"}


def test_a_video_leaves_the_number_of_threads_as_it_was(run, talk, tmp_path, monkeypatch):
    drawn, later = [], []
    draw = Series.draw
    monkeypatch.setattr(Series, "draw", lambda *args: drawn.append(torch.get_num_threads()) or draw(*args))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        flags = ["--checkpoint", run.base, "--device", "cpu", "--video", talk, *LOOK, "--output", tmp_path / "out.mp4"]
        assert redirect.main([str(each) for each in flags]) == 0
        thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert set(drawn) == {2} and later == [3] and torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


SLOW_DISK = """
import sys, threading, time
from vaegaze.commands import redirect
from vaegaze.images.video.reading import VideoReader
from vaegaze.redirecting import ahead
ahead._LAST_ITEM_SEC = 2.0
frames = VideoReader.__iter__
def slowly(self):
    for number, frame in enumerate(frames(self)):
        if number == int(sys.argv[1]):
            assert threading.current_thread() is not threading.main_thread()
            time.sleep(0.5)  # what waits is drawn meanwhile
            print("no answer", flush=True)
            time.sleep(float(sys.argv[2]))
        yield frame
VideoReader.__iter__ = slowly
sys.exit(redirect.main(sys.argv[3:]))
"""


@pytest.mark.parametrize(("at", "answers_after_sec", "left"), [(2, 600, set()), (55, 1, {"out.mp4", "out.frames.csv"})])
def test_ctrl_c_while_the_disk_does_not_answer(base, talking, tmp_path, at, answers_after_sec, left):
    with_sound(tmp_path / "talk.mp4", talking.frames)
    (tmp_path / "out").mkdir()
    output = tmp_path / "out" / "out.mp4"
    flags = ["--checkpoint", base, "--device", "cpu", "--video", tmp_path / "talk.mp4", *LOOK, "--output", output]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    process = start_process(at, answers_after_sec, *flags, script=SLOW_DISK, **pipes)
    said = []
    while not said or "no answer" not in said[-1]:
        said.append(process.stdout.readline())
        assert said[-1], said
    process.send_signal(signal.SIGINT)
    sent = time.monotonic()
    said.append(process.communicate(timeout=30)[0])
    assert process.returncode == 130 and time.monotonic() - sent < 20, said
    assert "Traceback" not in said[-1] and files_in(tmp_path / "out") == left, said
    assert left or "nothing was written" in said[-1], said
    assert not left or f"holds the first {len(read(output)[0])} frames" in said[-1], said


def test_no_video_is_left_half_written(run, talk, tmp_path, monkeypatch):
    write, calls = VideoWriter.write, []

    def interrupted(self, *args):
        calls.append(args)
        if len(calls) == 5:
            raise KeyboardInterrupt
        write(self, *args)

    monkeypatch.setattr(VideoWriter, "write", interrupted)
    outcome = run("--video", talk, *LOOK, "--output", tmp_path / "out.mp4", ok=False)
    assert outcome.code == 130 and "stopped; nothing was written" in outcome.err
    assert not files_in(tmp_path)


def test_a_full_disk_leaves_what_was_drawn(run, talk, tmp_path, monkeypatch):
    put, paste, pasted = RecoverableFile._put, Series.paste, []

    def filling(self, data):
        if len(pasted) >= 9 and self.error is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        return put(self, data)

    monkeypatch.setattr(Series, "paste", lambda *args: pasted.append(args) or paste(*args))
    monkeypatch.setattr(RecoverableFile, "_put", filling)
    monkeypatch.setattr(writing, "BUFFER_BYTES", 1024)
    output = tmp_path / "out.mp4"
    outcome = run("--video", talk, *LOOK, "--output", output, ok=False)
    assert outcome.code == 2 and outcome.err.splitlines()[-1].endswith(
        f"{output} holds the first {len(read(output)[0])} frames"
    )
    assert "No space left" in outcome.err and len(read(output)[0]) >= 8 and files_in(tmp_path) == {"out.mp4"}


def test_a_sound_that_the_container_cannot_hold_is_encoded(run, talking, tmp_path):
    with_sound(tmp_path / "talk.avi", talking.frames[:4], codec="pcm_mulaw")
    outcome = run("--video", tmp_path / "talk.avi", *LOOK, "--output", tmp_path / "out.mp4")
    assert ".mp4 cannot hold its sound (pcm_mulaw): encoded as AAC\n" in outcome.out
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert [each.codec_context.name for each in container.streams.audio] == ["aac"]


# --- One batch --------------------------------------------------------------------------------------------------------


def followed(talking, numbers, **changes) -> list[FollowedFrame]:
    values = {"closed": False, "blend": 1.0} | changes
    return [FollowedFrame(Frame(talking.frames[i], i / 25), talking.eyes[i], **values) for i in numbers]


def redrawn(few, own=False):
    model = make_tiny_model()
    series = Series(model, None if own else FollowedReferences(model, ()), Look((0.2, 0.3), (0.0, 0.0)))
    return [pixels for pixels, _ in series.redraw([[each] for each in few])]


def test_pixels_outside_the_eyes_are_the_frames(talking):
    few = followed(talking, range(0, 15, 5))
    for each, result in zip(few, redrawn(few)):
        inside, changed = squares(result.shape, each.eyes), differences(each.frame.pixels, result) > 0
        assert not changed[~inside].any() and changed[inside].mean() > 0.6
    again = [redrawn([each])[0] for each in few]
    assert max(differences(*pair).max() for pair in zip(again, redrawn(few))) <= 1, "alone or in company"


def test_frames_without_open_eyes_are_returned_unchanged(talking):
    closed, lost = followed(talking, [21], closed=True, blend=0.0), followed(talking, [3], blend=0.0)
    lost = [FollowedFrame(lost[0].frame, None, False, 0.0)]
    few = [*closed, *followed(talking, [8]), *lost]
    results = redrawn(few)
    assert [result is each.frame.pixels for each, result in zip(few, results)] == [True, False, True]
    assert all(result is each.frame.pixels for each, result in zip(closed + lost, redrawn(closed + lost)))


def test_each_frame_is_its_own_reference(talking):
    few = followed(talking, range(0, 15, 5))
    together, dropped = redrawn(few, own=True), redrawn(few)
    assert all(differences(*pair).max() > 0 for pair in zip(together, dropped))
    again = [redrawn([each], own=True)[0] for each in few]
    assert max(differences(*pair).max() for pair in zip(again, together)) <= 1, "alone or in company"


def test_a_blend_of_half_beside_a_blink(talking):
    whole, half = (redrawn(followed(talking, [8], blend=blend))[0].astype(int) for blend in (1.0, 0.5))
    assert abs(half - (whole + talking.frames[8]) / 2).max() <= 1


@pytest.mark.parametrize(("own_irises", "levels"), [(False, 4), (True, 6)], ids=["drawing", "own irises"])
def test_the_shipped_model_draws_the_same_in_low_precision(own_irises, levels, talking, monkeypatch):
    model = load_checkpoint(ROOT / "checkpoints" / "pretrained_model.pth").model
    monkeypatch.setattr(irises.networks, "installed", lambda: own_irises)
    few, drawn = followed(talking, [0, 40]), {}
    for precision in ("fp32", "bf16"):
        monkeypatch.setattr(drawing, "find_precision", lambda *_, chosen=precision: chosen)
        with drawing.low_precision(model):
            series = Series(model, FollowedReferences(model, ()), Look((0.0, 0.0), (0.0, 0.0)))
            drawn[precision] = [pixels for pixels, _ in series.redraw([[each] for each in few])]
    off = [differences(*pair) for pair in zip(*drawn.values())]
    assert 0 < np.max(off) <= levels, "where irises go differs a little, too"
    assert np.max([each[each > 0].mean() for each in off]) < 2


def test_a_subpixel_shift_changes_little(talking):
    """Eyes that move by a twentieth of a pixel must not let the squares' edges jump by a whole one."""
    drawn = np.full((32, 32, 3), 255, np.uint8)
    frame, eyes = np.zeros_like(talking.frames[0]), talking.eyes[0]
    faces = [align_face(frame, eyes + shift, np.zeros(2), CANVAS) for shift in (0, 0.05)]
    pasted = [paste_in_regions(frame, face.head, drawn, face.to_canvas, CANVAS) for face in faces]
    assert 0 < differences(*pasted).max() < 12


def test_eyes_at_the_edge_of_the_frame(talking):
    frame, eyes = talking.frames[0], talking.eyes[0]
    left, right = eyes.astype(int)
    for window in (np.s_[left[1] - 3 :], np.s_[:, left[0] :], np.s_[: left[1] + 2, : right[0]]):
        part = np.ascontiguousarray(frame[window])
        corner = np.array(
            [window[1].start or 0 if isinstance(window, tuple) else 0, 0 if isinstance(window, tuple) else window.start]
        )
        few = [FollowedFrame(Frame(part, 0.0), eyes - corner, False, 1.0)]
        (result,) = redrawn(few)
        assert result.shape == part.shape and (result != part).any()


# --- What is refused --------------------------------------------------------------------------------------------------

VIDEO, OUT = ("--video", "talk.mp4"), ("--output", "out.mp4")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ((*VIDEO, *LOOK, *OUT), ["--video: talk.mp4 does not exist"]),
        ((*VIDEO, "--sweep", "circle", *OUT), ["--sweep", "does not apply to --video", "give --gaze"]),
        ((*VIDEO, *LOOK, "--mask", "m.png", *OUT), ["--mask", "found in every frame"]),
        ((*VIDEO, *LOOK, "--label", *OUT), ["--label", "does not apply to --video"]),
        ((*VIDEO, *LOOK, "--index", 3, *OUT), ["--index", "does not apply to --video"]),
        ((*VIDEO, *LOOK, "--seed", 3, *OUT), ["--seed", "without --look_away"]),
        ((*VIDEO, "--image", "a.png", *LOOK, *OUT), ["--image", "cannot be combined with --video; leave out one"]),
        ((*VIDEO, *LOOK, "--output", "out.gif"), ["out.gif does not fit --video", ".mp4, .mov or .mkv"]),
        ((*VIDEO, *OUT), ["redirect_params.gaze", "needed"]),
        (("--image", "a.png", *LOOK, "--compare", "--output", "a.png"), ["--compare", "it is for videos"]),
        (
            (*VIDEO, *LOOK, "--fade_gaze_deg", 30, 20, *OUT),
            ["--fade_gaze_deg (redirect_params.fade_gaze): expected the smaller angle first"],
        ),
        (("--image", "a.png", *LOOK, "--strength", 0.5, "--output", "a.png"), ["--strength", "it is for videos"]),
        ((*VIDEO, *LOOK, "--face", 1, "--faces", "all", *OUT), ["--face", "cannot be combined with --faces all"]),
        ((*VIDEO, *LOOK, "--strength", 2, *OUT), ["--strength", "got '2'"]),
        ((*VIDEO, "--gaze", "kamera", *OUT), ["--gaze: got 'kamera'", "PITCH YAW in radians, or the word camera"]),
        ((*VIDEO, "--gaze=kamera", *OUT), ["--gaze: got 'kamera'", "or the word camera"]),
    ],
)
def test_what_is_wrong_is_one_line(run, flags, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert_one_line(run(*flags, ok=False), *words)
    assert not files_in(tmp_path)


def test_files_that_are_no_videos(run, talk, tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no video" * 1000)
    (tmp_path / "cut.mp4").write_bytes(talk.read_bytes()[:2000])
    Image.new("1", (30_000, 10)).save(tmp_path / "wide.png")
    given = files_in(tmp_path)
    for name, words in (
        ("empty.mp4", "is empty"),
        ("text.mp4", "cannot be read as a video"),
        ("cut.mp4", "give an undamaged"),
        ("wide.png", "is a picture"),
    ):
        refused = run("--video", tmp_path / name, *LOOK, "--output", tmp_path / "out.mp4", ok=False)
        assert_one_line(refused, name, words)
    assert files_in(tmp_path) == given


def test_a_video_without_a_face(run, tmp_path):
    with_sound(tmp_path / "wall.mp4", np.full((12, 96, 128, 3), 100, np.uint8))
    outcome = run("--video", tmp_path / "wall.mp4", *LOOK, "--output", tmp_path / "out.mp4", ok=False)
    assert outcome.code == 2 and "shows no face" in outcome.err and "12 frames" in outcome.err
    assert files_in(tmp_path) == {"wall.mp4"}


def test_the_input_video_is_never_replaced(run, talk):
    before = talk.read_bytes()
    refused = run("--video", talk, *LOOK, "--output", talk, "--overwrite", ok=False)
    assert_one_line(refused, "which is never replaced")
    assert talk.read_bytes() == before


@pytest.mark.parametrize("missing", ["av", "cv2"])
def test_missing_packages_are_named(run, talk, tmp_path, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    outcome = run("--video", talk, *LOOK, "--output", tmp_path / "out.mp4", ok=False)
    assert outcome.code == 2 and "pip install 'opencv-python" in outcome.err
    assert "--mask" not in outcome.err and "photo" not in outcome.err and not files_in(tmp_path)


def test_without_opencv_no_model_is_loaded_first(run, tmp_path, no_opencv):
    flags = ("--checkpoint", tmp_path / "none.pth", *VIDEO, *LOOK, "--output", tmp_path / "out.mp4")
    assert_one_line(run(*flags, ok=False), "finding the eyes in a picture needs OpenCV: pip install")
