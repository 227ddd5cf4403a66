"""How long training waits for data."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class WaitingTime:
    """Adds up the time in which the device has nothing to do because the next batch is not there.

    On a GPU the program runs ahead of it: what counts is the gap between the work queued before and after a batch came.
    """

    def __init__(self, device: torch.device):
        self._is_gpu = device.type == "cuda"
        self._gaps: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self._seconds = 0.0

    @contextmanager
    def for_data(self) -> Iterator[None]:
        if self._is_gpu:
            before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            before.record()
            yield
            after.record()
            self._gaps.append((before, after))
        else:
            started = time.perf_counter()
            yield
            self._seconds += time.perf_counter() - started

    def seconds(self) -> float:
        """Since the last call; waits for a GPU."""
        if self._gaps:
            torch.cuda.synchronize()
            self._seconds += sum(before.elapsed_time(after) for before, after in self._gaps) / 1000
        seconds, self._gaps, self._seconds = self._seconds, [], 0.0
        return seconds
