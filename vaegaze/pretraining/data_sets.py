"""Data sets as a source: persons from an HDF5 file or a folder of one-person files, read a few frames at a time.

HDF5 handles one call at a time and forgets a chunk as soon as its file is closed. So each process keeps a file of its
own open, never across a fork, and a visit to a person reads all the frames that its samples will need, in the file's
order.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from zlib import crc32

import numpy as np

from vaegaze.config.pretrain import AugmentationParams
from vaegaze.data.hdf5 import OpenPerson, RawFrame, StoredFrame
from vaegaze.data.persons import opened_person
from vaegaze.data.safe_hdf5 import opened, safe_group
from vaegaze.data.samples import Samples
from vaegaze.errors import UserError
from vaegaze.geometry.camera import LIDS, SQUARES, Camera
from vaegaze.pretraining.augmentation import augmented
from vaegaze.pretraining.batches import Example, Skipped
from vaegaze.pretraining.mask_jitter import SQUARES_SHARE, jittered_corners

NEEDED = 2  # usable frames of a person: a target and its reference
UNREADABLE = (UserError, OSError, RuntimeError, KeyError, ValueError)  # what a damaged person may raise


class DataSetSource:
    """People in turn, each once per epoch with `frames_per_person` randomly chosen frames."""

    has_gaze = True

    def __init__(
        self,
        path: str,
        persons: tuple[str, ...],
        counts: dict[str, int],
        canvas: Camera,
        *,
        frames_per_person: int,
        entropy: tuple[int, ...],
        buffered: int = 1,
        augmentation: AugmentationParams | None = None,
        first_frames: dict[str, int] | None = None,
    ):
        """`counts` holds every person's samples, `first_frames` where a person's frame numbers begin (default: 0).

        `buffered` is how many persons are kept in memory at a time.
        """
        self.name = self.path = path
        self.persons, self.counts, self.canvas = persons, counts, canvas
        self.frames_per_person, self.entropy, self.buffered = frames_per_person, entropy, buffered
        self.augmentation, self.first_frames = augmentation, first_frames or {}
        self.close()

    def close(self) -> None:
        if getattr(self, "_files", None) is not None:
            self._files.close()
        self._files = self._file = None
        self._visits: OrderedDict[int, Samples] = OrderedDict()
        self._skipped: dict[tuple[str, int | None], Skipped] = {}
        self._reported: set[tuple[str, int | None]] = set()

    def __getstate__(self) -> dict:
        """For worker processes that are spawned, not forked."""
        return {**vars(self), "_files": None, "_file": None}

    def take_skipped(self) -> list[Skipped]:
        new = [each for key, each in self._skipped.items() if key not in self._reported]
        self._reported |= self._skipped.keys()
        return new

    # ------------------------------------------------------------------------------------------------------ examples

    def example(self, visit: int, turn: int, rng: np.random.Generator, gazes: int) -> Example:
        frames = self._visit(visit)
        reference, targets = choose_frames(len(frames), turn, gazes, rng)
        numbers = frames.indices[[*targets, reference]]
        if self.augmentation is not None and not self.augmentation.is_off:
            changed = augmented(frames.take([*targets, reference]), self.augmentation, rng)
            numbers = np.full(len(changed), -1)
            if changed.eye_masks.any(axis=(1, 2)).all():  # else moved out of the canvas
                frames, reference, targets = changed, gazes, range(gazes)
        shown = frames.take(as_slice(targets))
        return Example(
            target=shown.images,
            eye_masks=shown.eye_masks,
            valid=shown.valid,
            gaze=shown.gaze,
            head=shown.head,
            reference=frames.images[reference],
            reference_eye_masks=frames.eye_masks[reference],
            reference_valid=frames.valid[reference],
            frames=numbers,
        )

    def _visit(self, visit: int) -> Samples:
        """The frames of the visit's person, or of the next one in the epoch's order who has enough."""
        if visit in self._visits:
            self._visits.move_to_end(visit)  # whoever has gone unused for longest has left: visits end in any order
            return self._visits[visit]
        epoch, number = divmod(visit, len(self.persons))
        order = epoch_order(len(self.persons), (*self.entropy, epoch))
        for candidate in (*order[number:], *order[:number]):
            person = self.persons[candidate]
            if (person, None) in self._skipped:
                continue
            try:
                frames = self._read(person, np.random.default_rng([*self.entropy, epoch, int(candidate)]))
            except UNREADABLE as error:
                self._skip(person, None, error)
                continue
            self._visits[visit] = frames
            while len(self._visits) > self.buffered:
                self._visits.popitem(last=False)
            return frames
        reason = next(each.reason for each in self._skipped.values())
        raise UserError(f"{self.path}: none of the {len(self.persons)} persons can be used; the first: {reason}")

    def _read(self, person: str, rng: np.random.Generator) -> Samples:
        """`frames_per_person` usable frames in random order, all there are if fewer; frame numbers as indices."""
        with self._opened(person) as stored:
            to_try = rng.permutation(stored.count).tolist()
            read = {}
            while to_try and len(read) < self.frames_per_person:
                missing = self.frames_per_person - len(read)
                rows, to_try = to_try[:missing], to_try[missing:]
                read |= self._frames(stored, person, sorted(rows))
            if len(read) < NEEDED:
                raise UserError(f"{stored.where} has {len(read)} usable frames; at least {NEEDED} are needed")
        rows = rng.permutation(sorted(read))
        columns = zip(*((f.image, f.eye_mask, f.valid, f.gaze, f.head) for f in (read[int(row)] for row in rows)))
        return Samples(*map(np.stack, columns), self.first_frames.get(person, 0) + rows, self.canvas)

    def _frames(self, stored: OpenPerson, person: str, rows: Sequence[int]) -> dict[int, StoredFrame]:
        """The usable ones among these rows."""
        raw, usable = {}, {}
        for row in rows:
            try:
                frame = stored.raw(row)
            except UNREADABLE as error:
                self._skip(person, row, error)
                continue
            if stored.shows_eyes(frame):
                raw[row] = frame
            else:
                self._skip(person, row, UserError(f"{stored.where}, row {row}: the eye mask is empty"))
        for row, frame in zip(raw, self._on_canvas(stored, person, raw)):
            if frame.eye_mask.any():
                usable[row] = frame
            else:
                self._skip(person, row, UserError(f"{stored.where}, row {row}: the eyes are beside the canvas"))
        return usable

    def _on_canvas(self, stored: OpenPerson, person: str, raw: dict[int, RawFrame]) -> list[StoredFrame]:
        """Frames with their masks; a varied one is the frame's own for good, so that its latents may be cached."""
        if self.canvas.eye_masks != LIDS:
            return stored.on_canvas(list(raw.values()), self.canvas) if raw else []
        frames = []
        for row, frame in raw.items():
            rng = np.random.default_rng([crc32(person.encode()), row])
            if rng.random() < SQUARES_SHARE:
                frames += stored.on_canvas([frame], replace(self.canvas, eye_masks=SQUARES))
            else:
                move_corners = partial(jittered_corners, rng=rng)
                frames += stored.on_canvas([frame], self.canvas, move_corners=move_corners)
        return frames

    def _skip(self, person: str, row: int | None, error: Exception) -> None:
        reason = " ".join(str(error).split()) or type(error).__name__
        self._skipped.setdefault((person, row), Skipped(self.name, person, row, reason))

    @contextmanager
    def _opened(self, person: str) -> Iterator[OpenPerson]:
        if len(self.counts) == 1 or (self._file is None and not self._open_file()):
            with opened_person(self.path, person) as (group, where):
                yield OpenPerson(group, where)
        else:
            where = f"{self.path}: person {person!r}"
            yield OpenPerson(safe_group(self._file, person, where), where)

    def _open_file(self) -> bool:
        """Open the file of all persons; False for a folder."""
        if Path(self.path).is_dir():
            return False
        self._files = ExitStack()
        self._file = self._files.enter_context(opened(self.path))
        return True


@lru_cache(maxsize=2)  # an epoch's last visits overlap with the next one's first
def epoch_order(count: int, entropy: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(entropy).permutation(count)


def as_slice(rows: Sequence[int]) -> slice | list[int]:
    """Rows that follow each other as a slice, which takes them without a copy; others as they are."""
    first, end = rows[0], rows[0] + len(rows)
    return slice(first, end) if list(rows) == list(range(first, end)) else list(rows)


def choose_frames(count: int, turn: int, gazes: int, rng: np.random.Generator) -> tuple[int, list[int]]:
    """A turn's reference and its targets, of a visit's `count` frames; no target is the reference.

    One turn after another goes through the frames. Where there are too few, targets are repeated.
    """
    targets = [(turn * gazes + i) % count for i in range(gazes)]
    others = [i for i in range(count) if i not in targets]
    if others:
        return others[int(rng.integers(len(others)))], targets
    reference = targets[-1]
    left = [i for i in dict.fromkeys(targets) if i != reference]
    return reference, [left[i % len(left)] for i in range(gazes)]
