"""Writing a video as H.264, with the sound, subtitles, chapters and tags of the one that it was made from."""

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path

import numpy as np

from vaegaze.errors import UserError
from vaegaze.files import atomic_path
from vaegaze.images.video.container import pyav
from vaegaze.images.video.kept import in_one_line, left_out, lost, shifted_chapters, tags_of
from vaegaze.images.video.picture import exact
from vaegaze.images.video.reading import DamagedVideo, VideoReader
from vaegaze.images.video.recoverable import RecoverableFile
from vaegaze.images.video.tracks import COPY, Companions, name_of, ways_of

log = logging.getLogger(__name__)

FORMAT_OF = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}
SUFFIXES = tuple(FORMAT_OF)
LIMITED_RANGE = 1  # FFmpeg's number: black is 16, white 235, as players expect of H.264
QUALITY = {"crf": "16", "preset": "veryfast"}  # nearly indistinguishable from the original
USUAL_TIME_BASE, FINEST_TIME_BASE = Fraction(1, 90_000), Fraction(1, 1_000_000)
BUFFER_BYTES = 2**18
TRIAL_SEC = 2  # of sound and subtitles, which are written on trial


class WritingFailed(UserError):
    """The system, or the muxer, refused to write on."""


class VideoWriter:
    """A video in the making; made by `write_video`.

    `notes` holds one line for each thing that differs from the source; it may grow until `finish`.
    """

    def __init__(self, path: Path, file, size: tuple[int, int], rate: Fraction, like: VideoReader | None = None):
        self.frames = 0  # written so far
        self.notes: list[str] = []
        self._av, self._path, self._file, self._last_pts = pyav(), path, file, -1
        suffix = path.suffix.lower()
        # The index goes to the front, so that players on the web can start at once.
        options = {"movflags": "+faststart"} if suffix != ".mkv" and isinstance(file, RecoverableFile) else {}
        self._container = self._av.open(
            file, "w", format=FORMAT_OF[suffix], options=options, buffer_size=BUFFER_BYTES, metadata_errors="replace"
        )
        self._stream = self._container.add_stream("libx264", rate=rate, options=QUALITY)
        self._stream.width, self._stream.height = (side + side % 2 for side in size)
        self._stream.pix_fmt = "yuv420p"
        self._context = self._stream.codec_context
        self._to_yuv = self._av.video.reformatter.VideoReformatter()
        self._context.time_base, self._context.color_range = 1 / rate, LIMITED_RANGE
        self._companions: Companions | None = None
        if like is not None:
            fits = FINEST_TIME_BASE <= like.time_base <= 1 / (2 * rate)
            self._context.time_base = like.time_base if fits else USUAL_TIME_BASE
            self._context.sample_aspect_ratio = like.pixel_aspect
            for name, value in like.colours.items():
                setattr(self._context, name, value)

    def take_along(self, like: VideoReader, ways: dict[int, str], *, strict: bool = False) -> None:
        """Before the first frame: that video's tags, its chapters, and of its tracks those with a way, by index."""
        self._container.metadata.update(tags_of(like.metadata))
        self._stream.metadata.update(
            {name: like.track_metadata[name] for name in ("language", "title") if name in like.track_metadata}
        )
        chapters = shifted_chapters(like.chapters, like.start_sec)
        if chapters:
            self._container.set_chapters(chapters)
        suffix = self._path.suffix.lower()
        self._companions = Companions(self._av, self._container, like, ways, suffix, strict=strict)

    def write(self, pixels: np.ndarray, time_sec: float | None = None) -> None:
        """A frame (H, W, 3) uint8 RGB; times only grow. Without a time it follows the last one.

        WritingFailed, once the disk is full, say.
        """
        base = self._context.time_base
        time_sec = self.frames / self._stream.codec_context.framerate if time_sec is None else Fraction(time_sec)
        self._last_pts = max(round(time_sec / base), self._last_pts + 1)
        height, width = pixels.shape[:2]
        if height % 2 or width % 2:  # which 4:2:0 cannot have
            pixels = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = self._to_yuv.reformat(
            self._av.VideoFrame.from_ndarray(pixels, format="rgb24"),
            format="yuv420p",
            dst_colorspace=self._context.colorspace,
            dst_color_range=LIMITED_RANGE,
            interpolation=exact(self._av),
        )
        frame.pts, frame.time_base = self._last_pts, base
        with self._failing():
            self._container.mux(self._stream.encode(frame))
            self.frames += 1
            self.write_companions(self._last_pts * base)

    def write_companions(self, until_sec: Fraction | None) -> None:
        """Writes sound and subtitles up to that time; all of them if it is None."""
        if self._companions is not None:
            self._companions.write(until_sec)

    def finish(self, *, whole: bool) -> None:
        """Flushes the encoder, and writes the rest of the sound if the video is `whole`."""
        with self._failing():
            self._container.mux(self._stream.encode())
            if self._companions is not None:
                self._companions.write(None) if whole else self._companions.flush()
                self.notes += self._companions.notes

    def close(self) -> None:
        """Writes the trailer."""
        try:
            with self._failing(unless_whole=True):
                self._container.close()
        finally:
            if self._companions is not None:
                self._companions.close()

    @contextmanager
    def _failing(self, unless_whole: bool = False) -> Iterator[None]:
        """Turns errors of the muxer or the system into WritingFailed; with `unless_whole` only if bytes are missing."""
        reason = None
        try:
            yield
        except self._av.error.FFmpegError as error:
            reason = error.strerror
        file = self._file
        error = None if isinstance(file, io.BytesIO) or (unless_whole and file.is_whole) else file.error
        if error is not None or reason is not None:
            raise WritingFailed(f"{self._path} cannot be written further: {error.strerror if error else reason}")


