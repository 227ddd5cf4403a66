"""Videos, by PyAV (FFmpeg): the frames one after the other, never all in memory, and written again as H.264."""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from vaegaze.config.finetune import INSTALL_VISION
from vaegaze.errors import UserError
from vaegaze.files import atomic_path

log = logging.getLogger(__name__)

SUFFIXES = (".mp4", ".mov", ".mkv")  # that are written
FORMATS = "MP4, MOV, MKV, WebM, AVI or MPEG-TS"
DEMUXERS = "mov,mp4,matroska,webm,avi,mpegts"  # none that follows addresses in a file, as playlists have them
MAX_PIXELS, MAX_SIDE_PX = 18_000_000, 8192
USUAL_FRAMES_PER_SEC = Fraction(25)  # where a file does not say
MICROSECOND = Fraction(1, 1_000_000)
LIMITED_RANGE = 1  # FFmpeg's number: black is 16, white 235, as players expect of H.264
QUALITY = {"crf": "16", "preset": "veryfast"}  # hardly to be told from the original
EXACT = ("BILINEAR", "ACCURATE_RND", "FULL_CHR_H_INT", "FULL_CHR_H_INP")  # between RGB and YUV; else colours darken


@dataclass(frozen=True)
class Frame:
    """One picture of a video."""

    pixels: np.ndarray  # (H, W, 3) uint8 RGB, upright
    time_sec: float  # since the video's start


class VideoReader:
    """The frames of a video, to be gone through once; made by `open_video`."""

    def __init__(self, path: str | Path, key: str, av, container):
        self.path, self._key, self._av, self._container = Path(path), key, av, container
        pictures = [
            each for each in container.streams.video if not each.disposition & av.stream.Disposition.attached_pic
        ]
        if not pictures:
            raise UserError(f"{key}: {path} has no picture track; give a video ({FORMATS})")
        self._stream = pictures[0]
        self._stream.thread_type = "AUTO"
        self.sound_streams = container.streams.audio
        self._start_sec = (container.start_time or 0) * MICROSECOND
        rate = self._stream.average_rate or self._stream.guessed_rate or USUAL_FRAMES_PER_SEC
        self.frames_per_sec = float(rate)
        seconds = self._stated_sec() or (container.duration or 0) * MICROSECOND
        self.frame_count: int | None = self._stream.frames or round(seconds * rate) or None  # about
        self.time_base: Fraction = self._stream.time_base
        self.pixel_aspect: Fraction = self._stream.sample_aspect_ratio or Fraction(1)
        self._refuse_size(self._stream.width, self._stream.height)

        self._decoded = self._decode()
        self._first = next(self._decoded, None)
        if self._first is None:
            raise UserError(f"{key}: {path} holds not a single frame; give an undamaged video ({FORMATS})")
        self.colours = {name: getattr(self._first, name) for name in ("colorspace", "color_primaries", "color_trc")}
        self._turns = round(self._first.rotation / 90) % 4  # quarter turns against the clock
        if self._turns % 2:
            self.pixel_aspect = 1 / self.pixel_aspect
        self.height_px, self.width_px = self._upright(self._first).shape[:2]
        log.debug("%s: %s, %s frames, start %s", path, self._stream, self.frame_count, self._start_sec)

    def __iter__(self) -> Iterator[Frame]:
        """UserError where the video turns out to be damaged, cut off, or of frames that differ in size."""
        time_sec, frame = -1 / self.frames_per_sec, self._first
        while frame is not None:
            stated = None if frame.time is None else frame.time - float(self._start_sec)
            time_sec = time_sec + 1 / self.frames_per_sec if stated is None else stated
            pixels = self._upright(frame)
            if pixels.shape != (self.height_px, self.width_px, 3):
                raise UserError(
                    f"{self._key}: the frames of {self.path} change to {pixels.shape[1]}×{pixels.shape[0]} pixels at "
                    f"{time_sec:.2f} s; give a video whose frames are all of one size"
                )
            shown_sec = max(1 / self.frames_per_sec, float(frame.duration * frame.time_base))
            yield Frame(pixels, time_sec)
            frame = next(self._decoded, None)
        end_sec, stated_sec = time_sec + shown_sec, self._stated_sec()
        if stated_sec and end_sec < 0.95 * stated_sec - 0.5:
            raise self._damaged(f"it ends after {end_sec:.1f} s of {float(stated_sec):.1f}")

    def _decode(self) -> Iterator:
        time_sec = None
        try:
            for packet in self._container.demux(self._stream):
                try:
                    frames = packet.decode()
                except self._av.error.InvalidDataError:
                    if time_sec is not None or packet.size == 0:
                        raise
                    continue  # a broadcast may begin amid frames that need earlier ones
                for frame in frames:
                    self._refuse_size(frame.width, frame.height)
                    time_sec = frame.time or 0.0
                    yield frame
        except self._av.error.FFmpegError as error:
            place = "" if time_sec is None else f" after {time_sec - float(self._start_sec):.2f} s"
            raise self._damaged(f"{error.strerror}{place}") from error

    def _damaged(self, how: str) -> UserError:
        return UserError(f"{self._key}: {self.path} is damaged or cut off ({how}); give an undamaged video")

    def _stated_sec(self) -> Fraction | None:
        """How long the picture track is, as far as the file says."""
        if self._stream.duration:
            return self._stream.duration * self._stream.time_base
        only_pictures = len(self._container.streams) == 1
        return self._container.duration * MICROSECOND if only_pictures and self._container.duration else None

    def _upright(self, frame) -> np.ndarray:
        pixels = frame.to_ndarray(format="rgb24", interpolation=_exact(self._av))
        return np.ascontiguousarray(np.rot90(pixels, self._turns))

    def _refuse_size(self, width: int, height: int) -> None:
        if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE_PX:
            limit = f"at most {MAX_PIXELS // 10**6} million pixels and {MAX_SIDE_PX} a side are read: make it smaller"
            raise UserError(f"{self._key}: the frames of {self.path} have {width}×{height} pixels; {limit}")

    def sound_packets(self) -> Iterator:
        """The encoded sound, in order of time, read on its own so that nothing waits for the frames."""
        with _open(self._av, self.path, self._key) as container:
            for packet in container.demux(container.streams.audio):
                if packet.dts is not None:
                    start = round(self._start_sec / packet.time_base)
                    packet.pts = (packet.dts if packet.pts is None else packet.pts) - start
                    packet.dts -= start
                    yield packet


