"""Ray: an actor for each share of the cluster's CPUs and GPUs, which loads once and runs task after task."""

import os
import signal
from collections.abc import Callable
from contextlib import contextmanager

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray reports its use to its makers otherwise
# A GPU-less actor of a cluster is not to see GPUs; Ray's own default is to change with a later version.
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray
from ray._private import ray_constants
from ray.exceptions import RayActorError, RayError

from vaegaze.errors import UserError
from vaegaze.runs.cohort import Work
from vaegaze.runs.engines import Job, Worker

POLL_SEC = 0.5
STOPPING_SEC = 8.0  # for runs to save what they have, before their actors are killed
FAILED_STARTS = 8  # in a row: then no actor can start


class Actor:
    """A worker in a process of its own. A second thread takes `stop` while the first runs a task."""

    def __init__(self):
        self.stopping = False
        self.worker: Worker | None = None

    def start(self, job: Job, shared: object) -> str:
        """Loads the worker; returns the message of a user's error, or an empty text."""
        try:
            self.worker = job.worker(shared)
        except UserError as error:
            return str(error)
        return ""

    def run(self, task: str):
        return self.worker.run(task, lambda: self.stopping)

    def stop(self) -> None:
        self.stopping = True


@contextmanager
def cluster(address: str | None, cpus: int | None = None):
    """A connection to the cluster at `address`; without one, a Ray of this machine alone, which ends with the block.

    `cpus` limits the latter. UserError if nothing answers.
    """
    # Ray listens on every interface, for anyone to run code, unless it believes that there can be no cluster.
    ray_constants.ENABLE_RAY_CLUSTER = address is not None
    handlers = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
    own = {} if address else {"include_dashboard": False, "num_cpus": cpus}
    try:
        ray.init(address=address or "local", logging_level="error", log_to_driver=False, **own)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(f"no Ray cluster answers at {address or 'this machine'} ({error})", about="address") from error
    for signum, handler in handlers.items():  # Ray takes SIGTERM for itself
        signal.signal(signum, handler)
    try:
        yield
    finally:
        ray.shutdown()


def gpus_in_cluster() -> float:
    return ray.cluster_resources().get("GPU", 0.0)


def places(cpus: float, gpus: float) -> int:
    """How many actors of so many CPUs and GPUs the cluster's nodes have room for."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    by_cpu = [int(node.get("CPU", 0) // cpus) for node in nodes]
    by_gpu = [int(node.get("GPU", 0)) * int(1 / gpus) if gpus else count for node, count in zip(nodes, by_cpu)]
    return sum(map(min, by_cpu, by_gpu))


def run_all(
    job: Job,
    shared: object,
    work: Work,
    *,
    gpus: float,
    on_change: Callable[[], None] = lambda: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Run until no task is left, or `should_stop`. `gpus` is each actor's share of a GPU, 0 on a CPU.

    UserError if no actor can start.
    """
    count = min(places(job.threads, gpus), len(work.waiting))
    if not count:
        raise UserError(
            f"no node of the Ray cluster has {job.threads} CPUs and {gpus:g} of a GPU for one task",
            about="places",
        )
    pool = _Pool((ray.put(shared), ray.put(job)), job.threads, gpus, work)
    try:
        for _ in range(count):
            pool.add()
        while work.waiting or work.running:
            if should_stop():
                pool.stop()
                return
            on_change()
            pool.wait()
    finally:
        pool.kill()


class _Pool:
    """The actors, and what each is doing: starting (None) or running a task."""

    def __init__(self, shared: tuple, threads: int, gpus: float, work: Work):
        self.shared, self.job = shared
        # No restarts by Ray: an actor that is gone is replaced here, and its task goes back to the waiting ones.
        self.make = ray.remote(Actor).options(
            num_cpus=threads, num_gpus=gpus, max_concurrency=2, max_restarts=0, max_task_retries=0
        )
        self.work = work
        self.busy: dict = {}  # result → (actor, task or None)
        self.idle: list = []  # (actor, its last task or None)
        self.failed_starts = 0

    def add(self) -> None:
        actor = self.make.remote()
        self.busy[actor.start.remote(self.job, self.shared)] = actor, None

    def wait(self) -> None:
        """Give waiting tasks to idle actors, then take in what has ended."""
        while self.idle and (task := self.work.take(self.idle[-1][1])) is not None:
            actor, _ = self.idle.pop()
            self.busy[actor.run.remote(task)] = actor, task
        ready, _ = ray.wait(list(self.busy), num_returns=1, timeout=POLL_SEC)
        for result in ready:
            self._take_in(result)

    def _take_in(self, result) -> None:
        actor, task = self.busy.pop(result)
        try:
            outcome = ray.get(result)
        except RayError as error:
            lines = str(error).strip().splitlines()
            if task is not None:
                self.work.lose(task, lines[0] if lines else type(error).__name__)
            else:
                self.failed_starts += 1
                if self.failed_starts >= FAILED_STARTS:
                    raise UserError(f"no Ray worker can start: {lines[-1] if lines else error!r}") from error
            if not isinstance(error, RayActorError):
                ray.kill(actor)
            self.add()
            return
        if task is None:
            if outcome:
                raise UserError(outcome)
            self.failed_starts = 0
        elif outcome is not None:
            self.work.end(outcome)
        self.idle.append((actor, task))

    def stop(self) -> None:
        """Have every run save itself and end; what ends within a few seconds is still taken in."""
        running = {result: actor for result, (actor, task) in self.busy.items() if task is not None}
        for actor in running.values():
            actor.stop.remote()
        if running:
            ready, _ = ray.wait(list(running), num_returns=len(running), timeout=STOPPING_SEC)
            for result in ready:
                try:
                    record = ray.get(result)
                except RayError:
                    continue
                if record is not None:
                    self.work.end(record)

    def kill(self) -> None:
        for actor, _ in [*self.idle, *self.busy.values()]:
            ray.kill(actor)
