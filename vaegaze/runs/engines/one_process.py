"""One person after the other, in this process."""

from collections.abc import Callable

from vaegaze.runs.cohort import Work
from vaegaze.runs.worker import Job, SharedBase, Worker


def run_all(
    job: Job,
    base: SharedBase,
    work: Work,
    *,
    on_change: Callable[[], None] = lambda: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Run until no person is left, or `should_stop`. UserError if the worker cannot start."""
    worker = Worker(job, base)
    while not should_stop() and (person_id := work.take()) is not None:
        on_change()
        record = worker.run(person_id, should_stop)
        if record is not None:
            work.end(record)
