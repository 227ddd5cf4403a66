"""Checksums by which a resumed run finds out whether its data are still the same."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np

from vaegaze.data.hdf5 import opened_samples
from vaegaze.pretraining.data_sets import UNREADABLE
from vaegaze.pretraining.photographs import photograph_files
from vaegaze.pretraining.sources import DataSet, RenderedPersons

SAMPLED = 16  # frames, and photographs, whose content a resumed run compares


def data_checksum(sources: Sequence[RenderedPersons | DataSet], photographs: str | None) -> str:
    """Of who is trained on and who is held out, with their numbers of frames, and of the photographs' names."""
    persons = [
        [[[person, each.split.counts[person]] for person in ids] for ids in (each.split.train, each.split.val)]
        for each in sources
        if isinstance(each, DataSet)
    ]
    names = [path.name for path in photograph_files(photographs)] if photographs else []
    return hashlib.sha256(json.dumps([persons, names]).encode()).hexdigest()


def content_checksum(sources: Sequence[RenderedPersons | DataSet], photographs: str | None) -> str:
    """Of pixels, masks and labels of about SAMPLED frames, at least one of each data set, and of as many photographs.

    The same ones each time. A larger data set may have changed elsewhere: reading all would take too long.
    """
    digest, data_sets = hashlib.sha256(), [each for each in sources if isinstance(each, DataSet)]
    for source in data_sets:
        persons = (*source.split.train, *source.split.val)
        ends = np.cumsum([source.split.counts[person] for person in persons])
        chosen = np.array(_spread(range(ends[-1]), SAMPLED // len(data_sets)))
        for i, of_person in groupby(chosen, key=lambda frame: np.searchsorted(ends, frame, side="right")):
            first = ends[i] - source.split.counts[persons[i]]
            for array in _stored_arrays(source.name, persons[i], [int(frame - first) for frame in of_person]):
                digest.update(str((array.dtype, array.shape)).encode() + array.tobytes())
    for path in _spread(photograph_files(photographs), SAMPLED) if photographs else []:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _spread(items: Sequence, most: int) -> list:
    """So many at most, in their order; drawn at random with a fixed seed."""
    chosen = np.random.default_rng(0).choice(len(items), min(max(1, most), len(items)), replace=False)
    return [items[i] for i in sorted(chosen)]


def _stored_arrays(path: str, person: str, rows: Sequence[int]) -> Iterator[np.ndarray]:
    """What these rows hold; nothing of those that cannot be read, which training skips."""
    try:
        with opened_samples(path, person) as stored:
            for row in rows:
                try:
                    frame = stored.raw(row)
                except UNREADABLE:
                    continue
                yield from (each for each in (frame.pixels, frame.eyes, frame.gaze, frame.head) if each is not None)
    except UNREADABLE:
        return
