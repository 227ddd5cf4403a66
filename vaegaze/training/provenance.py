"""Which frames a checkpoint was fine-tuned on, identified by checksums stored in it.

A frame's checksum covers its row and its labels, not its pixels, which may differ by a level where another machine has
rendered or decoded them.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vaegaze.data import hdf5
from vaegaze.data.samples import Samples
from vaegaze.errors import plain
from vaegaze.files import as_spelt
from vaegaze.models.checkpoint import Checkpoint, Reference

CHECKSUMS = "trained_checksums"  # in a checkpoint's info: sample index → checksum
REFERENCE_INDEX = "reference_index"  # likewise: which sample the first reference frame is
LABEL_STEP_RAD = 1e-4  # angles are rounded to this: the last bits of a float are no other label
SAME_PIXELS = 1  # of 255: how far the same frame may be off on another machine


def frame_checksums(samples: Samples) -> dict[int, str]:
    """Sample index → 16 hexadecimal digits, for each of the samples."""
    angles = np.rint(np.concatenate([samples.gaze, samples.head], axis=1) / LABEL_STEP_RAD).astype(np.int64)  # (N, 4)
    return {
        int(index): hashlib.sha256(np.array([index, *row], dtype="<i8").tobytes()).hexdigest()[:16]
        for index, row in zip(samples.indices, angles)
    }


def fine_tuning_info(
    name: str, samples: Samples, references: Sequence[Reference], steps: int, before: dict | None = None
) -> dict:
    """What fine-tuning on these samples of a person adds to a checkpoint's info.

    `before` is the info of a base that was fine-tuned on the same person already: its frames count as trained, too.
    """
    before = before or {}
    info = {
        "fine_tuned_on": name,
        "fine_tuned_steps": steps,
        "trained_indices": sorted({*before.get("trained_indices", ()), *samples.indices.tolist()}),
        CHECKSUMS: {**stored_checksums(before), **frame_checksums(samples)},
    }
    if references:
        row = next(row for row, image in enumerate(samples.images) if np.array_equal(image, references[0].image))
        info[REFERENCE_INDEX] = int(samples.indices[row])
    return info


def stored_checksums(info: dict) -> dict[int, str]:
    """Sample index → checksum of the frames that a checkpoint with this `info` was last fine-tuned on."""
    stored = info.get(CHECKSUMS)
    return stored if isinstance(stored, dict) else {}  # a foreign file may hold anything


def were_trained(info: dict, samples: Samples) -> np.ndarray:
    """(N,) bool: which samples of a person a model fine-tuned on that person was trained on, by its `info`.

    By checksums, or, in a checkpoint of an older version, by sample indices.
    """
    stored = stored_checksums(info)
    if not stored:
        return np.isin(samples.indices, list(info.get("trained_indices", ())))
    sums = frame_checksums(samples)
    return np.array([stored.get(index) == sums[index] for index in samples.indices.tolist()], dtype=bool)


def count_trained(info: dict, samples: Samples) -> int:
    """How many of these samples `were_trained` on."""
    return int(were_trained(info, samples).sum())


def fine_tuned_on(checkpoint: Checkpoint, path: str | Path, person_id: str) -> tuple[bool, list[str]]:
    """Whether the model was fine-tuned on this person of this data set; and notes to show the user.

    Another data set may use the same id, so one trained frame is read and compared: its checksum, and its pixels if it
    is a reference frame. A checkpoint without checksums, written by an older version, is judged by the id alone.
    """
    info, stored = checkpoint.info, stored_checksums(checkpoint.info)
    name = info.get("fine_tuned_on")
    if name is None:
        return False, []
    if name != as_spelt(person_id, [str(name)]):
        return False, [plain(f"⚠️ The model was fine-tuned on {name}, not on {person_id}")]
    if not stored:
        return True, [plain(f"⚠️ The checkpoint has no checksums: {path} is taken for the data of {name}, by the id")]
    if _has_trained_frame(checkpoint, stored, path, person_id):
        return True, []
    return False, [plain(f"⚠️ The model was fine-tuned on another {name} than that of {path}")]


def _has_trained_frame(checkpoint: Checkpoint, stored: dict[int, str], path: str | Path, person_id: str) -> bool:
    references = checkpoint.references
    index = checkpoint.info.get(REFERENCE_INDEX) if references else next(iter(stored))
    with hdf5.opened_samples(path, person_id) as person:
        if type(index) is not int or not 0 <= index < person.count or not person.has_angles(index):
            return False
    samples = hdf5.read_person(path, person_id, [index], checkpoint.model.canvas).samples
    if frame_checksums(samples)[index] != stored.get(index):
        return False
    return not references or np.abs(samples.images[0].astype(int) - references[0].image).max() <= SAME_PIXELS
