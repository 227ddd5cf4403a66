"""The cells of a benchmark as tasks of an engine: each is measured by itself, whoever measures it."""

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from vaegaze.config.benchmark import BenchmarkParams
from vaegaze.errors import UserError
from vaegaze.evaluation.benchmark import BenchmarkPerson, measure, save_strip
from vaegaze.evaluation.benchmark_grid import Task
from vaegaze.models.checkpoint import load_checkpoint
from vaegaze.models.device import cap_memory
from vaegaze.models.estimator import load_estimator
from vaegaze.report.benchmark import Cell
from vaegaze.runs.cohort import FAILED, FINISHED
from vaegaze.runs.one_person import Stopped
from vaegaze.runs.worker import reason_of


@dataclass(frozen=True)
class CellRecord:
    """What came of one cell."""

    id: str
    status: str
    cell: Cell | None = None
    error: UserError | None = None  # of a failure


@dataclass(frozen=True)
class CellJob:
    """What all workers of a benchmark share."""

    params: BenchmarkParams  # with a real device and precision
    tasks: Mapping[str, Task]  # by name
    folder: str  # that relative paths start from
    gpu_share: float | None = None  # caps the memory on the GPU
    threads: int = 1  # so that results do not depend on the machine's cores

    def worker(self, shared: None = None) -> "CellWorker":
        return CellWorker(self)


class CellWorker:
    """Measures cells with one loaded estimator. UserError if that cannot be loaded."""

    def __init__(self, job: CellJob):
        os.chdir(job.folder)
        self.job, self.device = job, torch.device(job.params.device)
        cap_memory(self.device, job.gpu_share)
        self.estimator = load_estimator(job.params.estimator).model.to(self.device)
        self.canvas = load_checkpoint(job.params.checkpoint_path).model.canvas
        self.rendered: tuple[tuple[str, str], BenchmarkPerson] | None = None  # the last; tasks come person by person

    def run(self, name: str, should_stop: Callable[[], bool] = lambda: False) -> CellRecord | None:
        """Measure a cell and keep its picture; None if it was stopped."""
        torch.set_num_threads(self.job.threads)  # a setting of the thread that calls
        task, params = self.job.tasks[name], self.job.params

        def check() -> None:
            if should_stop():
                raise Stopped

        try:
            person = self._person(task, check)
            found = measure(task, person, replace(params, **dict(task.changed)), self.estimator, check)
        except Stopped:
            return None
        except UserError as error:
            return CellRecord(name, FAILED, error=error)
        except (OSError, MemoryError) as error:
            return CellRecord(name, FAILED, error=UserError(f"{name}: {reason_of(error)}"))
        save_strip(Path(params.work_dir) / "pictures" / f"{name}.png", found.strip)
        known = asdict(task) | {"changed": dict(task.changed), "glasses": person.glasses}
        cell = Cell(**known, seconds=round(found.seconds, 2), numbers=found.numbers, worst_frame=found.worst_frame)
        return CellRecord(name, FINISHED, cell)

    def _person(self, task: Task, check: Callable[[], None]) -> BenchmarkPerson:
        key = task.split, task.person
        if self.rendered is None or self.rendered[0] != key:
            number = int(task.person.removeprefix("person_"))
            self.rendered = key, BenchmarkPerson.render(task.split, number, self.job.params, self.canvas, check)
        return self.rendered[1]
