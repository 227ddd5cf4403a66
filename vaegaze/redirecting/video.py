"""A video in which the person looks elsewhere: read, followed, redrawn and written a few frames at a time."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from vaegaze.errors import UserError
from vaegaze.faces.tracking import NO_FACE, FollowedFrame, follow_eyes
from vaegaze.geometry.alignment import align_face
from vaegaze.geometry.camera import rolled
from vaegaze.geometry.eye_regions import pose_mask
from vaegaze.geometry.pasting import match_surroundings, paste_in_regions
from vaegaze.images.video import VideoReader, VideoWriter
from vaegaze.models import VAEGaze
from vaegaze.models.checkpoint import Reference
from vaegaze.models.cpu.mixed_precision import frozen_weights, in_bf16
from vaegaze.models.device import autocast, find_precision
from vaegaze.redirecting.comparison import Comparison
from vaegaze.redirecting.drawing import (
    BATCH_SIZE,
    device_of,
    encode_masked,
    encode_pictures,
    encode_reference,
    redraw_eyes,
)
from vaegaze.redirecting.fading import AS_DOCUMENTED, Fader, Fades, Fate, drawn_gaze

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


def redirect_video(
    reader: VideoReader,
    writer: VideoWriter,
    model: VAEGaze,
    reference: Reference | None,
    *,
    gaze: tuple[float, float],
    head: tuple[float, float] | None,
    face: int | None = None,
    compare: bool = False,
    from_itself: bool = False,
    strength: float = 1.0,
    fades: Fades = AS_DOCUMENTED,
    comparison: Comparison | None = None,
    on_frames: Callable[[int], None] = lambda count: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Tally:
    """Write the frames of `reader` with redrawn eyes to `writer`; `compare` puts the original on their left.

    Angles are those seen in the upright frames; a `head` of None is read in each frame where landmarks are installed.
    With `from_itself` each frame is its own reference, in place of `reference`. `strength`, 0..1, is how far the eyes
    move from where they look to where they are told to, less where `fades` says; see `fading.drawn_gaze`.
    `comparison` gets every frame.
    `face` is the number of the person, from left to right, in the first frame. `on_frames(count)` follows every batch
    of frames; once `should_stop()` is true, the frames so far become the video. UserError from reading the video, and
    if no frame shows a face.
    """
    name, tally, fader = f"video: {reader.path}", Tally(), Fader(fades, strength)
    followed = follow_eyes(reader, name, face)
    with low_precision(model):
        reference_latents = None if from_itself else encode_reference(model, reference)
        for batch in _batches(followed):
            fates = [fader.fate(each, head_of(each, head)) for each in batch]
            strengths = [fate.strength for fate in fates]
            redrawn = redraw(model, batch, reference_latents, np.array(gaze), head, strengths)
            for each, pixels in zip(batch, redrawn):
                if comparison is not None:
                    comparison.add(each, pixels)
                writer.write(np.hstack([each.frame.pixels, pixels]) if compare else pixels, each.frame.time_sec)
            tally.fates += fates
            on_frames(len(batch))
            if should_stop():
                tally.stopped = True
                break
    if tally.left_alone[NO_FACE] == tally.frames and not tally.stopped:
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
    reference: Tensor | None,
    gaze: np.ndarray,
    head: tuple[float, float] | None,
    strengths: Sequence[float] | None = None,
) -> list[np.ndarray]:
    """The frames with eyes that look at `gaze` (2,); those without a face or with closed eyes as they are.

    `reference` holds latents for all frames, (1, 4, H / f, W / f); None: each frame is its own. `strengths`, by default
    1 each: see `fading.drawn_gaze`.
    """
    pictures = [each.frame.pixels for each in batch]
    strengths = [1.0] * len(batch) if strengths is None else strengths
    places = [
        place
        for place, each in enumerate(batch)
        if each.eyes is not None and np.any(each.blend) and strengths[place] > 0
    ]
    if not places:
        return pictures
    canvas = model.canvas
    faces = [
        align_face(pictures[place], batch[place].eyes, head_of(batch[place], head), canvas, near=True)
        for place in places
    ]
    eye_masks = np.stack([pose_mask(face.head, canvas) & face.valid for face in faces])
    images = np.stack([face.image for face in faces])
    masked = encode_masked(model, images, eye_masks)
    reference = encode_pictures(model, images) if reference is None else reference
    gazes, opacities = zip(*(drawn_gaze(gaze, batch[place].gaze, strengths[place]) for place in places))
    on_canvas = np.stack([rolled(each, face.roll_rad) for each, face in zip(gazes, faces)])
    redrawn = redraw_eyes(model, masked, reference, np.stack([face.head for face in faces]), on_canvas)
    valid = np.stack([face.valid for face in faces])
    redrawn = match_surroundings(redrawn, images, eye_masks, valid, canvas)
    for place, face, drawn, opacity in zip(places, faces, redrawn, opacities):
        shown = opacity * np.asarray(batch[place].blend)
        pictures[place] = paste_in_regions(pictures[place], face.head, drawn, face.to_canvas, canvas, strength=shown)
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
