"""Train the gaze estimator that judges pictures: `python -m vaegaze.train_estimator --overwrite`.

It sees rendered train persons only, and is measured on test persons, with and without glasses.
"""

import statistics
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from vaegaze.command import run_command
from vaegaze.config_flags import FlagParser, read_command
from vaegaze.config_tree import UserError, option, to_yaml
from vaegaze.data import synthetic
from vaegaze.device import find_device
from vaegaze.evaluation import angular_error_deg
from vaegaze.files import write_text
from vaegaze.models import to_unit_range
from vaegaze.models.estimator import ANGLE_SCALE_RAD, CANVAS_PX, GazeEstimator, save_estimator
from vaegaze.pretraining import learning_rate_factor
from vaegaze.pretraining_batches import like_a_photograph
from vaegaze.progress import progress_bar

MEASURED_BATCH = 40


@dataclass(frozen=True)
class EstimatorParams:
    """Training of the gaze estimator"""

    output: str = option("./checkpoints/gaze_estimator/gaze_estimator.pth", help="the finished estimator")
    seed: int = option(0, help="draws persons, frames and initial weights", low=0, high=2**31)
    device: str = option("auto", choices=("auto", "cpu", "cuda"), help="what to compute on; auto takes a GPU")
    precision: str = option("fp32", choices=("fp32", "bf16"), help="number format; bf16 where the hardware computes it")
    threads: int = option(2, help="CPU threads", low=1)
    workers: int = option(1, help="processes that render ahead", low=0)
    persons: int = option(100_000, help="rendered train persons to draw from", low=1)
    samples_per_person: int = option(32, help="frames that each of them has", low=1)
    photographic: float = option(0.3, help="share of frames seen sharper, in other colours", low=0, high=1)
    steps: int = option(1500, help="training steps", low=1)
    batch_size: int = option(32, help="frames in a step, each of another person", low=1)
    learning_rate: float = option(1.5e-3, help="highest of a cosine schedule", above=0)
    test_frames: int = option(1200, help="frames of test persons that it is measured on", low=MEASURED_BATCH)


@dataclass(frozen=True)
class EstimatorConfig:
    """The settings of one training."""

    estimator_params: EstimatorParams = EstimatorParams()


@dataclass(frozen=True)
class RenderedFrames(Dataset):
    """Item i is a batch of frames, each of another person: pictures (B, 3, 128, 128), gaze (B, 2), glasses (B,)."""

    split: str
    params: EstimatorParams
    batch_size: int

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor, Tensor]:
        params = self.params
        rng = np.random.default_rng([params.seed, i])
        images, scenes, glasses = [], [], []
        for number in rng.integers(params.persons, size=self.batch_size).tolist():
            person = synthetic.person_from_seed(params.seed, number, self.split)
            sample = int(rng.integers(params.samples_per_person))
            scene = synthetic.scene_from_seed(params.seed, number, sample, self.split)
            image = synthetic.render(person, scene, CANVAS_PX).image
            if rng.random() < params.photographic:
                image = like_a_photograph(image[None], rng)[0]
            images.append(image)
            scenes.append(scene)
            glasses.append(person.glasses)
        gaze = torch.tensor([scene.gaze for scene in scenes], dtype=torch.float32)
        return to_unit_range(np.stack(images)), gaze, torch.tensor(glasses)


def main(argv: list[str] | None = None) -> int:
    parser = FlagParser(prog="python -m vaegaze.train_estimator", description=__doc__.splitlines()[0])
    parser.add_argument("--overwrite", action="store_true", help="replace an estimator that is there")

    def work() -> None:
        resolved, switches = read_command(parser, EstimatorConfig, argv)
        run(resolved.config, **switches)

    return run_command(work)


def run(config: EstimatorConfig, *, overwrite: bool) -> None:
    params = config.estimator_params
    if Path(params.output).exists() and not overwrite:
        raise UserError(f"{params.output} exists; give --overwrite to replace it, or another --output")
    Path(params.output).parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=Path(params.output).parent):
        pass  # better to fail now than after the training
    device = torch.device(find_device(params.device))
    torch.set_num_threads(params.threads)
    torch.manual_seed(params.seed)
    model = GazeEstimator().to(device, memory_format=torch.channels_last)
    train(model, params, device)
    info = {
        "trained_on": f"rendered persons only ({params.steps * params.batch_size:,} frames; no photograph)",
        "own_error_deg": own_error_deg(model, params, device),
        "config": to_yaml(config),
    }
    save_estimator(params.output, model, info)
    write_text(Path(params.output).with_suffix(".md"), card(params, info, model))
    print(f"Its own error on test persons: {info['own_error_deg']}")
    print(f"✅ {params.output}")


def train(model: GazeEstimator, params: EstimatorParams, device: torch.device) -> None:
    """Train in place."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=params.learning_rate, weight_decay=1e-3)
    steps = range(params.steps)
    batches = RenderedFrames("train", params, params.batch_size)
    with progress_bar("estimator", params.steps) as bar:
        for step, (images, gaze, _) in zip(
            steps, DataLoader(batches, batch_size=None, sampler=steps, num_workers=params.workers)
        ):
            for group in optimizer.param_groups:
                group["lr"] = params.learning_rate * learning_rate_factor(step, params.steps)
            images, gaze = images.to(device, memory_format=torch.channels_last), gaze.to(device)
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=params.precision == "bf16"):
                estimate = model(images)
            loss = F.l1_loss(estimate.float(), gaze) / ANGLE_SCALE_RAD
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
            bar.update()


@torch.no_grad()
def own_error_deg(model: GazeEstimator, params: EstimatorParams, device: torch.device) -> dict[str, float]:
    """Mean angular error on true pictures of test persons: of all, and of those with and without glasses."""
    model.eval()
    batches = RenderedFrames("test", replace(params, photographic=0), MEASURED_BATCH)
    numbers = range(params.test_frames // MEASURED_BATCH)
    errors: dict[bool, list[float]] = {True: [], False: []}
    for images, gaze, glasses in DataLoader(batches, batch_size=None, sampler=numbers, num_workers=params.workers):
        for error, worn in zip(angular_error_deg(model(images.to(device)).cpu(), gaze).tolist(), glasses.tolist()):
            errors[worn].append(error)
    groups = {"all": errors[True] + errors[False], "with glasses": errors[True], "without": errors[False]}
    return {name: round(statistics.fmean(values), 3) for name, values in groups.items() if values}


def card(params: EstimatorParams, info: dict, model: GazeEstimator) -> str:
    """The page beside the estimator, in Markdown, its numbers measured."""
    parameters = sum(parameter.numel() for parameter in model.parameters())
    errors = "\n".join(f"| {name} | {error:.2f}° |" for name, error in info["own_error_deg"].items())
    return f"""# {Path(params.output).name}

A gaze estimator that judges redirected pictures. `python -m vaegaze.train_estimator` wrote it, and this page.

- **Trained on** {info["trained_on"]}. It is in no loss of this project.
- **Architecture** torchvision's ResNet with three stages of one block, {parameters:,} parameters, on the
  128 px canvas.

Mean angular error on {params.test_frames // MEASURED_BATCH * MEASURED_BATCH} rendered frames of test persons:

| persons | error |
|---|---|
{errors}

```yaml
{info["config"].strip()}
```
"""


if __name__ == "__main__":
    sys.exit(main())