@contextmanager
def open_video(path: str | Path, key: str) -> Iterator[VideoReader]:
    """`key` names the flag in errors. UserError where there is no file, or no video in it, or where it is too large."""
    av = _pyav()
    if not Path(path).is_file():
        what = "is a folder" if Path(path).is_dir() else "does not exist"
        raise UserError(f"{key}: {path} {what}; give the path of a video ({FORMATS})")
    if not Path(path).stat().st_size:
        raise UserError(f"{key}: {path} is empty; give an undamaged video ({FORMATS})")
    with _open(av, path, key) as container:
        yield VideoReader(path, key, av, container)


class VideoWriter:
    """A video in the making; made by `write_video`."""

    def __init__(self, av, container, rate: Fraction, width_px: int, height_px: int, like: VideoReader | None):
        self.frames = 0  # written so far
        self._av, self._container, self._rate, self._last_pts = av, container, rate, -1
        self._stream = container.add_stream("libx264", rate=rate, options=QUALITY)
        self._stream.width, self._stream.height = width_px + width_px % 2, height_px + height_px % 2
        self._stream.pix_fmt = "yuv420p"
        context = self._stream.codec_context
        context.time_base, context.color_range = 1 / rate, LIMITED_RANGE
        if like is not None:
            context.time_base, context.sample_aspect_ratio = like.time_base, like.pixel_aspect
            for name, value in like.colours.items():
                setattr(context, name, value)
        self._sounds, self._packets, self._packet = {}, iter(()), None

    @property
    def has_sound(self) -> bool:
        return bool(self._sounds)

    def take_sound(self, like: VideoReader) -> None:
        """From now on write that video's sound along with the frames."""
        for template in like.sound_streams:
            self._sounds[template.index] = self._container.add_stream_from_template(template)
        self._packets = like.sound_packets()
        self._packet = next(self._packets, None)

    def write(self, pixels: np.ndarray, time_sec: float | None = None) -> None:
        """A frame (H, W, 3) uint8 RGB; times only rise. Without a time it follows the last one."""
        context = self._stream.codec_context
        time_sec = self.frames / self._rate if time_sec is None else Fraction(time_sec)
        self._last_pts = max(round(time_sec / context.time_base), self._last_pts + 1)
        height, width = pixels.shape[:2]
        if height % 2 or width % 2:  # what H.264 cannot have
            pixels = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = self._av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(
            format="yuv420p",
            dst_colorspace=context.colorspace,
            dst_color_range=LIMITED_RANGE,
            interpolation=_exact(self._av),
        )
        frame.pts, frame.time_base = self._last_pts, context.time_base
        self._container.mux(self._stream.encode(frame))
        self.frames += 1
        self._write_sound(self._last_pts * context.time_base)

    def _write_sound(self, until_sec: Fraction | None) -> None:
        """The sound up to that time; all that there is if it is None."""
        while self._packet is not None:
            packet = self._packet
            if until_sec is not None and packet.dts * packet.time_base > until_sec:
                return
            packet.stream = self._sounds[packet.stream.index]
            self._container.mux(packet)
            self._packet = next(self._packets, None)

    def finish(self, *, whole: bool) -> None:
        """What the encoder still holds; and the sound's end, if the video is `whole`."""
        self._container.mux(self._stream.encode())
        if whole:
            self._write_sound(None)


