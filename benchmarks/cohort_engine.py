"""What the engine of `vaegaze train_all` adds, and what it survives: very short persons on a tiny model, on a real Ray.

See benchmarks/cohort.py.
"""

import argparse
import json
import os
import shutil
import signal
import statistics
import sys
import threading
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import h5py
import numpy as np
import torch

from benchmarks.gpu import CONFIGS
from vaegaze.commands import train_all
from vaegaze.files import atomic_path
from vaegaze.models import VAEGaze
from vaegaze.models.checkpoint import save_checkpoint
from vaegaze.renderer.data_set import write_hdf5
from vaegaze.runs.cohort import FAILED, FINISHED, Work
from vaegaze.runs.engines import on_ray  # before any other import of Ray, for which it sets variables
from vaegaze.runs.worker import Job, SharedBase, Worker

TRAINED_ON, HELD_OUT = 8, 4  # frames of a person
GOAL_SEC = 60  # of the run that the engine's time is compared with
LOOK_SEC = 0.1
UNUSABLE = ("nan_labels", "no_labels")
WORKER = f"ray::{on_ray.Actor.__name__}"  # begins the name that Ray gives the process of a worker; .run while it does


def overhead(given: argparse.Namespace) -> int:
    """The exit code."""
    from ray.cluster_utils import Cluster

    folder = given.out / "overhead"
    flags, times = tiny_world(folder, given.persons, given.steps), folder.absolute() / "times"
    times.mkdir()
    make_job = train_all.make_job
    nodes = Cluster()
    try:
        for _ in range(2):
            nodes.add_node(num_cpus=1, include_dashboard=False)
        processor, started = ray_sec(), time.time()
        with patch.object(train_all, "make_job", lambda *about: TimedJob(**vars(make_job(*about)), times=str(times))):
            code = train_all.main([*flags, "--address", nodes.address])
        ended, processor = time.time(), ray_sec() - processor
    finally:
        nodes.shutdown()
    if code:  # train_all has said why
        return code

    spans = [np.loadtxt(path, ndmin=2) for path in times.iterdir()]  # of each worker: (persons, 2), begins and ends
    between = np.concatenate([each[1:, 0] - each[:-1, 1] for each in spans]).tolist()
    runs = np.concatenate([each[:, 1] - each[:, 0] for each in spans])
    first, last = min(each[0, 0] for each in spans), max(each[-1, 1] for each in spans)
    added = statistics.mean(between)
    tell(
        {
            "persons": len(runs),
            "workers": len(spans),
            "sec of a person": float(runs.mean()),
            "sec between two": added,
            "at most": max(between),
            f"% of a {GOAL_SEC} s run": 100 * added / GOAL_SEC,
            "workers x wall - runs": float(len(spans) * (last - first) - runs.sum()),
            "of these, waiting for the last": float(sum(last - each[-1, 1] for each in spans)),
            "sec before the first person": first - started,
            "sec after the last": ended - last,
            "processor sec of Ray per person": processor / len(runs),
        }
    )
    return 0


@dataclass(frozen=True)
class TimedJob(Job):
    """Its workers note when they begin and end each person, in a file for each process."""

    times: str = ""

    def worker(self, base: SharedBase | None = None) -> "TimedWorker":
        return TimedWorker(super().worker(base), Path(self.times) / f"{os.getpid()}.txt")


class TimedWorker:
    def __init__(self, worker: Worker, times: Path):
        self.worker, self.times = worker, times

    def run(self, person_id: str, should_stop):
        began = time.time()
        record = self.worker.run(person_id, should_stop)
        ended = time.time()
        with open(self.times, "a") as file:
            file.write(f"{began:.6f} {ended:.6f}\n")
        return record


def ray_sec() -> float:
    """Processor seconds of this driver and of Ray's own processes, without the workers."""
    own = [each["cpu_times"] for each in processes() if not each["cmdline"][0].startswith((WORKER, "ray::IDLE"))]
    return time.process_time() + sum(each.user + each.system for each in own)


def processes() -> list[dict]:
    """All processes below this one, the oldest first."""
    import psutil  # Ray brings it

    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it has just ended
            found.append(process.as_dict(["pid", "cmdline", "create_time", "cpu_times"]))
    return sorted((each for each in found if each["cmdline"]), key=lambda each: each["create_time"])


