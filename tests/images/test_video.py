"""Videos: frame by frame, upright, with their times; written with the sound as it was; and whatever is no video."""

import gc
import struct
import sys
import threading
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from videos import HEIGHT, RATE, WIDTH, copy, encoded, pictures, read, sound_of, with_sound

from vaegaze.errors import UserError
from vaegaze.images.video import SUFFIXES, open_video, reading, write_video

av = pytest.importorskip("av")

CASES = Path(__file__).parents[1] / "cases"


def write(path, frames, **options):
    """A video without sound, its frames RATE a second."""
    with write_video(path, frames.shape[2], frames.shape[1], RATE, **options) as writer:
        for frame in frames:
            writer.write(frame)
        writer.finish(whole=True)


def first_time(path) -> float:
    """Of the first frame, by the file's own clock; Matroska's begins with the sound's first packet."""
    with av.open(str(path)) as container:
        return next(container.decode(video=0)).time


def assert_refused(path, *words):
    with pytest.raises(UserError) as error, open_video(path, "--video") as reader:
        for _ in reader:
            pass
    assert "\n" not in str(error.value)
    for word in ("--video", str(path), *words):
        assert word in str(error.value)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_frames_come_back_with_their_times(tmp_path, suffix):
    frames = pictures()
    write(tmp_path / f"a{suffix}", frames)
    with open_video(tmp_path / f"a{suffix}", "--video") as reader:
        assert (reader.width_px, reader.height_px, reader.frames_per_sec) == (WIDTH, HEIGHT, RATE)
        assert reader.frame_count == len(frames)
    shown, times = read(tmp_path / f"a{suffix}")
    assert shown.shape == frames.shape and abs(shown.astype(int) - frames).mean() < 4
    np.testing.assert_allclose(times, np.arange(len(frames)) / RATE, atol=1e-3)


def test_frames_that_were_read_do_not_wait_for_the_garbage_collector(tmp_path):
    write(tmp_path / "a.mp4", pictures())
    gc.collect()
    gc.disable()
    try:
        with open_video(tmp_path / "a.mp4", "--video") as reader:
            for _ in reader:
                pass
            assert 1 <= sum(type(each) is av.VideoFrame for each in gc.get_objects()) <= 3
    finally:
        gc.enable()


def test_colours_survive_any_number_of_times(tmp_path):
    frames = pictures(2)
    write(tmp_path / "0.mp4", frames)
    for number in range(3):
        copy(tmp_path / f"{number}.mp4", tmp_path / f"{number + 1}.mp4")
    drift = read(tmp_path / "3.mp4")[0].astype(int) - frames
    assert abs(drift.mean(axis=(0, 1, 2))).max() < 2