@contextmanager
def write_video(
    path: str | Path, width_px: int, height_px: int, frames_per_sec: float, like: VideoReader | None = None
) -> Iterator[VideoWriter]:
    """H.264 at `path`, which ends in one of SUFFIXES; it is there, whole, once the block has ended well.

    With `like` the frames' clock, colours and pixels' shape are as in that video; its sound goes along unchanged, where
    `can_hold_sound` says so. A side of an odd number of pixels gets one more.
    """
    av, rate = _pyav(), max(Fraction(frames_per_sec).limit_denominator(1001), Fraction(1, 1001))
    with_sound = like is not None and bool(like.sound_streams) and can_hold_sound(path, like)
    options = {"movflags": "+faststart"} if Path(path).suffix.lower() != ".mkv" else {}
    with atomic_path(path) as temporary, av.open(str(temporary), "w", options=options) as container:
        writer = VideoWriter(av, container, rate, width_px, height_px, like)
        if with_sound:
            writer.take_sound(like)
        yield writer


def can_hold_sound(path: str | Path, like: VideoReader) -> bool:
    """Whether a video at `path`, by its ending, can hold that video's sound as it is encoded."""
    av = _pyav()
    with tempfile.TemporaryDirectory() as folder:
        container = av.open(str(Path(folder) / f"trial{Path(path).suffix}"), "w")
        try:
            for template in like.sound_streams:
                container.add_stream_from_template(template)
            container.start_encoding()  # writes the header, in which each codec must have its name
        except (av.error.FFmpegError, ValueError) as error:
            log.debug("no sound in %s: %s", path, error)
            return False
        finally:
            with suppress(av.error.FFmpegError):
                container.close()
    return True


@contextmanager
def _open(av, path: str | Path, key: str) -> Iterator:
    options = {"format_whitelist": DEMUXERS, "protocol_whitelist": "file"}
    try:
        container = av.open(str(Path(path).resolve()), options=options, metadata_errors="replace")
    except av.error.FFmpegError as error:
        raise UserError(
            f"{key}: {path} cannot be read as a video ({error.strerror}); give an undamaged one ({FORMATS})"
        ) from error
    with container:
        yield container


def _pyav():
    try:
        import av
    except ImportError as error:
        raise UserError(f"videos need PyAV: {INSTALL_VISION}") from error
    av.logging.set_level(av.logging.PANIC)  # what goes wrong is an exception, and told as one
    return av


def _exact(av) -> int:
    flags = av.video.reformatter.Interpolation
    return sum(int(flags[name]) for name in EXACT if name in flags.__members__)  # older ones lack some
