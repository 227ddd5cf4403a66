"""SLURM through submitit: jobs of a few persons each, which load once and run one person after the other."""

import signal
import time
from collections.abc import Callable
from pathlib import Path

import submitit

from vaegaze.config.cohort import CohortParams
from vaegaze.runs.cohort import FAILED, Record, Work
from vaegaze.runs.worker import Job, reason_of

POLL_SEC = 1.0
STOPPING_SEC = 8.0


def run_persons(job: Job, person_ids: list[str]) -> list[Record]:
    """What a job does. After SIGTERM, which scancel sends, the present run saves itself and the job ends."""
    stopped = []
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda signum, frame: stopped.append(signum))
    try:
        worker = job.worker()
    except Exception as error:
        return [Record(person_id, FAILED, reason_of(error)) for person_id in person_ids]
    records = []
    for person_id in person_ids:
        record = None if stopped else worker.run(person_id, lambda: bool(stopped))
        records += [record] if record else []
    return records


def run_all(
    job: Job,
    work: Work,
    cohort: CohortParams,
    *,
    on_change: Callable[[], None] = lambda: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Run until no person is left, or `should_stop`."""
    given = dict(cohort.slurm)
    logs = Path(job.resolved.config.oneshot_params.save_dir).resolve() / "slurm"
    executor = submitit.AutoExecutor(folder=logs, cluster=given.pop("cluster", "slurm"))
    on_gpu = job.resolved.config.oneshot_params.device != "cpu" and "gpus_per_node" not in given
    executor.update_parameters(
        **{"name": "vaegaze", "cpus_per_task": job.threads, **({"gpus_per_node": 1} if on_gpu else {}), **given}
    )
    submitted: list[tuple[submitit.Job, list[str]]] = []
    try:
        while work.waiting or work.running:
            if should_stop():
                return
            while work.waiting and len(submitted) < cohort.jobs:
                person_ids = [work.take() for _ in range(min(cohort.persons_per_job, len(work.waiting)))]
                submitted.append((executor.submit(run_persons, job, person_ids), person_ids))
            on_change()
            time.sleep(POLL_SEC)
            ended = [each for each in submitted if each[0].done()]
            submitted = [each for each in submitted if each not in ended]
            for each in ended:
                _take_in(*each, work)
    finally:
        _cancel(submitted)


def _take_in(job: submitit.Job, person_ids: list[str], work: Work) -> None:
    error = job.exception()
    records = [] if error is not None else job.result()
    for record in records:
        work.end(record)
    for person_id in set(person_ids) - {record.id for record in records}:
        lines = str(error or "the job was stopped").strip().splitlines()
        work.lose(person_id, lines[0])


def _cancel(submitted: list[tuple[submitit.Job, list[str]]]) -> None:
    for job, _ in submitted:
        job.cancel()
    deadline = time.monotonic() + STOPPING_SEC
    while time.monotonic() < deadline and not all(job.done() for job, _ in submitted):
        time.sleep(0.1)
