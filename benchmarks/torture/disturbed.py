"""Runs that are killed, or that a system call fails.

A part of the campaign has a `name` and `total` cases; `run(number)` does one and returns how it ended and, if that must
not be, what was wrong.
"""

import errno
import shutil
from pathlib import Path

import numpy as np

from benchmarks.torture.children import CHANGES, CREATE, NAME, OPEN, READ, REMOVE, STAT, SYNC, WRITE, Ending, Trap, run
from benchmarks.torture.commands import Command, results

ALL = OPEN | READ | STAT | CHANGES
ERRORS = {  # the kinds of calls that return each; whether all later ones do so too
    "ENOSPC": (CREATE | WRITE | NAME | SYNC, True),
    "EIO": (ALL, False),
    "EACCES": (OPEN | CREATE | NAME | REMOVE | STAT, False),
    "EINTR": (ALL & ~(NAME | REMOVE | STAT), False),
}


class Scene:
    """A command's inputs, and what an undisturbed run makes of them."""

    def __init__(self, command: Command, scratch: Path):
        self.command, self.folder = command, scratch / "case"
        self.inputs = scratch / f"{command.name}-inputs"
        self._clear()
        self.folder.mkdir()
        made = run(lambda: command.inputs(self.folder) or 0, self.folder)
        assert made.code == 0, made.text
        shutil.move(self.folder, self.inputs)
        self.before = self.fresh()
        self.whole = self.undisturbed(CHANGES)
        self.after = results(command, self.folder)

    def _clear(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def fresh(self) -> dict[str, str]:
        """The folder as it is before the command; returns what is in it."""
        self._clear()
        shutil.copytree(self.inputs, self.folder)
        return results(self.command, self.folder)

    def undisturbed(self, kinds: int) -> Ending:
        """A whole run, whose trap has counted calls of these kinds."""
        self.fresh()
        whole = run(self.command.work(self.folder), self.folder, trap=Trap(kinds))
        assert whole.code == 0, whole.text
        return whole

    def wrong_after(self, ending: Ending) -> str | None:
        """What is wrong with a disturbed run's end, with its folder, or with the run that goes on from there."""
        command, folder = self.command, self.folder
        if ending.fault is not None and not ending.killed:
            return ending.fault
        found = results(command, folder)
        if not ending.killed and (left := [name for name in found if Path(name).name.startswith(".")]):
            return f"{left[0]} is left behind"
        partial = ending.code == 0 and any(words in ending.text for words in command.partial)
        for name in command.kept:
            if name not in found or (not partial and found[name] not in (self.before[name], self.after[name])):
                return f"{name} of an earlier run is lost"
        if partial:
            return None
        if ending.code == 0:
            wrong = self._difference(found)
            return wrong and f"wrong success: {wrong}"
        again = run(command.work(folder), folder)
        if again.fault is not None or again.code != 0:
            return f"the next run: {again.fault or again.text.strip().splitlines()[-1]}"
        wrong = self._difference(results(command, folder))
        return wrong and f"after the next run {wrong}"

    def _difference(self, found: dict[str, str]) -> str | None:
        if missing := sorted(self.after.keys() - found.keys()):
            return f"{missing[0]} is missing"
        if new := sorted(found.keys() - self.after.keys()):
            return f"{new[0]} is there"
        other = [name for name in found if found[name] != self.after[name]]
        return f"{other[0]} differs" if other else None


class Kills:
    """SIGKILL, in turn at a random moment and before a random call that changes a file."""

    def __init__(self, scene: Scene, total: int, seed: int):
        self.name, self.scene, self.total, self.seed = f"kills {scene.command.name}", scene, total, seed

    def run(self, number: int) -> tuple[str, str | None]:
        scene, rng = self.scene, np.random.default_rng([self.seed, number])
        scene.fresh()
        trap = moment = None
        if number % 2:
            trap = Trap(CHANGES, at=int(rng.integers(1, scene.whole.calls + 1)))
        else:
            moment = rng.uniform(0, scene.whole.seconds)
        ending = run(scene.command.work(scene.folder), scene.folder, trap=trap, kill_after_sec=moment)
        where = f"call {trap.at}" if trap else f"{moment:.3f} s"
        wrong = scene.wrong_after(ending)
        return "killed" if ending.killed else "ended before", wrong and f"{where}: {wrong}"


class Faults:
    """The first call fails, then the second, and so on; with a `stride`, only one call in so many."""

    def __init__(self, scene: Scene, error: str, stride: int):
        self.name, self.scene, self.error, self.stride = f"{error} {scene.command.name}", scene, error, stride
        if stride > 1:
            self.name += f", one call in {stride}"
        self.kinds, self.stays = ERRORS[error]
        self.total = -(-scene.undisturbed(self.kinds).calls // stride)

    def run(self, number: int) -> tuple[str, str | None]:
        scene = self.scene
        scene.fresh()
        trap = Trap(self.kinds, 1 + number * self.stride, getattr(errno, self.error), self.stays)
        ending = run(scene.command.work(scene.folder), scene.folder, trap=trap)
        wrong = scene.wrong_after(ending)
        how = {0: "no difference", 2: "refused in a line", 3: "one person failed"}.get(ending.code, "other")
        if wrong:
            lines = [line for line in ending.text.splitlines() if "rror" in line]
            wrong = f"call {trap.at}: {wrong} ({lines[-1] if lines else ''})"
        return how, wrong
