"""Ray: an actor for each share of the cluster's CPUs and GPUs, which loads once and runs task after task."""

import os
import signal
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray reports its use to its makers otherwise
# An actor without a GPU is to see none. Earlier versions of Ray do so by default, later ones do not.
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")

import ray
from ray._private import ray_constants
from ray._private.utils import get_num_cpus
from ray.exceptions import RayActorError, RayError

from vaegaze.errors import UserError
from vaegaze.runs.cohort import FAILED, Work
from vaegaze.runs.engines import Job, Worker

POLL_SEC = 0.5
STOPPING_SEC = 8.0  # for runs to save what they have, before their actors are killed
FAILED_STARTS = 8  # in a row: then an actor that does not start is not replaced
FAILED_TASKS = 3  # in a row: then the actor is replaced, whose process may be what is broken


class Actor:
    """A worker in a process of its own. A second thread takes `stop` while the first runs a task."""

    def __init__(self):
        self.stopping = False
        self.worker: Worker | None = None

    def start(self, job: Job, shared: object) -> tuple[str, UserError | None]:
        """Loads the worker; returns its node, and a user's error if it cannot start."""
        problem = None
        try:
            self.worker = job.worker(shared)
        except UserError as error:
            problem = error
        return ray.get_runtime_context().get_node_id(), problem

    def run(self, task: str):
        return self.worker.run(task, lambda: self.stopping)

    def stop(self) -> None:
        self.stopping = True


@contextmanager
def cluster(address: str | None, cpus: int | None = None):
    """A connection to the cluster at `address`; without one, a Ray of this machine alone, which ends with the block.

    `cpus` limits the latter, in place of the cores that this process may use. UserError if nothing answers.
    """
    # Ray listens on every interface, for anyone to run code, unless it believes that there can be no cluster.
    ray_constants.ENABLE_RAY_CLUSTER = address is not None
    handlers = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
    own = {} if address else {"include_dashboard": False, "num_cpus": cpus or usable_cpus()}
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


def usable_cpus() -> int:
    """Cores that this process may use. Ray itself minds a container's limits, but not `taskset`."""
    affinity = getattr(os, "sched_getaffinity", None)  # not everywhere
    here = int(get_num_cpus(override_docker_cpu_warning=True))
    return max(1, min(here, len(affinity(0))) if affinity else here)


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

    UserError if no actor can start. If none is left later, the tasks that still wait are recorded as failed.
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
            if not pool.hired:
                if not pool.has_started:
                    raise pool.problem
                work.give_up(str(pool.problem))
                return
            on_change()
            pool.wait()
    finally:
        pool.kill()


@dataclass(eq=False)
class _Hired:
    """An actor, and what is known of it."""

    actor: object
    node: str = ""  # once it has started
    last: str | None = None  # task
    failures: int = 0  # of its tasks, in a row


class _Pool:
    """The actors, and what each is doing: nothing, starting (None), or running a task."""

    def __init__(self, shared: tuple, threads: int, gpus: float, work: Work):
        self.shared, self.job = shared
        # No restarts by Ray: an actor that is gone is replaced here, and its task goes back to the waiting ones.
        self.make = ray.remote(Actor).options(
            num_cpus=threads, num_gpus=gpus, max_concurrency=2, max_restarts=0, max_task_retries=0
        )
        self.work = work
        self.busy: dict = {}  # result → (actor, task or None)
        self.idle: list[_Hired] = []
        self.has_started, self.failed_starts = False, 0
        self.problem = UserError()  # of the last one that did not start

    @property
    def hired(self) -> list[_Hired]:
        return [*self.idle, *(each for each, _ in self.busy.values())]

    def add(self) -> None:
        hired = _Hired(self.make.remote())
        self.busy[hired.actor.start.remote(self.job, self.shared)] = hired, None

    def wait(self) -> None:
        """Give waiting tasks to idle actors, then take in what has ended."""
        nodes = {each.node for each in self.hired if each.node}
        for each in self.idle[::-1]:
            task = self.work.take(each.last, each.node, nodes)
            if task is not None:
                self.idle.remove(each)
                self.busy[each.actor.run.remote(task)] = each, task
        ready, _ = ray.wait(list(self.busy), num_returns=1, timeout=POLL_SEC)
        for result in ready:
            self._take_in(result)

    def _take_in(self, result) -> None:
        each, task = self.busy.pop(result)
        try:
            outcome = ray.get(result)
        except RayError as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            if not isinstance(error, RayActorError):
                ray.kill(each.actor)
            if task is not None:
                self.work.lose(task, lines[0], each.node)
                self.add()
                return
            self.failed_starts += 1
            self.problem = UserError(f"no Ray worker can start: {lines[-1]}")
            if self.failed_starts < FAILED_STARTS:
                self.add()
            return
        if task is None:
            each.node, problem = outcome
            if problem:  # which another try there would only repeat
                self.problem = problem
                ray.kill(each.actor)
                return
            self.has_started, self.failed_starts = True, 0
        else:
            each.last = task
            if outcome is not None:
                self.work.end(outcome, each.node)
                each.failures = each.failures + 1 if outcome.status == FAILED else 0
            if each.failures == FAILED_TASKS:
                ray.kill(each.actor)
                self.add()
                return
        self.idle.append(each)

    def stop(self) -> None:
        """Have every run save itself and end; what ends within a few seconds is still taken in."""
        running = {result: each.actor for result, (each, task) in self.busy.items() if task is not None}
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
        for each in self.hired:
            ray.kill(each.actor)
