"""How long a frame takes through `vaegaze.Redirector`, stage by stage, on one core and on two.

    python -m benchmarks.live_latency

Renders a few seconds of a talking person and gives the frames one by one. The last line is one JSON object: medians in
milliseconds.
"""

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks.forecast import say_beforehand
from benchmarks.rendered_video import FRAMES_PER_SEC, rendered_video
from vaegaze.api import load_model
from vaegaze.faces import follower, landmarks
from vaegaze.geometry import pasting
from vaegaze.redirecting import irises, live, series, steadying

ROOT = Path(__file__).parents[1]
STAGES = {  # what is timed, and where it is called from
    "face mesh and irises": (landmarks, "read_region"),
    "optical flow": (follower, "movement"),
    "alignment": (series, "align_face"),
    "encoding without the eyes": (series, "encode_masked"),
    "encoding the reference": (series, "encode_pictures"),
    "drawing": (series, "redraw_eyes"),
    "colours": (steadying, "surroundings_correction"),
    "own irises: where": (irises.SteadyIrises, "pairs"),
    "own irises: each eye laid": (pasting, "with_irises"),
    "pasting and grain": (series, "paste_in_regions"),
}
WARM_UP = 5  # frames
FRAME_SEC = 0.55  # rendered, and redrawn twice, of a Zen 3 core, for the forecast


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "checkpoints" / "pretrained_model.pth")
    parser.add_argument("--frames", type=int, default=40, help="(default: %(default)s)")
    parser.add_argument("--size", type=int, nargs=2, default=(1280, 720), help="of a frame (default: 1280 720)")
    given = parser.parse_args(argv)
    count = given.frames + WARM_UP
    say_beforehand(f"{count} frames of {given.size[0]} × {given.size[1]} px, twice", count * FRAME_SEC)
    seconds = count / FRAMES_PER_SEC
    true = rendered_video(*given.size, face_px=given.size[1] // 2, seconds=seconds)
    numbers = {f"{threads} threads": measure(given.checkpoint, true.frames, threads) for threads in (1, 2)}
    print(f"{'':<28}" + "".join(f"{column:>12}" for column in numbers))
    for stage in ("frame", *STAGES):
        print(f"{stage:<28}" + "".join(f"{column.get(stage, 0.0):>9.1f} ms" for column in numbers.values()))
    print(json.dumps(numbers))
    return 0


def measure(checkpoint: Path, frames: np.ndarray, threads: int) -> dict[str, float]:
    """The median of each stage, in milliseconds a frame."""
    torch.set_num_threads(threads)
    redirector = live.Redirector(load_model(checkpoint))
    spent: dict[str, list[float]] = defaultdict(list)
    originals = {stage: getattr(*place) for stage, place in STAGES.items()}
    for stage, (module, name) in STAGES.items():
        setattr(module, name, _timed(originals[stage], spent[stage]))
    try:
        for number, frame in enumerate(frames):
            began = time.perf_counter()
            redirector.frame(frame, number / FRAMES_PER_SEC)
            if number < WARM_UP:
                for times in spent.values():
                    times.clear()
            else:
                spent["frame"].append(1000 * (time.perf_counter() - began))
    finally:
        for stage, (module, name) in STAGES.items():
            setattr(module, name, originals[stage])
    return {stage: round(float(np.median(times)), 1) for stage, times in spent.items() if times}


def _timed(function: Callable, spent: list[float]) -> Callable:
    def timed(*args, **options):
        began = time.perf_counter()
        result = function(*args, **options)
        spent.append(1000 * (time.perf_counter() - began))
        return result

    return timed


if __name__ == "__main__":
    sys.exit(main())
