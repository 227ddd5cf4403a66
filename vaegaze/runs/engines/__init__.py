"""What runs a cohort's persons or a benchmark's cells: this process, Ray, or SLURM. The outcome is the same."""

from collections.abc import Callable
from typing import Protocol


class Worker(Protocol):
    """Runs tasks with one set of loaded models."""

    def run(self, task: str, should_stop: Callable[[], bool]):
        """The task's record, with its `id` and `status`; None if it was stopped."""


class Job(Protocol):
    """What all workers share; it is sent to their processes."""

    threads: int  # CPU threads of a worker

    def worker(self, shared: object = None) -> Worker:
        """A worker with what an engine shares between the processes of a machine, or with what it loads itself."""
