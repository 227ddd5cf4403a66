"""Opens untrusted videos with PyAV."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

from vaegaze.config.finetune import INSTALL_VISION
from vaegaze.errors import UserError
from vaegaze.images.pictures import picture_format

FORMATS = "MP4, MOV, MKV, WebM, AVI or MPEG-TS"
DEMUXERS = "mov,mp4,matroska,webm,avi,mpegts"  # none of these opens further files or addresses, as playlists do
MICROSECOND = Fraction(1, 1_000_000)  # the unit of a container's times


def pyav():
    """The module av. UserError if it is not installed."""
    try:
        import av
    except ImportError as error:
        raise UserError(f"videos need PyAV: {INSTALL_VISION}") from error
    av.logging.set_level(av.logging.PANIC)  # errors arrive as exceptions
    return av


@contextmanager
def open_container(path: str | Path, key: str) -> Iterator:
    """`opened`, and closed at the end."""
    with opened(path, key) as container:
        yield container


def opened(path: str | Path, key: str):
    """PyAV's container. `key` names the flag in errors. UserError if the file is not a video."""
    av = pyav()
    options = {"format_whitelist": DEMUXERS, "protocol_whitelist": "file"}
    try:
        return av.open(str(Path(path).resolve()), options=options, metadata_errors="replace")
    except av.error.FFmpegError as error:
        if kind := picture_format(path):
            raise UserError(
                f"{key}: {path} is a picture ({kind}); give a video ({FORMATS})", about="picture"
            ) from error
        if isinstance(error, av.error.ArgumentError):  # none of DEMUXERS: FLV, WMV, MPEG-PS, a bare stream …
            raise UserError(
                f"{key}: {path} cannot be read as a video: it is not {FORMATS}, whatever its name; "
                "convert it to one of these"
            ) from error
        raise UserError(
            f"{key}: {path} cannot be read as a video ({error.strerror}); give an undamaged one ({FORMATS})"
        ) from error


def packets_of(container, streams) -> Iterator:
    """The packets of these streams in the file's order."""
    try:
        yield from container.demux(streams)
    except IndexError:  # PyAV 18 raises this after the last packet if a track began mid-broadcast
        return


def timed_streams(container, video_index: int) -> list:
    """Video, sound and subtitles: the streams that `clock.on_one_clock` synchronises."""
    others = (*container.streams.audio, *container.streams.subtitles)
    return [container.streams[video_index], *(each for each in others if each.codec_context is not None)]


def clock_may_jump(container) -> bool:
    """Whether the format's clock may jump ahead, as a broadcast's does where two recordings were joined."""
    return "mpegts" in container.format.name
