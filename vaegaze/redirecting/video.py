"""A video in which the person looks elsewhere: read, followed, redrawn and written a few frames at a time."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import torch

from vaegaze.errors import UserError
from vaegaze.faces import networks
from vaegaze.faces.everyone import follow_all
from vaegaze.faces.follower import CLOSED, NO_FACE, FollowedFrame
from vaegaze.faces.tracking import follow_eyes
from vaegaze.geometry.alignment import AlignedFace, align_face
from vaegaze.geometry.camera import rolled
from vaegaze.geometry.eye_regions import pose_mask
from vaegaze.geometry.pasting import paste_in_regions
from vaegaze.images.video import VideoReader, VideoWriter
from vaegaze.models import VAEGaze
from vaegaze.models.checkpoint import Reference
from vaegaze.models.cpu import use_drawing_forms
from vaegaze.models.cpu.mixed_precision import frozen_weights, in_bf16
from vaegaze.models.device import autocast, find_precision
from vaegaze.redirecting.ahead import ahead
from vaegaze.redirecting.comparison import Comparison
from vaegaze.redirecting.drawing import (
    BATCH_SIZE,
    FollowedReferences,
    device_of,
    encode_masked,
    encode_pictures,
    redraw_eyes,
)
from vaegaze.redirecting.fading import AS_DOCUMENTED, Fader, Fades, Fate, drawn_gaze
from vaegaze.redirecting.glances import Glances
from vaegaze.redirecting.irises import SteadyIrises, read_irises
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

    def in_words(self) -> str:
        """How many frames were redrawn and left alone, and why in few words."""
        left = self.left_alone
        counts = {"blinks": left.pop(CLOSED, 0), "no face": left.pop(NO_FACE, 0), **left}
        reasons = ", ".join(f"{why} {count}" for why, count in counts.items())
        return f"{self.redrawn} redrawn, {sum(counts.values())} left alone ({reasons})"


class NothingDrawn(UserError):
    """It was stopped before the first frame."""


@dataclass(frozen=True)
class Look:
    """Where eyes are to look, and how far they move there. Angles are as seen in the upright frames."""

    gaze: tuple[float, float]  # pitch, yaw in radians
    head: tuple[float, float] | None = None  # the same; None: read in each frame where landmarks are installed
    strength: float = 1.0  # 0..1, how far from where they truly look; see `fading.drawn_gaze`
    fades: Fades = AS_DOCUMENTED  # where the strength is less
    look_away: int | None = None  # the seed of short looks away; see `glances`


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
    with its first face. `on_frames(count)` follows every batch of frames; once `should_stop()` is true, the frames so
    far become the video. UserError from reading the video, and if no frame shows a face; NothingDrawn if it was stopped
    before the first.
    """
    name, tally = f"video: {reader.path}", Tally()
    followed = follow_all(reader) if everyone else ([each] for each in follow_eyes(reader, name, face))
    with low_precision(model), closing(ahead(followed, BATCH_SIZE, should_stop)) as followed:
        series = Series(model, None if from_itself else FollowedReferences(model, references), look)
        for frames in _batches(followed):
            for faces, (pixels, fate) in zip(frames, series.redraw(frames)):
                frame = faces[0].frame
                if comparison is not None:
                    comparison.add(faces[0], pixels, None if everyone else not fate.left_alone)
                writer.write(np.hstack([frame.pixels, pixels]) if compare else pixels, frame.time_sec)
                tally.fates.append(fate)
            on_frames(len(frames))
            if should_stop():
                break
    tally.stopped = should_stop()
    if tally.left_alone[NO_FACE] == tally.frames and not tally.stopped:
        raise UserError(
            f"{name} shows no face that is upright and seen from the front in any of its {tally.frames} frames; "
            "give another video"
        )
    if not tally.frames:
        raise NothingDrawn(f"{name}: stopped before the first frame")
    writer.finish(whole=not tally.stopped)
    return tally


class Series:
    """Frames in the order of time, redrawn a few or one at a call, smoothly from call to call.

    Without `references` each frame is its own.
    """

    def __init__(self, model: VAEGaze, references: FollowedReferences | None, look: Look):
        self._model, self._references, self._look = model, references, look
        self._faders: dict[int, Fader] = defaultdict(lambda: Fader(look.fades, look.strength))  # of each person
        self._glances: dict[int, Glances] = {}
        self._colours, self._irises = SteadyColours(), SteadyIrises()

    def redraw(self, frames: list[list[FollowedFrame]]) -> list[tuple[np.ndarray, Fate]]:
        """The next frames, each with its faces: the pixels, and the fate of the face that is redrawn most."""
        batch = [each for faces in frames for each in faces]
        fates = [self._faders[each.person].fate(each, head_of(each, self._look.head)) for each in batch]
        gazes, strengths = np.stack([self._gaze(each) for each in batch]), [fate.strength for fate in fates]
        steadied = self._colours, self._irises
        pictures = redraw(self._model, batch, self._references, gazes, self._look.head, strengths, *steadied)
        of_frames, start = [], 0
        for faces in frames:
            here = slice(start, start + len(faces))
            of_frames.append((pictures[start], max(fates[here], key=lambda fate: fate.strength)))
            start += len(faces)
        return of_frames

    def _gaze(self, followed: FollowedFrame) -> np.ndarray:
        told = np.array(self._look.gaze)
        if self._look.look_away is None:
            return told
        person = followed.person
        glances = self._glances.setdefault(person, Glances(self._look.look_away + person))
        return told + glances.offset(followed.frame.time_sec)


