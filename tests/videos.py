"""Small videos of every kind, most of them written without the code under test."""

from fractions import Fraction

import av
import numpy as np

from vaegaze.images.video import open_video, write_video

WIDTH, HEIGHT, RATE = 96, 64, 25


def pictures(count=10, width=WIDTH, height=HEIGHT) -> np.ndarray:
    """(count, H, W, 3) uint8: a bright square that moves over a coloured slope."""
    ys, xs = np.mgrid[:height, :width]
    frames = np.repeat(np.stack([xs, 2 * ys, 150 - xs], axis=-1)[None], count, axis=0).clip(0, 255).astype(np.uint8)
    for number, frame in enumerate(frames):
        frame[8:24, 8 + 4 * number : 24 + 4 * number] = (220, 180, 60)
    return frames


def encoded(path, frames, codec="libx264", pixel_format="yuv420p", options=None, tags=None, matrix=None):
    """The frames alone, RATE a second; `tags` are set on the encoder, `matrix` (9 integers) is for display."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE, options=options or {})
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], pixel_format
        for name, value in (tags or {}).items():
            setattr(stream.codec_context, name, value)
        if matrix is not None:
            stream.set_display_matrix(matrix)
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def copy(source, target, whole=True, most=1000) -> list[str]:
    """Frame by frame, as `redirect` does; returns the notes."""
    with open_video(source, "--video") as reader:
        size = reader.width_px, reader.height_px
        with write_video(target, *size, reader.frames_per_sec, like=reader) as writer:
            for frame, _ in zip(reader, range(most)):
                writer.write(frame.pixels, frame.time_sec)
            writer.finish(whole=whole)
    return reader.notes + writer.notes


def with_sound(path, frames, codec="aac", seconds=None, rate=RATE, matrix=None, late=0):
    """The frames and a tone, which lasts as long; `matrix` as for `encoded`. The pictures begin `late` frames later."""
    with av.open(str(path), "w") as container:
        picture, sound = container.add_stream("libx264", rate=rate), container.add_stream(codec, rate=16_000)
        picture.width, picture.height, picture.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        if matrix is not None:
            picture.set_display_matrix(matrix)
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number + late, Fraction(1, rate)
            container.mux(picture.encode(frame))
        container.mux(picture.encode())
        seconds = seconds or len(frames) / rate
        tone = np.sin(np.arange(round(seconds * 16_000)) * 0.2)
        kind = "fltp" if codec == "aac" else "s16"
        tone = tone.astype(np.float32) if kind == "fltp" else (20_000 * tone).astype(np.int16)
        for start in range(0, len(tone), 1024):
            frame = av.AudioFrame.from_ndarray(tone[None, start : start + 1024], format=kind, layout="mono")
            frame.sample_rate, frame.pts = 16_000, start
            container.mux(sound.encode(frame))
        container.mux(sound.encode())


def read(path) -> tuple[np.ndarray, list[float]]:
    with open_video(path, "--video") as reader:
        frames = list(reader)
    return np.stack([frame.pixels for frame in frames]), [frame.time_sec for frame in frames]


def sound_of(path) -> list[tuple[Fraction, bytes]]:
    with av.open(str(path)) as container:
        return [(packet.pts * packet.time_base, bytes(packet)) for packet in container.demux(audio=0) if packet.size]
