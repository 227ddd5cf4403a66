"""A video with the person looking elsewhere: read, followed, drawn and written a few frames at a time."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vaegaze.commands.progress import StopSignals, progress_bar
from vaegaze.errors import Interrupted, UserError, plain
from vaegaze.faces.alignment import align_face, paste_eyes
from vaegaze.faces.tracking import FollowedFrame, follow_eyes
from vaegaze.geometry.camera import rolled
from vaegaze.images.video import VideoReader, open_video, write_video
from vaegaze.models import VAEGaze
from vaegaze.models.checkpoint import Reference
from vaegaze.models.cpu.mixed_precision import frozen_weights, in_bf16
from vaegaze.models.device import autocast, find_precision
from vaegaze.redirecting.drawing import AT_ONCE, device_of, draw_eyes, encode_masked, encode_reference


@dataclass
class Tally:
    """What became of the frames."""

    redrawn: int = 0
    closed: int = 0  # left alone, since the eyes are
    no_face: int = 0  # left alone, since none was seen

    @property
    def frames(self) -> int:
        return self.redrawn + self.closed + self.no_face

    def add(self, few: list[FollowedFrame]) -> None:
        closed, no_face = sum(each.closed for each in few), sum(each.eyes is None for each in few)
        self.closed, self.no_face = self.closed + closed, self.no_face + no_face
        self.redrawn += len(few) - closed - no_face


def redirect_video(
    video: str | Path,
    output: Path,
    model: VAEGaze,
    reference: Reference | None,
    *,
    gaze: tuple[float, float],
    head: tuple[float, float],
    face: int | None,
    compare: bool,
) -> None:
    """The video with its eyes drawn anew, written to `output`; `compare` puts the original on its left.

    Angles are those seen in the upright frames. UserError from reading it, and where no frame shows a face; Interrupted
    after a signal, once what was done until then is written.
    """
    stop, tally, began = StopSignals(), Tally(), time.perf_counter()
    with open_video(video, "--video") as reader:
        print(plain(f"{video}: {_described(reader)}"))
        width_px = reader.width_px * (2 if compare else 1)
        with write_video(output, width_px, reader.height_px, reader.frames_per_sec, like=reader) as writer:
            if reader.sound_streams and not writer.has_sound:
                print(f"⚠️ {output.suffix} cannot hold its sound as it is: left out; a name that ends in .mkv may do")
            followed = follow_eyes(reader, f"--video: {video}", face)
            with progress_bar("redrawing", reader.frame_count, unit=" frames") as bar, low_precision(model):
                referred = encode_reference(model, reference)
                for few in _groups(followed, AT_ONCE):
                    for each, redrawn in zip(few, redraw(model, few, referred, np.array(gaze), np.array(head))):
                        pixels = np.hstack([each.frame.pixels, redrawn]) if compare else redrawn
                        writer.write(pixels, each.frame.time_sec)
                    tally.add(few)
                    bar.update(len(few))
                    if stop.received is not None:
                        break
            if stop.received is None and tally.no_face == tally.frames:
                raise UserError(
                    f"--video: {video} shows no face that is upright and seen from the front, in none of its "
                    f"{tally.frames} frames; give another video"
                )
            writer.finish(whole=stop.received is None)
    if stop.received is not None:
        raise Interrupted(stop.received, f"{output} holds the first {tally.frames} frames")
    per_sec = tally.frames / (time.perf_counter() - began)
    print(
        f"✅ {output}: {tally.frames} frames, {per_sec:.1f} a second: {tally.redrawn} redrawn, "
        f"{tally.closed + tally.no_face} left alone (blinks {tally.closed}, no face {tally.no_face})"
    )


def low_precision(model: VAEGaze) -> torch.autocast:
    """From now on the model, which is not trained any more, computes in bf16 where the device does so natively.

    The shipped model then draws in two thirds of the time, by at most 4 of 255 levels otherwise.
    """
    device = device_of(model)
    precision = find_precision("auto", str(device))
    if precision == "bf16" and device.type == "cpu":
        for parameter in frozen_weights([model.requires_grad_(False)]):
            parameter.data = in_bf16(parameter.data)
    return autocast(device.type, precision)


def redraw(
    model: VAEGaze, few: list[FollowedFrame], referred: Tensor, gaze: np.ndarray, head: np.ndarray
) -> list[np.ndarray]:
    """The frames, their eyes looking at `gaze` (2,), drawn in one batch; what is to be left alone is as it was."""
    pictures = [each.frame.pixels for each in few]
    places = [place for place, each in enumerate(few) if each.eyes is not None and each.blend > 0]
    if not places:
        return pictures
    faces = [align_face(pictures[place], few[place].eyes, head, model.image_size) for place in places]
    masked = encode_masked(
        model, *(np.stack([getattr(face, name) for face in faces]) for name in ("image", "eye_mask"))
    )
    told = np.stack([rolled(gaze, face.roll_rad) for face in faces])
    drawn = draw_eyes(model, masked, referred, np.stack([face.head for face in faces]), told)
    for place, face, picture in zip(places, faces, drawn):
        pictures[place] = paste_eyes(pictures[place], face, picture, few[place].blend)
    return pictures


def _groups(followed: Iterable[FollowedFrame], count: int) -> Iterator[list[FollowedFrame]]:
    followed = iter(followed)
    while few := list(islice(followed, count)):
        yield few


def _described(reader: VideoReader) -> str:
    count = f"about {reader.frame_count}" if reader.frame_count else "nobody knows how many"
    return f"{count} frames of {reader.width_px}×{reader.height_px} px, {reader.frames_per_sec:.4g} a second"
