"""What a GPU brings: seconds and memory of every strategy, and whether it learns what a CPU learns.

    python -m benchmarks.gpu

One call trains the full-size model, with random weights, for some steps by every strategy, with and without gradient
checkpointing. Then it fine-tunes the small model that ships on a rendered person, on the GPU and on the CPU, and
compares the losses step by step. It writes docs/gpu.md, and beside it gpu.json and gpu_curves.png.
"""

import gc
import json
import platform
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from benchmarks.forecast import say_beforehand
from benchmarks.tiny_model import TINY_CONFIG
from vaegaze.commands.running import run_command
from vaegaze.config import shared
from vaegaze.config.finetune import LossParams, OneshotParams
from vaegaze.config.flags import FlagParser, read_command
from vaegaze.config.tree import option
from vaegaze.data.samples import Samples
from vaegaze.errors import UserError
from vaegaze.evaluation.metrics import all_finite, draw, measure
from vaegaze.files import atomic_path, probe_folder, write_text
from vaegaze.geometry.camera import Camera, canvas_camera
from vaegaze.geometry.eye_regions import pose_mask
from vaegaze.models import VAEGaze
from vaegaze.models.checkpoint import load_checkpoint
from vaegaze.models.device import (
    find_device,
    find_precision,
    has_native_bf16,
    peak_memory_mb,
    peak_memory_of,
    reset_peak_memory,
    to_device,
)
from vaegaze.renderer import data_set as synthetic
from vaegaze.report.benchmark import table
from vaegaze.training import FineTuned, Step, TrainingDiverged, finetune
from vaegaze.training.losses import Loss
from vaegaze.training.references import choose_references
from vaegaze.training.strategies import STRATEGIES
from vaegaze.training.tensors import prepare_frames

SMALL = "./checkpoints/pretrained_model.pth"
CONFIGS = {
    "full": {"image_size": 256, "vae": {}, "unet": {}, "gaze_mlp": {}},  # what is left out is as in the published model
    "tiny": TINY_CONFIG,
}
SEED = 0
WARM_UP_STEPS = 10  # not timed: cuDNN, cuBLAS and the allocator set themselves up
FRAMES, CURVE_FRAMES, HELD_OUT = 4, 30, 16
# Of a curve and of a row, for the forecast: docs/performance.md has the small model on two AVX2 cores (Zen 3), the full
# size on two AVX512 cores.
STEP_SEC = {"full": (0.48, 11.0), "tiny": (0.1, 0.1)}
SMALLEST_SHOWN = 1e-8  # of the differences, on a logarithmic axis


@dataclass(frozen=True)
class GpuParams:
    """What is measured, and where"""

    device: str = option(
        "cuda",
        pattern=r"auto|cpu|cuda(:\d{1,3})?",
        legal="auto | cpu | cuda | cuda:N",
        help="what to measure; the curves are always compared with the CPU's",
        metavar="NAME",
    )
    size: str = option("full", choices=tuple(CONFIGS), help="tiny: to try the script, all of it on a tiny model")
    steps: int = option(100, low=1, help="training steps of each row of the table")
    curve_steps: int = option(150, low=1, help="training steps of each curve")
    output: str = option("./docs/gpu.md", help="the tables; beside it the figures and the curves", metavar="PATH")


@dataclass(frozen=True)
class GpuConfig:
    """The settings of one measurement."""

    gpu_params: GpuParams = GpuParams()


@dataclass(frozen=True)
class Row:
    """What steps of one strategy took."""

    strategy: str
    gradient_checkpointing: bool
    trainable: int | None = None
    sec_per_step: float | None = None  # median
    peak_memory_mb: float | None = None
    failure: str | None = None  # in place of seconds and memory


@dataclass(frozen=True)
class Curve:
    """How the same fine-tuning went on one device, in one precision."""

    device: str
    precision: str
    losses: list[float]  # of each step
    sec_per_step: float  # median
    before: dict[str, float]  # on held-out frames
    after: dict[str, float]

    @property
    def name(self) -> str:
        return f"{self.device} {self.precision}"

    def differences(self, other: "Curve") -> np.ndarray:
        """Of each step's loss, relative to the other curve's."""
        ours, theirs = np.array(self.losses), np.array(other.losses)
        return np.abs(ours - theirs) / theirs


