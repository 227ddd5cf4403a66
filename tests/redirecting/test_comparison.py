"""The numbers of a redirected video, on results whose faults are made."""

import json
from functools import partial

import numpy as np
import pytest
import videos
from command_runs import invoke
from conftest import process_restored
from videos import encoded

from vaegaze.commands import compare
from vaegaze.commands.compare import comparison_lines
from vaegaze.commands.frame_report import report_text
from vaegaze.faces.follower import CLOSED, NO_FACE, FollowedFrame
from vaegaze.geometry.transforms import similarity, warp
from vaegaze.images.video import Frame
from vaegaze.redirecting import comparison as comparing
from vaegaze.redirecting.comparison import Comparison
from vaegaze.redirecting.fading import Fate

pytest.importorskip("cv2")

SOME = range(2, 26)  # with a blink


def compared(talking, result_of, by="cascades", numbers=SOME, lost=(), every_sec=1 / 25, thorough=True):
    """Of the true eyes, against `result_of(number, picture)`; the face is `lost` in some frames."""
    comparison = Comparison(by, thorough)
    for number in numbers:
        picture, closed = talking.frames[number], talking.openness[number] < 0.5
        frame = Frame(picture, number * every_sec)
        if number in lost:
            comparison.add(FollowedFrame(frame, None, False, np.zeros(2), left=NO_FACE), result_of(number, picture))
            continue
        blend = np.full(2, 0.0 if closed else 1.0)
        followed = FollowedFrame(frame, talking.eyes[number], bool(closed), blend, left=CLOSED if closed else None)
        comparison.add(followed, result_of(number, picture))
    return comparison.numbers()


def near_eyes(talking, number, reach) -> np.ndarray:
    """(H, W) bool: within `reach` px of an eye's centre."""
    ys, xs = np.mgrid[: talking.frames.shape[1], : talking.frames.shape[2]] + 0.5
    return np.any([np.hypot(xs - x, ys - y) < reach for x, y in talking.eyes[number]], axis=0)


def brighter(talking, levels, reach=28):
    def result_of(number, picture):
        if talking.openness[number] < 0.5:
            return picture
        added = levels * near_eyes(talking, number, reach)[..., None]
        return np.clip(picture.astype(int) + added, 0, 255).astype(np.uint8)

    return result_of


def test_a_copy_changes_nothing(talking):
    numbers = compared(talking, lambda number, picture: picture)
    assert (numbers.frames, numbers.drawn, numbers.switches) == (len(SOME), 0, 0)
    assert numbers.closed == numbers.closed_kept == 5 and numbers.jitter_px is None and numbers.edges is None


def test_colours_and_edges_of_what_was_pasted(talking):
    little, much = (compared(talking, brighter(talking, levels)) for levels in (8, 24))
    assert little.drawn == much.drawn == len(SOME) - 5 and much.switches == 0
    assert 2.5 < much.edges / little.edges < 3.5 and little.edges > 1
    assert np.array(much.colour) == pytest.approx(3 * np.array(little.colour), rel=0.1)
    assert all(level > 3 for level in little.colour) and much.pulsing < 1


def test_fewer_frames_say_the_same(talking, monkeypatch):
    monkeypatch.setattr(comparing, "FIRST", 3)
    every, fewer = (compared(talking, brighter(talking, 24), thorough=each) for each in (True, False))
    counted = ["frames", "no_face", "drawn", "closed", "closed_kept", "switches"]
    assert all(getattr(every, name) == getattr(fewer, name) for name in counted) and every.closed_kept == 5
    assert fewer.edges != every.edges and fewer.edges == pytest.approx(every.edges, rel=0.05)
    assert fewer.colour == pytest.approx(every.colour, rel=0.05) and fewer.pulsing < 1


def test_a_face_that_comes_late_is_measured(talking):
    numbers = compared(talking, brighter(talking, 24), lost=range(2, 14), thorough=False)
    assert numbers.no_face == 12 and numbers.edges > 1 and numbers.closed == numbers.closed_kept


def test_flashes_are_counted(talking):
    drawn = brighter(talking, 24)
    flashing = compared(talking, lambda number, picture: picture if number in (8, 9, 14) else drawn(number, picture))
    assert flashing.switches == 4


def test_a_face_that_is_lost_for_a_moment_is_a_flash(talking):
    drawn, lost = brighter(talking, 24), range(5, 9)

    def result_of(number, picture):
        return picture if number in lost else drawn(number, picture)

    numbers = compared(talking, result_of, numbers=range(2, 14), lost=lost)
    assert (numbers.switches, numbers.no_face) == (2, 4)
    assert [line.split() for line in comparison_lines(numbers) if "no face" in line] == [["no", "face", "4", "frames"]]
    assert compared(talking, drawn, numbers=range(2, 14), lost=lost).switches == 0, "drawn although not found"
    assert compared(talking, result_of, numbers=range(2, 14), lost=lost, every_sec=1).switches == 0, "it was gone"
    assert compared(talking, result_of, numbers=range(5, 14), lost=lost).switches == 0, "it was not there before"


def test_a_blink_that_is_drawn_over_is_told(talking):
    def opened(number, picture):
        to_here = similarity(talking.eyes[8], talking.eyes[number])
        return warp(talking.frames[8], to_here, *picture.shape[:2])[0]

    numbers = compared(talking, opened, numbers=range(4, 24))
    assert numbers.closed == 4 and numbers.closed_kept == 0


