"""Every person of a data set: how fast `vaegaze train_all` is, what its engine adds, and what it survives.

    python -m benchmarks.cohort speed [--persons 12] [--steps 50]
    python -m benchmarks.cohort overhead
    python -m benchmarks.cohort kills
    python -m benchmarks.cohort page

make the rows of the table in docs/scale.md. Each prints first about how long it takes, and last one JSON object.

`speed` runs the same rendered persons (256 px, the shipped base model, configs/finetune/finetune_gazecapture.yaml) in
three ways, one after the other: Ray with a worker of one thread for each core, one process with all cores, and a shell
loop of oneshot_training.py. It keeps each way's result under --out, so that the same command goes on after an
interruption with the first way that is missing (the loop: with the first person). Flags that it does not know go to
all three.

`overhead` starts two Ray nodes of one CPU each on this machine, and runs very short persons on a tiny model. Each
worker notes when it begins and ends each person. What the engine adds is the time between: the record goes to the
driver, which writes the cohort's files and sends the next person. The start of the workers, before their first person,
is not in it; the wait of the worker that ends first, after its last, is told by itself.

`kills` runs short persons on Ray, two of them with unusable labels, and every 20 seconds kills a worker (SIGKILL).
Ten times a second it looks at the persons' models: one that has been written twice was done twice.

`page` trains a few persons, copies their runs to as many persons as GazeCapture has, runs `train_all` over them all,
which finds them finished, and opens cohort.html in Chromium.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

from benchmarks.forecast import say_beforehand
from vaegaze.commands.running import run_command
from vaegaze.errors import UserError
from vaegaze.files import write_text
from vaegaze.renderer.data_set import write_hdf5

ROOT = Path(__file__).parents[1]
SETTINGS = ROOT / "configs" / "finetune" / "finetune_gazecapture.yaml"
WAYS = ("ray", "one_process", "loop")
FRAMES = 62  # of a person: 30 to train on and 32 held out
DEFAULTS = {"speed": (12, 50), "overhead": (40, 20), "kills": (60, 300), "page": (1474, 4)}  # persons, steps
# For the forecast, on two AVX2 cores: of a way a person and a step, then of a tiny model on Ray.
PERSON_SEC, STEP_SEC, START_SEC, TINY_PERSON_SEC, TINY_STEP_SEC = 100, 0.6, 30, 5.0, 0.02
COPIED_SEC = 0.06  # of a person whose run is copied


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("what", choices=DEFAULTS)
    parser.add_argument("--persons", type=int, help=f"(default: {words_of(0)})")
    parser.add_argument("--steps", type=int, help=f"of each person (default: {words_of(1)})")
    parser.add_argument("--size", type=int, default=256, help="speed: of the frames, px (default: %(default)s)")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS, help="speed: (default: all)")
    parser.add_argument("--every", type=float, default=20, help="kills: seconds to the next (default: %(default)s)")
    parser.add_argument("--at_most", type=int, help="kills: so many (default: as long as there are persons)")
    parser.add_argument("--out", type=Path, default=Path("outputs/cohort_benchmark"), help="(default: %(default)s)")
    given, given.flags = parser.parse_known_args(argv)
    if given.flags and given.what != "speed":
        parser.error(f"unrecognized arguments: {' '.join(given.flags)}")
    persons, steps = DEFAULTS[given.what]
    given.persons, given.steps = given.persons or persons, given.steps or steps
    least = 1 if given.what == "speed" else 4
    if given.persons < least or given.steps < 1:
        parser.error(f"{given.what}: --persons must be at least {least}, --steps at least 1")
    ways = {"speed": speed, "overhead": on_ray, "kills": on_ray, "page": of_copies}
    return run_command(lambda: ways[given.what](given))


def words_of(column: int) -> str:
    return ", ".join(f"{what} {numbers[column]}" for what, numbers in DEFAULTS.items())


def on_ray(given: argparse.Namespace) -> int:
    seconds = START_SEC + given.persons / 2 * (TINY_PERSON_SEC + TINY_STEP_SEC * given.steps)
    say_beforehand(f"{given.persons} short persons of {given.steps} steps", seconds)
    from benchmarks import cohort_engine  # needs Ray

    return getattr(cohort_engine, given.what)(given)


def of_copies(given: argparse.Namespace) -> int:
    say_beforehand(f"{given.persons} copied runs", START_SEC + COPIED_SEC * given.persons)
    from benchmarks import cohort_page  # needs Ray's package

    return cohort_page.page(given)


def speed(given: argparse.Namespace) -> None:
    folder = given.out / f"speed_{given.persons}x{given.steps}"
    state = folder / "state.json"
    asked = {"persons": given.persons, "steps": given.steps, "size": given.size, "flags": given.flags}
    done = json.loads(state.read_text(encoding="utf-8")) if state.exists() else {"asked": asked}
    if done["asked"] != asked:
        raise UserError(f"{state} is of {done['asked']}; remove {folder}, or give another --out")
    write_text(state, json.dumps(done, indent=1))
    missing = [way for way in given.ways if way not in done]
    seconds = len(missing) * given.persons * (PERSON_SEC + STEP_SEC * given.steps)
    say_beforehand(f"{given.persons} persons of {given.steps} steps, in {len(missing)} ways", seconds)
    data = folder / "persons.h5"
    if not data.exists():
        write_hdf5(data, given.persons, given.size, samples=FRAMES)
    flags = ["--config", SETTINGS, "--hdf_path", data, "--num_steps", given.steps, *given.flags]
    for way in missing:
        print(f"{time.strftime('%H:%M:%S')} {way}", file=sys.stderr)
        seconds = loop(flags, folder, given.persons) if way == "loop" else cohort(way, flags, folder)
        done[way] = {"seconds": seconds, "seconds_of": phases(folder / way)}
        write_text(state, json.dumps(done, indent=1))
    report({way: done[way] for way in WAYS if way in done}, given.persons)


def cohort(way: str, flags: list, folder: Path) -> float:
    """Seconds of `train_all`, from its start to its end. Its threads follow from its flag, not from the environment."""
    cores = os.cpu_count()
    how = ["--engine", "ray"] if way == "ray" else ["--engine", "none", "--cpus_per_person", cores]
    shutil.rmtree(folder / way, ignore_errors=True)
    command = ["-m", "vaegaze", "train_all", *flags, *how, "--save_dir", folder / way]
    return timed(command, folder / f"{way}.log", **({} if way == "ray" else {"OMP_NUM_THREADS": cores}))


def loop(flags: list, folder: Path, persons: int) -> float:
    """Seconds of a process for each person, the threads as the program chooses. Who is done is not done again."""
    kept = folder / "loop.json"
    seconds = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    for person_id in (f"person_{number:03d}" for number in range(1, persons + 1)):
        if person_id not in seconds:
            command = ["oneshot_training.py", *flags, "--person_id", person_id, "--save_dir", folder / "loop"]
            seconds[person_id] = timed([*command, "--overwrite"], folder / "loop.log")
            write_text(kept, json.dumps(seconds))
    return sum(seconds.values())


def timed(command: list, log: Path, **variables) -> float:
    """Seconds of a Python program, whose output goes to the log. UserError if it fails."""
    env = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    env |= {name: str(value) for name, value in variables.items()} | {"PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"}
    absolute = [str(word.absolute()) if isinstance(word, Path) else str(word) for word in command]
    with open(log, "a") as file:
        started = time.perf_counter()
        process = subprocess.Popen([sys.executable, *absolute], cwd=ROOT, env=env, stdout=file, stderr=file)
        try:
            code = process.wait()
        except BaseException:
            process.terminate()  # which ends its Ray, too
            process.wait()
            raise
    if code:
        raise UserError(f"exit code {code}, see {log}")
    return time.perf_counter() - started


def phases(runs: Path) -> dict[str, float]:
    """Seconds by phase, summed over the persons."""
    total = defaultdict(float)
    for path in runs.glob("*/summary.json"):
        for phase, seconds in json.loads(path.read_text(encoding="utf-8"))["seconds_of"].items():
            total[phase] += seconds
    return dict(total)


def report(done: dict[str, dict], persons: int) -> None:
    cores = os.cpu_count()
    workers = {way: min(cores, persons) if way == "ray" else 1 for way in done}
    sums = {way: sum(each["seconds_of"].values()) for way, each in done.items()}
    names = next(iter(done.values()))["seconds_of"]
    rows = {phase: [each["seconds_of"][phase] for each in done.values()] for phase in names}
    rows["all else"] = [workers[way] * each["seconds"] - sums[way] for way, each in done.items()]
    rows["workers x clock"] = [workers[way] * each["seconds"] for way, each in done.items()]
    rows["by the clock"] = [each["seconds"] for each in done.values()]
    rows["persons an hour"] = [3600 * persons / each["seconds"] for each in done.values()]
    print(f"\n{persons} persons, {cores} cores; phases in seconds, summed over the persons")
    print(f"  {'':<18}" + "".join(f"{way:>12}" for way in done))
    for name, values in rows.items():
        print(f"  {name:<18}" + "".join(f"{value:>12.1f}" for value in values))
    ratios = {}
    for way in [way for way in done if way != "ray" and "ray" in done]:
        ratios[f"ray / {way}"] = done[way]["seconds"] / done["ray"]["seconds"]
        print(f"  {f'ray / {way}':<18}{ratios[f'ray / {way}']:>12.2f} x the persons an hour")
    print(json.dumps({"persons": persons, "cores": cores, **done, **ratios}))


if __name__ == "__main__":
    sys.exit(main())
