"""Kills, failing system calls, hostile files: none may hang or crash a command, or lose a file, or leave one behind.

    python -m benchmarks.torture --kills 500 --faults all --hostile 10000 --state outputs/torture.json

Every case depends on the seed and its number alone. The parts take turns, so that each gets a share of the time.
Counts are saved as it goes; the same command goes on where it stopped. It needs Linux and a C compiler, for the failing
calls.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch

from benchmarks.forecast import say_beforehand
from benchmarks.torture.children import preloaded
from benchmarks.torture.commands import COMMANDS
from benchmarks.torture.disturbed import ERRORS, Faults, Kills, Scene
from vaegaze.files import write_text

TURN_SEC = 20.0
CALLS = 84  # of a command that may return an error, on average: those of `prepare` in docs/reliability.md
CASE_SEC = {"kills": 1.5, "failing calls": 1.5, "readers": 0.02, "commands": 0.3}  # of a Zen 3 core, for the forecast


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=0, metavar="N", help="kills, spread over the commands")
    parser.add_argument(
        "--faults", nargs="*", default=[], metavar="COMMAND", help="every failing call of these, or all"
    )
    parser.add_argument("--errors", nargs="*", default=list(ERRORS), choices=list(ERRORS), help="that they return")
    parser.add_argument("--stride", type=int, default=1, metavar="N", help="only one call in N fails")
    parser.add_argument(
        "--hostile", type=int, default=0, metavar="N", help="hostile files, and a tenth as many for whole commands"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so many")
    parser.add_argument("--state", type=Path, default=Path("outputs/torture.json"), help="counts so far")
    given = parser.parse_args(argv)
    preloaded(Path(tempfile.gettempdir()) / "vaegaze-torture-faults.so")
    torch.set_num_threads(1)
    state = {"seed": given.seed, "parts": {}}
    if given.state.is_file():
        state = json.loads(given.state.read_text())
        if state["seed"] != given.seed:
            parser.error(f"{given.state} is of seed {state['seed']}; give another --state")
    say_beforehand(*cost(given, state["parts"]))
    scratch = Path(tempfile.mkdtemp(prefix="torture-"))
    try:
        campaign(parts(given, scratch), state, given.state, time.monotonic() + 60 * given.minutes)
    finally:
        shutil.rmtree(scratch)
    bad = [f"{name}, case {case}" for name, part in state["parts"].items() for case in part["bad"]]
    print("\n".join([*table(state["parts"]), *bad]))
    return 1 if bad else 0


def cost(given: argparse.Namespace, done: dict[str, dict]) -> tuple[str, float]:
    """The cases that are asked for and not `done`, by part, and the seconds that they take, or have."""
    faults = len(COMMANDS) if given.faults == ["all"] else len(given.faults)
    asked = {
        "kills": given.kills,
        "failing calls": faults * len(given.errors) * CALLS // given.stride,
        "readers": given.hostile,
        "commands": given.hostile // 10,
    }
    for name, part in done.items():
        kind = next((kind for kind in asked if kind in name), "failing calls")
        asked[kind] = max(0, asked[kind] - part["done"])
    seconds = sum(CASE_SEC[kind] * count for kind, count in asked.items())
    hostile = f"{asked['readers']:,} hostile files for readers and {asked['commands']:,} for commands"
    what = f"{asked['kills']:,} kills, about {asked['failing calls']:,} failing calls, {hostile}"
    return what, min(seconds, 60 * given.minutes)


def parts(given: argparse.Namespace, scratch: Path) -> Iterator:
    faults = list(COMMANDS) if given.faults == ["all"] else given.faults
    for number, command in enumerate(COMMANDS.values()):
        kills = len(range(number, given.kills, len(COMMANDS)))
        if kills or command.name in faults:
            scene = Scene(command, scratch)
            if kills:
                yield Kills(scene, kills, given.seed)
            for error in given.errors if command.name in faults else ():
                yield Faults(scene, error, given.stride)
    if given.hostile:
        from benchmarks.torture.hostile import Hostile

        yield Hostile(scratch, "readers", given.hostile, given.seed)
        yield Hostile(scratch, "commands", given.hostile // 10, given.seed)


def campaign(parts: Iterable, state: dict, path: Path, until: float) -> None:
    """Run what is left of all parts, one after the other for a while each, or as much as time allows."""
    waiting = deque(parts)
    for part in waiting:
        state["parts"].setdefault(part.name, {"done": 0, "counts": {}, "bad": []})["total"] = part.total
    while waiting and time.monotonic() < until:
        part, ends = waiting.popleft(), min(time.monotonic() + TURN_SEC, until)
        kept = state["parts"][part.name]
        while kept["done"] < part.total and time.monotonic() < ends:
            how, wrong = part.run(kept["done"])
            kept["counts"][how] = kept["counts"].get(how, 0) + 1
            if wrong is not None:
                kept["bad"].append(f"{kept['done']}: {wrong}")
                print(f"{part.name}, case {kept['bad'][-1]}", file=sys.stderr, flush=True)
            kept["done"] += 1
        write_text(path, json.dumps(state, indent=1) + "\n")
        if kept["done"] < part.total:
            waiting.append(part)


def table(found: dict[str, dict]) -> list[str]:
    lines = ["| | cases | how they ended | wrong |", "|---|---|---|---|"]
    for name, part in found.items():
        how = ", ".join(
            f"{count} {words}" for words, count in sorted(part["counts"].items(), key=lambda each: -each[1])
        )
        done = part["done"] if part["done"] == part["total"] else f"{part['done']} of {part['total']}"
        lines.append(f"| {name} | {done} | {how} | {len(part['bad'])} |")
    return lines


if __name__ == "__main__":
    sys.exit(main())
