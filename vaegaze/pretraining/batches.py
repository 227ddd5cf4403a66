"""Batches for pre-training, each a pure function of the seed, the phase and the step."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vaegaze.errors import UserError

EYE_BAND = (6, 70)  # rows of 128 that hold both eyes at every head pose
STRANDS = 12  # consecutive steps with different people; the workers share them out


@dataclass(frozen=True)
class Example:
    """One person: G targets, and another frame as reference. As stored: pixels are uint8, masks bool."""

    target: np.ndarray  # (G, H, W, 3)
    eye_masks: np.ndarray  # (G, H, W)
    valid: np.ndarray  # (G, H, W), False where the source shows nothing
    gaze: np.ndarray  # (G, 2) float32 pitch, yaw in radians
    head: np.ndarray  # (G, 2) float32 pitch, yaw in radians
    reference: np.ndarray  # (H, W, 3)
    reference_eye_masks: np.ndarray  # (H, W)
    reference_valid: np.ndarray  # (H, W)
    frames: np.ndarray  # (G + 1,) int64, indices of these frames in the source, the reference last; −1: not from a file


@dataclass(frozen=True)
class Skipped:
    """A frame that cannot be used, or a person (row None)."""

    source: str
    person: str
    row: int | None
    reason: str


class Source(Protocol):
    """Where examples come from. A `visit` number selects a person for several steps; `turn` counts those steps."""

    name: str
    has_gaze: bool  # without gaze it can train the autoencoder alone

    def example(self, visit: int, turn: int, rng: np.random.Generator, gazes: int) -> Example:
        """Depends on the arguments alone."""

    def take_skipped(self) -> list[Skipped]:
        """What turned out to be unusable since the last call."""

    def close(self) -> None:
        """Close the files: none may be open when processes fork."""


@dataclass(frozen=True)
class Batch:
    """Frames of P persons on the device, G targets of each."""

    target: Tensor  # (P·G, 3, H, W) in [−1, 1]; the G of a person follow each other
    eye_masks: Tensor  # (P·G, 1, H, W) in {0, 1}
    valid: Tensor  # (P·G, 1, H, W) in {0, 1}
    gaze: Tensor  # (P·G, 2) pitch, yaw in radians
    head: Tensor  # (P·G, 2) pitch, yaw in radians
    reference: Tensor  # (P, 3, H, W) in [−1, 1]
    reference_eye_masks: Tensor  # (P, 1, H, W) in {0, 1}
    reference_valid: Tensor  # (P, 1, H, W) in {0, 1}
    keep_reference: Tensor  # (P, 1, 1, 1) in {0, 1}; 0 drops the reference
    noise_seeds: tuple[int, ...]  # (P,), of the autoencoder's noise
    frames: Tensor | None = None  # (P, G + 1) int64 on the CPU, see Example

    def eye_band(self) -> "Batch":
        """The batch cropped to the band around the eyes, of half the height; unless square, pictures stay whole."""
        if self.target.shape[-1] != self.target.shape[-2]:
            return self
        rows = slice(*(edge * self.target.shape[-2] // 128 for edge in EYE_BAND))
        pictures = ("target", "eye_masks", "valid", "reference", "reference_eye_masks", "reference_valid")
        return replace(self, **{name: getattr(self, name)[:, :, rows] for name in pictures})


@dataclass(frozen=True)
class Crops:
    """Pictures for the autoencoder alone."""

    pictures: Tensor  # (N, 3, S, S) in [−1, 1]
    noise_seeds: tuple[int, ...]  # (N,)
    skipped: tuple[Skipped, ...] = ()

    def pin_memory(self) -> "Crops":
        return replace(self, pictures=self.pictures.pin_memory())

    def to(self, device: torch.device) -> "Crops":
        return replace(self, pictures=self.pictures.to(device, non_blocking=True))


@dataclass(frozen=True)
class NumberedCrops(Dataset):
    """Item `step` is that step's crops of one process, with the seeds of the autoencoder's noise."""

    crops: Dataset
    entropy: tuple[int, ...]

    def __getitem__(self, step: int) -> Crops:
        pictures = self.crops[step]
        seeds = np.random.default_rng([*self.entropy, step, 1]).integers(2**62, size=len(pictures))
        return Crops(pictures, tuple(seeds.tolist()))

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class StoredBatch:
    """A batch as the workers hand it over: a quarter of the bytes."""

    target: Tensor  # (P·G, H, W, 3) uint8
    eye_masks: Tensor  # (P·G, H, W) bool
    valid: Tensor
    gaze: Tensor  # (P·G, 2)
    head: Tensor
    reference: Tensor  # (P, H, W, 3) uint8
    reference_eye_masks: Tensor
    reference_valid: Tensor
    keep_reference: Tensor  # (P,) bool
    noise_seeds: Tensor  # (P,) int64
    frames: Tensor  # (P, G + 1) int64
    skipped: list[Skipped] = field(default_factory=list)

    def tensors(self) -> dict[str, Tensor]:
        return {each.name: value for each in fields(self) if isinstance(value := getattr(self, each.name), Tensor)}

    def pin_memory(self) -> "StoredBatch":
        return self.copied(pinned=True, skipped=self.skipped)

    def copied(self, *, pinned: bool, skipped: list[Skipped]) -> "StoredBatch":
        copies = {name: tensor.pin_memory() if pinned else tensor.clone() for name, tensor in self.tensors().items()}
        return replace(self, **copies, skipped=skipped)

    def share_memory(self) -> "StoredBatch":
        """Moves the tensors to memory that other processes can see."""
        for tensor in self.tensors().values():
            tensor.share_memory_()
        return self

    def to(self, device: torch.device) -> Batch:
        """Copied without waiting, and made floats there."""

        def pictures(pixels: Tensor) -> Tensor:
            floats = pixels.to(device, non_blocking=True).permute(0, 3, 1, 2).float()
            return floats.div_(127.5).sub_(1.0)  # (B, 3, H, W); channels last in memory

        def masks(mask: Tensor) -> Tensor:
            return mask.to(device, non_blocking=True)[:, None].float()

        return Batch(
            target=pictures(self.target),
            eye_masks=masks(self.eye_masks),
            valid=masks(self.valid),
            gaze=self.gaze.to(device, non_blocking=True),
            head=self.head.to(device, non_blocking=True),
            reference=pictures(self.reference),
            reference_eye_masks=masks(self.reference_eye_masks),
            reference_valid=masks(self.reference_valid),
            keep_reference=self.keep_reference.to(device, non_blocking=True).view(-1, 1, 1, 1).float(),
            noise_seeds=tuple(self.noise_seeds.tolist()),
            frames=self.frames,
        )


def stacked(
    examples: Sequence[Example],
    keep_reference: Sequence[bool],
    noise_seeds: Sequence[int],
    into: StoredBatch | None = None,
) -> StoredBatch:
    """The batch of these examples, written over the one given if there is one: of as many, equally large ones."""
    joins = dict.fromkeys(("target", "eye_masks", "valid", "gaze", "head"), np.concatenate)
    joins |= dict.fromkeys(("reference", "reference_eye_masks", "reference_valid", "frames"), np.stack)
    columns = {name: [getattr(example, name) for example in examples] for name in joins}
    if into is None:
        joined = {name: torch.from_numpy(join(columns[name])) for name, join in joins.items()}
        return StoredBatch(**joined, keep_reference=torch.tensor(keep_reference), noise_seeds=torch.tensor(noise_seeds))
    for name, join in joins.items():
        join(columns[name], out=getattr(into, name).numpy())
    into.keep_reference.numpy()[:], into.noise_seeds.numpy()[:] = keep_reference, noise_seeds
    return into


@dataclass(frozen=True)
class Batches(Dataset):
    """Item `step` is that step's batch of one process.

    With W processes and B people per batch, a step has W · B lanes. A lane shows one person (a visit) for `turns`
    steps, STRANDS steps apart; lanes change their person at staggered times. With one lane and turns = 2 the visits are

        steps  0 … 11:   0  1  2  3 … 11
        steps 12 … 23:   0 13  2 15 … 23
        steps 24 … 35:  12 13 14 15 … 23

    So people are read one after the other, and no two processes read the same person, nor do two workers if their
    number divides STRANDS. A lane depends on seed, phase, step and its number alone: two processes together see the
    same data as one process with twice as many people. Crops of photographs are each process's own.
    """

    sources: tuple[Source, ...]
    weights: tuple[float, ...]  # the sources' shares of the visits
    entropy: tuple[int, ...]  # seed and phase
    persons: int  # B
    gazes: int = 1
    turns: int = 1
    drop_reference: float = 0.0
    process: int = 0
    processes: int = 1

    def __getitem__(self, step: int) -> StoredBatch | UserError:
        return self.made(step)

    def made(self, step: int, into: StoredBatch | None = None) -> StoredBatch | UserError:
        """UserError is returned, not raised: across processes a raised one would lose its text in a traceback."""
        try:
            return self.batch(step, into)
        except UserError as error:
            return error

    def batch(self, step: int, into: StoredBatch | None = None) -> StoredBatch:
        """The batch of a step, written over the one given if there is one."""
        examples, keep, seeds = [], [], []
        for lane in range(self.process * self.persons, (self.process + 1) * self.persons):
            visit, turn = self.visit(step, lane)
            source, own_visit = self.source_of(visit)
            rng = np.random.default_rng([*self.entropy, step * self.processes * self.persons + lane])
            examples.append(self.sources[source].example(own_visit, turn, rng, self.gazes))
            keep.append(bool(rng.random() >= self.drop_reference))
            seeds.append(int(rng.integers(2**62)))
        skipped = [each for source in self.sources for each in source.take_skipped()]
        return replace(stacked(examples, keep, seeds, into), skipped=skipped)

    def close(self) -> None:
        for source in self.sources:
            source.close()

    def visit(self, step: int, lane: int) -> tuple[int, int]:
        """The number of the visit, and its turn."""
        lanes = self.processes * self.persons
        stream = step % STRANDS * lanes + lane
        steps = step // STRANDS + stream % self.turns  # staggered, so that people do not all change at once
        return steps // self.turns * STRANDS * lanes + stream, steps % self.turns

    def source_of(self, visit: int) -> tuple[int, int]:
        """The visit's source, and its number among the visits of that source."""
        if len(self.sources) == 1:
            return 0, visit
        cycles, place = divmod(visit, CYCLE)
        pattern = weighted_cycle(self.weights)
        source = pattern[place]
        return source, cycles * pattern.count(source) + pattern[:place].count(source)


def live_visits(persons: int, workers: int) -> int:
    """The most visits of one process that are under way at a time and that one worker, or none, comes across.

    Worker w of W makes every W-th batch; so it comes across each gcd(W, STRANDS)-th strand only.
    """
    return STRANDS // math.gcd(STRANDS, max(1, workers)) * persons


CYCLE = 100


def weighted_cycle(weights: tuple[float, ...]) -> tuple[int, ...]:
    """CYCLE source numbers, each as often as its weight says, spread as evenly as possible."""
    shares = np.array(weights) / sum(weights)
    given = np.zeros(len(weights))
    cycle = []
    for place in range(1, CYCLE + 1):
        cycle.append(int(np.argmax(shares * place - given)))
        given[cycle[-1]] += 1
    return tuple(cycle)