@contextmanager
def write_video(
    path: str | Path, width_px: int, height_px: int, frames_per_sec: float, like: VideoReader | None = None
) -> Iterator[VideoWriter]:
    """H.264 at `path`, which ends in one of SUFFIXES; it is there, whole, once the block has ended well.

    With `like` the frames' clock, colours and pixels' shape are as in that video; its sound, subtitles, chapters and
    tags go along where the container holds them. All of this is tried first; the writer's `notes` name what differs. A
    side of an odd number of pixels gets one more.

    Where the disk fills up, or the video that is read ends in damage, the frames until then are kept at `path`, and the
    error says so. After any other error nothing is there.
    """
    path, size = Path(path), (width_px, height_px)
    rate = max(Fraction(frames_per_sec).limit_denominator(1001), Fraction(1, 1001))
    ways, notes = ({}, []) if like is None else _ways_to_take_along(path, size, rate, like)
    failure: UserError | None = None
    with atomic_path(path) as temporary:
        file = RecoverableFile(temporary, (like.frame_count if like is not None else None) or 0)
        try:
            writer = VideoWriter(path, file, size, rate, like)
            writer.notes += notes
            try:
                if like is not None:
                    writer.take_along(like, ways)
                yield writer
                writer.close()
            except (WritingFailed, DamagedVideo) as error:
                failure = error
                with suppress(UserError, ValueError):
                    writer.finish(whole=False)  # what the encoder still holds
            finally:
                with suppress(UserError, ValueError):
                    writer.close()
        finally:
            file.close()
        if failure is not None and (not writer.frames or _frames_in(temporary) == 0):
            raise failure
    if failure is not None:
        raise UserError(f"{failure}; {path} holds the first {writer.frames} frames") from failure


def _frames_in(path: Path) -> int:
    """How many frames a player finds; 0 where the file is of no use."""
    av = pyav()
    try:
        with av.open(str(path)) as container:
            return sum(packet.size > 0 for packet in container.demux(video=0))
    except av.error.FFmpegError:
        return 0


def _ways_to_take_along(
    path: Path, size: tuple[int, int], rate: Fraction, like: VideoReader
) -> tuple[dict[int, str], list[str]]:
    """For each track that can go along: how; and what there is to say. UserError where not even the frames can."""
    suffix, av = path.suffix.lower(), pyav()
    ways = {stream.index: ways_of(stream, suffix) for stream in like.other_streams}
    refusals = (av.error.FFmpegError, ValueError, NotImplementedError, WritingFailed)  # PyAV's, of a codec or a muxer

    def names_lost(chosen: dict[int, str]) -> list[str] | None:
        try:
            return _on_trial(path, size, rate, like, chosen)
        except refusals as error:
            log.debug("%s with %s: %s", path, chosen, error)
            return None

    chosen = {index: options[0] for index, options in ways.items() if options}
    not_kept = names_lost(chosen)
    if not_kept is None:
        for index in list(chosen):
            way = next((way for way in ways[index] if names_lost({index: way}) is not None), None)
            chosen = {each: chosen[each] for each in chosen if each != index} | ({} if way is None else {index: way})
        chosen = dict(sorted(chosen.items()))
        not_kept = names_lost(chosen)
    if not_kept is None:
        raise UserError(
            f"{path} cannot be written with frames like those of {like.path}; give a name that ends in .mkv"
        )
    notes = [
        f"{suffix} cannot hold its {'sound' if stream.type == 'audio' else 'subtitles'} ({name_of(stream)}): encoded "
        f"as {chosen[stream.index]}"
        for stream in like.other_streams
        if chosen.get(stream.index, COPY) != COPY
    ]
    if like.lost_in_420:
        notes.append(f"Its colours: {in_one_line(like.lost_in_420)}")
    if size[0] % 2 or size[1] % 2:
        notes.append("A side of an odd number of pixels gets one more")
    missing = left_out(like, chosen) + not_kept
    if missing:
        notes.append(f"⚠️ Not kept in {suffix}: {in_one_line(missing)}")
    return chosen, notes


def _on_trial(path: Path, size: tuple[int, int], rate: Fraction, like: VideoReader, ways: dict[int, str]) -> list[str]:
    """Writes one frame and the beginning of the tracks to memory, trailer and all; names what is not in it."""
    memory = io.BytesIO()
    writer = VideoWriter(path, memory, size, rate, like)
    try:
        writer.take_along(like, ways, strict=True)
        writer.write(np.zeros((size[1], size[0], 3), np.uint8), 0.0)
        writer.write_companions(Fraction(TRIAL_SEC))
        writer.finish(whole=False)
    finally:
        writer.close()
    memory.seek(0)
    with pyav().open(memory) as container:
        return lost(container, like, ways)
