"""Frames as they are meant to be seen: turned, mirrored, interlaced, and of every pixel format."""

import numpy as np
import pytest
from videos import copy, encoded, pictures, read

from vaegaze.errors import UserError
from vaegaze.images.video import open_video

av = pytest.importorskip("av")

ONE = 65536  # in a display matrix


def notes_of(path) -> list[str]:
    with open_video(path, "--video") as reader:
        for _ in reader:
            pass
    return reader.notes


@pytest.mark.parametrize(
    ("matrix", "seen"),
    [
        ((-ONE, 0, 0, ONE), lambda frame: frame[:, ::-1]),
        ((ONE, 0, 0, -ONE), lambda frame: frame[::-1]),
        ((-ONE, 0, 0, -ONE), lambda frame: frame[::-1, ::-1]),
        ((0, ONE, ONE, 0), lambda frame: frame.swapaxes(0, 1)),
        ((0, -ONE, -ONE, 0), lambda frame: frame[::-1, ::-1].swapaxes(0, 1)),
        ((0, ONE, -ONE, 0), lambda frame: np.rot90(frame, -1)),
        ((0, -ONE, ONE, 0), lambda frame: np.rot90(frame)),
    ],
)
def test_every_display_matrix(tmp_path, matrix, seen):
    a, b, c, d = matrix
    encoded(tmp_path / "a.mp4", pictures(2), matrix=[a, b, 0, c, d, 0, 0, 0, 1 << 30])
    for path in (tmp_path / "a.mp4", tmp_path / "b.mp4"):
        if path.name == "b.mp4":
            copy(tmp_path / "a.mp4", path)
        shown, _ = read(path)
        upright = np.stack([seen(frame) for frame in pictures(2)])
        assert shown.shape == upright.shape and abs(shown.astype(int) - upright).mean() < 5
    assert not notes_of(tmp_path / "a.mp4")


def test_an_angle_between_is_rounded_and_said(tmp_path):
    encoded(tmp_path / "a.mp4", pictures(2), matrix=[60_000, 26_000, 0, -26_000, 60_000, 0, 0, 0, 1 << 30])
    assert read(tmp_path / "a.mp4")[0].shape == pictures(2).shape
    (note,) = notes_of(tmp_path / "a.mp4")
    assert "rotation" in note


def turned_midway(path, target) -> None:
    """A display orientation that only the 13th frame states, as a phone that is turned while it records leaves it."""
    with av.open(str(path)) as source, av.open(str(target), "w") as copied:
        stream = source.streams.video[0]
        track = copied.add_stream_from_template(stream)
        turn = av.bitstream.BitStreamFilterContext("h264_metadata=display_orientation=insert:rotate=180", stream)
        for number, packet in enumerate(packet for packet in source.demux(stream) if packet.size):
            for each in turn.filter(packet) if number >= 12 else [packet]:
                each.stream = track
                copied.mux(each)


def test_a_rotation_that_changes_is_said(tmp_path):
    encoded(tmp_path / "a.mkv", pictures(20))
    turned_midway(tmp_path / "a.mkv", tmp_path / "b.mkv")
    (note,) = notes_of(tmp_path / "b.mkv")
    assert "rotation changes at 0.48 s" in note
    np.testing.assert_array_equal(read(tmp_path / "a.mkv")[0], read(tmp_path / "b.mkv")[0])


def test_fields_that_come_late_are_deinterlaced(tmp_path):
    """Progressive frames first, as where a broadcast changes from film to television."""
    fields = np.full((40, 64, 96, 3), 30, np.uint8)
    for number, field in enumerate(fields):
        field[:, 4 + 2 * number : 16 + 2 * number] = 220
    woven = fields[::2].copy()
    woven[:, 1::2] = fields[1::2, 1::2]
    encoded(tmp_path / "progressive.ts", fields[::4])
    encoded(tmp_path / "woven.ts", woven, options={"flags": "+ildct+ilme", "x264-params": "interlaced=1:tff=1"})
    (tmp_path / "a.ts").write_bytes((tmp_path / "progressive.ts").read_bytes() + (tmp_path / "woven.ts").read_bytes())
    shown, times = read(tmp_path / "a.ts")
    assert len(shown) == 30 and (np.diff(times) > 0).all()
    assert any("interlaced" in note for note in notes_of(tmp_path / "a.ts"))
    rows = shown[12:-2, :, :, 0].astype(int)
    assert abs(rows[:, 1:-1] - (rows[:, :-2] + rows[:, 2:]) / 2).mean() < 3


