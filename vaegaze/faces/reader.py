"""The faces in a picture: by landmarks where their packages are installed, by OpenCV's cascades otherwise."""

from dataclasses import dataclass

import numpy as np

from vaegaze.config.finetune import INSTALL_LANDMARKS
from vaegaze.errors import UserError
from vaegaze.faces import cascades, landmarks, networks
from vaegaze.faces.face import Face
from vaegaze.faces.openness import CLOSED_BELOW

BACKENDS = ("landmarks", "cascades")
SAME_PERSON = 1.0  # distances of the eyes, by which those of a person who speaks move from frame to frame
SAME_FACE = 0.3  # distances of the eyes, by which a face's eyes may be seen elsewhere
NO_LANDMARKS = (
    f"⚠️ The head is taken as facing the camera: reading its pose needs the face landmarks ({INSTALL_LANDMARKS})"
)


class EyesNotFound(UserError):
    """In one picture; `kind` is the reason in few words, `seen` what the picture shows instead."""

    def __init__(self, name: str, kind: str, seen: str, about: str):
        super().__init__(f"{name} {seen}", about=about)
        self.kind, self.seen = kind, seen


@dataclass(frozen=True)
class FoundFace:
    """The face that was asked for, and the places (2,) of others that were seen but could not be read."""

    face: Face
    partly_read: list[np.ndarray]
    others: int = 0  # faces that were read too

    @property
    def notes(self) -> list[str]:
        """One line for each thing that the user should know."""
        partly = [f"⚠️ {_more(self.partly_read).capitalize()}"] if self.partly_read else []
        closed = bool(self.face.openness.mean() < closed_below(self.face))
        return partly + (["⚠️ The eyes look closed: if they are, give a photo with open eyes"] if closed else [])


def backend() -> str:
    """Which of BACKENDS reads pictures here. UserError if neither is installed."""
    if networks.installed():
        return "landmarks"
    cascades.opencv(about="opencv")
    return "cascades"


def read_picture(picture: np.ndarray, by: str | None = None) -> list[Face]:
    """The faces in a picture (H, W, 3) uint8, from left to right; `by` names the backend."""
    return read_faces(picture, by)[0]


def read_faces(
    picture: np.ndarray, by: str | None = None, of_video: bool = False
) -> tuple[list[Face], list[np.ndarray]]:
    """The same, and the places (2,) of faces that were seen but could not be read."""
    if (by or backend()) == "landmarks":
        return landmarks.read_faces(picture, of_video=of_video)
    return cascades.read_faces(picture)


def frame_notes(time_sec: float, partly: list[np.ndarray]) -> list[str]:
    """One line about a video's frame that shows faces at these places (2,), too, that could not be read."""
    return [f"⚠️ The frame at {time_sec:.2f} s shows {_more(partly)}"] if partly else []


def find_face(
    picture: np.ndarray, name: str, number: int | None = None, by: str | None = None, near: np.ndarray | None = None
) -> FoundFace:
    """A picture's only face, or that of this number, from left to right, from 1; or the one whose eyes are `near`.

    `near` (2, 2) is where they were in a frame before; it decides only if no more than one face fits. EyesNotFound,
    about the picture of this `name`, when there is no such face or nothing to choose by; UserError when no backend is
    installed.
    """
    faces, partly = read_faces(picture, by)
    if not faces and partly:
        place = point_text(partly[0])
        seen = f"shows a face at {place}, but not two open eyes in it (closed, covered, askew, or turned away?)"
        raise EyesNotFound(name, "no two open eyes", seen, "eyes")
    if not faces:
        frontal_only = (by or backend()) == "cascades"
        seen = "shows no face" + (" that is upright and seen from the front" if frontal_only else "")
        raise EyesNotFound(name, "no face", seen, "eyes")
    fitting = [face for face in faces if near is not None and _is_near(face, near)]
    if len(faces) > 1 and number is None and len(fitting) == 1:
        return FoundFace(fitting[0], partly, len(faces) - 1)
    return FoundFace(choose(faces, partly, name, number), partly)


def head_at(picture: np.ndarray, eyes: np.ndarray) -> np.ndarray | None:
    """The head (2,) = pitch, yaw in radians of the face whose eyes are near (2, 2); None if no landmarks show it."""
    if not networks.installed():
        return None
    near_px = SAME_FACE * np.linalg.norm(eyes[1] - eyes[0])
    heads = [face.head for face in read_picture(picture) if np.linalg.norm(face.eyes - eyes, axis=1).max() < near_px]
    return heads[0] if heads else None


def choose(faces: list[Face], partly: list[np.ndarray], name: str, number: int | None) -> Face:
    """The one among at least one face that `find_face` takes; EyesNotFound as from there."""
    more = f"; {_more(partly)}" if partly else ""
    if len(faces) > 1 and number is None:
        places = [f"{i} at {point_text(face.eyes.mean(axis=0))}" for i, face in enumerate(faces, 1)]
        raise EyesNotFound(name, "several faces", f"shows {len(faces)} faces, {', '.join(places)}{more}", "faces")
    if number is not None and number > len(faces):
        shown = f"{len(faces)} face{'s' if len(faces) > 1 else ''}"
        raise EyesNotFound(name, f"no face {number}", f"shows {shown} with eyes, no face {number}{more}", "face")
    return faces[(number or 1) - 1]


def _is_near(face: Face, eyes: np.ndarray) -> bool:
    apart = np.linalg.norm(face.eyes - eyes, axis=1).max()
    return bool(apart < SAME_PERSON * np.linalg.norm(eyes[1] - eyes[0]))


def closed_below(face: Face) -> float:
    """The mean openness of a face's eyes below which they look closed; the backends measure it in different ways."""
    return CLOSED_BELOW if face.lids is None else landmarks.CLOSED_BELOW


def point_text(point: np.ndarray) -> str:
    return f"({point[0]:.0f}, {point[1]:.0f})"


def _more(partly: list[np.ndarray]) -> str:
    return f"more faces that could not be read: at {', '.join(map(point_text, partly))}"
