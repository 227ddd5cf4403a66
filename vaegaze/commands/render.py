"""Render a data set of procedural people.

vaegaze render --output faces.h5 --persons 200 --samples 5:60
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from vaegaze.commands.outputs import refuse_output
from vaegaze.commands.progress import progress_callback
from vaegaze.commands.running import run_with_settings
from vaegaze.config import shared
from vaegaze.config.tree import Resolved, option
from vaegaze.errors import plain
from vaegaze.renderer.data_set import FIRST_PERSON_SAMPLES, SPLITS, write_hdf5

MAX_SIDE_PX = 4096  # a frame is then about as large as is read


@dataclass(frozen=True)
class RenderParams:
    """The persons to render, and how many pictures of each"""

    output: str | None = shared.output("the HDF5 file to write")
    persons: int = option(8, low=1, high=100_000, help="number of persons")
    samples: str = option(
        "60",
        pattern=r"0*[1-9]\d{0,5}(:0*[1-9]\d{0,5})?",
        legal="N | LOW:HIGH, at most 999999",
        help=f"pictures of each person, or a range to sample from; person_001 has at least {FIRST_PERSON_SAMPLES}",
        metavar="N",
    )
    size: int = option(128, low=16, high=MAX_SIDE_PX, help="side of the pictures, px")
    seed: int = shared.seed("chooses people and scenes")
    split: str = option(
        "all", choices=("all", *SPLITS), help="the persons' split; no two splits share a person", metavar="NAME"
    )

    @property
    def sample_range(self) -> tuple[int, int]:
        low, _, high = self.samples.partition(":")
        return int(low), int(high or low)


@dataclass(frozen=True)
class RenderConfig:
    """The settings of one file."""

    render_params: RenderParams = RenderParams()

    def problems(self, origins):
        """What is missing or contradictory; see `tree.resolve`."""
        params = self.render_params
        if params.output is None:
            yield ("render_params.output",), "needed; give --output PATH"
        low, high = params.sample_range
        if low > high:
            yield ("render_params.samples",), f"got {params.samples!r}; expected the lower number first"


def main(argv: list[str] | None = None) -> int:
    return run_with_settings(
        RenderConfig,
        run,
        argv,
        prog="vaegaze render",
        description=(__doc__ or "").partition("\n")[0],
        switches=[shared.OVERWRITE],
        hint="nothing was written",
        less_memory="give a smaller --size",
    )


def run(resolved: Resolved, *, overwrite: bool) -> None:
    params = resolved.config.render_params
    refuse_output(Path(params.output), "--output", overwrite=overwrite)
    numbers = params.persons, params.size, params.seed, params.sample_range
    with progress_callback(f"rendering {Path(params.output).name}") as on_sample:
        write_hdf5(params.output, *numbers, params.split, overwrite=overwrite, on_sample=on_sample)
    people = "1 person" if params.persons == 1 else f"{params.persons} persons"
    print(plain(f"✅ {params.output}: {people}, {params.size} × {params.size} px"))


if __name__ == "__main__":
    sys.exit(main())
