"""The user's own frames, one after another, each with its label: pictures in a folder, or frames of a video."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path, PurePosixPath

import numpy as np

from vaegaze.data.frame_labels import FRAME, FrameLabel, read_number
from vaegaze.errors import UserError
from vaegaze.files import address_words, spelling_among
from vaegaze.images.pictures import read_picture
from vaegaze.images.video import Frame, VideoReader, open_video

PICTURE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".ppm"}
SECONDS_OFF = 1.0  # tolerance for the length that a video states


class Unusable(Exception):
    """Why one frame cannot be used: its `kind`, the same text for all such frames, and the details."""

    def __init__(self, kind: str, detail: str):
        super().__init__(detail)
        self.kind, self.detail = kind, detail


@contextmanager
def labelled_frames(
    frames: str | Path, labels: Sequence[FrameLabel], csv_path: str | Path
) -> Iterator[Iterator[tuple[FrameLabel, np.ndarray | Unusable]]]:
    """Each label once, with its picture (H, W, 3) uint8: in the order of the labels for a folder, of time for a video.

    UserError names the line of the CSV file whose label has no frame, or the same frame as another label. It comes
    before the first frame unless only reading the whole video can tell.
    """
    if Path(frames).is_dir():
        yield _of_folder(_pictures(Path(frames), labels, csv_path))
    elif Path(frames).is_file():
        with open_video(frames, "frames") as video:
            yield _of_video(video, _timed(labels, csv_path, video), csv_path)
    else:
        if words := address_words(frames):
            raise UserError(f"frames: {frames} {words}")
        what = "is no plain file" if Path(frames).exists() else "does not exist"
        raise UserError(f"frames: {frames} {what}; give a folder of pictures, or a video")


def unlabelled_pictures(folder: str | Path, labels: Sequence[FrameLabel], csv_path: str | Path) -> int:
    """How many pictures in the folder have no label. UserError as for `labelled_frames`."""
    labelled = {str(path) for path in _pictures(Path(folder), labels, csv_path)}
    pictures = [path for path in Path(folder).iterdir() if path.suffix.lower() in PICTURE_SUFFIXES]
    return sum(os.path.realpath(path) not in labelled for path in pictures)  # realpath tolerates circular links


def _of_folder(pictures: dict[Path, FrameLabel]) -> Iterator[tuple[FrameLabel, np.ndarray | Unusable]]:
    for path, label in pictures.items():
        try:
            yield label, read_picture(path, "frames").rgb()
        except UserError as error:
            yield label, Unusable("unreadable", str(error))


def _pictures(folder: Path, labels: Sequence[FrameLabel], csv_path: str | Path) -> dict[Path, FrameLabel]:
    """The path of each label's picture; none is read yet."""
    paths: dict[Path, FrameLabel] = {}
    spelling_in = cache(lambda folder: spelling_among(os.listdir(folder)))  # each folder is listed once
    for label in labels:
        where = f"{csv_path}, line {label.line}"
        path = _inside(folder, label.frame, where, spelling_in)
        if path in paths:
            raise UserError(f"{where}: {label.frame} is in line {paths[path].line} already; remove one")
        paths[path] = label
    return paths


def _inside(folder: Path, name: str, where: str, spelling_in: Callable[[Path], Callable[[str], str]]) -> Path:
    """The path of this picture. It must lie in the folder, even if it is a link."""
    try:
        path = folder / name
        if not path.exists() and not name.isascii():
            path = path.with_name(spelling_in(path.parent)(path.name))
        path = path.resolve()
        is_inside, is_file = path.is_relative_to(folder.resolve()), path.is_file()
    except (OSError, ValueError, RuntimeError):  # a NUL, too long a name, circular links
        is_inside, is_file = True, False
    if not is_inside:
        raise UserError(f"{where}: {name} lies outside {folder}; expected the name of a picture in it")
    if not is_file:
        meant = _meant(folder, name)
        hint = f"did you mean {meant}?" if meant else "expected the name of a picture in it"
        raise UserError(f"{where}: {name} is not in {folder}; {hint}")
    return path


def _meant(folder: Path, name: str) -> str:
    """The picture in the folder that this names on another system, in other letter case, or behind a folder's name."""
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts:
        return ""
    for there in (parts.parent, PurePosixPath()):
        with suppress(OSError, ValueError):  # no folder, or a NUL
            names = {each.casefold(): each for each in os.listdir(folder / there)}
            meant = names.get(parts.name.casefold())
            if meant is not None and (folder / there / meant).is_file():
                return str(there / meant)
    return ""


def _of_video(
    video: VideoReader, timed: Sequence[tuple[float, FrameLabel]], csv_path: str | Path
) -> Iterator[tuple[FrameLabel, np.ndarray]]:
    """The frame nearest to each time."""
    pending = deque(timed)
    for frame, until_sec in _with_ends(video):
        taken_by: FrameLabel | None = None
        while pending[0][0] <= until_sec:
            _, label = pending.popleft()
            if taken_by is not None:
                raise UserError(
                    f"{csv_path}, line {label.line}: {label.frame} s is the same frame of the video as "
                    f"{taken_by.frame} s in line {taken_by.line}; remove one"
                )
            yield label, frame.pixels
            taken_by = label
            if not pending:
                return
    raise _beyond(pending[0][1], csv_path, video, until_sec)


def _with_ends(video: VideoReader) -> Iterator[tuple[Frame, float]]:
    """Each frame with the time in seconds up to which it is the nearest; for the last one, its end."""
    before = None
    for frame in video:
        if before is not None:
            yield before, (before.time_sec + frame.time_sec) / 2
        before = frame
    yield before, before.time_sec + 1 / video.frames_per_sec


def _timed(labels: Sequence[FrameLabel], csv_path: str | Path, video: VideoReader) -> list[tuple[float, FrameLabel]]:
    """The labels with their times in seconds, sorted by time.

    UserError for one before the video's first frame, or far beyond its stated end.
    """
    timed = [(_seconds(label, f"{csv_path}, line {label.line}"), label) for label in labels]
    timed.sort(key=lambda each: (each[0], each[1].line))
    if video.begins_after(timed[0][0]):
        label = timed[0][1]
        raise UserError(
            f"{csv_path}, line {label.line}: {label.frame} s is before the first frame of {video.path}, at "
            f"{video.first_sec:.2f} s"
        )
    most_sec = video.most_sec
    if most_sec is not None and timed[-1][0] > most_sec + SECONDS_OFF:  # fail before the work, not after it
        raise _beyond(timed[-1][1], csv_path, video, most_sec)
    return timed


def _beyond(label: FrameLabel, csv_path: str | Path, video: VideoReader, end_sec: float) -> UserError:
    where = f"{csv_path}, line {label.line}"
    return UserError(f"{where}: {label.frame} s is beyond the end of {video.path}, {end_sec:.2f} s")


def _seconds(label: FrameLabel, where: str) -> float:
    seconds = read_number(label.frame)
    if not 0 <= seconds < float("inf"):
        raise UserError(f"{where}: {FRAME} is {label.frame}; expected a time in the video, in seconds from its start")
    return seconds
