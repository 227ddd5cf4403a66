"""Measures how much k images of one person improve the model: `vaegaze benchmark`.

Fine-tunes the base model on k images of rendered test persons, for several k, strategies and seeds, and measures each
result on the same 16 held-out frames of the person, as they are and redirected. On rendered val persons it changes one
setting at a time, so that no setting is chosen on the test persons. Every finished cell of this grid is kept:
interrupt the command and run it again at will. At the end it writes the tables into docs/.
"""

import hashlib
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from vaegaze.commands.outputs import refuse_output
from vaegaze.commands.precision import warn_if_emulated
from vaegaze.commands.progress import StopSignals, progress_bar
from vaegaze.commands.running import run_with_settings
from vaegaze.config import shared
from vaegaze.config.finetune import LossParams, OneshotParams
from vaegaze.config.tree import option
from vaegaze.data import hdf5
from vaegaze.data.samples import Samples
from vaegaze.errors import UserError
from vaegaze.evaluation.eval_set import EvalSet
from vaegaze.evaluation.gaze import Estimator
from vaegaze.evaluation.metrics import Drawing, all_finite, draw, evaluate, eye_l1
from vaegaze.files import atomic_path, write_text
from vaegaze.images.sheets import picture_sheet
from vaegaze.models import VAEGaze, to_pixels
from vaegaze.models.checkpoint import load_checkpoint
from vaegaze.models.device import find_device, find_precision, to_device
from vaegaze.models.estimator import load_estimator
from vaegaze.renderer import data_set as synthetic
from vaegaze.renderer.redrawing import matching_renderer
from vaegaze.report.benchmark import AUTOENCODER, BASE, FEW, Cell, write_report
from vaegaze.training import Step, TrainingDiverged, finetune
from vaegaze.training.losses import Loss
from vaegaze.training.references import choose_references
from vaegaze.training.strategies import STRATEGIES

PAGE = "./docs/benchmark.md"  # of the default grid
HELD_OUT = 16
POOL = 32  # further frames of each person; k of them are used for training
SHOWN = 4  # held-out frames of the first person, in the report
CHANGES = (  # one at a time, on val persons
    ("learning_rate", 2e-5),
    ("learning_rate", 2e-4),
    ("learning_rate", 1e-3),
    ("mask_l1_loss", 0.0),
    ("mask_l1_loss", 8.0),
    ("vgg_loss", 0.1),
    ("num_steps", 50),
    ("num_steps", 500),
    ("mirror", False),
)
_HELD_OUT_STREAM, _TRAIN_STREAM = 0, 1


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
    grid: str = option("default", choices=("small", "default", "full"), help="small: for a first look", metavar="NAME")
    seed: int = shared.seed("chooses the rendered people", default=1)
    num_steps: int = option(150, low=1, help="training steps of each cell")
    learning_rate: float = option(5e-5, above=0, high=1, help="step size of AdamW")
    mirror: bool = option(True, help="also train on every image mirrored")
    l1_loss: float = option(1.0, low=0, help="as in fine-tuning")
    mask_l1_loss: float = option(2.0, low=0, help="as in fine-tuning")
    vgg_loss: float = option(0.0, low=0, help="as in fine-tuning; untrained weights are slow and gain little")
    vgg_weights: str = option("random", legal="imagenet | random | PATH", help="as in fine-tuning", metavar="W")
    workers: int = option(2, low=1, help="cells in parallel, one CPU thread each")
    device: str = shared.device()
    precision: str = shared.precision()


@dataclass(frozen=True)
class BenchmarkConfig:
    """The settings of one benchmark."""

    benchmark_params: BenchmarkParams = BenchmarkParams()


@dataclass(frozen=True)
class Task:
    """One cell of the grid."""

    split: str
    person: str
    strategy: str
    k: int
    seed: int
    changed: tuple[tuple[str, float | bool], ...] = ()  # settings other than the command's

    @property
    def name(self) -> str:
        changed = "".join(f"_{name}={value:g}" for name, value in self.changed)
        return f"{self.split}_{self.person}_{self.strategy}_{self.k}_{self.seed}{changed}"


def grid(name: str) -> list[Task]:
    """The cells, person by person, so that partial results cover whole persons."""
    ks, strategies = (1, 2, 4, 8, 16, 32), tuple(STRATEGIES)
    persons, seeds, val_persons = {"small": (2, 1, 1), "default": (6, 3, 2), "full": (12, 3, 6)}[name]
    tasks = [
        Task("val", f"person_{number:03d}", strategy, POOL, 0, changed)
        for number in range(1, val_persons + 1)
        for strategy, changed in ((BASE, ()), ("selective", ()), *(("selective", (change,)) for change in CHANGES))
    ]
    for number in range(1, persons + 1):
        tasks.append(Task("test", f"person_{number:03d}", AUTOENCODER, POOL, 0))
        for strategy in (BASE, *strategies):
            for k in ks:
                for seed in range(seeds):
                    if strategy == BASE and k == POOL and seed > 0:
                        continue  # with all frames, every seed gives the same result
                    wide = strategy in (BASE, "selective") or (k in FEW and seed == 0)
                    if name == "full" or (name == "default" and wide) or (name == "small" and wide and k in FEW):
                        tasks.append(Task("test", f"person_{number:03d}", strategy, k, seed))
    return tasks