def main(argv: Sequence[str] | None = None) -> int:
    parser = FlagParser(prog="python -m benchmarks.gpu", description=__doc__.splitlines()[0])
    return run_command(
        lambda: run(read_command(parser, GpuConfig, argv)[0].config.gpu_params),
        hint="nothing was written",
        advice=shared.advice("device"),
    )


def run(params: GpuParams) -> None:
    params = replace(params, device=find_device(params.device))
    probe_folder(Path(params.output).parent)
    device, precision = torch.device(params.device), find_precision("auto", params.device)

    wanted = dict.fromkeys([("cpu", "fp32"), (params.device, "fp32"), (params.device, "bf16")])
    if not has_native_bf16(params.device):
        del wanted[params.device, "bf16"]
        print(f"{device} only emulates bf16: its bf16 curve is left out")
    say_beforehand(*cost(params, len(wanted)))

    curves = []
    for name, number_format in wanted:
        curves.append(measure_curve(params, torch.device(name), number_format))
        print(f"{curves[-1].name}: eye PSNR {curves[-1].after['eye_psnr']:.2f} dB")

    config = CONFIGS[params.size]
    samples = rendered_samples(FRAMES, canvas_camera(config["image_size"]))
    rows = []
    for strategy in STRATEGIES:
        for checkpointing in (False, True):
            rows.append(measure_row(config, samples, strategy, checkpointing, params.steps, device, precision))
            print(" | ".join(time_and_memory(rows)[-1]))
    write_report(params, precision, rows, curves)
    print(f"✅ {params.output}")


def cost(params: GpuParams, curves: int) -> tuple[str, float]:
    """What will be done, and the processor's seconds for it: no GPU was ever measured."""
    rows, small_sec, large_sec = 2 * len(STRATEGIES), *STEP_SEC[params.size]
    what = f"{curves} curves of {params.curve_steps} steps, {rows} rows of {params.steps} steps"
    if not params.device.startswith("cuda"):
        return what, curves * params.curve_steps * small_sec + rows * params.steps * large_sec
    return f"{what}; without the GPU's own time", params.curve_steps * small_sec


# --- Measuring --------------------------------------------------------------------------------------------------------


def rendered_samples(count: int, canvas: Camera) -> Samples:
    """The first frames of a rendered test person."""
    person = synthetic.person_from_seed(SEED, 1, "test")
    scenes = [synthetic.scene_from_seed(SEED, 1, sample, "test") for sample in range(count)]
    labels = np.stack([synthetic.labels(person, scene) for scene in scenes])  # (N, 8)
    return Samples(
        images=np.stack([synthetic.render(person, scene, canvas).image for scene in scenes]),
        eye_masks=np.stack([pose_mask(head, canvas) for head in labels[:, 2:4]]),
        valid=np.ones((count, *canvas.shape), dtype=bool),
        gaze=labels[:, :2],
        head=labels[:, 2:4],
        indices=np.arange(count),
        canvas=canvas,
    )


def random_model(config: dict, device: torch.device) -> VAEGaze:
    """The same on a device each time, whatever was drawn before."""
    with torch.random.fork_rng(), device:  # made on a GPU, so many numbers take no time
        torch.manual_seed(SEED)
        return VAEGaze(config)


def measure_row(
    config: dict,
    samples: Samples,
    strategy: str,
    gradient_checkpointing: bool,
    steps: int,
    device: torch.device,
    precision: str,
) -> Row:
    """Train a model of this config for so many steps."""
    settings = OneshotParams(
        num_steps=steps, finetune_strategy=strategy, gradient_checkpointing=gradient_checkpointing, seed=SEED
    )
    row = Row(strategy, gradient_checkpointing)
    release_memory(device)
    try:
        result, seconds = train(random_model(config, device), samples, settings, precision)
        row = replace(row, trainable=result.selection.trainable, sec_per_step=median_sec(seconds))
        return replace(row, peak_memory_mb=peak_memory_mb(device))
    except torch.cuda.OutOfMemoryError:
        return replace(row, failure="out of memory")
    except TrainingDiverged as error:  # the weights are random
        return replace(row, failure=str(error))


