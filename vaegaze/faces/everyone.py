"""The eyes of all persons through a video."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from vaegaze.faces.face import Face
from vaegaze.faces.follower import LOST_AFTER_SEC, NO_FACE, FollowedFrame, Follower
from vaegaze.faces.reader import backend, frame_notes, read_faces
from vaegaze.images.video import Frame, VideoReader

LOOK_SEC = 0.5  # between looks for faces that are new
APART = 0.7  # eye distances between the eyes' middles of different persons


@dataclass
class _Person:
    number: int
    follower: Follower
    first: int  # number of the frame in which the person was found
    settled: int = 0  # frames since then


def follow_all(frames: Iterable[Frame], by: str | None = None) -> Iterator[list[FollowedFrame]]:
    """The frames, all of one size, each with the eyes of everyone in it, or with NO_FACE; see `follow_eyes`."""
    everyone = _Everyone(by or backend(), frames.notes if isinstance(frames, VideoReader) else [])
    for frame in frames:
        yield from everyone.follow(frame)
    yield from everyone.rest()


class _Everyone:
    def __init__(self, by: str, notes: list[str]):
        self._by, self._notes = by, notes
        self._persons: list[_Person] = []
        self._waiting: deque[tuple[Frame, list[FollowedFrame]]] = deque()
        self._frames = self._given = self._found = 0
        self._looked_sec = -np.inf
        self._seen: tuple[Frame | None, list[Face]] = None, []

    def follow(self, frame: Frame) -> Iterator[list[FollowedFrame]]:
        self._waiting.append((frame, []))
        for person in self._persons:
            if self._is_gone(
                person, frame
            ):  # yet the frames held back may show the person, before a pause of the video
                self._take(person, person.follower.rest())
        self._persons = [each for each in self._persons if not self._is_gone(each, frame)]
        for person in self._persons:
            self._take(person, person.follower.follow(frame))
        if frame.time_sec - self._looked_sec >= LOOK_SEC or not self._persons:
            self._looked_sec = frame.time_sec
            for face in self._new_faces(frame):
                self._found += 1
                first = _Person(self._found, Follower(self._find, self._by), self._frames)
                first.follower.last_eyes = face.eyes
                self._persons.append(first)
                self._take(first, first.follower.follow(frame))
        self._frames += 1
        known = min((each.first + each.settled for each in self._persons), default=self._frames)
        yield from self._ready(known)

    def rest(self) -> Iterator[list[FollowedFrame]]:
        for person in self._persons:
            self._take(person, person.follower.rest())
        yield from self._ready(self._frames)

    def _ready(self, known: int) -> Iterator[list[FollowedFrame]]:
        """The waiting frames before number `known`, with their faces."""
        while self._given < known:
            frame, faces = self._waiting.popleft()
            there = [each for each in faces if each.eyes is not None]
            yield there or [FollowedFrame(frame, None, False, np.zeros(2), left=NO_FACE)]
            self._given += 1

    def _take(self, person: _Person, followed: Iterable[FollowedFrame]) -> None:
        for each in followed:
            _, faces = self._waiting[person.first + person.settled - self._given]
            faces.append(replace(each, person=person.number))
            person.settled += 1

    def _is_gone(self, person: _Person, frame: Frame) -> bool:
        """Not found for so long that the person has to be found anew."""
        return frame.time_sec - person.follower.found_sec > LOST_AFTER_SEC

    def _find(self, frame: Frame, last_eyes: np.ndarray | None) -> Face | None:
        """The face of one who was lost, among those that no one else has."""
        faces = [face for face in self._faces(frame) if last_eyes is not None and _near(face.eyes, last_eyes)]
        return min(faces, key=lambda face: np.linalg.norm(face.eyes - last_eyes), default=None)

    def _new_faces(self, frame: Frame) -> list[Face]:
        known = [each.follower.last_eyes for each in self._persons]
        return [face for face in self._faces(frame) if not any(_near(face.eyes, eyes) for eyes in known)]

    def _faces(self, frame: Frame) -> list[Face]:
        if self._seen[0] is not frame:
            faces, partly = read_faces(frame.pixels, self._by, of_video=True)
            self._seen = frame, faces
            if faces and not self._found:
                self._notes += frame_notes(frame.time_sec, partly)
        return self._seen[1]


def _near(eyes: np.ndarray, others: np.ndarray) -> bool:
    apart = np.linalg.norm(eyes.mean(axis=0) - others.mean(axis=0))
    return bool(apart < APART * np.linalg.norm(others[1] - others[0]))
