"""What goes along with the frames: sound, subtitles, chapters, tags; clocks that jump; a disk that fills up."""

import errno
from fractions import Fraction

import numpy as np
import pytest
from videos import HEIGHT, RATE, WIDTH, copy, encoded, pictures, read, sound_of, with_sound

from vaegaze.errors import UserError
from vaegaze.images.video import SUFFIXES, open_video, write_video
from vaegaze.images.video.recoverable import RecoverableFile

av = pytest.importorskip("av")

TONE_RATE = 16_000


def tone(stream, seconds, layout, starts=0.0) -> list:
    """Encoded, of 400 Hz."""
    kind = stream.codec_context.format.name
    channels = 1 if layout == "mono" else 2
    wave = np.sin(np.arange(round(seconds * TONE_RATE)) * 2 * np.pi * 400 / TONE_RATE)
    packets = []
    for start in range(0, len(wave), 1024):
        part = np.repeat(wave[None, start : start + 1024], channels, axis=0)
        samples = {"fltp": part.astype(np.float32), "s16": (20_000 * part.T.reshape(1, -1)).astype(np.int16)}.get(kind)
        if samples is None:
            samples = (127 + 100 * part.T.reshape(1, -1)).astype(np.uint8)
        frame = av.AudioFrame.from_ndarray(samples, format=kind, layout=layout)
        frame.sample_rate, frame.time_base = TONE_RATE, Fraction(1, TONE_RATE)
        frame.pts = start + round(starts * TONE_RATE)
        packets += stream.encode(frame)
    return packets + stream.encode()


