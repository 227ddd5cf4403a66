"""Small videos with sound, written and read without the code under test."""

from fractions import Fraction

import av
import numpy as np

from vaegaze.images.video import open_video

WIDTH, HEIGHT, RATE = 96, 64, 25


def with_sound(path, frames, codec="aac", seconds=None):
    """The same and a tone, which lasts as long."""
    with av.open(str(path), "w") as container:
        picture, sound = container.add_stream("libx264", rate=RATE), container.add_stream(codec, rate=16_000)
        picture.width, picture.height, picture.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        for frame in frames:
            container.mux(picture.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(picture.encode())
        seconds = seconds or len(frames) / RATE
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
