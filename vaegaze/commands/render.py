"""Render a data set of procedural persons.

vaegaze render --output faces.h5 --persons 200 --samples 5:60
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from vaegaze.commands.outputs import refuse_output
from vaegaze.commands.progress import progress_callback
from vaegaze.commands.running import run_command
from vaegaze.config.flags import FlagParser, read_command
from vaegaze.config.tree import option
from vaegaze.renderer.data_set import FIRST_PERSON_SAMPLES, SPLITS, write_hdf5


@dataclass(frozen=True)
class SyntheticParams:
    """Who is rendered, and how often"""

    output: str | None = option(None, help="the HDF5 file to write", metavar="PATH")
    persons: int = option(8, low=1, help="how many there are")
    samples: str = option(
        "60",
        pattern=r"0*[1-9]\d*(:0*[1-9]\d*)?",
        legal="N | LOW:HIGH",
        help=f"pictures of each person, or a range to draw from; person_001 has at least {FIRST_PERSON_SAMPLES}",
        metavar="N",
    )
    size: int = option(128, low=1, help="side of the pictures, px")
    seed: int = option(0, low=0, help="draws persons and scenes")
    split: str = option("all", choices=("all", *SPLITS), help="whose persons: no split shows another's", metavar="NAME")

    @property
    def sample_range(self) -> tuple[int, int]:
        low, _, high = self.samples.partition(":")
        return int(low), int(high or low)


@dataclass(frozen=True)
class SyntheticConfig:
    """The settings of one file."""

    synthetic_params: SyntheticParams = SyntheticParams()

    def problems(self, origins):
        """What is missing or does not go together; see `config_tree.resolve`."""
        params = self.synthetic_params
        if params.output is None:
            yield ("synthetic_params.output",), "needed; give --output PATH"
        low, high = params.sample_range
        if low > high:
            yield ("synthetic_params.samples",), f"got {params.samples!r}; expected the lower number first"


def main(argv: list[str] | None = None) -> int:
    parser = FlagParser(prog="vaegaze render", description=__doc__.splitlines()[0])
    parser.add_argument("--overwrite", action="store_true", help="replace a file that is there")

    def work() -> None:
        resolved, switches = read_command(parser, SyntheticConfig, argv)
        params = resolved.config.synthetic_params
        refuse_output(Path(params.output), "--output", **switches)
        numbers = params.persons, params.size, params.seed, params.sample_range
        with progress_callback(f"rendering {Path(params.output).name}") as on_sample:
            write_hdf5(params.output, *numbers, params.split, **switches, on_sample=on_sample)

    return run_command(work, hint="nothing was written", less_memory="give a smaller --size")


if __name__ == "__main__":
    sys.exit(main())