def recorded(path, sounds=(("aac", "mono"),), frames=None, picture_codec="libx264", prepare=None, subtitles=()):
    """A video with a tone in each of the sounds; `prepare` gets the container and these streams."""
    frames = pictures(20) if frames is None else frames
    with av.open(str(path), "w") as container:
        picture = container.add_stream(picture_codec, rate=RATE)
        picture.width, picture.height = frames.shape[2], frames.shape[1]
        picture.pix_fmt = "yuvj420p" if picture_codec == "mjpeg" else "yuv420p"
        streams = []
        for codec, layout in sounds:
            streams.append(container.add_stream(codec, rate=TONE_RATE))
            streams[-1].codec_context.layout = layout
        text = container.add_stream("srt") if subtitles else None
        if subtitles:
            text.codec_context.subtitle_header = b"[Script Info]\n[V4+ Styles]\n[Events]\n"
        if prepare is not None:
            prepare(container, [*streams, text] if subtitles else streams)
        container.start_encoding()
        for frame in frames:
            container.mux(picture.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(picture.encode())
        for stream, (_, layout) in zip(streams, sounds):
            container.mux(tone(stream, len(frames) / RATE, layout))
        for number, words in enumerate(subtitles):
            packet = av.Packet(words.encode())
            packet.stream, packet.time_base = text, Fraction(1, 1000)
            packet.pts = packet.dts = 200 * number
            packet.duration = 150
            container.mux(packet)


def tracks(path) -> list[tuple[str, str | None]]:
    with av.open(str(path)) as container:
        return [(each.type, each.codec_context.name) for each in container.streams if each.codec_context is not None]


def loudness(path, track=0) -> tuple[float, float]:
    """Seconds of sound, and its mean amplitude."""
    with av.open(str(path)) as container:
        parts = [frame.to_ndarray().astype(float) for frame in container.decode(audio=track)]
        stream = container.streams.audio[track]
        seconds = sum(part.shape[-1] for part in parts) / stream.sample_rate
        return seconds / (1 if stream.codec_context.format.is_planar else stream.channels), float(
            np.mean([abs(part).mean() for part in parts])
        )


# --- Sound ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("source", "target"), [("a.avi", "b.mp4"), ("a.mkv", "b.mp4"), ("a.avi", "b.mkv")])
def test_stereo_pcm_beside_mjpeg(tmp_path, source, target):
    recorded(tmp_path / source, [("pcm_s16le", "stereo")], picture_codec="mjpeg")
    notes = copy(tmp_path / source, tmp_path / target)
    assert len(read(tmp_path / target)[0]) == 20
    fits = target != "b.mp4"
    assert tracks(tmp_path / target)[1] == ("audio", "pcm_s16le" if fits else "aac")
    assert [("encoded as AAC" in note) for note in notes] == [] if fits else [True]
    if not fits:
        seconds, mean = loudness(tmp_path / target)
        assert abs(seconds - 0.8) < 0.1 and abs(mean - 0.39) < 0.05


def test_one_odd_track_does_not_silence_the_others(tmp_path):
    recorded(tmp_path / "a.mkv", [("aac", "mono"), ("pcm_u8", "mono")])
    notes = copy(tmp_path / "a.mkv", tmp_path / "b.mp4")
    assert tracks(tmp_path / "b.mp4")[1:] == [("audio", "aac")] * 2
    assert [packet for _, packet in sound_of(tmp_path / "a.mkv")] == [
        packet for _, packet in sound_of(tmp_path / "b.mp4")
    ]
    assert len(notes) == 1 and "pcm_u8" in notes[0]
    assert abs(loudness(tmp_path / "b.mp4", 1)[0] - 0.8) < 0.1


def test_sound_that_begins_late_stays_late_when_encoded(tmp_path):
    """A second without sound at its start, and half a second amid it."""
    frames = pictures(60)
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        picture, sound = container.add_stream("libx264", rate=RATE), container.add_stream("pcm_u8", rate=TONE_RATE)
        picture.width, picture.height, picture.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        sound.codec_context.layout = "mono"
        for frame in frames:
            container.mux(picture.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(picture.encode())
        container.mux([p for p in tone(sound, 1.4, "mono", starts=1.0) if not 1.4 < p.pts * p.time_base < 1.9])
    copy(tmp_path / "a.mkv", tmp_path / "b.mp4")
    with av.open(str(tmp_path / "b.mp4")) as container:
        parts = [(float(frame.time), abs(frame.to_ndarray()).mean()) for frame in container.decode(audio=0)]
    loud = [time for time, mean in parts if mean > 0.2]
    assert 0.95 < loud[0] < 1.15 and not [time for time in loud if 1.55 < time < 1.8] and 2.2 < loud[-1] < 2.45


def test_packets_with_one_time_are_kept_and_it_is_said(tmp_path):
    recorded(tmp_path / "a.mkv")
    with av.open(str(tmp_path / "a.mkv")) as source, av.open(str(tmp_path / "b.mkv"), "w") as target:
        streams = {each.index: target.add_stream_from_template(each, opaque=True) for each in source.streams}
        sounds = []
        for packet in source.demux():
            if packet.dts is None and packet.pts is None:
                continue
            if packet.stream.type == "audio":
                sounds.append(packet.pts)
                if len(sounds) == 6:
                    packet.pts = packet.dts = sounds[4]
            packet.stream = streams[packet.stream.index]
            target.mux(packet)
    notes = copy(tmp_path / "b.mkv", tmp_path / "c.mp4")
    assert [packet for _, packet in sound_of(tmp_path / "b.mkv")] == [
        packet for _, packet in sound_of(tmp_path / "c.mp4")
    ]
    assert len(notes) == 1 and "non-increasing" in notes[0] and len(read(tmp_path / "c.mp4")[0]) == 20


# --- Clocks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("times", [2, 4])
def test_recordings_joined_byte_by_byte(tmp_path, times):
    """All frames in order, their times growing evenly, and each recording's sound beside its frames."""
    with_sound(tmp_path / "one.ts", pictures(40))
    (tmp_path / "a.ts").write_bytes((tmp_path / "one.ts").read_bytes() * times)
    with open_video(tmp_path / "a.ts", "--video") as reader:
        assert reader.frame_count == 40 * times
    copy(tmp_path / "a.ts", tmp_path / "b.mp4")
    shown, seconds = read(tmp_path / "b.mp4")
    steps = np.diff(seconds)
    assert len(shown) == 40 * times and steps.min() > 0.03 and steps.max() < 0.15
    for number in range(times):
        assert abs(shown[40 * number].astype(int) - pictures(1)[0]).mean() < 6
    one, all_sound = sound_of(tmp_path / "one.ts"), sound_of(tmp_path / "b.mp4")
    assert len(all_sound) == times * len(one)
    late = [float(all_sound[len(one) * n][0]) - seconds[40 * n] for n in range(times)]
    assert np.ptp(late) < 0.01, "sound and pictures are as far apart in every recording"
    assert (np.diff([float(time) for time, _ in all_sound]) > 0).all()


def test_recordings_joined_without_sound(tmp_path):
    encoded(tmp_path / "one.ts", pictures(40))
    (tmp_path / "a.ts").write_bytes((tmp_path / "one.ts").read_bytes() * 2)
    _, seconds = read(tmp_path / "a.ts")
    np.testing.assert_allclose(seconds, np.arange(80) / RATE, atol=1e-3)


def test_a_clock_that_jumps_an_hour_ahead(tmp_path):
    with_sound(tmp_path / "one.ts", pictures(40))
    with av.open(str(tmp_path / "one.ts")) as source, av.open(str(tmp_path / "two.ts"), "w") as target:
        streams = {each.index: target.add_stream_from_template(each, opaque=True) for each in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.pts, packet.dts = packet.pts + 3600 * 90_000, packet.dts + 3600 * 90_000
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
    (tmp_path / "a.ts").write_bytes((tmp_path / "one.ts").read_bytes() + (tmp_path / "two.ts").read_bytes())
    copy(tmp_path / "a.ts", tmp_path / "b.mp4")
    shown, seconds = read(tmp_path / "b.mp4")
    assert len(shown) == 80 and np.diff(seconds).min() > 0 and np.diff(seconds).max() < 0.15
    assert len(sound_of(tmp_path / "b.mp4")) == 2 * len(sound_of(tmp_path / "one.ts"))


# --- Names, languages, chapters, subtitles ----------------------------------------------------------------------------


def named(container, streams):
    container.metadata.update({"title": "A talk", "artist": "Nobody", "mood": "calm"})
    container.set_chapters(
        [
            {"id": n, "start": 400 * n, "end": 400 * (n + 1), "time_base": Fraction(1, 1000), "metadata": {"title": t}}
            for n, t in enumerate(("One", "Two"))
        ]
    )
    english, german, text = streams
    english.metadata.update({"language": "eng", "title": "English"})
    german.metadata.update({"language": "deu", "title": "Deutsch"})
    text.metadata["language"] = "eng"
    german.disposition = av.stream.Disposition.default


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_names_languages_chapters_and_subtitles_go_along(tmp_path, suffix):
    recorded(tmp_path / "a.mkv", [("aac", "mono")] * 2, prepare=named, subtitles=("Hello there", "and again"))
    notes = copy(tmp_path / "a.mkv", tmp_path / f"b{suffix}")
    with av.open(str(tmp_path / f"b{suffix}")) as container:
        tags = {name.lower(): value for name, value in container.metadata.items()}
        assert tags["title"] == "A talk" and tags["artist"] == "Nobody"
        assert [each["metadata"]["title"] for each in container.chapters()] == ["One", "Two"]
        first, second = container.streams.audio
        assert first.language == "eng" and second.language in ("deu", "ger")
        titles = [each.metadata.get("title", each.metadata.get("name")) for each in (first, second)]
        assert titles == ["English", "Deutsch"]
        default = av.stream.Disposition.default
        assert [bool(each.disposition & default) for each in (first, second)] == [False, True]
        assert container.streams.subtitles[0].language == "eng"
        texts = [bytes(packet) for packet in container.demux(subtitles=0)]
        assert [word in b"|".join(texts) for word in (b"Hello there", b"and again")] == [True, True]
    said = "\n".join(notes)
    assert ("mood" in said.lower()) is (suffix != ".mkv"), "what the container does not hold is named"
    assert ("mov_text" in said) is (suffix != ".mkv")
    assert all("\n" not in note for note in notes)


def test_there_and_back(tmp_path):
    """MP4's own names, chapters and subtitles into Matroska: none of them is taken for something else."""
    recorded(tmp_path / "a.mkv", [("aac", "mono")] * 2, prepare=named, subtitles=("Hello there",))
    copy(tmp_path / "a.mkv", tmp_path / "b.mp4")
    notes = copy(tmp_path / "b.mp4", tmp_path / "c.mkv")
    assert [name for _, name in tracks(tmp_path / "c.mkv")] == ["h264", "aac", "aac", "srt"]
    assert len(notes) == 1 and "encoded as SRT" in notes[0]
    with av.open(str(tmp_path / "c.mkv")) as container:
        assert [each.metadata.get("title") for each in container.streams.audio] == ["English", "Deutsch"]
        assert len(container.chapters()) == 2


# --- What was drawn is kept -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_disk_that_fills_up_leaves_what_was_drawn(tmp_path, monkeypatch, suffix):
    with_sound(tmp_path / "a.mp4", np.random.default_rng(0).integers(0, 256, (250, HEIGHT, WIDTH, 3), np.uint8))
    put, room = RecoverableFile._put, [300_000]

    def filling(self, data):
        if self.error is None:  # its reserve still stands
            if room[0] < len(data):
                raise OSError(errno.ENOSPC, "No space left on device")
            room[0] -= len(data)
        return put(self, data)

    monkeypatch.setattr(RecoverableFile, "_put", filling)
    with pytest.raises(UserError, match="No space left") as error:
        copy(tmp_path / "a.mp4", tmp_path / f"b{suffix}")
    monkeypatch.undo()
    shown, seconds = read(tmp_path / f"b{suffix}")
    assert 50 < len(shown) < 250 and (np.diff(seconds) > 0).all() and len(sound_of(tmp_path / f"b{suffix}")) > 20
    assert "\n" not in str(error.value) and f"b{suffix} holds the first {len(shown)} frames" in str(error.value)
    assert {each.name for each in tmp_path.iterdir()} == {"a.mp4", f"b{suffix}"}


def test_damage_amid_a_video_leaves_what_was_drawn(tmp_path):
    with_sound(tmp_path / "a.mp4", np.random.default_rng(0).integers(0, 256, (60, HEIGHT, WIDTH, 3), np.uint8))
    data = bytearray((tmp_path / "a.mp4").read_bytes())
    data[len(data) // 2 : len(data) // 2 + 50_000] = bytes(50_000)
    (tmp_path / "a.mp4").write_bytes(data)
    with pytest.raises(UserError, match="damaged") as error:
        copy(tmp_path / "a.mp4", tmp_path / "b.mp4")
    shown, _ = read(tmp_path / "b.mp4")
    assert 10 < len(shown) < 60 and f"b.mp4 holds the first {len(shown)} frames" in str(error.value)


def test_no_disk_left_is_found_before_the_first_frame(tmp_path, monkeypatch):
    def full(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(RecoverableFile, "_put", full)
    with (
        pytest.raises(UserError, match="No space left"),
        write_video(tmp_path / "a.mp4", WIDTH, HEIGHT, RATE) as writer,
    ):
        for frame in pictures(3):
            writer.write(frame)
        writer.finish(whole=True)
    assert not list(tmp_path.iterdir())
