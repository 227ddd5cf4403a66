"""How well a model redraws frames, in numbers."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vaegaze.data.samples import Samples
from vaegaze.evaluation.eval_set import EvalSet
from vaegaze.evaluation.gaze import AT_ONCE, UNBIASED, Estimator, read_drawn, reading_angles
from vaegaze.evaluation.ssim import ssim_map
from vaegaze.geometry.pasting import paste_on_canvas
from vaegaze.models import to_pixels
from vaegaze.models.cpu import drawing_forms
from vaegaze.training.losses import mean_over
from vaegaze.training.tensors import Frames

METRICS = ("l1", "eye_l1", "eye_psnr", "ssim")
BEST_PSNR_DB = 100.0  # of a perfect copy, whose true value, infinity, JSON cannot hold

DRAWN_AT_ONCE = 4  # pictures
FEWEST_FRAMES = 4  # whose spread says anything
ALEXNET_FILE = "alexnet-owt-7be5be79.pth"  # torchvision's, in the cache

Drawing = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]  # a VAEGaze, or a function with its signature


@dataclass(frozen=True)
class Evaluation:
    """What a model's drawings of N frames are worth."""

    numbers: dict[str, float | None]
    per_frame: dict[str, Tensor]  # (N,) on the CPU: the values behind the means, of a frame's K gazes each


def evaluate(
    model: Drawing,
    eval_set: EvalSet,
    estimator: Estimator | None = None,
    check: Callable[[], None] = lambda: None,
    drawn: Tensor | None = None,
    redirected: Tensor | None = None,
) -> Evaluation:
    """All numbers of a model: those of `measure` and `gaze_errors`, lpips (None without its weights), outside_mask.

    outside_mask is the largest difference that pasting made outside the eye masks (0..255, and always 0). With
    redirections the same against the true pictures, as redirected_…. `drawn` and `redirected` are its drawings, if they
    exist already; `check` is called before every few pictures and may raise.
    """
    numbers: dict[str, float | None] = {}
    per_frame: dict[str, Tensor] = {}
    for prefix, each, drawings in (("", eval_set, drawn), ("redirected_", eval_set.redirections, redirected)):
        if each is None:
            continue
        if drawings is None:
            drawings = draw(model, each.frames, check, batch_size=DRAWN_AT_ONCE)
        values, others = _judge(drawings, each, estimator)
        means = {name: value.mean().item() for name, value in values.items()}
        numbers |= {prefix + name: value for name, value in (means | others).items()}
        for name, value in values.items():
            per_frame[prefix + name] = value.reshape(len(eval_set), -1).mean(dim=1).cpu()
    return Evaluation(numbers, per_frame)


def _judge(
    results: Tensor, eval_set: EvalSet, estimator: Estimator | None
) -> tuple[dict[str, Tensor], dict[str, float | None]]:
    """What is a mean over pictures, picture by picture (N,); and the other numbers."""
    pasted = paste(to_pixels(results), eval_set.samples)
    values, others = measure_each(results, eval_set.frames), {"lpips": lpips(results, eval_set.frames.target)}
    others["outside_mask"] = float(outside_difference(pasted, eval_set.samples))
    if estimator is None:
        return values, others
    drawn = read_drawn(estimator, pasted, eval_set.frames, eval_set.samples.canvas)
    values |= reading_angles(drawn, eval_set.true_gaze(estimator), eval_set.frames.gaze)
    if len(eval_set) == 1:  # without its bias nothing is left of a single picture
        del values[UNBIASED]
        others[UNBIASED] = None
    return values, others


def two_standard_errors(before: dict[str, Tensor], after: dict[str, Tensor]) -> dict[str, float]:
    """How far the mean change from before to after is uncertain, for each metric of the same N frames (N,).

    Other frames of this person would give a mean change within so much of it in about 95 of 100 cases, with few frames
    in fewer: with four, in 86. Nothing for fewer than four.
    """
    changes = {name: after[name].double() - before[name].double() for name in after if name in before}
    return {
        name: 2 * change.std().item() / len(change) ** 0.5
        for name, change in changes.items()
        if len(change) >= FEWEST_FRAMES
    }