def kills(given: argparse.Namespace) -> int:
    """The exit code."""
    folder = given.out / "kills"
    flags = tiny_world(folder, given.persons - len(UNUSABLE), given.steps)
    add_unusable(folder / "persons.h5")
    over, killed, hit, lose = threading.Event(), [], [], Work.lose
    written: dict[str, set[int]] = defaultdict(set)  # when each person's model was

    def look() -> None:
        while not over.wait(LOOK_SEC):
            for path in (folder / "runs").glob("*/finetuned_model.pth"):
                with suppress(FileNotFoundError):
                    written[path.parent.name].add(path.stat().st_mtime_ns)

    def kill() -> None:
        while not over.wait(given.every) and len(killed) != given.at_most:
            workers = [each["pid"] for each in processes() if each["cmdline"][0].startswith(f"{WORKER}.run")]
            for pid in workers[:1]:  # the oldest: each gets its turn
                with suppress(ProcessLookupError):  # it has just ended
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)

    def counted(work: Work, person_id: str, *about: str) -> None:
        hit.append(person_id)
        lose(work, person_id, *about)

    threads = [threading.Thread(target=each) for each in (look, kill)]
    for thread in threads:
        thread.start()
    started = time.perf_counter()
    try:
        with patch.object(Work, "lose", counted):
            code = train_all.main(flags)
        seconds = time.perf_counter() - started
        time.sleep(2 * LOOK_SEC)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    if code not in (0, train_all.SOME_FAILED):  # train_all has said why
        return code

    lines = (folder / "runs" / "cohort.jsonl").read_text(encoding="utf-8").splitlines()
    told = [json.loads(line) for line in lines]
    finished, failed = ({each["id"] for each in told if each["status"] == status} for status in (FINISHED, FAILED))
    with h5py.File(folder / "persons.h5") as file:
        lost = set(file) - finished - failed | finished - set(written)
    for each in told:
        if each["id"] in failed:
            print(f"  {each['id']}: {each['reason']}")
    tell(
        {
            "persons": given.persons,
            "seconds": seconds,
            "workers killed": len(killed),
            "kills that hit a person's run": len(hit),
            "persons hit": len(set(hit)),
            "finished": len(finished),
            "failed": len(failed),
            "lost": len(lost),
            "done twice": sum(len(times) > 1 for times in written.values()),
            "lines of cohort.jsonl": len(told),
            "exit code of train_all": code,
        }
    )
    return 0


def tiny_world(folder: Path, persons: int, steps: int) -> list[str]:
    """Write the persons and the model, after removing what was there; returns the flags of a run."""
    shutil.rmtree(folder, ignore_errors=True)
    frames = TRAINED_ON + HELD_OUT
    print(f"{persons} persons of {frames} frames are rendered", file=sys.stderr)
    write_hdf5(folder / "persons.h5", persons, CONFIGS["tiny"]["image_size"], samples=frames)
    torch.manual_seed(0)
    save_checkpoint(folder / "base.pth", VAEGaze(CONFIGS["tiny"]), {})
    flags = ["--hdf_path", folder / "persons.h5", "--checkpoint_path", folder / "base.pth", "--num_steps", steps]
    flags += ["--num_samples", TRAINED_ON, "--num_eval_samples", HELD_OUT, "--estimator", "none", "--vgg_loss", 0]
    flags += ["--sample_every", 0, "--device", "cpu", "--engine", "ray", "--save_dir", folder / "runs"]
    return [str(flag) for flag in flags]


def add_unusable(path: Path) -> None:
    """A person whose labels are NaN, and one without labels."""
    with atomic_path(path) as temporary:
        shutil.copyfile(path, temporary)
        with h5py.File(temporary, "a") as file:
            for name in UNUSABLE:
                file.copy("person_001", name)
            file["nan_labels/labels"][...] = np.nan
            del file["no_labels/labels"]


def tell(numbers: dict[str, float]) -> None:
    """A line for each, and one line of JSON."""
    print()
    for name, value in numbers.items():
        print(f"  {name:<34}{value:>10.4g}")
    print(json.dumps(numbers))