def test_irises_that_tremble(talking, landmarks_installed):
    def trembling(number, picture):
        inside = near_eyes(talking, number, 16)[..., None]
        moved = np.roll(picture, 3 * (-1) ** number, axis=1)
        return np.where(inside, moved, picture)

    still = compared(talking, brighter(talking, 12, reach=40), "landmarks", range(4, 14))
    numbers = compared(talking, trembling, "landmarks", range(4, 14))
    assert 0.5 < still.jitter_ratio < 1.5 and numbers.jitter_ratio > 3 and numbers.jitter_px > 1


def test_eyes_of_another_shape(talking, landmarks_installed):
    def wider(number, picture):
        for x in talking.eyes[number][:, 0]:
            wide, _ = warp(talking.frames[number], np.array([[1.25, 0, -0.25 * x], [0, 1, 0]]), *picture.shape[:2])
            columns = abs(np.arange(picture.shape[1]) - x) < 30
            picture = np.where((near_eyes(talking, number, 30) & columns)[..., None], wide, picture)
        return picture

    same, other = (
        compared(talking, result_of, "landmarks", range(4, 8)) for result_of in (brighter(talking, 12, 40), wider)
    )
    assert other.eye_width > 5 > abs(same.eye_width) and other.corners_off > 3 * same.corners_off
    assert any("% of the eye distance off the source's, eyes" in line for line in comparison_lines(other))
    assert compared(talking, wider, "cascades", range(4, 8)).corners_off is None


def test_the_command(talking, tmp_path, capfd):
    source, result, output = (tmp_path / name for name in ("a.mp4", "b.mp4", "numbers.json"))
    encoded(source, talking.frames[:8])
    encoded(result, np.concatenate([talking.frames[:8], talking.frames[:8]], axis=2))
    (tmp_path / "b.frames.csv").write_text(report_text([Fate(0.04 * number, 0.0, CLOSED) for number in range(8)]))
    with process_restored():
        assert compare.main([str(source), str(result), "--output", str(output)]) == 0
        assert json.loads(output.read_text())["drawn"] == 0
        (tmp_path / "b.frames.csv").unlink()
        assert compare.main([str(source), str(result), "--output", str(output), "--overwrite"]) == 0
        assert json.loads(output.read_text())["drawn"] == 0, "from the pixels alone"
    printed = capfd.readouterr().out
    assert "8 frames:" in printed and "    8  eyes closed: 0.00–0.28 s" in printed
    numbers = json.loads(output.read_text())
    assert numbers["drawn"] == numbers["switches"] == 0 and numbers["left_alone"] == {}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a.mp4"], "needed; give SOURCE and RESULT"),
        (["a.mp4", "none.mp4"], "--result: none.mp4 does not exist"),
        (["a.mp4", "small.mp4"], "the frames of small.mp4 have 96×64 pixels, not 128×64"),
    ],
)
def test_what_cannot_be_compared_is_one_line(words, said, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    for name, width in (("a.mp4", 128), ("small.mp4", 96)):
        encoded(name, np.full((2, 64, width, 3), 90, np.uint8))
    with process_restored():
        assert compare.main(words) == 2
    assert said in capfd.readouterr().err


# --- Other videos than one thinks -------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return partial(invoke, compare.main)


def test_a_result_that_is_longer(talking, run):
    encoded("a.mp4", talking.frames[:4])
    encoded("b.mp4", talking.frames[:6])
    encoded("c.mp4", talking.frames[:4])
    assert "⚠️ a.mp4 ends first: the rest of b.mp4 is not compared" in run("a.mp4", "b.mp4", ok=True).out
    assert "⚠️ a.mp4 ends first: the rest of b.mp4 is not compared" in run("b.mp4", "a.mp4", ok=True).out, "as before"
    assert "⚠️" not in run("a.mp4", "c.mp4", ok=True).out


def test_a_result_of_another_frame_rate(talking, run, monkeypatch):
    encoded("a.mp4", talking.frames[:6])
    monkeypatch.setattr(videos, "RATE", 30)
    encoded("b.mp4", talking.frames[:6])
    assert "⚠️ b.mp4 has other frames than a.mp4: their times part at 0.1" in run("a.mp4", "b.mp4", ok=True).out


def test_the_table_of_another_video(talking, run, tmp_path):
    """It may have come from b.mov, which has the same table's name; or be no table of ours at all."""
    for name in ("a.mp4", "b.mp4"):
        encoded(name, talking.frames[:4])
    table = tmp_path / "b.frames.csv"
    table.write_text(report_text([Fate(0.04 * number, 0.0, CLOSED) for number in range(6)]))
    assert_one_line_at_the_end(run("a.mp4", "b.mp4", ok=False), "b.frames.csv tells of 6 frames, but b.mp4 has 4")
    table.write_text("time,gaze_x,gaze_y\n0.0,1,2\n")
    assert "eyes closed" not in run("a.mp4", "b.mp4", ok=True).out and table.read_text().startswith("time,gaze_x")


def assert_one_line_at_the_end(outcome, words):
    assert outcome.code == 2 and words in outcome.err.splitlines()[-1] and "Traceback" not in outcome.err
