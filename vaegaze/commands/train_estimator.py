"""Train the gaze estimator that judges pictures: `vaegaze train_estimator`.

It is trained only on rendered persons of the train split, and measured on the test split, with and without glasses.
"""

import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from vaegaze.commands.outputs import refuse_model_output
from vaegaze.commands.precision import warn_if_emulated
from vaegaze.commands.progress import progress_bar
from vaegaze.commands.running import run_with_settings
from vaegaze.config import shared
from vaegaze.config.tree import option, to_yaml
from vaegaze.evaluation.gaze import angular_error_deg
from vaegaze.files import write_text
from vaegaze.models import to_unit_range
from vaegaze.models.device import find_device, find_precision
from vaegaze.models.estimator import ANGLE_SCALE_RAD, CANVAS, GazeEstimator, save_estimator
from vaegaze.pretraining.loop import learning_rate_factor
from vaegaze.pretraining.rendered import like_a_photograph
from vaegaze.pretraining.workers import ignore_signals
from vaegaze.renderer import data_set as synthetic
from vaegaze.training.optimizer import AdamW

RENDERED_AT_ONCE = 40  # frames


@dataclass(frozen=True)
class EstimatorParams:
    """Training of the gaze estimator"""

    output: str = option("./outputs/gaze_estimator/gaze_estimator.pth", help="the finished estimator", metavar="PATH")
    seed: int = shared.seed("draws persons, frames and initial weights")
    device: str = shared.device()
    precision: str = shared.precision()
    threads: int = option(2, help="CPU threads", low=1, high=1024)
    workers: int = option(2, help="rendering processes", low=0, high=1024)
    persons: int = option(100_000, help="rendered train persons to draw from", low=1)
    samples_per_person: int = option(32, help="frames of each person", low=1)
    photographic: float = option(0.3, help="share of frames made sharper and recoloured", low=0, high=1)
    frames: int = option(40_000, help="frames to learn from, rendered first", low=1)
    epochs: int = option(8, help="passes over the frames", low=1)
    batch_size: int = option(32, help="frames per step", low=1)
    learning_rate: float = option(1.5e-3, help="peak of the cosine schedule", above=0)
    test_frames: int = option(1200, help="frames of test persons to measure on", low=1)


@dataclass(frozen=True)
class EstimatorConfig:
    """The settings of one training."""

    estimator_params: EstimatorParams = EstimatorParams()


@dataclass(frozen=True)
class RenderedFrames(Dataset):
    """Frame i of random persons of `split`: pixels (64, 128, 3) uint8, gaze (2,), and whether glasses are worn."""

    split: str
    count: int
    params: EstimatorParams

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor, bool]:
        params = self.params
        rng = np.random.default_rng([params.seed, i])
        number, sample = int(rng.integers(params.persons)), int(rng.integers(params.samples_per_person))
        person = synthetic.person_from_seed(params.seed, number, self.split)
        scene = synthetic.scene_from_seed(params.seed, number, sample, self.split)
        image = synthetic.render(person, scene, CANVAS).image
        if self.split == "train" and rng.random() < params.photographic:
            image = like_a_photograph(image[None], rng)[0]
        return torch.from_numpy(image), torch.tensor(scene.gaze, dtype=torch.float32), person.glasses

    def render_all(self) -> list[Tensor]:
        """Pixels (N, 64, 128, 3), gaze (N, 2), glasses (N,) of all frames."""
        loader = DataLoader(self, RENDERED_AT_ONCE, num_workers=self.params.workers, worker_init_fn=ignore_signals)
        pixels = torch.empty(self.count, *CANVAS.shape, 3, dtype=torch.uint8)
        columns = [pixels, torch.empty(self.count, 2), torch.empty(self.count, dtype=torch.bool)]
        with progress_bar(f"rendering {self.split} persons", self.count) as bar:
            for start, batch in zip(range(0, self.count, RENDERED_AT_ONCE), loader):
                rows = slice(start, start + len(batch[0]))
                for column, values in zip(columns, batch):
                    column[rows] = values  # copied: batches are in shared memory, which is scarce
                bar.update(len(batch[0]))
        return columns


