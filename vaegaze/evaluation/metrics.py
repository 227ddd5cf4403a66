"""The numbers: how well frames are redrawn, and what a trivial method would have reached."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vaegaze.data.samples import Samples
from vaegaze.geometry.pasting import paste_on_canvas
from vaegaze.models import to_pixels, to_unit_range
from vaegaze.models.checkpoint import Reference
from vaegaze.training.frames import Frames
from vaegaze.training.losses import mean_over

METRICS = ("l1", "eye_l1", "eye_psnr", "ssim")
BEST_PSNR_DB = 100.0  # of a perfect copy, whose own would be infinite, which no JSON holds
AT_ONCE = 16  # pictures that a network judges

Drawing = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]  # a VAEGaze, or what takes and gives the same
Estimator = Callable[[Tensor], Tensor]  # pictures (B, 3, S, S) in [−1, 1] → gaze (B, 2) = pitch, yaw in radians


@dataclass(frozen=True)
class Redirections:
    """Frames told to look elsewhere, and what they would then have looked like."""

    frames: Frames  # (N, …): the latents are those of the original frames, target and gaze are of the true pictures
    originals: Samples  # (N, …): what a result is pasted into


def redirect(frames: Frames, samples: Samples, true: Samples) -> Redirections:
    """The frames, which are the samples' tensors, told to look as the `true` pictures do, as many of each frame."""
    rows = np.repeat(np.arange(len(samples)), len(true) // len(samples))
    device = frames.target.device
    told = replace(
        frames.take(torch.from_numpy(rows).to(device)).without_precomputed(),
        target=to_unit_range(true.images).to(device),
        gaze=torch.from_numpy(true.gaze).to(device),
    )
    return Redirections(told, samples.take(rows))


def evaluate(
    model: Drawing,
    frames: Frames,
    samples: Samples,
    estimator: Estimator | None = None,
    redirections: Redirections | None = None,
    check: Callable[[], None] = lambda: None,
    drawn: Tensor | None = None,
) -> dict[str, float | None]:
    """All numbers of a model on frames, which are the samples' tensors, and of which it may have `drawn` all already.

    Those of `measure`, those of `judge`, lpips (None without its weights), outside_mask: the largest difference that
    pasting made outside the eye masks (0..255, and always 0); and with `redirections` the same against the true
    pictures, as redirected_….
    """
    drawn = draw(model, frames, check) if drawn is None else drawn
    numbers = _numbers(drawn, frames, samples, estimator)
    if redirections is not None:
        told = redirections.frames
        redirected = _numbers(draw(model, told, check), told, redirections.originals, estimator)
        numbers |= {f"redirected_{name}": value for name, value in redirected.items()}
    return numbers


def _numbers(
    results: Tensor, frames: Frames, originals: Samples, estimator: Estimator | None
) -> dict[str, float | None]:
    pasted = paste(to_pixels(results), originals)
    numbers = measure(results, frames) | {"lpips": lpips(results, frames.target)}
    numbers["outside_mask"] = float(outside_difference(pasted, originals))
    return numbers if estimator is None else numbers | judge(estimator, pasted, frames)


def all_finite(numbers: dict[str, float | None]) -> bool:
    return all(value is None or math.isfinite(value) for value in numbers.values())


@torch.no_grad()
def judge(estimator: Estimator, pictures: np.ndarray, frames: Frames) -> dict[str, float]:
    """Mean angular errors, in degrees, of what an estimator reads off pictures (N, S, S, 3) uint8.

    gaze_error_deg is against the label (ST-ED's protocol), gaze_error_to_target_deg against what it reads off the
    frames' targets (GazeNeRF's), and estimator_error_deg its own error on these targets, to be kept in mind.
    """
    drawn = _estimates(estimator, to_unit_range(pictures).to(frames.target.device))
    true = _estimates(estimator, frames.target)
    pairs = {
        "gaze_error_deg": (drawn, frames.gaze),
        "gaze_error_to_target_deg": (drawn, true),
        "estimator_error_deg": (true, frames.gaze),
    }
    return {name: angular_error_deg(*pair).mean().item() for name, pair in pairs.items()}


def _estimates(estimator: Estimator, pictures: Tensor) -> Tensor:
    return torch.cat([estimator(few) for few in pictures.split(AT_ONCE)])


def angular_error_deg(first: Tensor, second: Tensor) -> Tensor:
    """Angles (B,) in degrees between directions (B, 2) = pitch, yaw in radians (those of `geometry.gaze_vector`).

    Twice the arcsine of half the distance of the unit vectors: the arccosine of their product is blunt near 0.
    """

    def vectors(angles: Tensor) -> Tensor:
        pitch, yaw = angles.double().unbind(-1)
        return torch.stack([pitch.cos() * yaw.sin(), pitch.sin(), pitch.cos() * yaw.cos()], dim=-1)  # (B, 3)

    distance = (vectors(first) - vectors(second)).norm(dim=-1)
    return torch.rad2deg(2 * torch.asin((distance / 2).clamp(max=1)))


def outside_difference(pasted: np.ndarray, samples: Samples) -> int:
    """The largest difference (0..255) between pasted results and the samples' images outside the eye masks."""
    difference = np.abs(pasted.astype(int) - samples.images).max(axis=-1)
    return int((difference * ~samples.eye_masks).max())


@torch.no_grad()
def lpips(results: Tensor, targets: Tensor) -> float | None:
    """Mean LPIPS (AlexNet, Zhang et al. 2018, arXiv:1801.03924); None where AlexNet's weights are not cached."""
    from torchvision.models import AlexNet_Weights

    file_name = AlexNet_Weights.IMAGENET1K_V1.url.rpartition("/")[2]
    if not (Path(torch.hub.get_dir()) / "checkpoints" / file_name).is_file():
        return None
    from torchmetrics.functional.image import learned_perceptual_image_patch_similarity

    sums = [
        len(few) * learned_perceptual_image_patch_similarity(few, true, net_type="alex")
        for few, true in zip(results.split(AT_ONCE), targets.split(AT_ONCE))
    ]
    return torch.stack(sums).sum().item() / len(results)


@torch.no_grad()
def draw(model: Drawing, frames: Frames, check: Callable[[], None] = lambda: None) -> Tensor:
    """Redraw every frame, one by one so that the result does not depend on their number: (N, 3, S, S) in [−1, 1]."""
    results = []
    for i in range(len(frames)):
        check()
        frame = frames.take(slice(i, i + 1))
        results.append(model(frame.masked_latents, frame.reference_latents, frame.head, frame.gaze).clamp(-1, 1))
    return torch.cat(results)


def measure(results: Tensor, frames: Frames) -> dict[str, float]:
    """Means over frames of results (N, 3, S, S) in [−1, 1] against the frames' targets.

    l1 over valid pixels, eye_l1 and eye_psnr over the eye pixels (range [−1, 1], PSNR in dB), ssim over valid pixels
    (11 × 11 Gaussian window, on [0, 1]).
    """
    from torchmetrics.functional.image import structural_similarity_index_measure  # slow to import, needed only here

    eyes = frames.eye_masks * frames.valid
    error = (results - frames.target).abs()
    squared_eye_error = mean_over(error.square(), eyes)
    ssim_maps = [
        structural_similarity_index_measure(
            (result[None] + 1) / 2, (target[None] + 1) / 2, data_range=1.0, return_full_image=True
        )[1]
        for result, target in zip(results * frames.valid, frames.target * frames.valid)  # all at once need gigabytes
    ]
    ssim_map = torch.cat(ssim_maps)  # (N, 3, S, S)
    values = {
        "l1": mean_over(error, frames.valid),
        "eye_l1": mean_over(error, eyes),
        "eye_psnr": (10 * torch.log10(2.0**2 / squared_eye_error)).clamp(max=BEST_PSNR_DB),
        "ssim": mean_over(ssim_map, frames.valid),
    }
    return {name: values[name].mean().item() for name in METRICS}


def paste(results: np.ndarray, samples: Samples) -> np.ndarray:
    """Results (N, H, W, 3) uint8 into the frames they were drawn for; pixels outside the eyes stay as they were."""
    return paste_on_canvas(results, samples.images, samples.eye_masks & samples.valid, samples.canvas)


def measure_baselines(
    train: Samples, held_out: Samples, frames: Frames, reference: Reference | None, estimator: Estimator | None = None
) -> dict[str, dict[str, float] | None]:
    """What pasting eyes reaches on held-out samples, of which `frames` are the tensors.

    None where the training frames would have to stand for them, or where there is no reference.
    """
    pasted = {"mean_eye_patch": None, "reference_eyes": None}
    if len(held_out):
        pasted["mean_eye_patch"] = mean_eye_patch(train, held_out)
        if reference is not None:
            pasted["reference_eyes"] = reference_eyes(reference, train, held_out)
    numbers = {}
    for name, pixels in pasted.items():
        numbers[name] = None
        if pixels is not None:
            numbers[name] = measure(to_unit_range(pixels).to(frames.target.device), frames)
            if estimator is not None:
                numbers[name] |= judge(estimator, pixels, frames)
    return numbers


def mean_eye_patch(train: Samples, targets: Samples) -> np.ndarray:
    """Baseline: the mean of the training frames' eyes, pasted at each target's eye centres; (N, S, S, 3) uint8."""
    return _paste_patches(train, targets)


def reference_eyes(reference: Reference, train: Samples, targets: Samples) -> np.ndarray:
    """Baseline: the reference frame's eyes, pasted at each target's eye centres; (N, S, S, 3) uint8."""
    row = next(i for i, image in enumerate(train.images) if np.array_equal(image, reference.image))
    return _paste_patches(train.take([row]), targets)


def _paste_patches(sources: Samples, targets: Samples) -> np.ndarray:
    results = targets.images.copy()
    source_centres = [eye_centres(mask) for mask in sources.eye_masks]
    for result, mask in zip(results, targets.eye_masks):
        for eye, centre in enumerate(eye_centres(mask)):
            rows, columns = np.nonzero(_one_eye(mask, eye))
            patches = [
                image[
                    np.clip(rows + round(source[eye][0] - centre[0]), 0, len(image) - 1),
                    np.clip(columns + round(source[eye][1] - centre[1]), 0, len(image) - 1),
                ]
                for image, source in zip(sources.images, source_centres)
            ]  # of each source (eye pixels, 3)
            result[rows, columns] = np.rint(np.mean(patches, axis=0))
    return results


def eye_centres(mask: np.ndarray) -> np.ndarray:
    """Centres (2, 2) = row, column of the image's left and right eye in a mask (S, S)."""
    return np.array([np.mean(np.nonzero(_one_eye(mask, eye)), axis=1) for eye in (0, 1)])


def _one_eye(mask: np.ndarray, eye: int) -> np.ndarray:
    """The left (0) or right (1) half of a mask, cut between both eyes; all of a mask that is too narrow to cut."""
    columns = np.flatnonzero(mask.any(axis=0))
    middle = (columns[0] + columns[-1] + 1) / 2
    half = mask & ((np.arange(mask.shape[1]) < middle) == (eye == 0))
    return half if half.any() else mask
