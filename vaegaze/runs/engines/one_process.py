"""One task after the other, in this process."""

from collections.abc import Callable

from vaegaze.runs.cohort import Work
from vaegaze.runs.engines import Job


def run_all(
    job: Job,
    shared: object,
    work: Work,
    *,
    on_change: Callable[[], None] = lambda: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Run until no task is left, or `should_stop`. UserError if the worker cannot start."""
    worker = job.worker(shared)
    while not should_stop() and (task := work.take()) is not None:
        on_change()
        record = worker.run(task, should_stop)
        if record is not None:
            work.end(record)
