"""Reading a video: its frames one after the other, upright, on one clock, never all in memory."""

import logging
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from vaegaze.errors import UserError
from vaegaze.files import address_words
from vaegaze.images.video.clock import on_one_clock
from vaegaze.images.video.container import (
    FORMATS,
    MICROSECOND,
    clock_may_jump,
    open_container,
    opened,
    packets_of,
    pyav,
    timed_streams,
)
from vaegaze.images.video.picture import Deinterlacer, Orientation, exact, lost_in_420, written_colours

log = logging.getLogger(__name__)

MAX_PIXELS, MAX_SIDE_PX = 18_000_000, 8192
USUAL_FRAMES_PER_SEC = Fraction(25)  # where a file states none
MOST_FRAMES_PER_SEC = 1000  # a stated rate beyond it is a clock's, not the frames'
CATCH_UP = 0.5  # of a frame's length: how far a frame whose time does not grow stands after the one before
BEGINS_LATE_SEC = 0.1  # recorders start sound a little before pictures, which then show what was there from 0 on


@dataclass(frozen=True)
class Frame:
    """One frame of a video."""

    pixels: np.ndarray  # (H, W, 3) uint8 RGB, upright
    time_sec: float  # since the video's start


class DamagedVideo(UserError):
    """A video that turns out, among its frames, to be damaged or cut off."""