@pytest.mark.parametrize("degrees", [90, 180, -90])
def test_a_turned_phone(tmp_path, degrees):
    """The file says by how much, against the clock, the picture is to be turned."""
    frames = pictures(3)
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.set_display_rotation(degrees)
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    upright = np.rot90(frames, degrees // 90, axes=(1, 2))
    shown, _ = read(tmp_path / "a.mp4")
    assert shown.shape == upright.shape and abs(shown.astype(int) - upright).mean() < 5


def test_the_sound_goes_along_unchanged_and_in_time(tmp_path):
    with_sound(tmp_path / "a.mp4", pictures(30))
    for suffix in SUFFIXES:
        copy(tmp_path / "a.mp4", tmp_path / f"b{suffix}")
        before, after = sound_of(tmp_path / "a.mp4"), sound_of(tmp_path / f"b{suffix}")
        assert [packet for _, packet in before] == [packet for _, packet in after] and len(before) > 15
        late = {round(float(b[0] - a[0]), 2) for a, b in zip(before, after)}
        assert len(late) == 1 and abs(late.pop() - first_time(tmp_path / f"b{suffix}")) < 0.01


def test_of_a_part_only_its_sound_is_kept(tmp_path):
    with_sound(tmp_path / "a.mp4", pictures(50))
    copy(tmp_path / "a.mp4", tmp_path / "b.mp4", whole=False, most=10)
    assert len(read(tmp_path / "b.mp4")[0]) == 10
    assert 0.3 < sound_of(tmp_path / "b.mp4")[-1][0] < 0.5


def test_times_that_vary_are_kept(tmp_path):
    times = [0, 0.04, 0.2, 0.24, 0.8]
    with write_video(tmp_path / "a.mkv", WIDTH, HEIGHT, RATE) as writer:
        for frame, time_sec in zip(pictures(), times):
            writer.write(frame, time_sec)
        writer.finish(whole=True)
    np.testing.assert_allclose(read(tmp_path / "a.mkv")[1], times, atol=1e-3)


def test_a_clocks_rate_counts_no_frames(tmp_path):
    """Matroska states no number of frames. Those far apart, or of varying length, were counted as the clock's ticks."""
    with write_video(tmp_path / "a.mkv", WIDTH, HEIGHT, 1000) as writer:
        for frame, time_sec in zip(pictures(), [0, 0.001, 0.002, 0.003, 3600]):
            writer.write(frame, time_sec)
        writer.finish(whole=True)
    with open_video(tmp_path / "a.mkv", "--video") as reader:
        assert reader.frame_count is None
        assert reader.most_sec == pytest.approx(3600, abs=1.1), "its length is stated all the same"


def test_an_odd_side_gets_a_pixel_more(tmp_path):
    write(tmp_path / "a.mp4", pictures(2, 95, 63))
    shown, _ = read(tmp_path / "a.mp4")
    assert shown.shape == (2, 64, 96, 3) and abs(shown[:, :63, :95].astype(int) - pictures(2, 95, 63)).mean() < 4


def test_frames_are_read_as_they_are_asked_for(tmp_path):
    write(tmp_path / "a.mp4", pictures(40))
    with open_video(tmp_path / "a.mp4", "--video") as reader:
        decoded = []
        frames = iter(reader)
        decoded.extend(next(frames).time_sec for _ in range(3))
        packets_left = sum(1 for _ in reader._container.demux(video=0))
    assert packets_left > 15, "memory holds no more than the decoder's own few"


def test_a_broadcast_begins_anywhere(tmp_path):
    with av.open(str(tmp_path / "a.ts"), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"g": "10", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for frame in np.random.default_rng(0).integers(0, 256, (30, HEIGHT, WIDTH, 3), np.uint8):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    whole = (tmp_path / "a.ts").read_bytes()
    tables = whole[: 3 * 188]  # which say where the picture track is
    (tmp_path / "b.ts").write_bytes(tables + whole[len(whole) // 4 // 188 * 188 :])
    frames, times = read(tmp_path / "b.ts")
    assert 15 <= len(frames) < 30 and (np.diff(times) > 0).all()


def test_half_a_video_is_none(tmp_path):
    with pytest.raises(RuntimeError), write_video(tmp_path / "a.mp4", WIDTH, HEIGHT, RATE) as writer:
        writer.write(pictures()[0])
        raise RuntimeError
    assert not list(tmp_path.iterdir())


# --- What is refused --------------------------------------------------------------------------------------------------


def test_what_is_no_video(tmp_path):
    assert_refused(tmp_path / "no.mp4", "does not exist")
    assert_refused(tmp_path, "is a folder")
    (tmp_path / "empty.mp4").touch()
    assert_refused(tmp_path / "empty.mp4", "is empty")
    (tmp_path / "text.mp4").write_text("no video\n" * 500)
    assert_refused(tmp_path / "text.mp4", "cannot be read as a video")
    Image.new("RGB", (64, 48)).save(tmp_path / "picture.png")
    assert_refused(tmp_path / "picture.png", "is a picture (PNG)")
    for name in ("old.flv", "camera.h264"):  # sound, but of formats that are not read
        encoded(tmp_path / name, pictures(2))
        assert_refused(tmp_path / name, "convert it to one of these")


def test_a_playlist_is_no_video(tmp_path):
    """It would have other files read, or addresses."""
    write(tmp_path / "a.ts.mkv", pictures(2))
    (tmp_path / "list.mp4").write_text("#EXTM3U\n#EXTINF:1,\na.ts.mkv\n#EXT-X-ENDLIST\n")
    (tmp_path / "concat.mp4").write_text("ffconcat version 1.0\nfile a.ts.mkv\n")
    for name in ("list.mp4", "concat.mp4"):
        assert_refused(tmp_path / name, "cannot be read as a video")


def test_sound_alone(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16_000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert_refused(tmp_path / "a.mp4", "no picture track")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_video_that_is_cut_off(tmp_path, suffix):
    frames = np.random.default_rng(0).integers(0, 256, (60, HEIGHT, WIDTH, 3), np.uint8)
    write(tmp_path / f"whole{suffix}", frames)
    whole = (tmp_path / f"whole{suffix}").read_bytes()
    for share in (0.01, 0.5):
        (tmp_path / f"cut{suffix}").write_bytes(whole[: int(share * len(whole))])
        assert_refused(tmp_path / f"cut{suffix}", "give an undamaged")


def test_a_recording_whose_clock_does_not_begin_at_0(tmp_path):
    """As a trimmed one's: FFmpeg states the time at which a Matroska file ends, not how long it is."""
    frames = np.random.default_rng(0).integers(0, 256, (60, HEIGHT, WIDTH, 3), np.uint8)
    with av.open(str(tmp_path / "late.mkv"), "w") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number + 100 * RATE, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    shown, times = read(tmp_path / "late.mkv")
    assert len(shown) == 60 and times[0] == 0
    with open_video(tmp_path / "late.mkv", "--video") as reader:
        assert 55 <= reader.frame_count <= 65
        assert reader.most_sec > 100, "other programs' files may be so long"
    whole = (tmp_path / "late.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) // 2])
    assert_refused(tmp_path / "cut.mkv", "damaged or cut off")


def test_a_video_that_is_damaged(tmp_path):
    write(tmp_path / "a.mp4", np.random.default_rng(0).integers(0, 256, (60, HEIGHT, WIDTH, 3), np.uint8))
    data = bytearray((tmp_path / "a.mp4").read_bytes())
    data[len(data) // 2 : len(data) // 2 + 20_000] = bytes(20_000)
    (tmp_path / "a.mp4").write_bytes(data)
    assert_refused(tmp_path / "a.mp4", "damaged or cut off", "after")


def test_frames_that_are_too_large(tmp_path, monkeypatch):
    write(tmp_path / "a.mp4", pictures(2))
    monkeypatch.setattr(reading, "MAX_SIDE_PX", 95)
    assert_refused(tmp_path / "a.mp4", "96×64 pixels", "make it smaller")


def test_a_picture_track_without_a_size():
    assert_refused(CASES / "stream_without_width.mp4", "cannot be decoded")


def test_sizes_that_a_header_makes_up(tmp_path):
    """Claims of 100,000 × 100,000 pixels are refused, or the frames themselves prove them wrong."""
    side = struct.pack("<II", WIDTH, HEIGHT)
    for codec, pixel_format in (("rawvideo", "yuv420p"), ("mjpeg", "yuvj420p")):
        encoded(tmp_path / "a.avi", pictures(3), codec, pixel_format)
        claimed = (tmp_path / "a.avi").read_bytes().replace(side, struct.pack("<II", 100_000, 100_000))
        (tmp_path / "b.avi").write_bytes(claimed)
        if codec == "rawvideo":
            assert_refused(tmp_path / "b.avi", "cannot be decoded")
        else:
            assert read(tmp_path / "b.avi")[0].shape == (3, HEIGHT, WIDTH, 3)


def test_without_pyav_it_is_said_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "av", None)
    with (
        pytest.raises(UserError, match=r"^videos need PyAV: pip install "),
        open_video(tmp_path / "a.mp4", "--video"),
    ):
        pass


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])  # a track of Matroska states no length
def test_a_video_is_not_closed_under_a_thread_that_reads_it(name, tmp_path):
    """FFmpeg would go on in memory that is no longer its own, which ends the process."""
    path = tmp_path / name
    encoded(path, pictures())
    waiting, answered = threading.Event(), threading.Event()

    def slow(frames):
        yield next(frames)
        waiting.set()
        answered.wait(30)
        yield from frames

    def work(got):
        got.extend(reader)

    got = []
    with open_video(path, "--video") as reader:
        reader._decoded = slow(reader._decoded)
        thread = threading.Thread(target=work, args=(got,))
        thread.start()
        assert waiting.wait(30)
    answered.set()
    thread.join()
    assert 2 <= len(got) <= 3 and reader._next() is None
    with pytest.raises(AssertionError, match="not open"):  # PyAV's, of a closed file
        _ = reader._container.duration
