"""The processes of a run under torchrun."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed, nn

from vaegaze.errors import UserError

TIMEOUT = timedelta(minutes=10)


def planned_processes() -> int:
    """How many there are, by what torchrun sets; 1 without it. UserError for what it never sets."""
    if "LOCAL_RANK" not in os.environ:
        return 1
    count, rank = (os.environ.get(name, "") for name in ("WORLD_SIZE", "RANK"))
    if not (count.isdecimal() and rank.isdecimal() and int(rank) < int(count)):
        raise UserError(
            f"LOCAL_RANK is set, as by torchrun, but RANK is {rank!r} and WORLD_SIZE {count!r}; expected RANK from 0 "
            "to WORLD_SIZE - 1: start with torchrun, or unset LOCAL_RANK"
        )
    return int(count)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """While it waits for other processes no handler of Python's would run, so the system's own end it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    handlers = {each: handler for each, handler in handlers.items() if callable(handler)}
    for each in handlers:
        signal.signal(each, signal.SIG_DFL)
    try:
        yield
    finally:
        for each, handler in handlers.items():
            signal.signal(each, handler)


class Processes:
    """This process's rank and the number of processes; 0 and 1 without torchrun."""

    def __init__(self, device: torch.device):
        """Joins the process group, if torchrun has started one."""
        self.device = device  # under torchrun each process of a machine has a GPU of its own
        self.rank, self.count = 0, 1
        self._signals = None
        planned_processes()
        if "LOCAL_RANK" in os.environ:
            try:
                if device.type == "cuda":
                    self.device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
                    torch.cuda.set_device(self.device)
                with _ended_by_signals():
                    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
                    # Works without waiting for a GPU.
                    self._signals = distributed.new_group(backend="gloo", timeout=TIMEOUT)
            except (ValueError, RuntimeError) as error:
                reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
                raise UserError(
                    f"the other processes could not be joined ({reason}); start with torchrun, or unset LOCAL_RANK"
                ) from error
            self.rank, self.count = distributed.get_rank(), distributed.get_world_size()

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes and prints."""
        return self.rank == 0

    def is_any(self, flag: bool) -> bool:
        """Whether `flag` is set in any process, so that all stop after the same step."""
        if self._signals is None:
            return flag
        count = torch.tensor(int(flag))
        distributed.all_reduce(count, group=self._signals)
        return count.item() > 0

    def gather(self, value: Any) -> list[Any]:
        """The plain Python value of each process."""
        if self._signals is None:
            return [value]
        values = [None] * self.count
        distributed.all_gather_object(values, value, group=self._signals)
        return values

    def mean(self, value: Tensor) -> Tensor:
        if self._signals is not None:
            distributed.all_reduce(value)
            value /= self.count
        return value

    def together(self, module: nn.Module) -> nn.Module:
        """The module wrapped so that its gradients are averaged over the processes during the backward pass."""
        if self._signals is None:
            return module
        return nn.parallel.DistributedDataParallel(module, broadcast_buffers=False, gradient_as_bucket_view=True)

    def leave(self) -> None:
        if self._signals is not None:
            distributed.barrier()  # leaving while the first process still writes can crash the run
            distributed.destroy_process_group()

    @contextmanager
    def lost_ones_reported(self) -> Iterator[None]:
        """Turns the network's error into a UserError when another process has ended."""
        try:
            yield
        except (distributed.DistError, RuntimeError) as error:
            if self._signals is None or not _is_of_network(error):
                raise
            with suppress(Exception):
                distributed.destroy_process_group()
            raise UserError(
                f"process {self.rank} of {self.count} lost contact with another one, which has ended; read its "
                "output, then resume the run"
            ) from error


def _is_of_network(error: Exception) -> bool:
    words = ("connection", "gloo", "nccl", "socket", "peer", "timed out", "process group")
    return isinstance(error, distributed.DistError) or any(word in str(error).lower() for word in words)
