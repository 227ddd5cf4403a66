"""Batches made by worker processes, ahead of the steps that need them.

Torch hands each tensor over in new shared memory. Making that and touching its pages for the first time takes longer
than reading and drawing what it holds. So a worker writes its batches into a few slots of shared memory, in turn.
"""

import signal
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from multiprocessing import active_children
from multiprocessing.process import BaseProcess

from torch.utils.data import DataLoader, Dataset, get_worker_info

from vaegaze.errors import STOP_SIGNALS, UserError
from vaegaze.pretraining.batches import Batches, Crops, NumberedCrops, Skipped, StoredBatch

AHEAD = 2  # batches that each worker makes before the first of them is taken
SLOTS = AHEAD + 1  # of each worker: one is being taken while the others are filled


def worked_ahead(
    batches: Batches | NumberedCrops, steps: range, workers: int, *, pinned: bool
) -> Iterator[StoredBatch | Crops | UserError]:
    """The items of these steps, in order; the workers begin at once. Without workers they are made when asked for.

    An item keeps its values for good. `pinned` puts its tensors where a GPU copies them from without waiting.
    """
    loader = DataLoader(
        _InSlots(batches),
        batch_size=None,
        sampler=steps,
        num_workers=workers,
        prefetch_factor=AHEAD if workers else None,
        worker_init_fn=ignore_signals,
        pin_memory=pinned,
    )
    others = active_children()
    items = iter(loader)
    # At its exit Python waits for all workers, also for those of a loader that an error's traceback keeps alive; and
    # they ignore its signal. This runs before.
    weakref.finalize(items, _kill, [each for each in active_children() if each not in others])
    return map(partial(_taken, {}, pinned), items)


@dataclass(frozen=True)
class _Filled:
    """Says which slot holds the batch."""

    worker: int
    slot: int
    batch: StoredBatch | None  # the slot itself, only the first time: it is handed over as shared memory
    skipped: list[Skipped]


class _InSlots(Dataset):
    """The same items; a worker's batches lie in its slots."""

    def __init__(self, batches: Batches | NumberedCrops):
        self.batches = batches
        self.slots: list[StoredBatch] = []
        self.made = 0

    def __getitem__(self, step: int) -> StoredBatch | Crops | UserError | _Filled:
        worker = get_worker_info()
        if worker is None or not isinstance(self.batches, Batches):
            return self.batches[step]
        slot, is_new = self.made % SLOTS, self.made < SLOTS
        made = self.batches.made(step, into=None if is_new else self.slots[slot])
        if isinstance(made, UserError):
            return made
        self.made += 1
        if is_new:
            self.slots.append(made.share_memory())
        return _Filled(worker.id, slot, made if is_new else None, made.skipped)


def _taken(slots: dict[tuple[int, int], StoredBatch], pinned: bool, item):
    """An item of the loader; a batch is copied out of its slot, which the loader hands to its worker again later.

    The loader asks a worker for a new batch when one of its batches is taken. So while one is copied here, the worker
    fills at most AHEAD other slots.
    """
    if not isinstance(item, _Filled):
        return item
    if item.batch is not None:
        slots[item.worker, item.slot] = item.batch
    return slots[item.worker, item.slot].copied(pinned=pinned, skipped=item.skipped)


def _kill(workers: list[BaseProcess]) -> None:
    for each in workers:
        each.kill()


def ignore_signals(worker: int) -> None:
    """Lets the main process end its workers: Ctrl-C and `timeout` signal the workers as well."""
    for signum in STOP_SIGNALS:
        signal.signal(signum, signal.SIG_IGN)