def test_interlaced_frames_are_deinterlaced_and_it_is_said(tmp_path):
    """A bar that moves shows a comb's teeth in each frame: rows that differ from both neighbours."""
    fields = np.full((24, 64, 96, 3), 30, np.uint8)
    for number, field in enumerate(fields):
        field[:, 8 + 3 * number : 20 + 3 * number] = 220
    woven = fields[::2].copy()
    woven[:, 1::2] = fields[1::2, 1::2]
    encoded(tmp_path / "a.mp4", woven, options={"flags": "+ildct+ilme", "x264-params": "interlaced=1:tff=1"})
    shown, times = read(tmp_path / "a.mp4")
    assert len(shown) == 12
    np.testing.assert_allclose(times, np.arange(12) / 25, atol=1e-3)

    def teeth(frames) -> float:
        rows = frames[2:-2, :, :, 0].astype(int)
        return abs(rows[:, 1:-1] - (rows[:, :-2] + rows[:, 2:]) / 2).mean()

    assert teeth(shown) < 0.25 * teeth(woven)
    notes = copy(tmp_path / "a.mp4", tmp_path / "b.mp4")
    assert any("interlaced" in note for note in notes) and len(read(tmp_path / "b.mp4")[0]) == 12


@pytest.mark.parametrize(
    ("codec", "pixel_format", "tags", "words"),
    [
        ("libx264rgb", "rgb24", {}, "RGB colour"),
        ("ffv1", "bgr0", {}, "RGB colour"),
        ("libx264", "yuv444p", {}, "4:4:4 colour"),
        ("libx264", "yuv422p", {}, "4:2:2 colour"),
        ("libx264", "yuv420p10le", {"colorspace": 9, "color_primaries": 9, "color_trc": 16}, "10-bit colour"),
        ("ffv1", "yuva420p", {}, "transparency"),
        ("libx264", "yuvj420p", {}, None),
    ],
)
def test_pixel_formats(tmp_path, codec, pixel_format, tags, words):
    """What 8-bit 4:2:0 does not hold is said; colours stay, also where the tags are not 4:2:0's."""
    frames = pictures(3)
    encoded(tmp_path / "a.mkv", frames, codec, pixel_format, tags=tags)
    notes = copy(tmp_path / "a.mkv", tmp_path / "b.mp4")
    assert len(notes) == (words is not None) and all(words in note for note in notes)
    shown, _ = read(tmp_path / "b.mp4")
    assert abs(shown.astype(int) - frames).mean() < 5
    with open_video(tmp_path / "b.mp4", "--video") as reader:
        assert {name: reader.colours[name] for name in tags if tags[name]} == {n: v for n, v in tags.items() if v}


def test_the_transparency_that_webm_keeps_apart_is_said_to_be_lost(tmp_path):
    encoded(tmp_path / "a.webm", pictures(3), "libvpx-vp9", "yuva420p")
    assert any("transparency" in note for note in copy(tmp_path / "a.webm", tmp_path / "b.mp4"))


def test_a_matrix_that_cannot_be_converted_is_one_line(tmp_path):
    encoded(tmp_path / "a.mkv", pictures(2), pixel_format="yuv444p", tags={"colorspace": 8})  # YCgCo
    with pytest.raises(UserError, match=r"^--video: the colours of .* cannot be converted"):
        read(tmp_path / "a.mkv")
