"""How long it takes to choose a person in a file of GazeCapture's size, and to read their samples.

    python -m benchmarks.person_loading

Makes such a file in a temporary folder: 1,474 persons, one of them with 2,500 samples of 256 px, each a chunk of its
own, compressed, as the published files are. Medians of several rounds; the last line is one JSON object.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from vaegaze.data import hdf5
from vaegaze.data.selection import choose_person, choose_samples
from vaegaze.geometry.camera import canvas_camera
from vaegaze.renderer import data_set as synthetic

PERSONS, SIZE_PX = 1474, 256  # GazeCapture's
RENDERED = 24  # different pictures, repeated: the time to unpack a picture depends on what it shows
SEED = 0


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--persons", type=int, default=PERSONS, help="groups in the file (default: %(default)s)")
    parser.add_argument("--samples", type=int, default=2500, help="of the person read (default: %(default)s)")
    parser.add_argument("--num_samples", type=int, default=30, help="that are read (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="of which the median counts (default: %(default)s)")
    given = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gazecapture.h5"
        person_id = write_file(path, given.persons, given.samples)
        numbers = measure(path, person_id, given.num_samples, given.rounds)
    rows = {
        "choose a person": numbers["choose_sec"],
        "count their samples": numbers["count_sec"],
        "read the samples onto the canvas": numbers["read_sec"],
        "of which h5py, row by row": numbers["rows_sec"],
        "h5py's fancy indexing instead": numbers["fancy_indexing_sec"],
    }
    print(f"{given.persons} persons; {given.num_samples} of {given.samples} samples of {SIZE_PX} px\n")
    for what, seconds in rows.items():
        print(f"  {what:<34}{seconds:>8.3f} s")
    print(json.dumps(numbers))
    return 0


def write_file(path: Path, persons: int, samples: int) -> str:
    """A file in ST-ED's layout at 256 px; returns the person who has pictures. The others' were never written."""
    someone = synthetic.person_from_seed(SEED, 1)
    scenes = [synthetic.scene_from_seed(SEED, 1, number) for number in range(RENDERED)]
    images = np.stack([synthetic.render(someone, scene, canvas_camera(SIZE_PX)).image for scene in scenes])
    labels = np.stack([synthetic.labels(someone, scene) for scene in scenes])
    person_id = f"{persons // 2:05d}"
    with h5py.File(path, "w") as file:
        for number in range(persons):
            group, count = file.create_group(f"{number:05d}"), samples if number == persons // 2 else 40
            chunks = (1, SIZE_PX, SIZE_PX, 3)
            pixels = group.create_dataset(
                "pixels", (count, SIZE_PX, SIZE_PX, 3), np.uint8, chunks=chunks, compression="lzf"
            )
            stored = group.create_dataset("labels", (count, 4), np.float32, chunks=(1, 4), compression="lzf")
            if group.name == f"/{person_id}":
                for row in range(count):
                    pixels[row], stored[row] = images[row % RENDERED], labels[row % RENDERED, :4]
    return person_id


def measure(path: Path, person_id: str, num_samples: int, rounds: int) -> dict[str, float]:
    """Median seconds of each part, all parts in every round."""
    rows, _ = choose_samples(hdf5.sample_count(path, person_id), num_samples, 0, SEED)

    def row_by_row() -> None:
        with h5py.File(path) as file:
            for row in rows:
                file[person_id]["pixels"][row]

    def fancy_indexing() -> None:
        with h5py.File(path) as file:
            file[person_id]["pixels"][rows]

    parts: dict[str, Callable] = {
        "choose_sec": lambda: choose_person(hdf5.person_counts(path), num_samples, SEED),
        "count_sec": lambda: hdf5.sample_count(path, person_id),
        "read_sec": lambda: hdf5.read_person(path, person_id, rows, canvas_camera(SIZE_PX)),
        "rows_sec": row_by_row,
        "fancy_indexing_sec": fancy_indexing,
    }
    seconds = {name: [] for name in parts}
    for _ in range(rounds):
        for name, part in parts.items():
            started = time.perf_counter()
            part()
            seconds[name].append(time.perf_counter() - started)
    return {name: round(statistics.median(taken), 4) for name, taken in seconds.items()}


if __name__ == "__main__":
    sys.exit(main())