class VideoReader:
    """The frames of a video, to be iterated over once; made by `open_video`.

    `notes` holds one line for each thing a person should know about how it is read. It may grow with the frames.
    """

    def __init__(self, path: str | Path, key: str, container):
        self.path, self.key, self._av, self._container = Path(path), key, pyav(), container
        self.notes: list[str] = []
        self._stream = self._picture_track()
        self._stream.thread_type = "AUTO"
        self.start_sec: Fraction = (container.start_time or 0) * MICROSECOND
        rate = self._stream.average_rate or self._stream.guessed_rate or USUAL_FRAMES_PER_SEC
        self._rate = rate if 0 < rate <= MOST_FRAMES_PER_SEC else USUAL_FRAMES_PER_SEC
        self.frames_per_sec = float(self._rate)
        self.frame_count: int | None = self._about_frames()
        self._ends_sec = self._least_sec()  # unless it is cut off
        self.time_base: Fraction = self._stream.time_base
        self.pixel_aspect: Fraction = self._stream.sample_aspect_ratio or Fraction(1)
        self._refuse_size(self._stream.width, self._stream.height)

        self._to_rgb = self._av.video.reformatter.VideoReformatter()
        self._deinterlacer = Deinterlacer(self._av)
        self._decoded = self._decode()
        self._decoding, self._closed = threading.Lock(), False
        self.first = self._next()  # as decoded
        if self.first is None:
            raise UserError(f"{key}: {path} holds not a single frame; give an undamaged video ({FORMATS})")
        self.colours, self.lost_in_420 = written_colours(self.first), lost_in_420(self.first, self.track_metadata)
        self._orientation = Orientation(self.first)
        if self._orientation.is_rounded:
            self.notes.append("⚠️ The file's rotation is not a multiple of 90°: the nearest multiple is used")
        if self._orientation.transposed:
            self.pixel_aspect = 1 / self.pixel_aspect
        self.height_px, self.width_px = self.upright(self.first).shape[:2]
        log.debug("%s: %s, %s frames, start %s", path, self._stream, self.frame_count, self.start_sec)

    def __iter__(self) -> Iterator[Frame]:
        """In order, with times that grow. DamagedVideo where it is damaged, cut off, or its frames differ in size."""
        time_sec, frame, length_sec = -1 / self.frames_per_sec, self.first, 1 / self.frames_per_sec
        same_rotation = True
        while frame is not None:
            follows_sec = time_sec + 1 / self.frames_per_sec
            stated_sec = follows_sec if frame.time is None else frame.time
            if frame is self.first or stated_sec > time_sec:
                time_sec = stated_sec
            else:
                time_sec += CATCH_UP / self.frames_per_sec
            if same_rotation and self._orientation.differs(frame):
                same_rotation = False
                self.notes.append(
                    f"⚠️ The file's rotation changes at {time_sec:.2f} s: all frames are turned as the first is"
                )
            pixels = self.upright(frame)
            if pixels.shape != (self.height_px, self.width_px, 3):
                raise DamagedVideo(
                    f"{self.key}: the frames of {self.path} change to {pixels.shape[1]}×{pixels.shape[0]} pixels at "
                    f"{time_sec:.2f} s; give a video whose frames are all of one size"
                )
            length_sec = max(1 / self.frames_per_sec, float(frame.duration * frame.time_base))
            yield Frame(pixels, time_sec)
            frame = self._next()
        end_sec, stated_sec = time_sec + length_sec, self._ends_sec
        if not self._closed and stated_sec is not None and end_sec < 0.95 * stated_sec - 0.5:
            raise self._damaged(f"it ends after {end_sec:.1f} s of {float(stated_sec):.1f}")

    def _next(self):
        """The next frame as decoded; None after the last, and once it is closed."""
        try:
            with self._decoding:
                return None if self._closed else next(self._decoded, None)
        finally:
            if self._closed:  # meanwhile
                self._close_unless_read()

    def close(self) -> None:
        """Close the file, or leave that to a thread that is about to return from it: a disk may take long to answer.

        FFmpeg would go on in memory that is no longer its own.
        """
        self._closed = True
        self._close_unless_read()

    def _close_unless_read(self) -> None:
        """Whoever lets go of the file last closes it."""
        if self._decoding.acquire(blocking=False):
            try:
                self._container.close()
            finally:
                self._decoding.release()

    @property
    def first_sec(self) -> float:
        """The time of the first frame, which is later than 0 where sound begins earlier."""
        return float(self.first.time or 0)

    def begins_after(self, time_sec: float) -> bool:
        """Whether the first frame is too late to be what the video shows at this time."""
        return time_sec < self.first_sec - max(1 / self.frames_per_sec, BEGINS_LATE_SEC)

    @property
    def most_sec(self) -> float | None:
        """When it ends at the latest, as far as the file states it."""
        length_sec = max((self.frame_count or 0) / self.frames_per_sec, float(self._stated_sec() or 0))
        return length_sec + max(self.first_sec, 0) if length_sec else None

    @property
    def other_streams(self) -> list:
        """All that the file holds but the pictures that are read."""
        return [each for each in self._container.streams if each.index != self._stream.index]

    @property
    def metadata(self) -> dict[str, str]:
        return self._container.metadata

    @property
    def track_metadata(self) -> dict[str, str]:
        return self._stream.metadata

    @property
    def chapters(self) -> list[dict]:
        """The file's chapters, on the file's own clock."""
        return self._container.chapters() if hasattr(self._container, "chapters") else []

    @contextmanager
    def other_packets(self) -> Iterator[Iterator]:
        """The encoded sound and subtitles, in the file's order and on the frames' clock.

        Read from the file a second time, so that they wait for no frame.
        """
        with open_container(self.path, self.key) as container:
            packets = packets_of(container, timed_streams(container, self._stream.index))
            steady = on_one_clock(packets, self.start_sec, may_jump_ahead=clock_may_jump(container))
            yield (packet for packet in steady if packet.stream.index != self._stream.index)

    def upright(self, frame) -> np.ndarray:
        """The pixels (H, W, 3) uint8 RGB of a decoded frame."""
        try:
            pixels = self._to_rgb.reformat(frame, format="rgb24", interpolation=exact(self._av)).to_ndarray()
        except (self._av.error.FFmpegError, ValueError) as error:
            raise UserError(
                f"{self.key}: the colours of {self.path} ({frame.format.name}) cannot be converted to RGB; "
                "give it as 8-bit or 10-bit YUV"
            ) from error
        return self._orientation.upright(pixels)

    def _picture_track(self):
        """The first picture track, without covers."""
        cover = self._av.stream.Disposition.attached_pic
        tracks = [each for each in self._container.streams.video if not each.disposition & cover]
        if not tracks:
            raise UserError(f"{self.key}: {self.path} has no picture track; give a video ({FORMATS})")
        track = tracks[0]
        if track.codec_context is None or not track.width or not track.height:
            raise UserError(
                f"{self.key}: the pictures of {self.path} cannot be decoded (no known codec, or no size); "
                f"give an undamaged video ({FORMATS})"
            )
        return track

    def _about_frames(self) -> int | None:
        if clock_may_jump(self._container):  # its clock says nothing about how long it is
            with open_container(self.path, self.key) as container, suppress(self._av.error.FFmpegError):
                return sum(packet.size > 0 for packet in packets_of(container, container.streams[self._stream.index]))
            return None
        if self._stream.frames:
            return self._stream.frames
        if self._is_matroska and self._rate * (self._stream.time_base or 0) >= 1:
            return None  # where its frames vary in length, FFmpeg gives the clock's rate
        least_sec, stated_sec = self._least_sec() or 0, self._stated_sec()
        seconds = (least_sec if least_sec > 0 else stated_sec) or (self._container.duration or 0) * MICROSECOND
        return round(seconds * self._rate) or None

    def _decode(self) -> Iterator:
        """The frames, upright or not; their times are those of the packets, on one clock."""
        packets = on_one_clock(
            packets_of(self._container, timed_streams(self._container, self._stream.index)),
            self.start_sec,
            may_jump_ahead=clock_may_jump(self._container),
        )
        time_sec = None
        try:
            for packet in packets:
                if packet.stream.index != self._stream.index:
                    continue
                try:
                    frames = packet.decode()
                except self._av.error.InvalidDataError:
                    if time_sec is not None or packet.size == 0:
                        raise
                    continue  # a broadcast may begin among frames that need earlier ones
                for frame in frames:
                    self._refuse_size(frame.width, frame.height)
                    time_sec = frame.time or 0.0
                    yield from self._deinterlaced(frame)
            yield from self._deinterlacer.frames(None)
        except self._av.error.FFmpegError as error:
            raise self._damaged(error.strerror + ("" if time_sec is None else f" after {time_sec:.2f} s")) from error

    def _deinterlaced(self, frame) -> Iterator:
        was_used = self._deinterlacer.is_used
        yield from self._deinterlacer.frames(frame)
        if self._deinterlacer.is_used and not was_used:
            self.notes.append("Its frames are interlaced: each is deinterlaced (bwdif)")

    def _damaged(self, how: str) -> DamagedVideo:
        return DamagedVideo(f"{self.key}: {self.path} is damaged or cut off ({how}); give an undamaged video")

    def _stated_sec(self) -> Fraction | None:
        """How long the picture track is, as far as the file states it; of Matroska's it may be the time of its end."""
        if clock_may_jump(self._container):
            return None
        if self._stream.duration:
            return self._stream.duration * self._stream.time_base
        if len(self._container.streams) > 1 or not self._container.duration:
            return None
        return self._container.duration * MICROSECOND

    def _least_sec(self) -> Fraction | None:
        """How long it is at least, unless it is cut off: FFmpeg counts a Matroska file's length from 0, others from
        the first frame."""
        stated_sec = self._stated_sec()
        counts_from_0 = not self._stream.duration and self._is_matroska
        return stated_sec - max(self.start_sec, 0) if stated_sec and counts_from_0 else stated_sec

    @property
    def _is_matroska(self) -> bool:
        return "matroska" in self._container.format.name

    def _refuse_size(self, width: int, height: int) -> None:
        if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE_PX:
            limit = f"at most {MAX_PIXELS // 10**6} million pixels and {MAX_SIDE_PX} a side are read: make it smaller"
            raise UserError(f"{self.key}: the frames of {self.path} have {width}×{height} pixels; {limit}")


@contextmanager
def open_video(path: str | Path, key: str) -> Iterator[VideoReader]:
    """`key` names the flag in errors. UserError where there is no file, no video in it, or one that is too large."""
    pyav()
    if not Path(path).is_file():
        if words := address_words(path):
            raise UserError(f"{key}: {path} {words}")
        what = "is a folder" if Path(path).is_dir() else "is no plain file" if Path(path).exists() else "does not exist"
        raise UserError(f"{key}: {path} {what}; give the path of a video ({FORMATS})")
    if not Path(path).stat().st_size:
        raise UserError(f"{key}: {path} is empty; give an undamaged video ({FORMATS})")
    container = opened(path, key)
    try:
        reader = VideoReader(path, key, container)
    except BaseException:
        container.close()
        raise
    with closing(reader):
        yield reader