def main(argv: list[str] | None = None) -> int:
    return run_with_settings(
        BenchmarkConfig,
        lambda resolved, **switches: run(resolved.config.benchmark_params, **switches),
        argv,
        prog="vaegaze benchmark",
        description="Measure how much k images of one person improve the model.",
        switches=[("--overwrite", "discard cells made with other settings and start over")],
        hint="run it again to continue",
        advice=shared.advice("checkpoint_path", "estimator", "device"),
    )


def run(params: BenchmarkParams, *, overwrite: bool) -> None:
    work_dir = Path(params.work_dir)
    if params.output is None:
        params = replace(params, output=PAGE if params.grid == "default" else str(work_dir / "benchmark.md"))
    inputs = {"--checkpoint_path": params.checkpoint_path, "--estimator": params.estimator}
    refuse_output(Path(params.output), "--output", overwrite=True, inputs=inputs)
    estimator = load_estimator(params.estimator)
    name = find_device(params.device)
    params = replace(params, device=name, precision=find_precision(params.precision, name))
    warn_if_emulated(params.precision, name)
    device = torch.device(name)
    tasks, cells = grid(params.grid), finished_cells(work_dir, params, overwrite=overwrite)
    torch.set_num_threads(1)
    files = {}
    for split in dict.fromkeys(task.split for task in tasks):
        persons = len({task.person for task in tasks if task.split == split})
        files[split] = work_dir / f"{split}_persons_{persons}.h5"  # a larger grid has the same persons, and more
        if not files[split].exists():
            synthetic.write_hdf5(files[split], persons, seed=params.seed, samples=HELD_OUT + POOL, split=split)
    stop = StopSignals()

    @lru_cache(maxsize=2 * params.workers)
    def read(split: str, name: str) -> BenchmarkPerson:
        return BenchmarkPerson(files[split], split, name, params, device)

    def measure(task: Task) -> Cell:
        stop.check()
        person = read(task.split, task.person)
        return measure_cell(task, person, replace(params, **dict(task.changed)), estimator.model, stop)

    estimator.model.to(device)
    missing = [task for task in tasks if task.name not in cells]
    pool = ThreadPoolExecutor(params.workers)
    measuring = {pool.submit(measure, task): task for task in missing}
    try:
        with progress_bar("benchmark", len(tasks), initial=len(tasks) - len(missing)) as bar:
            for done in as_completed(measuring):
                cells[measuring[done].name] = done.result()
                write_text(work_dir / "cells.json", json.dumps({k: asdict(v) for k, v in cells.items()}, indent=1))
                bar.update()
    finally:
        pool.shutdown(cancel_futures=True)
    ordered = [cells[task.name] for task in tasks]
    persons = list(dict.fromkeys(task.person for task in tasks if task.split == "test"))
    write_report(Path(params.output), ordered, asdict(params), estimator.info, sheets(work_dir, persons, cells))
    print(f"✅ {params.output}")


