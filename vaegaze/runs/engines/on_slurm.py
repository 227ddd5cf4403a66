"""SLURM through submitit: jobs of a few persons each, which load once and run one person after the other."""

import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import submitit

from vaegaze.config.cohort import CohortParams
from vaegaze.errors import UserError
from vaegaze.runs.cohort import Record, Work
from vaegaze.runs.folder import RunFolder
from vaegaze.runs.worker import Job, reason_of

POLL_SEC = 1.0
STOPPING_SEC = 8.0
TIMEOUT_MIN = 60  # of a job, unless the settings say; submitit's own default is 5
FAILED_STARTS = 8  # jobs in a row whose worker did not start: then no further ones are submitted
REFUSALS, ASK_AGAIN_SEC = 10, 60.0  # of sbatch in a row: the same; and the time between two


def run_persons(job: Job, person_ids: list[str]) -> list[Record] | UserError:
    """What a job does; returns the records of the persons that it ran, or why it could not start.

    After SIGTERM, which scancel sends, and the signal that SLURM sends before the time is up, the present run saves
    itself and the job ends. The log has a line for each person that begins.
    """
    stopped = []
    for signum in (signal.SIGTERM, signal.SIGINT, getattr(signal, f"SIG{submitit.JobEnvironment.USR_SIG}")):
        signal.signal(signum, lambda signum, frame: stopped.append(signum))
    try:
        worker = job.worker()
    except Exception as error:
        return error if isinstance(error, UserError) else UserError(reason_of(error))
    records = []
    for number, person_id in enumerate(person_ids):
        print(f"begins {number}: {person_id!a}", flush=True)  # a log may be in any encoding
        record = None if stopped else worker.run(person_id, lambda: bool(stopped))
        if record is None:
            break
        records.append(record)
    return records


def run_all(
    job: Job,
    work: Work,
    cohort: CohortParams,
    *,
    on_change: Callable[[], None] = lambda: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Run until no person is left, or `should_stop`.

    UserError if no job can start. If none can any more later, the persons that still wait are recorded as failed.
    """
    jobs = _Jobs(job, work, cohort)
    try:
        while work.waiting or work.running:
            if should_stop():
                return
            jobs.submit()
            if jobs.problem and not jobs.submitted:
                if not jobs.has_started:
                    raise jobs.problem
                if jobs.is_hopeless:
                    work.give_up(str(jobs.problem))
            on_change()
            time.sleep(POLL_SEC)
            jobs.take_in()
    finally:
        jobs.cancel()


class _Jobs:
    """The jobs that are queued or running, each with its persons."""

    def __init__(self, job: Job, work: Work, cohort: CohortParams):
        self.job, self.work, self.cohort = job, work, cohort
        self.executor = _executor(job, cohort)
        self.submitted: list[tuple[submitit.Job, list[str]]] = []
        self.has_started, self.failed_starts = False, 0
        self.refusals, self.refused_at = 0, 0.0
        self.saved: dict[str, float | None] = {}  # of the submitted persons, when each had saved itself
        self.problem: UserError | None = None  # why no more are submitted, until one ends that had started

    @property
    def is_hopeless(self) -> bool:
        return self.failed_starts >= FAILED_STARTS or self.refusals >= REFUSALS

    def submit(self) -> None:
        work, cohort = self.work, self.cohort
        if self.refusals and not self.is_hopeless and time.monotonic() - self.refused_at >= ASK_AGAIN_SEC:
            self.problem = None
        while work.waiting and not self.problem and len(self.submitted) < cohort.jobs:
            person_ids = [work.take() for _ in range(min(cohort.persons_per_job, len(work.waiting)))]
            self.saved |= {person_id: self._saved_at(person_id) for person_id in person_ids}
            try:
                self.submitted.append((self.executor.submit(run_persons, self.job, person_ids), person_ids))
                self.refusals = 0
            except (RuntimeError, OSError) as error:  # sbatch refuses, perhaps for as long as other jobs run
                work.put_back(person_ids)
                self.problem = UserError(f"SLURM takes no job: {_first_line(error)}", about="slurm")
                self.refusals, self.refused_at = self.refusals + 1, time.monotonic()

    def take_in(self) -> None:
        """Take in what has ended."""
        ended = [each for each in self.submitted if each[0].done()]
        self.submitted = [each for each in self.submitted if each not in ended]
        for job, person_ids in ended:
            begun = re.findall(r"^begins (\d+):", job.stdout() or "", re.MULTILINE)
            died = job.exception() is not None
            outcome = [] if died else job.result()
            if isinstance(outcome, UserError) or (died and not begun):
                self._did_not_start(person_ids, outcome or UserError(_death(job)))
                continue
            self.has_started, self.failed_starts, self.refusals, self.problem = True, 0, 0, None
            for record in outcome:
                self.work.end(record)
            left = person_ids[len(outcome) :]
            if died:
                to_blame, reason = person_ids[int(begun[-1])], _death(job)
            else:
                got_further = outcome or not left or self._saved_at(left[0]) != self.saved[left[0]]
                to_blame, reason = None if got_further else left[0], "the job's time was too short to get any further"
            self.work.put_back(each for each in left if each != to_blame)
            if to_blame is not None:
                self.work.lose(to_blame, reason)

    def _did_not_start(self, person_ids: list[str], error: UserError) -> None:
        self.work.put_back(person_ids)
        self.failed_starts += 1
        if self.failed_starts >= FAILED_STARTS:
            self.problem = UserError(f"no SLURM job can start: {error}", about=error.about)

    def _saved_at(self, person_id: str) -> float | None:
        resume = RunFolder(self.job.resolved.config.oneshot_params.save_dir, person_id).resume
        return resume.stat().st_mtime if resume.exists() else None

    def cancel(self) -> None:
        for job, _ in self.submitted:
            job.cancel(check=False)
        deadline = time.monotonic() + STOPPING_SEC
        while time.monotonic() < deadline and not all(job.done() for job, _ in self.submitted):
            time.sleep(0.1)


def _executor(job: Job, cohort: CohortParams) -> submitit.AutoExecutor:
    """UserError without SLURM, or for parameters that submitit refuses."""
    given, params = dict(cohort.slurm), job.resolved.config.oneshot_params
    wanted = {"name": "vaegaze", "cpus_per_task": job.threads, "timeout_min": TIMEOUT_MIN}
    if params.device != "cpu" and not any("gpu" in name or "gres" in name for name in given):
        wanted["gpus_per_node"] = 1
    try:
        executor = submitit.AutoExecutor(
            folder=Path(params.save_dir).resolve() / "slurm", cluster=given.pop("cluster", "slurm")
        )
        executor.update_parameters(**wanted | given)
    except (RuntimeError, ValueError, NameError, TypeError, AssertionError) as error:
        raise UserError(f"slurm: {_first_line(error)}", about="slurm") from error
    return executor


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _death(job: submitit.Job) -> str:
    log = next(path for path in (job.paths.stderr, job.paths.stdout) if Path(path).exists() or path == job.paths.stdout)
    return f"job {job.job_id} ended without a result ({job.state}), see {log}"
