"""The settings of `vaegaze benchmark`."""

from dataclasses import dataclass

from vaegaze.config import shared
from vaegaze.config.cohort import INSTALL_SCALE
from vaegaze.config.finetune import AUTO_OR_SHARE, MOST_STEPS
from vaegaze.config.tree import option

POOL = 32  # frames of each person to train on, at most
PAGE = "./docs/benchmark.md"  # of the default grid


@dataclass(frozen=True)
class BenchmarkParams:
    """The persons, and how to fine-tune on each"""

    checkpoint_path: str = shared.checkpoint_path("the base model")
    estimator: str = shared.estimator(required=True)
    work_dir: str = option("./outputs/benchmark", help="folder of finished cells", metavar="PATH")
    output: str | None = option(
        None,
        legal="PATH",
        help=f"page of tables, with a .json beside it; default {PAGE}, or benchmark.md in work_dir for another grid",
        metavar="PATH",
    )
    grid: str = option(
        "default",
        choices=("small", "default", "full"),
        help="small: for a first look; full: also every strategy, three seeds, and one setting changed at a time",
        metavar="NAME",
    )
    persons: int | None = option(None, low=1, high=100, help="rendered test persons, half with glasses; by the grid")
    k: tuple[int, ...] | None = option(
        None, low=0, high=POOL, help="numbers of images to fine-tune on, 0 for the base model; by the grid", metavar="K"
    )
    held_out: int = option(12, low=1, high=100, help="frames of each person to measure on")
    gazes: int = option(8, low=2, high=8, help="other directions that each of them is made to look in")
    face_px: int = option(512, low=64, high=1024, unit="px", help="side of the frames")
    seed: int = shared.seed("chooses the rendered people", default=1)
    num_steps: int = option(150, low=1, high=MOST_STEPS, help="training steps of each cell")
    learning_rate: float = option(5e-5, above=0, high=1, help="step size of AdamW")
    mirror: bool = option(True, help="also train on every image mirrored")
    replay: str = option("auto", pattern=AUTO_OR_SHARE, legal="auto | 0..1", help="as in fine-tuning", metavar="SHARE")
    l1_loss: float = option(1.0, low=0, help="as in fine-tuning")
    mask_l1_loss: float = option(2.0, low=0, help="as in fine-tuning")
    vgg_loss: float = option(0.0, low=0, help="as in fine-tuning; untrained weights are slow and gain little")
    vgg_weights: str = option("random", legal="imagenet | random | PATH", help="as in fine-tuning", metavar="W")
    engine: str = option(
        "auto",
        choices=("auto", "ray", "none"),
        help="what measures the cells: Ray, several at once, or this process, one after the other; auto takes Ray if "
        f"it is installed ({INSTALL_SCALE})",
        metavar="NAME",
    )
    workers: int = option(2, low=1, high=1024, help="with Ray on this machine: cells at once, one CPU thread each")
    address: str | None = option(
        None, legal="auto | HOST:PORT", help="a Ray cluster that is running already", metavar="HOST:PORT"
    )
    device: str = shared.device()
    precision: str = shared.precision()


@dataclass(frozen=True)
class BenchmarkConfig:
    """The settings of one benchmark."""

    benchmark_params: BenchmarkParams = BenchmarkParams()
