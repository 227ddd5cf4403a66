"""The numbers: how well frames are redrawn, and what a trivial method would have reached."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from vaegaze.data.masks import FEATHER_OF_CANVAS, inward_alpha
from vaegaze.data.samples import Samples
from vaegaze.losses import mean_over
from vaegaze.models import VAEGaze, to_unit_range
from vaegaze.models.checkpoint import Reference
from vaegaze.training import Frames

METRICS = ("l1", "eye_l1", "eye_psnr", "ssim")
BEST_PSNR_DB = 100.0  # of a perfect copy, whose own would be infinite, which no JSON holds


@torch.no_grad()
def draw(model: VAEGaze, frames: Frames, check: Callable[[], None] = lambda: None) -> Tensor:
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
    _, ssim_map = structural_similarity_index_measure(
        (results * frames.valid + 1) / 2, (frames.target * frames.valid + 1) / 2, data_range=1.0, return_full_image=True
    )  # (N, 3, S, S)
    values = {
        "l1": mean_over(error, frames.valid),
        "eye_l1": mean_over(error, eyes),
        "eye_psnr": (10 * torch.log10(2.0**2 / squared_eye_error)).clamp(max=BEST_PSNR_DB),
        "ssim": mean_over(ssim_map, frames.valid),
    }
    return {name: values[name].mean().item() for name in METRICS}


def paste(results: np.ndarray, samples: Samples) -> np.ndarray:
    """Results (N, S, S, 3) uint8 into the frames they were drawn for; pixels outside the eyes stay as they were."""
    feather_px = results.shape[1] * FEATHER_OF_CANVAS
    alpha = inward_alpha(samples.eye_masks & samples.valid, feather_px)[..., None]
    return np.rint(samples.images + alpha * (results.astype(np.float32) - samples.images)).astype(np.uint8)


def measure_baselines(
    train: Samples, held_out: Samples, frames: Frames, reference: Reference | None
) -> dict[str, dict[str, float] | None]:
    """What pasting eyes reaches on held-out samples, of which `frames` are the tensors.

    None where the training frames would have to stand for them, or where there is no reference.
    """
    pasted = {"mean_eye_patch": None, "reference_eyes": None}
    if len(held_out):
        pasted["mean_eye_patch"] = mean_eye_patch(train, held_out)
        if reference is not None:
            pasted["reference_eyes"] = reference_eyes(reference, train, held_out)
    device = frames.target.device
    return {
        name: None if pixels is None else measure(to_unit_range(pixels).to(device), frames)
        for name, pixels in pasted.items()
    }


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
