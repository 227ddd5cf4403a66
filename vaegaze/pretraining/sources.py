"""The sources that the settings name, each with the persons to train on and those held out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path

import numpy as np
import torch

from vaegaze.config.pretrain import HELD_OUT_BATCH, RENDERED, PretrainParams
from vaegaze.data.hdf5 import opened_samples
from vaegaze.data.persons import files_of, same_file
from vaegaze.data.samples import ALIKE_RAD
from vaegaze.errors import UserError, plain
from vaegaze.geometry.camera import Camera
from vaegaze.pretraining.batches import (
    CYCLE,
    Batch,
    Batches,
    NumberedCrops,
    Skipped,
    Source,
    live_visits,
    weighted_cycle,
)
from vaegaze.pretraining.data_sets import DataSetSource
from vaegaze.pretraining.losses import texture_loss
from vaegaze.pretraining.phases import Phase
from vaegaze.pretraining.photographs import CropBatches
from vaegaze.pretraining.rendered import RenderedSource
from vaegaze.pretraining.splits import Split, read_split

HELD_OUT_STREAM = 99  # apart from the phases' numbers
WITHOUT = "without readable images or labels"
COMPARED, NAMED = 3, 3  # persons of two data sets whose labels are compared, and who are named


@dataclass(frozen=True)
class RenderedPersons:
    """The rendered world."""

    params: PretrainParams
    name: str = RENDERED

    def describe(self) -> str:
        return f"{self.name}: {self.params.persons:,} people to choose from; those held out come from another seed"

    def train(self, canvas: Camera, phase: Phase, first_frame: int) -> Source:
        return replace(self._source(canvas), photographic=phase.photographic)

    def held_out(self, canvas: Camera) -> Source:
        return self._source(canvas, "val")

    def _source(self, canvas: Camera, split: str = "train") -> RenderedSource:
        params = self.params
        return RenderedSource(
            canvas,
            params.seed,
            params.persons,
            params.samples_per_person,
            split,
            same_frame=params.same_frame_reference,
        )


@dataclass(frozen=True)
class DataSet:
    """A data set and its split."""

    params: PretrainParams
    name: str  # its path
    split: Split

    def describe(self) -> str:
        """Persons and frames by split, and persons left out."""
        split = self.split
        groups = [(name, getattr(split, name)) for name in ("train", "val", "test")]
        counted = [
            f"{name} {len(ids):,} persons, {sum(split.counts[i] for i in ids):,} frames" for name, ids in groups if ids
        ]
        unused = [(split.empty, WITHOUT), (split.unlisted, "in no split")]
        left = [
            f"{len(ids)} {why} ({', '.join(map(plain, ids[:3]))}{' …' * (len(ids) > 3)})" for ids, why in unused if ids
        ]
        return f"{self.name}: " + "; ".join([*counted, f"split from {split.source}", *left])

    @property
    def empty(self) -> list[Skipped]:
        return [Skipped(self.name, person, None, WITHOUT) for person in self.split.empty]

    @property
    def train_frames(self) -> int:
        return sum(self.split.counts[person] for person in self.split.train)

    def train(self, canvas: Camera, phase: Phase, first_frame: int) -> Source:
        """Its frames are numbered from `first_frame` on."""
        return self._source(
            canvas,
            self.split.train,
            first_frame,
            entropy=(self.params.seed, phase.number),
            frames_per_person=self.params.frames_per_person,
            buffered=live_visits(phase.batch_size, self.params.workers),
            augmentation=self.params.augmentation,
        )

    def held_out(self, canvas: Camera) -> Source:
        entropy = (self.params.seed, HELD_OUT_STREAM)
        return self._source(canvas, self.split.val, 0, entropy=entropy, frames_per_person=2)

    def _source(self, canvas: Camera, persons: tuple[str, ...], first_frame: int, **settings) -> DataSetSource:
        counts, first_frames = dict(self.split.counts), {}
        for person in persons:
            first_frames[person] = first_frame
            first_frame += counts[person]
        return DataSetSource(self.name, persons, counts, canvas, first_frames=first_frames, **settings)


def open_sources(params: PretrainParams) -> list[RenderedPersons | DataSet]:
    """Counts persons and splits them; reads no frame. UserError for a path that is not a data set, or a wrong split.

    And for a file in two sources, whose persons one may hold out and the other train on; and for a weight so small that
    its source would never be drawn.
    """
    _refuse_lost_sources(params)
    source_of: dict[tuple[int, int] | Path, str] = {}
    for name in params.sources:
        for file in files_of(name) if name != RENDERED else ():
            if (other := source_of.setdefault(same_file(file), name)) != name:
                raise UserError(f"sources: {other} and {name} are, or hold, the same file; name it once")
    return [
        RenderedPersons(params)
        if name == RENDERED
        else DataSet(params, name, read_split(name, params.split_of(i), val_share=params.val_share, seed=params.seed))
        for i, name in enumerate(params.sources)
    ]


def _refuse_lost_sources(params: PretrainParams) -> None:
    weights = params.weights_of_sources
    drawn = weighted_cycle(weights)
    for i, name in enumerate(params.sources):
        if i not in drawn:
            raise UserError(
                f"source_weights: {name} has {weights[i] / sum(weights):.2%} of the samples, so little that none of it "
                f"would be drawn; give each source at least {1 / CYCLE:.0%}"
            )


def held_out_elsewhere(sources: Sequence[RenderedPersons | DataSet]) -> list[str]:
    """A line for two data sets if one holds persons out and the other, as a copy of them has it, trains on these."""
    lines = []
    for one, other in permutations([each for each in sources if isinstance(each, DataSet)], 2):
        trained = set(other.split.train)
        shared = [person for person in (*one.split.val, *one.split.test) if person in trained]
        if any(_have_equal_labels(one.name, other.name, person) for person in shared[:COMPARED]):
            named = ", ".join(map(plain, shared[:NAMED])) + " …" * (len(shared) > NAMED)
            lines.append(
                plain(f"⚠️ {other.name} trains on {len(shared)} persons whom {one.name} holds out ({named}): ")
                + "give both the same split"
            )
    return lines


def _have_equal_labels(path: str, other_path: str, person: str) -> bool:
    """Whether the person's first sample has the same labels in two data sets."""
    angles = []
    for each in (path, other_path):
        try:
            with opened_samples(each, person) as stored:
                angles.append(np.concatenate(stored.labels(0)))
        except UserError:
            return False
    return bool(abs(angles[0] - angles[1]).max() < ALIKE_RAD)


