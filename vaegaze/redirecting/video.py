"""A video in which the person looks elsewhere: read, followed, redrawn and written a few frames at a time."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from vaegaze.errors import UserError
from vaegaze.faces.everyone import follow_all
from vaegaze.faces.tracking import NO_FACE, FollowedFrame, follow_eyes
from vaegaze.geometry.alignment import AlignedFace, align_face
from vaegaze.geometry.camera import rolled
from vaegaze.geometry.eye_regions import pose_mask
from vaegaze.geometry.pasting import paste_in_regions
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
from vaegaze.redirecting.steadying import SteadyColours

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
    everyone: bool = False,
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
    `comparison` gets every frame, with its first face.
    `face` is the number of the person, from left to right, in the first frame; `everyone` redraws all faces, and the
    tally has each frame's most redrawn one. `on_frames(count)` follows every batch
    of frames; once `should_stop()` is true, the frames so far become the video. UserError from reading the video, and
    if no frame shows a face.
    """
    name, tally, colours = f"video: {reader.path}", Tally(), SteadyColours()
    faders: dict[int, Fader] = defaultdict(lambda: Fader(fades, strength))
    with low_precision(model):
        reference_latents = None if from_itself else encode_reference(model, reference)
        for frames in _batches(
            follow_all(reader) if everyone else ([each] for each in follow_eyes(reader, name, face))
        ):
            batch = [each for faces in frames for each in faces]
            fates = [faders[each.person].fate(each, head_of(each, head)) for each in batch]
            strengths = [fate.strength for fate in fates]
            redrawn = dict(
                zip(
                    [id(each.frame) for each in batch],
                    redraw(model, batch, reference_latents, np.array(gaze), head, strengths, colours),
                )
            )
            fate_of = {id(each): fate for each, fate in zip(batch, fates)}
            for faces in frames:
                frame = faces[0].frame
                pixels = redrawn[id(frame)]
                if comparison is not None:
                    comparison.add(faces[0], pixels)
                writer.write(np.hstack([frame.pixels, pixels]) if compare else pixels, frame.time_sec)
                tally.fates.append(max((fate_of[id(each)] for each in faces), key=lambda fate: fate.strength))
            on_frames(len(frames))
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
    colours: SteadyColours | None = None,
) -> list[np.ndarray]:
    """The frames with eyes that look at `gaze` (2,); those without a face or with closed eyes as they are.

    Several entries may be faces of one frame: each returns that frame with all of them. `reference` holds latents for
    all, (1, 4, H / f, W / f); None: each picture is its own. `strengths`, by default 1 each: see `fading.drawn_gaze`.
    `colours` keeps what is drawn from pulsing over several calls.
    """
    pictures = {id(each.frame): each.frame.pixels for each in batch}
    strengths = [1.0] * len(batch) if strengths is None else strengths
    drawn_ones = [
        (each, *drawn_gaze(gaze, each.gaze, strength))
        for each, strength in zip(batch, strengths)
        if each.eyes is not None and np.any(each.blend) and strength > 0
    ]
    if drawn_ones:
        followed, gazes, opacities = zip(*drawn_ones)
        faces = [
            align_face(each.frame.pixels, each.eyes, head_of(each, head), model.canvas, near=True) for each in followed
        ]
        persons = [(each.person, each.frame.time_sec) for each in followed]
        drawings = _draw(model, faces, reference, gazes, persons, colours or SteadyColours())
        for each, face, drawing, opacity in zip(followed, faces, drawings, opacities):
            frame, shown = id(each.frame), opacity * np.asarray(each.blend)
            grain = np.random.default_rng([each.person, round(1000 * each.frame.time_sec)])
            pictures[frame] = paste_in_regions(
                pictures[frame], face.head, drawing, face.to_canvas, model.canvas, shown, grain
            )
    return [pictures[id(each.frame)] for each in batch]


def _draw(
    model: VAEGaze,
    faces: list[AlignedFace],
    reference: Tensor | None,
    gazes: Sequence[np.ndarray],
    persons: list[tuple[int, float]],
    colours: SteadyColours,
) -> np.ndarray:
    """The faces on the canvas (N, H, W, 3) uint8, each with its gaze (2,) as seen in its frame."""
    images, valid = (np.stack(each) for each in zip(*((face.image, face.valid) for face in faces)))
    eye_masks = np.stack([pose_mask(face.head, model.canvas) for face in faces]) & valid
    masked = encode_masked(model, images, eye_masks)
    reference = encode_pictures(model, images) if reference is None else reference
    on_canvas = np.stack([rolled(each, face.roll_rad) for each, face in zip(gazes, faces)])
    drawn = redraw_eyes(model, masked, reference, np.stack([face.head for face in faces]), on_canvas)
    return colours.matched(drawn, images, eye_masks, valid, model.canvas, persons)


def head_of(followed: FollowedFrame, given: tuple[float, float] | None) -> np.ndarray:
    """The head (2,) as seen in the frame: as given, else as read, else facing the camera."""
    if given is None and followed.head is not None:
        return followed.head
    return np.zeros(2) if given is None else np.array(given)


def _batches(followed: Iterable[list[FollowedFrame]]) -> Iterator[list[list[FollowedFrame]]]:
    """The frames, with their faces, a few at a time."""
    followed = iter(followed)
    while batch := list(islice(followed, BATCH_SIZE)):
        yield batch
