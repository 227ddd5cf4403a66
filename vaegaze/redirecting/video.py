"""A video in which the person looks elsewhere: read, followed, redrawn and written a few frames at a time."""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import torch

from vaegaze.errors import UserError
from vaegaze.faces.everyone import follow_all
from vaegaze.faces.follower import CLOSED, NO_FACE, FollowedFrame
from vaegaze.faces.tracking import follow_eyes
from vaegaze.images.video import VideoReader, VideoWriter
from vaegaze.models import VAEGaze
from vaegaze.models.checkpoint import Reference
from vaegaze.redirecting.ahead import ahead
from vaegaze.redirecting.comparison import Comparison
from vaegaze.redirecting.drawing import BATCH_SIZE, FollowedReferences, device_of, low_precision
from vaegaze.redirecting.fading import Fate
from vaegaze.redirecting.series import DrawnFrame, Look, Series

NO_STRENGTH = "strength 0"


@dataclass
class Tally:
    """What became of the frames: redrawn, or left as they are, and why."""

    fates: list[Fate] = field(default_factory=list)
    stopped: bool = False  # before the video's end

    @property
    def frames(self) -> int:
        return len(self.fates)

    @property
    def redrawn(self) -> int:
        return self.frames - sum(self.left_alone.values())

    @property
    def left_alone(self) -> Counter[str]:
        """How many frames, by the reason."""
        return Counter(fate.why or NO_STRENGTH for fate in self.fates if fate.left_alone)

    def in_words(self) -> str:
        """How many frames were redrawn and left alone, and why in few words."""
        left = self.left_alone
        counts = {"blinks": left.pop(CLOSED, 0), "no face": left.pop(NO_FACE, 0), **left}
        reasons = ", ".join(f"{why} {count}" for why, count in counts.items())
        return f"{self.redrawn} redrawn, {sum(counts.values())} left alone ({reasons})"


class NothingDrawn(UserError):
    """It was stopped before the first frame."""


def redirect_video(
    reader: VideoReader,
    writer: VideoWriter,
    model: VAEGaze,
    references: Sequence[Reference],
    look: Look,
    *,
    face: int | None = None,
    everyone: bool = False,
    compare: bool = False,
    from_itself: bool = False,
    comparison: Comparison | None = None,
    on_frames: Callable[[int], None] = lambda count: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Tally:
    """Write the frames of `reader` with redrawn eyes to `writer`; `compare` puts the original on their left.

    With `from_itself` each frame is its own reference, in place of the nearest of `references`. `face` is the number of
    the person, from left to right, in the first frame; `everyone` redraws all faces. `comparison` gets every frame,
    with its first face. `on_frames(count)` follows every frame; once `should_stop()` is true, the frames so
    far become the video. UserError from reading the video, and if no frame shows a face; NothingDrawn if it was stopped
    before the first.
    """
    name, tally = f"video: {reader.path}", Tally()
    followed = follow_all(reader) if everyone else ([each] for each in follow_eyes(reader, name, face))
    with low_precision(model):  # the references are encoded as the frames are
        series = Series(model, None if from_itself else FollowedReferences(model, references), look)
    # Three threads: this one pastes and writes while another draws the next frames, and a third reads those after.
    over = threading.Event()  # else who draws might wait for a disk that never answers
    followed = ahead(followed, BATCH_SIZE, lambda: over.is_set() or should_stop())
    drawn = ahead(_drawn(followed, series, model), BATCH_SIZE, should_stop, patient=True, over=over)
    with closing(drawn):
        for each in drawn:
            first, pixels = each.faces[0], series.paste(each)
            if comparison is not None:
                comparison.add(first, pixels, None if everyone else not each.fate.left_alone)
            frame = first.frame
            writer.write(np.hstack([frame.pixels, pixels]) if compare else pixels, frame.time_sec)
            tally.fates.append(each.fate)
            on_frames(1)
            if should_stop():
                break
    tally.stopped = should_stop()
    if tally.left_alone[NO_FACE] == tally.frames and not tally.stopped:
        raise UserError(f"{name} shows no face in any of its {tally.frames} frames; give another video")
    if not tally.frames:
        raise NothingDrawn(f"{name}: stopped before the first frame")
    writer.finish(whole=not tally.stopped)
    return tally


def _drawn(followed: Iterator[list[FollowedFrame]], series: Series, model: VAEGaze) -> Iterator[DrawnFrame]:
    """The frames, with their faces, drawn a few at a time."""
    with closing(followed), low_precision(model):
        if device_of(model).type == "cpu":
            leave_a_core()
        for frames in _batches(followed):
            yield from series.draw(frames)


def leave_a_core() -> None:
    """PyTorch computes on one core less in this thread: at every operation its threads wait for each other, and those
    that read and paste need a core, too.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads - 1))
    # What a thread sets is its own, but becomes the number of threads begun later, too.
    restoring = threading.Thread(target=torch.set_num_threads, args=(threads,))
    restoring.start()
    restoring.join()


def _batches(followed: Iterable[list[FollowedFrame]]) -> Iterator[list[list[FollowedFrame]]]:
    """The frames, with their faces, a few at a time."""
    followed = iter(followed)
    while batch := list(islice(followed, BATCH_SIZE)):
        yield batch