@dataclass(frozen=True)
class HeldOut:
    """Frames of people who are never trained on; they depend on the seed alone."""

    source: str
    batches: list[Batch]

    @property
    def drawn(self) -> int:
        """How many targets are measured."""
        return sum(len(batch.target) for batch in self.batches)

    @property
    def different(self) -> int:
        """How many of them are different frames: few persons, or persons with few frames, are drawn repeatedly."""
        numbers = [number for batch in self.batches for number in batch.frames[:, :-1].flatten().tolist()]
        return len({number for number in numbers if number >= 0}) + numbers.count(-1)


def measured_on(held_out: Sequence["HeldOut"]) -> str:
    """In words: the number of frames measured, and how many of them are different."""
    drawn, different = (sum(getattr(each, name) for each in held_out) for name in ("drawn", "different"))
    return f"{drawn} held-out frames" + (f", {different} of them different," if different < drawn else "")


def held_out_frames(
    sources: Sequence[RenderedPersons | DataSet], params: PretrainParams, canvas: Camera, device: torch.device
) -> tuple[list[HeldOut], list[Skipped]]:
    """`held_out` frames, divided among the sources, and the frames and persons that were skipped.

    If a data set has few held-out people, each contributes several frames. UserError if none can be used.
    """
    frames = max(1, params.held_out // HELD_OUT_BATCH // len(sources))
    held_out, skipped = [], []
    for source in sources:
        opened = source.held_out(canvas)
        entropy = (params.seed, HELD_OUT_STREAM)
        batches = Batches((opened,), (1.0,), entropy, HELD_OUT_BATCH, drop_reference=params.drop_reference)
        stored = [batches.batch(i) for i in range(frames)]
        opened.close()
        held_out.append(HeldOut(source.name, [each.to(device) for each in stored]))
        skipped += [each for batch in stored for each in batch.skipped]
    return held_out, skipped


def phase_batches(
    sources: Sequence[RenderedPersons | DataSet],
    params: PretrainParams,
    canvas: Camera,
    phase: Phase,
    *,
    process: int = 0,
    processes: int = 1,
) -> Batches | NumberedCrops:
    """One process's batches of a phase; each step takes `accumulation` of them."""
    if phase.loss is texture_loss:
        entropy = (params.seed, phase.number, process)
        counts = 2 * phase.batch_size, phase.batch_size  # as many crops of photographs as of rendered eyes
        drawn = (params.seed, params.persons, params.samples_per_person)
        return NumberedCrops(CropBatches(params.photographs, entropy, params.crop_px, *counts, *drawn), entropy)
    return person_batches(
        sources,
        params,
        canvas,
        phase,
        phase.batch_size,
        gazes=phase.gazes,
        turns=max(1, params.frames_per_person // phase.gazes),
        drop_reference=params.drop_reference,
        process=process,
        processes=processes,
    )


def person_batches(
    sources: Sequence[RenderedPersons | DataSet],
    params: PretrainParams,
    canvas: Camera,
    phase: Phase,
    persons: int,
    **settings,
) -> Batches:
    """Batches of so many train persons, as the phase sees them."""
    firsts = np.cumsum([0, *(getattr(source, "train_frames", 0) for source in sources)]).tolist()
    return Batches(
        tuple(source.train(canvas, phase, first) for source, first in zip(sources, firsts)),
        params.weights_of_sources,
        (params.seed, phase.number),
        persons,
        **settings,
    )
