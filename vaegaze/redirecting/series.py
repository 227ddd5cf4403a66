"""Eyes drawn in frames that follow each other, smoothly, and pasted into them."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from vaegaze.faces import networks
from vaegaze.faces.follower import FollowedFrame
from vaegaze.geometry.alignment import AlignedFace, align_face
from vaegaze.geometry.camera import rolled
from vaegaze.geometry.eye_regions import pose_mask
from vaegaze.geometry.pasting import paste_in_regions
from vaegaze.models import VAEGaze
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
from vaegaze.redirecting.keyframes import APART_SEC, KeyFrames, Moment
from vaegaze.redirecting.steadying import SteadyColours


@dataclass(frozen=True)
class Look:
    """Where eyes are to look, and how far they move there. Angles are as seen in the upright frames."""

    gaze: tuple[float, float]  # pitch, yaw in radians
    head: tuple[float, float] | None = None  # the same; None: read in each frame where landmarks are installed
    strength: float = 1.0  # 0..1, how far from where they truly look; see `fading.drawn_gaze`
    fades: Fades = AS_DOCUMENTED  # where the strength is less
    look_away: int | None = None  # the seed of short looks away; see `glances`


@dataclass(frozen=True)
class DrawnEyes:
    """A face's eyes, drawn on the canvas."""

    followed: FollowedFrame
    face: AlignedFace
    gaze: np.ndarray  # (2,) as seen in the frame
    opacity: float
    pixels: np.ndarray  # (H, W, 3) uint8


@dataclass(frozen=True)
class DrawnFrame:
    """A frame's eyes before they are pasted."""

    faces: list[FollowedFrame]
    drawn: list[DrawnEyes]  # of those faces whose eyes are not left as they are
    fate: Fate  # of the face that is redrawn most


