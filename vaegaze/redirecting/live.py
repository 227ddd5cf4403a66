"""Eyes redrawn frame by frame as the frames come, without looking ahead: for a camera or a call."""

import math
import time
from dataclasses import replace

import numpy as np
import torch

from vaegaze.errors import UserError
from vaegaze.faces.face import Face
from vaegaze.faces.follower import FollowedFrame, Follower
from vaegaze.faces.one_euro import OneEuroFilter
from vaegaze.faces.reader import backend, read_picture
from vaegaze.images.video import Frame
from vaegaze.models.checkpoint import Checkpoint
from vaegaze.models.cpu import own_copy
from vaegaze.models.device import refuse_other_dtypes
from vaegaze.redirecting.asked import asked, asked_fades
from vaegaze.redirecting.drawing import FollowedReferences, is_own_reference, low_precision
from vaegaze.redirecting.fading import AS_DOCUMENTED, Fades, Fate
from vaegaze.redirecting.series import Look, Series

LATEST_SEC = 1e12


class Redirector:
    """`Redirector(model).frame(rgb)` is the frame with eyes that look into the camera.

    Frames of one person in a row; for another person or camera make another one. `gaze` and `head` (pitch, yaw) in
    radians, `strength`, `fades`, `look_away` and `reference` are as in a video: see `video.Look`. `face` chooses among
    several faces in the first frame that shows one, from left to right; by default the largest. UserError for angles
    beyond ±π/2, and other values out of range.
    """

    def __init__(
        self,
        model: Checkpoint,
        gaze: tuple[float, float] = (0.0, 0.0),
        *,
        head: tuple[float, float] | None = None,
        face: int | None = None,
        strength: float = 1.0,
        fades: Fades = AS_DOCUMENTED,
        look_away: int | None = None,
        reference: str = "auto",
    ):
        if not isinstance(model, Checkpoint):
            raise UserError(f"model: got {type(model).__name__}; expected what `load_model` or `finetune` returns")
        refuse_other_dtypes(model.model)
        look = asked(gaze, head, face, strength, look_away)
        from_itself = is_own_reference(reference, model)
        self._model = own_copy(model.model).eval()  # low precision changes its weights
        self._precision = low_precision(self._model)
        self._look = Look(look.gaze, look.head, look.strength, asked_fades(fades), look.look_away)
        self._face = look.face
        with self._precision:
            known = () if reference == "none" else model.references
            self._references = None if from_itself else FollowedReferences(self._model, known)
        self._shape: tuple[int, ...] | None = None
        self._time_sec = -math.inf  # of the last frame
        self.last_fate: Fate | None = None  # what became of the last frame, and why

    def frame(self, rgb: np.ndarray, time_sec: float | None = None) -> np.ndarray:
        """The next frame (H, W, 3) uint8, redrawn; the frame itself where its eyes are left alone.

        `time_sec` grows from frame to frame; by default it is the clock's. A frame of another size, or an earlier one,
        begins anew. UserError for anything but such a picture and a time.
        """
        if (
            not isinstance(rgb, np.ndarray)
            or rgb.dtype != np.uint8
            or rgb.ndim != 3
            or rgb.shape[2] != 3
            or not rgb.size
        ):
            got = f"{rgb.dtype} {rgb.shape}" if isinstance(rgb, np.ndarray) else type(rgb).__name__
            raise UserError(f"frame: got {got}; expected an array (height, width, 3) of uint8, in RGB")
        time_sec = time.monotonic() if time_sec is None else time_sec
        if not isinstance(time_sec, int | float | np.number) or not abs(time_sec) < LATEST_SEC:  # nor NaN
            raise UserError(f"time_sec: got {time_sec!r}; expected a number of seconds")
        if rgb.shape != self._shape or time_sec < self._time_sec:
            self._begin(rgb.shape)
        self._time_sec = time_sec
        (followed,) = self._follower.follow(Frame(np.ascontiguousarray(rgb), time_sec))
        followed = self._steadied(followed, time_sec)
        with self._precision, torch.no_grad():
            ((drawn, self.last_fate),) = self._series.redraw([[followed]])
        return drawn

    def _begin(self, shape: tuple[int, ...]) -> None:
        self._shape = shape
        self._follower = Follower(self._find, backend(), ahead_sec=0.0)
        self._series = Series(self._model, self._references, self._look)
        self._filters = {"head": OneEuroFilter(), "gaze": OneEuroFilter()}

    def _steadied(self, followed: FollowedFrame, time_sec: float) -> FollowedFrame:
        read = {name: getattr(followed, name) for name in self._filters}
        return replace(
            followed,
            **{name: self._filters[name](value, time_sec) for name, value in read.items() if value is not None},
        )

    def _find(self, frame: Frame, last_eyes: np.ndarray | None) -> Face | None:
        faces = read_picture(frame.pixels)
        if not faces:
            return None
        if last_eyes is not None:
            return min(faces, key=lambda face: np.linalg.norm(face.eyes - last_eyes))
        if self._face is None:
            return max(faces, key=lambda face: face.eye_distance_px)
        return faces[self._face - 1] if self._face <= len(faces) else None
