"""Reference frames: which frame of a person the model draws from."""

from pathlib import Path

import numpy as np

from vaegaze.data import hdf5
from vaegaze.data.samples import Samples
from vaegaze.geometry.camera import Camera
from vaegaze.models.checkpoint import Reference

REFERENCE_POOL = 32  # frames of a person the model was not fine-tuned on, to choose a reference from


def choose_references(samples: Samples) -> list[Reference]:
    """The most frontal frame, and the next most frontal one, which serves the first as its own reference.

    Empty if all frames are the same: copying the answer from the reference would teach nothing.
    """
    first, *others = np.argsort(np.linalg.norm(samples.head, axis=1), kind="stable")
    second = next((i for i in others if not np.array_equal(samples.images[i], samples.images[first])), None)
    if second is None:
        return []
    return [Reference(samples.images[i], samples.gaze[i], samples.head[i]) for i in (first, second)]


def own_references(own: Reference | None, samples: Samples) -> list[Reference]:
    """The reference frame a model was fine-tuned with, and a substitute for measuring on that frame itself."""
    if own is None:  # fine-tuned on a single frame
        return []
    others = [other for other in choose_references(samples) if not np.array_equal(other.image, own.image)]
    return [own, *others[:1]]


def references_of(path: str | Path, person_id: str, canvas: Camera) -> list[Reference]:
    """References for a person the model was not fine-tuned on, out of frames spread over all of theirs."""
    rows = hdf5.evenly_spread(hdf5.sample_count(path, person_id), REFERENCE_POOL)
    return choose_references(hdf5.read_person(path, person_id, rows, canvas).samples)