def finished_cells(work_dir: Path, params: BenchmarkParams, *, overwrite: bool) -> dict[str, Cell]:
    """Cells from an earlier run. UserError if its settings or files differ from these."""
    settings = {
        name: value for name, value in asdict(params).items() if name not in ("work_dir", "output", "grid", "workers")
    }
    for name in ("checkpoint_path", "estimator"):
        settings[name] = hashlib.sha256(Path(settings[name]).read_bytes()).hexdigest()
    stored, cells = work_dir / "settings.json", work_dir / "cells.json"
    if overwrite or not stored.exists():
        for path in (cells, *work_dir.glob("*_persons_*.h5"), *work_dir.glob("pictures/*.png")):
            path.unlink(missing_ok=True)
        write_text(stored, json.dumps(settings, indent=1))
    try:
        if json.loads(stored.read_text(encoding="utf-8")) != settings:
            raise UserError(f"{work_dir} was made with other settings; give --overwrite, or another --work_dir")
        known = json.loads(cells.read_text(encoding="utf-8")) if cells.exists() else {}
        return {name: Cell(**cell) for name, cell in known.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{work_dir} holds damaged cells ({error}); give --overwrite, or another --work_dir") from error


class BenchmarkPerson:
    """A rendered person's frames: the held-out ones, and the pool for training."""

    def __init__(self, file: Path, split: str, name: str, params: BenchmarkParams, device: torch.device):
        self.split, self.name, self.params, self.device = split, name, params, device
        self.canvas = load_checkpoint(params.checkpoint_path).model.canvas
        number = int(name.removeprefix("person_"))
        rows = np.random.default_rng([params.seed, _HELD_OUT_STREAM, number]).permutation(HELD_OUT + POOL)
        data = hdf5.read_person(file, name, rows.tolist(), self.canvas)
        self.held_out, self.pool = data.samples.take(slice(HELD_OUT)), data.samples.take(slice(HELD_OUT, None))
        rendered, _ = matching_renderer(data)
        if rendered is None:
            raise UserError(f"{file} was not rendered by this version of the renderer; give --overwrite")
        self.true, self.number = rendered.redirected(self.held_out), number  # rendered once for all cells

    def train(self, k: int, seed: int) -> Samples:
        rng = np.random.default_rng([self.params.seed, _TRAIN_STREAM, self.number, seed])
        return self.pool.take(np.sort(rng.permutation(POOL)[:k]))


def measure_cell(
    task: Task,
    person: BenchmarkPerson,
    params: BenchmarkParams,
    estimator: Estimator,
    stop: StopSignals,
) -> Cell:
    """Fine-tune with these settings, from the base model, and measure."""
    model = to_device(load_checkpoint(params.checkpoint_path).model, person.device)
    train = person.train(task.k, task.seed)
    held_out = EvalSet.prepare(model, person.held_out, choose_references(train))
    held_out = replace(held_out, redirections=held_out.redirected(person.true))

    started = time.perf_counter()
    if task.strategy not in (BASE, AUTOENCODER):
        train_cell(task, model, train, params, stop)
    seconds = time.perf_counter() - started
    drawing = model
    if task.strategy == AUTOENCODER:
        held_out = unmasked(model, held_out)
        drawing = decoding(model)
    numbers = evaluate(drawing, held_out, estimator, stop.check)
    if not all_finite(numbers):
        raise UserError(f"{task.name}: the model draws infinite or NaN pictures; give a lower --learning_rate")

    worst_frame = None
    if task in pictured(task.person).values():
        frames = held_out.frames
        results = draw(model, frames)
        worst_frame = eye_l1(results, frames.target, frames.eye_masks * frames.valid).argmax().item()
        for name, pictures in ((task.name, to_pixels(results)), (task.person, person.held_out.images)):
            with atomic_path(Path(params.work_dir) / "pictures" / f"{name}.png") as temporary:
                Image.fromarray(np.concatenate([*pictures], axis=0)).save(temporary)
    known = asdict(task) | {"changed": dict(task.changed)}
    return Cell(**known, seconds=round(seconds, 2), numbers=numbers, worst_frame=worst_frame)


def train_cell(task: Task, model: VAEGaze, train: Samples, params: BenchmarkParams, stop: StopSignals) -> None:
    """Fine-tune `model` in place. The loss is the cell's own: cells run at once, and each exchanges its weights."""

    def on_step(step: Step) -> None:
        stop.check()
        step.refuse_bad()

    settings = OneshotParams(
        num_steps=params.num_steps,
        learning_rate=params.learning_rate,
        mirror=params.mirror,
        finetune_strategy=task.strategy,
        precision=params.precision,
        seed=task.seed,
    )
    loss_params = LossParams(params.l1_loss, params.mask_l1_loss, params.vgg_loss, params.vgg_weights)
    loss = Loss(loss_params, seed=0, device=torch.device(params.device))
    try:
        finetune(model, train, settings, loss, on_step=on_step, scratch_dir=params.work_dir)
    except TrainingDiverged as error:
        raise UserError(f"{task.name}: {error}; give a lower --learning_rate") from error


@torch.no_grad()
def unmasked(model: VAEGaze, eval_set: EvalSet) -> EvalSet:
    """The set with latents of the whole pictures in place of the masked ones, so that nothing is left to draw."""
    frames = eval_set.frames
    latents = torch.cat([model.encode(target) for target in frames.target.split(1)])
    redirections = None if eval_set.redirections is None else unmasked(model, eval_set.redirections)
    return replace(eval_set, frames=replace(frames, masked_latents=latents), redirections=redirections)


def decoding(model: VAEGaze) -> Drawing:
    """A stand-in for a model that only decodes its input."""
    return lambda masked_latents, *_: model.decode(masked_latents)


def pictured(person: str) -> dict[str, Task]:
    """The cells whose drawings of the held-out frames are kept, by column caption."""
    tasks = {"base": Task("test", person, BASE, POOL, 0)}
    return tasks | {f"k = {k}": Task("test", person, "selective", k, 0) for k in FEW}


def sheets(work_dir: Path, persons: list[str], cells: dict[str, Cell]) -> dict[str, np.ndarray]:
    """Held-out frames beside their drawings: several of the first person, and the worst one of each person."""

    def row(person: str, frame: int) -> tuple[str, list[np.ndarray]]:
        names = [person, *(task.name for task in pictured(person).values())]
        strips = [np.asarray(Image.open(work_dir / "pictures" / f"{name}.png")) for name in names]
        side = strips[0].shape[1]
        return f"{person}\nheld out {frame + 1}", [strip[frame * side : (frame + 1) * side] for strip in strips]

    columns = ("true", *pictured(persons[0]))
    first = [row(persons[0], frame) for frame in range(SHOWN)]
    worst = [row(person, cells[[*pictured(person).values()][-1].name].worst_frame) for person in persons]
    return {"first": picture_sheet(columns, first), "worst": picture_sheet(columns, worst)}


if __name__ == "__main__":
    sys.exit(main())