class Series:
    """Frames in the order of time, a few or one at a call, smoothly from call to call.

    Without `references` each frame is its own. Drawing and pasting keep no state in common: one may run ahead of the
    other in a thread of its own.
    """

    def __init__(self, model: VAEGaze, references: FollowedReferences | None, look: Look):
        self._model, self._references, self._look = model, references, look
        self._faders: dict[int, Fader] = defaultdict(lambda: Fader(look.fades, look.strength))  # of each person
        self._glances: dict[int, Glances] = {}
        self._colours, self._irises = SteadyColours(), SteadyIrises()
        # Other devices draw faster than frames are read and pasted.
        self._key_frames = KeyFrames(APART_SEC if device_of(model).type == "cpu" else 0.0)

    def redraw(self, frames: list[list[FollowedFrame]]) -> list[tuple[np.ndarray, Fate]]:
        """The next frames, each with its faces: the pixels, and the fate of the face that is redrawn most."""
        return [(self.paste(each), each.fate) for each in self.draw(frames)]

    def draw(self, frames: list[list[FollowedFrame]]) -> list[DrawnFrame]:
        """The eyes of the next frames, each with its faces, on the canvas."""
        fates = [[self._faders[each.person].fate(each, self._head(each)) for each in faces] for faces in frames]
        told = [[self._told(each) for each in faces] for faces in frames]
        asked = [
            (each, *drawn_gaze(gaze, each.gaze, fate.strength))
            for faces, gazes, of_faces in zip(frames, told, fates)
            for each, gaze, fate in zip(faces, gazes, of_faces)
            if each.eyes is not None and np.any(each.blend) and fate.strength > 0
        ]
        drawn = {id(each.followed): each for each in (self._drawn(asked) if asked else [])}
        return [
            DrawnFrame(
                faces,
                [drawn[id(each)] for each in faces if id(each) in drawn],
                max(of_faces, key=lambda fate: fate.strength),
            )
            for faces, of_faces in zip(frames, fates)
        ]

    def _drawn(self, asked: list[tuple[FollowedFrame, np.ndarray, float]]) -> list[DrawnEyes]:
        """Of faces, each with a gaze (2,) as seen in its frame, and how opaque the drawing will be."""
        model, canvas = self._model, self._model.canvas
        followed, gazes, opacities = zip(*asked)
        faces = [align_face(each.frame.pixels, each.eyes, self._head(each), canvas, near=True) for each in followed]
        on_canvas = np.stack([rolled(gaze, face.roll_rad) for gaze, face in zip(gazes, faces)])
        images, valid, heads = (
            np.stack(each) for each in zip(*((face.image, face.valid, face.head) for face in faces))
        )
        eye_masks = np.stack([pose_mask(head, canvas) for head in heads]) & valid
        persons = [(each.person, each.frame.time_sec) for each in followed]

        moments = [
            Moment(*person, *seen, bool(np.all(each.blend == 1)), _openness(each))
            for each, person, *seen in zip(followed, persons, images, on_canvas, heads, eye_masks)
        ]
        keys = self._key_frames.chosen(moments)
        parts = []
        for start in range(0, len(keys), BATCH_SIZE):
            rows = keys[start : start + BATCH_SIZE]
            masked = encode_masked(model, images[rows], eye_masks[rows])
            if self._references is None:
                reference = encode_pictures(model, images[rows])
            else:
                reference = self._references.latents(images[rows], heads[rows], [persons[row][0] for row in rows])
            parts.append(redraw_eyes(model, masked, reference, heads[rows], on_canvas[rows]))
        drawings = np.concatenate(parts)
        drawings = self._key_frames.filled(moments, keys, drawings)
        drawings = self._colours.matched(drawings, images, eye_masks, valid, canvas, persons)
        return [DrawnEyes(*each) for each in zip(followed, faces, gazes, opacities, drawings)]

    def paste(self, frame: DrawnFrame) -> np.ndarray:
        """The frame (H, W, 3) uint8 with its drawn eyes; the frame's own pixels where there are none."""
        canvas, pixels = self._model.canvas, frame.faces[0].frame.pixels
        for drawn in frame.drawn:
            followed, face, opacity = drawn.followed, drawn.face, drawn.opacity
            shown, between = opacity * np.asarray(followed.blend), opacity * _between_lids(followed)
            own = self._irises.pairs(followed, face, drawn.pixels, rolled(drawn.gaze, face.roll_rad), canvas)
            lids = read_irises(followed, face, canvas) if np.any(between != shown) else ()
            clock_ms = round(1000 * followed.frame.time_sec) % 2**32  # a camera's may begin below 0
            grain = np.random.default_rng([followed.person, clock_ms])
            look = (shown, grain, *own, lids, between, followed.outline)
            pixels = paste_in_regions(pixels, face.head, drawn.pixels, face.to_canvas, canvas, *look)
        return pixels

    def _told(self, followed: FollowedFrame) -> np.ndarray:
        told = np.array(self._look.gaze)
        if self._look.look_away is None:
            return told
        person = followed.person
        glances = self._glances.setdefault(person, Glances(self._look.look_away + person))
        return told + glances.offset(followed.frame.time_sec)

    def _head(self, followed: FollowedFrame) -> np.ndarray:
        """The head (2,) as seen in the frame: as given, else as read, else facing the camera."""
        given = self._look.head
        if given is None and followed.head is not None:
            return followed.head
        return np.zeros(2) if given is None else np.array(given)


def _openness(followed: FollowedFrame) -> np.ndarray | None:
    """(2,) as it was read in this very frame; the cascades do not read it with a face."""
    read = None if followed.face is None else followed.face.openness
    return None if read is None or np.isnan(read).any() else read


def _between_lids(followed: FollowedFrame) -> np.ndarray:
    """How opaque a drawing is between the lids of a frame's eyes, one or (2,), where these are known.

    Beside a blink, lids blend; but no eye has two irises at once, the drawn one and the true one.
    """
    blend = np.asarray(followed.blend)
    return np.where(followed.blinks & (blend > 0), 1.0, blend) if networks.installed() else blend