def all_finite(numbers: dict[str, float | None]) -> bool:
    return all(value is None or math.isfinite(value) for value in numbers.values())


def eye_l1(results: Tensor, targets: Tensor, eye_masks: Tensor) -> Tensor:
    """Mean absolute difference (B,) over the eyes of pictures (B, 3, S, S); eye_masks (B, 1, S, S) in {0, 1}."""
    return mean_over((results - targets).abs(), eye_masks)


def eye_psnr(results: Tensor, targets: Tensor, eye_masks: Tensor) -> Tensor:
    """Peak signal-to-noise ratio (B,) in dB over the eyes of pictures (B, 3, S, S) in [−1, 1], at most 100."""
    squared_error = mean_over((results - targets).square(), eye_masks)
    return (10 * torch.log10(2.0**2 / squared_error)).clamp(max=BEST_PSNR_DB)


def outside_difference(pasted: np.ndarray, samples: Samples) -> int:
    """The largest difference (0..255) between pasted results and the samples' images outside the eye masks."""
    difference = np.abs(pasted.astype(int) - samples.images).max(axis=-1)
    return int((difference * ~samples.eye_masks).max())


@torch.no_grad()
def lpips(results: Tensor, targets: Tensor) -> float | None:
    """Mean LPIPS (AlexNet, Zhang et al. 2018, arXiv:1801.03924); None where AlexNet's weights are not cached."""
    if not (Path(torch.hub.get_dir()) / "checkpoints" / ALEXNET_FILE).is_file():
        return None
    from torchmetrics.functional.image import learned_perceptual_image_patch_similarity

    sums = [
        len(few) * learned_perceptual_image_patch_similarity(few, true, net_type="alex")
        for few, true in zip(results.split(AT_ONCE), targets.split(AT_ONCE))
    ]
    return torch.stack(sums).sum().item() / len(results)


@torch.no_grad()
def draw(model: Drawing, frames: Frames, check: Callable[[], None] = lambda: None, *, batch_size: int = 1) -> Tensor:
    """Redraw every frame: (N, 3, H, W) in [−1, 1].

    In batches of one fixed size, the last one filled up, so that a result does not depend on the number of frames.
    """
    results = []
    with drawing_forms(model):
        for start in range(0, len(frames), batch_size):
            check()
            rows = torch.arange(start, start + batch_size).clamp(max=len(frames) - 1)
            few = frames.take(slice(start, start + 1) if batch_size == 1 else rows)
            drawn = model(few.masked_latents, few.reference_latents, few.head, few.gaze).clamp(-1, 1)
            results.append(drawn[: len(frames) - start])
    return torch.cat(results).contiguous()


def measure(results: Tensor, frames: Frames) -> dict[str, float]:
    """The means of `measure_each`."""
    return {name: values.mean().item() for name, values in measure_each(results, frames).items()}


def measure_each(results: Tensor, frames: Frames) -> dict[str, Tensor]:
    """Values (N,) of results (N, 3, S, S) in [−1, 1] against the frames' targets.

    l1 over valid pixels, eye_l1 and eye_psnr over the eye pixels (range [−1, 1], PSNR in dB), ssim over valid pixels
    (11 × 11 Gaussian window, on [0, 1]).
    """
    eyes = frames.eye_masks * frames.valid
    maps = [  # one by one: all need gigabytes
        ssim_map((result[None] + 1) / 2, (target[None] + 1) / 2)
        for result, target in zip(results * frames.valid, frames.target * frames.valid)
    ]
    values = {
        "l1": mean_over((results - frames.target).abs(), frames.valid),
        "eye_l1": eye_l1(results, frames.target, eyes),
        "eye_psnr": eye_psnr(results, frames.target, eyes),
        "ssim": mean_over(torch.cat(maps), frames.valid),
    }
    return {name: values[name] for name in METRICS}


def paste(results: np.ndarray, samples: Samples) -> np.ndarray:
    """Results (N, S, S, 3) uint8 into the frames they were drawn for; pixels outside the eyes stay as they were."""
    return paste_on_canvas(results, samples.images, samples.eye_masks & samples.valid, samples.canvas, samples.valid)