def main(argv: list[str] | None = None) -> int:
    return run_with_settings(
        EstimatorConfig,
        lambda resolved, **switches: run(resolved.config, **switches),
        argv,
        prog="vaegaze train_estimator",
        description="Train the gaze estimator that judges pictures.",
        switches=[shared.OVERWRITE],
        hint="nothing was written",
        less_memory="give fewer --frames, or a smaller --batch_size",
        advice=shared.advice("device"),
    )


def run(config: EstimatorConfig, *, overwrite: bool) -> None:
    params = config.estimator_params
    refuse_model_output(Path(params.output), "--output", overwrite=overwrite)  # better now than after the training
    device = torch.device(find_device(params.device))
    params = replace(params, precision=find_precision(params.precision, str(device)))
    torch.set_num_threads(params.threads)
    warn_if_emulated(params.precision, str(device))
    torch.manual_seed(params.seed)
    model = GazeEstimator().to(device, memory_format=torch.channels_last)
    train(model, params, device)
    info = {
        "trained_on": f"rendered persons only ({params.frames:,} frames; no photograph)",
        "own_error_deg": own_error_deg(model, params, device),
        "config": to_yaml(replace(config, estimator_params=params)),
    }
    save_estimator(params.output, model, info)
    write_text(Path(params.output).with_suffix(".md"), card(params, info, model))
    print(f"Its own error on test persons: {info['own_error_deg']}")
    print(f"✅ {params.output}")


def train(model: GazeEstimator, params: EstimatorParams, device: torch.device) -> None:
    """Train in place."""
    images, gaze, _ = RenderedFrames("train", params.frames, params).render_all()
    optimizer = AdamW(model.parameters(), lr=params.learning_rate, weight_decay=1e-3)
    steps, step = params.epochs * math.ceil(params.frames / params.batch_size), 0
    with progress_bar("estimator", steps) as bar:
        for _ in range(params.epochs):
            for rows in torch.randperm(params.frames).split(params.batch_size):
                for group in optimizer.param_groups:
                    group["lr"] = params.learning_rate * learning_rate_factor(step, steps)
                pictures = to_unit_range(images[rows].numpy()).to(device, memory_format=torch.channels_last)
                with torch.autocast(device.type, dtype=torch.bfloat16, enabled=params.precision == "bf16"):
                    estimate = model(pictures)
                loss = F.l1_loss(estimate.float(), gaze[rows].to(device)) / ANGLE_SCALE_RAD
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                step += 1
                bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
                bar.update()


@torch.no_grad()
def own_error_deg(model: GazeEstimator, params: EstimatorParams, device: torch.device) -> dict[str, float]:
    """Mean angular error on rendered pictures of test persons: all, with glasses, without."""
    model.eval()
    images, gaze, glasses = RenderedFrames("test", params.test_frames, params).render_all()
    parts = images.split(RENDERED_AT_ONCE)
    estimates = torch.cat([model(to_unit_range(few.numpy()).to(device)).cpu() for few in parts])
    errors = angular_error_deg(estimates, gaze)
    groups = {"all": errors, "with glasses": errors[glasses], "without": errors[~glasses]}
    return {name: round(values.mean().item(), 3) for name, values in groups.items() if len(values)}


def card(params: EstimatorParams, info: dict, model: GazeEstimator) -> str:
    """The page beside the estimator, in Markdown, its numbers measured."""
    parameters = sum(parameter.numel() for parameter in model.parameters())
    errors = "\n".join(f"| {name} | {error:.2f}° |" for name, error in info["own_error_deg"].items())
    return f"""# {Path(params.output).name}

A gaze estimator that judges redirected pictures. `vaegaze train_estimator` wrote it and this page.

- **Trained on** {info["trained_on"]}. No loss of this project uses it.
- **Architecture** torchvision's ResNet with three stages of one block, {parameters:,} parameters, on the
  band around the eyes, 128 × 64 px at a focal length of 667 px; one for both eyes, the right one mirrored.

Mean angular error on {params.test_frames:,} rendered frames of test persons:

| persons | error |
|---|---|
{errors}

```yaml
{info["config"].strip()}
```
"""


if __name__ == "__main__":
    sys.exit(main())
