"""Reference frames: which frames of a person a model keeps, and which of them a picture is drawn from."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vaegaze.data import hdf5
from vaegaze.data.samples import Samples
from vaegaze.geometry.camera import Camera
from vaegaze.models.checkpoint import MAX_REFERENCES, Reference

REFERENCE_POOL = 32  # frames of a person the model was not fine-tuned on, to choose references from
MOST_CANDIDATES = 512  # of a person's training frames
LIGHT_RAD = 1.0  # turn of the head that counts as much as the step from black to white


def choose_references(samples: Samples, *, sole: bool = False) -> list[Reference]:
    """At most MAX_REFERENCES of the frames, see `reference_rows`."""
    return references_at(samples, reference_rows(samples, sole=sole))


def references_at(samples: Samples, rows: Sequence[int]) -> list[Reference]:
    return [Reference(samples.images[row], samples.gaze[row], samples.head[row]) for row in rows]


def reference_rows(samples: Samples, *, sole: bool = False) -> list[int]:
    """The most frontal frame, then one after the other the frame that brings all others nearest to a reference.

    Where all frames are the same there is none, for the model would learn to copy it; or with `sole` that one, which is
    right beside replayed persons, who must not be copied.
    """
    different: dict[bytes, int] = {}
    for row, image in enumerate(samples.images):
        different.setdefault(hashlib.sha256(np.ascontiguousarray(image)).digest(), row)
    if len(different) < 2:
        return [0] if sole and len(samples) else []
    rows = list(different.values())
    first = rows[int(np.argmin(np.linalg.norm(samples.head[rows], axis=1)))]
    candidates = [rows[i] for i in hdf5.evenly_spread(len(rows), MOST_CANDIDATES)]
    traits = _traits(samples.images, samples.head)
    distances = np.stack([np.linalg.norm(traits - traits[row], axis=1) for row in candidates])  # (candidates, N)
    chosen, nearest = [first], np.linalg.norm(traits - traits[first], axis=1)
    while len(chosen) < min(MAX_REFERENCES, len(rows)):
        left = [i for i, row in enumerate(candidates) if row not in chosen]
        best = left[int(np.argmin(np.minimum(distances[left], nearest).mean(axis=1)))]
        chosen.append(candidates[best])
        nearest = np.minimum(nearest, distances[best])
    return chosen


def nearest_reference(references: Sequence[Reference], image: np.ndarray, head: np.ndarray) -> Reference | None:
    """The reference most like a picture (H, W, 3) uint8 with a head (2,); never that picture itself.

    Alike is what has the same head pose and, of heads much the same, the same light. None if no other is left.
    """
    others = [each for each in references if not np.array_equal(each.image, image)]
    return others[int(np.argmin(reference_distances(others, image, head)))] if others else None


def reference_distances(references: Sequence[Reference], image: np.ndarray, head: np.ndarray) -> np.ndarray:
    """How unlike each of the references is to a picture, in radians."""
    theirs = _traits([each.image for each in references], [each.head for each in references])
    return np.linalg.norm(theirs - _traits([image], [head]), axis=1)


def _traits(images: Sequence[np.ndarray], heads: Sequence[np.ndarray]) -> np.ndarray:
    """(N, 5): the head's pitch and yaw, and the mean colour, all in radians of head turn."""
    light = np.array([image.reshape(-1, 3).sum(axis=0, dtype=np.int64) / (image.size // 3 * 255) for image in images])
    return np.concatenate([np.asarray(heads, dtype=np.float64), LIGHT_RAD / np.sqrt(3) * light], axis=1)


def spare_reference(references: Sequence[Reference], samples: Samples) -> Reference | None:
    """What a model's only reference frame is itself drawn from: the most frontal of the other frames, else itself.

    None for a model with several references, each of which is drawn from another.
    """
    if len(references) != 1:
        return None
    frontal = np.argsort(np.linalg.norm(samples.head, axis=1), kind="stable")
    row = next((row for row in frontal if not np.array_equal(samples.images[row], references[0].image)), None)
    return references[0] if row is None else references_at(samples, [row])[0]


def references_of(path: str | Path, person_id: str, canvas: Camera) -> list[Reference]:
    """References for a person the model was not fine-tuned on, out of frames spread over all of theirs."""
    with hdf5.opened_samples(path, person_id) as stored:
        rows = list(filter(stored.has_angles, hdf5.evenly_spread(stored.count, REFERENCE_POOL).tolist()))
    if not rows:
        return []
    return choose_references(hdf5.read_person(path, person_id, rows, canvas).samples)