def low_precision(model: VAEGaze) -> torch.autocast:
    """A context in which the model computes in bf16, on devices that do so natively; its weights stay in bf16.

    The shipped model then draws in two thirds of the time, and differs by at most 4 of 255 levels; pasted with
    irises, by 6. Elsewhere it draws in float32 from now on, and its weights must not change.
    """
    device = device_of(model)
    precision = find_precision("auto", str(device))
    if precision == "bf16" and device.type == "cpu":
        for parameter in frozen_weights([model.requires_grad_(False)]):
            parameter.data = in_bf16(parameter.data)
    if precision == "fp32":
        use_drawing_forms(model)
    return autocast(device.type, precision)


def redraw(
    model: VAEGaze,
    batch: list[FollowedFrame],
    references: FollowedReferences | None,
    gaze: np.ndarray,
    head: tuple[float, float] | None,
    strengths: Sequence[float] | None = None,
    colours: SteadyColours | None = None,
    irises: SteadyIrises | None = None,
) -> list[np.ndarray]:
    """The frames with eyes that look at `gaze`, (2,) or (N, 2); those without a face or with closed eyes as they are.

    Several entries may be faces of one frame: each returns that frame with all of them. Without `references` each
    picture is its own. `strengths`, by default 1 each: see `fading.drawn_gaze`.
    `colours` and `irises` keep what is drawn from pulsing over several calls.
    """
    pictures = {id(each.frame): each.frame.pixels for each in batch}
    strengths = [1.0] * len(batch) if strengths is None else strengths
    irises = SteadyIrises() if irises is None else irises
    drawn_ones = [
        (each, *drawn_gaze(told, each.gaze, strength))
        for each, told, strength in zip(batch, np.broadcast_to(gaze, (len(batch), 2)), strengths)
        if each.eyes is not None and np.any(each.blend) and strength > 0
    ]
    if drawn_ones:
        followed, gazes, opacities = zip(*drawn_ones)
        faces = [
            align_face(each.frame.pixels, each.eyes, head_of(each, head), model.canvas, near=True) for each in followed
        ]
        persons = [(each.person, each.frame.time_sec) for each in followed]
        drawings = _draw(model, faces, references, gazes, persons, colours or SteadyColours())
        for each, face, told, drawing, opacity in zip(followed, faces, gazes, drawings, opacities):
            frame, shown, between = id(each.frame), opacity * np.asarray(each.blend), opacity * _between_lids(each)
            own = irises.pairs(each, face, drawing, rolled(told, face.roll_rad), model.canvas)
            lids = read_irises(each, face, model.canvas) if np.any(between != shown) else ()
            grain = np.random.default_rng([each.person, round(1000 * each.frame.time_sec)])
            pictures[frame] = paste_in_regions(
                pictures[frame], face.head, drawing, face.to_canvas, model.canvas, shown, grain, *own, lids, between
            )
    return [pictures[id(each.frame)] for each in batch]


def _between_lids(followed: FollowedFrame) -> np.ndarray:
    """How opaque a drawing is between the lids of a frame's eyes, one or (2,), where these are known.

    Beside a blink, lids blend; but no eye has two irises at once, the drawn one and the true one.
    """
    blend = np.asarray(followed.blend)
    return np.where(followed.blinks & (blend > 0), 1.0, blend) if networks.installed() else blend


def _draw(
    model: VAEGaze,
    faces: list[AlignedFace],
    references: FollowedReferences | None,
    gazes: Sequence[np.ndarray],
    persons: list[tuple[int, float]],
    colours: SteadyColours,
) -> np.ndarray:
    """The faces on the canvas (N, H, W, 3) uint8, each with its gaze (2,) as seen in its frame."""
    images, valid = (np.stack(each) for each in zip(*((face.image, face.valid) for face in faces)))
    eye_masks = np.stack([pose_mask(face.head, model.canvas) for face in faces]) & valid
    heads, masked = np.stack([face.head for face in faces]), encode_masked(model, images, eye_masks)
    if references is None:
        reference = encode_pictures(model, images)
    else:
        reference = references.latents(images, heads, [person for person, _ in persons])
    on_canvas = np.stack([rolled(each, face.roll_rad) for each, face in zip(gazes, faces)])
    drawn = redraw_eyes(model, masked, reference, heads, on_canvas)
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
