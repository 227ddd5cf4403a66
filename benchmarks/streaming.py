"""How fast a large data set is read: samples a second through one worker, against a bare loop over the file.

    python -m benchmarks.streaming

Writes a file of 200,000 frames in upstream's layout: 1,474 persons; every frame is one of 64 rendered ones, compressed
once, its chunk stored again and again, so that the file has the size and the chunks of a real one. Three rates are
measured in turn, several times over: a bare loop of `dataset[i]` over the pixels; one over pixels, parsing and labels,
which is all that a sample needs; and the loader with one worker, masks made and collated into tensors. The two loops
read the same rows in the same random order; the loader draws its own, from as many frames of each person. A frame that
is read counts as one sample.
"""

import argparse
import multiprocessing
import statistics
import time
from pathlib import Path

import h5py
import numpy as np
import torch

from benchmarks.forecast import say_beforehand
from vaegaze.data.upstream_file import create_frames
from vaegaze.files import atomic_path
from vaegaze.geometry.camera import canvas_camera
from vaegaze.pretraining.batches import STRANDS, Batches
from vaegaze.pretraining.data_sets import DataSetSource
from vaegaze.pretraining.splits import read_split
from vaegaze.pretraining.workers import worked_ahead
from vaegaze.renderer import data_set

PERSONS, FRAMES, DIFFERENT = 1_474, 200_000, 64
BATCH, FRAMES_PER_PERSON = 16, 8
MB = 2**20
FRAME_GB = 8.4 / FRAMES  # of 128 px
FRAME_SEC, SAMPLE_SEC = 0.0005, 0.0021  # on Zen 3 and a disk of 90 MB/s; read: docs/performance.md. For the forecast


def write_file(path: Path, size_px: int, frames: int) -> None:
    """Every `DIFFERENT`-th frame is the same, by copying its compressed chunks."""
    counts = np.full(PERSONS, frames // PERSONS)
    counts[: frames % PERSONS] += 1
    person = data_set.person_from_seed(0, 1)
    scenes = [data_set.scene_from_seed(0, 1, i) for i in range(DIFFERENT)]
    with atomic_path(path) as temporary, h5py.File(temporary, "w", libver="latest") as file:
        first = file.create_group("first")
        stored = create_frames(first, DIFFERENT, size_px)
        for i, scene in enumerate(scenes):
            rendering = data_set.render(person, scene, canvas_camera(size_px))
            stored[0][i], stored[1][i] = rendering.image, rendering.face_parsing
        chunks = [
            [each.id.read_direct_chunk((i, *(0,) * (each.ndim - 1))) for i in range(DIFFERENT)] for each in stored
        ]
        labels = np.stack([data_set.labels(person, scene) for scene in scenes])
        number = 0
        for index, count in enumerate(counts.tolist()):
            group = file.create_group(f"{index:05d}")
            group.create_dataset("labels", data=labels[np.arange(number, number + count) % DIFFERENT])
            for dataset, compressed in zip(create_frames(group, count, size_px), chunks):
                for row in range(count):
                    mask, chunk = compressed[(number + row) % DIFFERENT]
                    dataset.id.write_direct_chunk((row, *(0,) * (dataset.ndim - 1)), chunk, mask)
            number += count
        del file["first"]


def bare_loop(path: Path, rows: list[tuple[str, int]], keys: tuple[str, ...]) -> float:
    """Samples a second of `dataset[i]`."""
    with h5py.File(path, "r") as file:
        datasets = {}
        started = time.perf_counter()
        for person, row in rows:
            if person not in datasets:
                datasets = {person: [file[person][key] for key in keys]}
            for dataset in datasets[person]:
                dataset[row]
        return len(rows) / (time.perf_counter() - started)


def loader(path: Path, size_px: int, steps: int) -> tuple[float, float]:
    """Frames a second through one worker, and its memory in MB."""
    split = read_split(path, "share", val_share=0.05, seed=0)
    source = DataSetSource(
        str(path), split.train, dict(split.counts), canvas_camera(size_px),
        frames_per_person=FRAMES_PER_PERSON, entropy=(0, 1), buffered=12 * BATCH,
    )  # fmt: skip
    batches = Batches((source,), (1.0,), (0, 1), BATCH, gazes=1, turns=FRAMES_PER_PERSON)
    others = {child.pid for child in multiprocessing.active_children()}
    loaded = worked_ahead(batches, range(10**6), 1, pinned=False)
    for _ in range(STRANDS * FRAMES_PER_PERSON):  # the buffer fills, and people begin to change one by one
        next(loaded)
    started = time.perf_counter()
    for _ in range(steps):
        assert next(loaded).target.shape == (BATCH, size_px, size_px, 3)
    rate = steps * BATCH / (time.perf_counter() - started)
    (worker,) = {child.pid for child in multiprocessing.active_children()} - others
    return rate, peak_memory_mb(worker)


def peak_memory_mb(process: int) -> float:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--file", type=Path, default=Path("./outputs/streaming.h5"), help="written if it is missing")
    parser.add_argument("--size", type=int, default=128, help="of the frames, px")
    parser.add_argument("--frames", type=int, default=FRAMES)
    parser.add_argument("--steps", type=int, default=150, help=f"batches of {BATCH} samples in each measurement")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args(argv)
    written = 0 if args.file.exists() else args.frames
    gigabytes = written * FRAME_GB * (args.size / 128) ** 2
    samples = args.rounds * args.steps * BATCH
    say_beforehand(
        f"{written:,} frames written ({gigabytes:.1f} GB), {samples:,} samples read in 3 ways",
        written * FRAME_SEC * (args.size / 128) ** 2 + samples * SAMPLE_SEC,
    )
    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)
    if not args.file.exists():
        write_file(args.file, args.size, args.frames)
    print(f"{args.file}: {args.frames:,} frames of {args.size} px, {args.file.stat().st_size / 2**30:.1f} GB")

    started = time.perf_counter()
    split = read_split(args.file, "auto", val_share=0.05, seed=0)
    print(f"start-up, ids, counts and split of {len(split.counts):,} persons: {time.perf_counter() - started:.2f} s")
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(args.steps * BATCH // FRAMES_PER_PERSON):
        person = split.train[rng.integers(len(split.train))]
        rows += [(person, int(row)) for row in sorted(rng.permutation(split.counts[person])[:FRAMES_PER_PERSON])]

    bare_loop(args.file, rows, ("pixels",))  # the file is in the system's cache for all of them
    rates = {"dataset[i], pixels alone": [], "dataset[i], pixels, parsing, labels": [], "one worker": []}
    for _ in range(args.rounds):
        pixels, whole, (streamed, memory_mb) = (
            bare_loop(args.file, rows, ("pixels",)),
            bare_loop(args.file, rows, ("pixels", "face_parsing", "labels")),
            loader(args.file, args.size, args.steps),
        )
        for series, rate in zip(rates.values(), (pixels, whole, streamed)):
            series.append(rate)
    for name, series in rates.items():
        print(f"{name:38} {statistics.median(series):8.0f} samples/s")
    pixels, whole, streamed = map(statistics.median, rates.values())
    print(f"one worker / bare loop: {streamed / pixels:.2f} of pixels alone, {streamed / whole:.2f} of the same data")
    print(f"one worker / a loop that reads each sample's target and reference: {2 * streamed / whole:.2f}")
    print(f"memory of the worker: {memory_mb:.0f} MB")


if __name__ == "__main__":
    main()
