"""How a person is stored in a data set, without reading a pixel."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vaegaze.data import hdf5
from vaegaze.data.layouts import Layout


@dataclass(frozen=True)
class PersonFacts:
    """How a person's samples are stored, and the labels of K of them."""

    layout: Layout
    frame_hw: tuple[int, int]
    pixel_type: np.dtype
    mask_keys: tuple[str, ...]
    chunks: dict[str, tuple[int, ...] | None]  # of each dataset that is read; None where it lies in one piece
    rows: np.ndarray  # (K,)
    gaze: np.ndarray  # (K, 2) pitch, yaw in radians, as `Samples` has them
    head: np.ndarray  # (K, 2) the same
    left_out: list[int]  # rows that were looked at too, whose labels are not finite


def describe_person(path: str | Path, person_id: str, at_most: int) -> PersonFacts:
    """Looks at how a person is stored, and at the labels of at most so many samples, evenly spread.

    Rows whose labels are not finite are left out; UserError if that is each of them, else as for `hdf5.read_person`,
    but no pixel is read.
    """
    with hdf5.opened_samples(path, person_id) as person:
        spread = hdf5.evenly_spread(person.count, at_most)
        rows = [row for row in spread.tolist() if person.has_angles(row)] or spread[:1].tolist()
        gaze, head = map(np.stack, zip(*map(person.labels, rows)))
        layout, datasets = person.layout, person.datasets
        read = (layout.images_key, layout.gaze.key, layout.head.key, *person.mask_keys)
        chunks = {key: datasets[key].chunks for key in dict.fromkeys(read)}
        return PersonFacts(
            layout,
            person.frame_hw,
            datasets[layout.images_key].dtype,
            person.mask_keys,
            chunks,
            np.array(rows),
            gaze,
            head,
            person.left_out,
        )
