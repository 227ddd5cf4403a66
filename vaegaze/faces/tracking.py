"""The eyes of one person through a video, from the first frame that shows the face."""

import math
from collections.abc import Iterable, Iterator

import numpy as np

from vaegaze.faces.face import Face
from vaegaze.faces.follower import FollowedFrame, Follower
from vaegaze.faces.reader import EyesNotFound, backend, choose, frame_notes, read_faces
from vaegaze.images.video import Frame, VideoReader

WAIT_FOR_FACE_SEC = 1.0  # after the first face, for the face of the given number to appear


def follow_eyes(
    frames: Iterable[Frame], name: str, face: int | None = None, by: str | None = None
) -> Iterator[FollowedFrame]:
    """The frames, all of one size, each with the eyes of one person; those of AHEAD_SEC are held back.

    The person is number `face` in the first frame that shows as many faces; later, the nearest face. EyesNotFound, with
    the video's `name`, as from `find_face`; but frames without a face are no error. `by` names the backend. A video's
    notes tell of faces in that frame that could not be read.
    """
    first_face = FirstFace(name, face, by or backend(), frames.notes if isinstance(frames, VideoReader) else [])
    follower = Follower(first_face.find, by or backend())
    for frame in frames:
        yield from follower.follow(frame)
    if first_face.refusal is not None:
        raise first_face.refusal
    yield from follower.rest()


class FirstFace:
    """Which face of a video to follow."""

    def __init__(self, name: str, number: int | None, by: str, notes: list[str]):
        self._name, self._number, self._by, self._notes = name, number, by, notes
        self.refusal: EyesNotFound | None = None  # while the frames so far show too few faces
        self._refused_since_sec = math.inf

    def find(self, frame: Frame, last_eyes: np.ndarray | None) -> Face | None:
        """The face nearest to `last_eyes` (2, 2), or at first the one of the number; None if the frame shows none."""
        faces, partly = read_faces(frame.pixels, self._by, of_video=True)
        if not faces:
            return None
        if last_eyes is not None:
            return min(faces, key=lambda face: np.linalg.norm(face.eyes - last_eyes))
        try:
            face = choose(faces, partly, f"{self._name} at {frame.time_sec:.2f} s", self._number)
        except EyesNotFound as error:
            self._refused_since_sec = min(self._refused_since_sec, frame.time_sec)
            if self._number is None or frame.time_sec - self._refused_since_sec >= WAIT_FOR_FACE_SEC:
                raise
            self.refusal = error
            return None
        self.refusal = None
        self._notes += frame_notes(frame.time_sec, partly)
        return face
