"""A video in which the person looks elsewhere: read, followed, redrawn and written a few frames at a time."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch

from vaegaze.errors import UserError
from vaegaze.faces.tracking import FollowedFrame, follow_eyes
from vaegaze.geometry.alignment import align_face
from vaegaze.geometry.camera import rolled
from vaegaze.geometry.eye_regions import pose_mask
from vaegaze.geometry.pasting import match_surroundings, paste_in_regions
from vaegaze.images.video import VideoReader, VideoWriter
from vaegaze.models import VAEGaze
from vaegaze.models.checkpoint import Reference
from vaegaze.models.cpu.mixed_precision import frozen_weights, in_bf16
from vaegaze.models.device import autocast, find_precision
from vaegaze.redirecting.drawing import (
    BATCH_SIZE,
    FollowedReferences,
    device_of,
    encode_masked,
    encode_pictures,
    redraw_eyes,
)


@dataclass
class Tally:
    """How many frames were redrawn, and how many left as they are, and why."""

    redrawn: int = 0
    closed: int = 0  # left: the eyes are closed
    no_face: int = 0  # left: no face was seen
    stopped: bool = False  # before the video's end

    @property
    def frames(self) -> int:
        return self.redrawn + self.closed + self.no_face

    def add(self, batch: list[FollowedFrame]) -> None:
        closed, no_face = sum(each.closed for each in batch), sum(each.eyes is None for each in batch)
        self.closed, self.no_face = self.closed + closed, self.no_face + no_face
        self.redrawn += len(batch) - closed - no_face


def redirect_video(
    reader: VideoReader,
    writer: VideoWriter,
    model: VAEGaze,
    references: Sequence[Reference],
    *,
    gaze: tuple[float, float],
    head: tuple[float, float] | None,
    face: int | None = None,
    compare: bool = False,
    from_itself: bool = False,
    on_frames: Callable[[int], None] = lambda count: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Tally:
    """Write the frames of `reader` with redrawn eyes to `writer`; `compare` puts the original on their left.

    Angles are those seen in the upright frames; a `head` of None is read in each frame where landmarks are installed.
    With `from_itself` each frame is its own reference, in place of the nearest of `references`.
    `face` is the number of the person, from left to right, in the first frame. `on_frames(count)` follows every batch
    of frames; once `should_stop()` is true, the frames so far become the video. UserError from reading the video, and
    if no frame shows a face.
    """
    name, tally = f"video: {reader.path}", Tally()
    followed = follow_eyes(reader, name, face)
    with low_precision(model):
        followed_references = None if from_itself else FollowedReferences(model, references)
        for batch in _batches(followed):
            redrawn = redraw(model, batch, followed_references, np.array(gaze), head)
            for each, pixels in zip(batch, redrawn):
                writer.write(np.hstack([each.frame.pixels, pixels]) if compare else pixels, each.frame.time_sec)
            tally.add(batch)
            on_frames(len(batch))
            if should_stop():
                tally.stopped = True
                break
    if tally.no_face == tally.frames and not tally.stopped:
        raise UserError(
            f"{name} shows no face that is upright and seen from the front in any of its {tally.frames} frames; "
            "give another video"
        )
    writer.finish(whole=not tally.stopped)
    return tally


def low_precision(model: VAEGaze) -> torch.autocast:
    """A context in which the model computes in bf16, on devices that do so natively; its weights stay in bf16.

    The shipped model then draws in two thirds of the time, and differs by at most 4 of 255 levels.
    """
    device = device_of(model)
    precision = find_precision("auto", str(device))
    if precision == "bf16" and device.type == "cpu":
        for parameter in frozen_weights([model.requires_grad_(False)]):
            parameter.data = in_bf16(parameter.data)
    return autocast(device.type, precision)


def redraw(
    model: VAEGaze,
    batch: list[FollowedFrame],
    references: FollowedReferences | None,
    gaze: np.ndarray,
    head: tuple[float, float] | None,
) -> list[np.ndarray]:
    """The frames with eyes that look at `gaze` (2,); those without a face or with closed eyes as they are.

    Without `references` each frame is its own.
    """
    pictures = [each.frame.pixels for each in batch]
    places = [place for place, each in enumerate(batch) if each.eyes is not None and np.any(each.blend)]
    if not places:
        return pictures
    canvas = model.canvas
    faces = [
        align_face(pictures[place], batch[place].eyes, head_of(batch[place], head), canvas, near=True)
        for place in places
    ]
    eye_masks = np.stack([pose_mask(face.head, canvas) & face.valid for face in faces])
    images = np.stack([face.image for face in faces])
    heads = np.stack([face.head for face in faces])
    masked = encode_masked(model, images, eye_masks)
    reference = encode_pictures(model, images) if references is None else references.latents(images, heads)
    on_canvas = np.stack([rolled(gaze, face.roll_rad) for face in faces])
    redrawn = redraw_eyes(model, masked, reference, heads, on_canvas)
    valid = np.stack([face.valid for face in faces])
    redrawn = match_surroundings(redrawn, images, eye_masks, valid, canvas)
    for place, face, drawn in zip(places, faces, redrawn):
        pictures[place] = paste_in_regions(
            pictures[place], face.head, drawn, face.to_canvas, canvas, strength=batch[place].blend
        )
    return pictures


def head_of(followed: FollowedFrame, given: tuple[float, float] | None) -> np.ndarray:
    """The head (2,) as seen in the frame: as given, else as read, else facing the camera."""
    if given is None and followed.head is not None:
        return followed.head
    return np.zeros(2) if given is None else np.array(given)


def _batches(followed: Iterable[FollowedFrame]) -> Iterator[list[FollowedFrame]]:
    followed = iter(followed)
    while batch := list(islice(followed, BATCH_SIZE)):
        yield batch