def train(model: VAEGaze, samples: Samples, settings: OneshotParams, precision: str) -> tuple[FineTuned, list[float]]:
    """Fine-tune as a run does; also the seconds of each step. TrainingDiverged after a bad one."""
    device = next(model.parameters()).device
    seconds: list[float] = []
    started = 0.0

    def on_start(precomputed: list[str], precomputing_sec: float) -> None:
        nonlocal started
        reset_peak_memory(device)
        started = now_sec(device)

    def on_step(step: Step) -> None:
        nonlocal started
        seconds.append(now_sec(device) - started)
        step.refuse_bad()
        started = now_sec(device)

    loss = Loss(LossParams(vgg_weights="random"), seed=SEED, device=device)
    settings = replace(settings, precision=precision)
    return finetune(model, samples, settings, loss, on_start=on_start, on_step=on_step), seconds


def now_sec(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def median_sec(seconds: Sequence[float]) -> float:
    """Of the steps after warming up; of the last one where there are no more."""
    return statistics.median(seconds[min(WARM_UP_STEPS, len(seconds) - 1) :])


def release_memory(device: torch.device) -> None:
    """Give back what the allocator holds of an earlier row."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def measure_curve(params: GpuParams, device: torch.device, precision: str) -> Curve:
    """Fine-tune the small model on one rendered person, and draw frames that it was not trained on."""
    release_memory(device)
    if params.size == "full":
        model = to_device(load_checkpoint(SMALL).model, device)
    else:
        model = to_device(random_model(CONFIGS[params.size], torch.device("cpu")), device)
    samples = rendered_samples(CURVE_FRAMES + HELD_OUT, model.canvas)
    train_samples, held_out_samples = samples.take(slice(CURVE_FRAMES)), samples.take(slice(CURVE_FRAMES, None))
    held_out = prepare_frames(model, held_out_samples, choose_references(train_samples), device)
    before = measure(draw(model, held_out), held_out)
    settings = OneshotParams(num_steps=params.curve_steps, seed=SEED)
    try:
        result, seconds = train(model, train_samples, settings, precision)
    except TrainingDiverged as error:
        raise UserError(f"{device} {precision}: {error}") from error
    after = measure(draw(model, held_out), held_out)
    if not all_finite(after):
        raise UserError(f"{device} {precision}: the model draws infinite or NaN pictures")
    return Curve(str(device), precision, result.losses.tolist(), median_sec(seconds), before, after)


# --- Report -----------------------------------------------------------------------------------------------------------


def write_report(params: GpuParams, precision: str, rows: Sequence[Row], curves: Sequence[Curve]) -> None:
    """Page, figures and picture; the page comes last. The first curve is the one that the others are compared with."""
    path, device, reference = Path(params.output), torch.device(params.device), curves[0]
    picture, figures = path.with_name(f"{path.stem}_curves.png"), path.with_suffix(".json")
    compared = {curve.name: curve.differences(reference) for curve in curves if curve is not reference}
    machine = machine_facts(device)
    content = {
        "settings": asdict(params) | {"precision": precision},
        "machine": machine,
        "peak_memory_of": peak_memory_of(device),
        "rows": [asdict(row) for row in rows],
        "curves": [asdict(curve) for curve in curves],
        "relative_differences": {
            name: {"max": float(values.max()), "mean": float(values.mean()), "per_step": values.tolist()}
            for name, values in compared.items()
        },
    }
    write_text(figures, json.dumps(content, indent=1, allow_nan=False) + "\n")
    draw_curves(picture, curves, compared)

    with torch.device("meta"):
        parameters = sum(parameter.numel() for parameter in VAEGaze(CONFIGS[params.size]).parameters())
    size_px = CONFIGS[params.size]["image_size"]
    small = SMALL.removeprefix("./") if params.size == "full" else "the tiny model"
    only = "" if params.size == "full" else "This is a trial with a tiny model: the figures say nothing of others.\n\n"
    facts = ", ".join(f"{name} {value}" for name, value in machine.items() if value is not None)
    learning_rate, cache_mb = OneshotParams().learning_rate, OneshotParams().cache_memory_mb
    text = f"""# On a GPU

`python -m benchmarks.gpu --device {params.device} --size {params.size}` wrote this page: {facts}. Every figure is
measured; all of them are in [{figures.name}]({figures.name}).

{only}## Time and memory

{table(time_and_memory(rows))}

The {params.size} model, {parameters:,} parameters with random weights, on {size_px} px, one picture a step, in
{precision}; the loss has all three terms. Seconds are the median of {params.steps} steps, without the first
{WARM_UP_STEPS} where there are more. Memory is the peak of {peak_memory_of(device)}. What no trainable parameter
touches is computed once and kept, up to {cache_mb} MB, as in every run.

## The same fine-tuning on both devices

{table(both_devices(curves, compared))}

`selective`, {params.curve_steps} steps from {small} on {CURVE_FRAMES} frames of a rendered person, learning rate
{learning_rate:g}; measured on {HELD_OUT} held-out frames. The differences are those of each step's loss from that of
{reference.name}, relative to it.

![Loss of each step, and its difference]({picture.name})
"""
    write_text(path, text)


def machine_facts(device: torch.device) -> dict[str, str | int | None]:
    """What the figures depend on."""
    gpu = device.type == "cuda"
    return {
        "GPU": torch.cuda.get_device_name(device) if gpu else None,
        "CUDA": torch.version.cuda if gpu else None,
        "cuDNN": torch.backends.cudnn.version() if gpu else None,
        "PyTorch": version("torch"),
        "Python": platform.python_version(),
        "processor": platform.machine(),
        "CPU threads": torch.get_num_threads(),
    }


def time_and_memory(rows: Sequence[Row]) -> list[list[str]]:
    cells = [["strategy", "trains", "gradient checkpointing", "seconds a step", "peak memory"]]
    for row in rows:
        measured = [row.failure, "–"]
        if row.failure is None:
            peak = "–" if row.peak_memory_mb is None else f"{row.peak_memory_mb:,.0f} MB"
            measured = [f"{row.sec_per_step:.4f}", peak]
        trains = "–" if row.trainable is None else f"{row.trainable:,}"
        cells.append([f"`{row.strategy}`", trains, "yes" if row.gradient_checkpointing else "no", *measured])
    return cells


def both_devices(curves: Sequence[Curve], compared: dict[str, np.ndarray]) -> list[list[str]]:
    cells = [["", "seconds a step", "largest difference", "mean difference", "eye L1", "eye PSNR"]]
    before = curves[0].before
    cells.append(["before", "", "", "", f"{before['eye_l1']:.4f}", f"{before['eye_psnr']:.2f} dB"])
    for curve in curves:
        values = compared.get(curve.name)
        differences = ["–", "–"] if values is None else [f"{values.max():.1e}", f"{values.mean():.1e}"]
        numbers = [f"{curve.after['eye_l1']:.4f}", f"{curve.after['eye_psnr']:.2f} dB"]
        cells.append([curve.name, f"{curve.sec_per_step:.4f}", *differences, *numbers])
    return cells


def draw_curves(path: Path, curves: Sequence[Curve], compared: dict[str, np.ndarray]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # works without a display; pyplot may not
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for curve in curves:
        left.plot(range(1, len(curve.losses) + 1), curve.losses, label=curve.name, linewidth=1)
    left.set(title="loss", xlabel="step", ylim=(0, None))
    for name, values in compared.items():  # none, where the CPU is measured and only emulates bf16
        right.plot(range(1, len(values) + 1), values.clip(min=SMALLEST_SHOWN), label=name, linewidth=1)
    right.set(title=f"difference from {curves[0].name}, relative", xlabel="step", yscale="log")
    for axis in (left, right):
        axis.grid(alpha=0.3)
        if axis.lines:
            axis.legend()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)


if __name__ == "__main__":
    sys.exit(main())
