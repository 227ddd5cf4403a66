"""How many pictures of rendered persons a second, with one process and with two.

    python -m benchmarks.rendering

Each picture is of another person in another scene, as pre-training draws them. Medians of several rounds; the last
line is one JSON object.
"""

import argparse
import json
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from vaegaze.geometry.camera import canvas_camera
from vaegaze.renderer import data_set as synthetic

SEED = 0
PROCESSES = (1, 2)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--pictures", type=int, default=400, help="in a round (default: %(default)s)")
    parser.add_argument("--size", type=int, default=128, help="of the pictures, px (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="of which the median counts (default: %(default)s)")
    given = parser.parse_args(argv)
    numbers = {}
    print(f"{given.pictures} pictures of {given.size} px, per second\n")
    for processes in PROCESSES:
        per_sec = measure(processes, given.pictures, given.size, given.rounds)
        numbers[f"per_sec_{processes}"] = round(per_sec, 1)
        print(f"  {processes} process{'es' if processes > 1 else ''}{per_sec:>14.1f}")
    print(json.dumps(numbers))
    return 0


def measure(processes: int, pictures: int, size: int, rounds: int) -> float:
    """Median pictures a second; that processes start is not counted."""
    draw = partial(render, size=size)
    with ProcessPoolExecutor(processes) as pool:
        list(pool.map(draw, range(8 * processes)))
        rates = []
        for _ in range(rounds):
            started = time.perf_counter()
            list(pool.map(draw, range(pictures), chunksize=8))
            rates.append(pictures / (time.perf_counter() - started))
    return statistics.median(rates)


def render(number: int, size: int) -> None:
    """Draws that person's first picture, and leaves it where it is: what it costs to send is another matter."""
    person = synthetic.person_from_seed(SEED, number, "train")
    synthetic.render(person, synthetic.scene_from_seed(SEED, number, 0, "train"), canvas_camera(size))


if __name__ == "__main__":
    sys.exit(main())
