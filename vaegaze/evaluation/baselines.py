"""What pasting the person's own eyes reaches, without any model: the numbers that fine-tuning has to beat."""

from collections.abc import Sequence

import numpy as np

from vaegaze.data.samples import Samples
from vaegaze.evaluation.eval_set import EvalSet
from vaegaze.evaluation.gaze import Estimator, gaze_errors
from vaegaze.evaluation.metrics import measure
from vaegaze.models import to_unit_range
from vaegaze.models.checkpoint import Reference
from vaegaze.training.references import nearest_reference

IMAGES_AT_ONCE = 500  # whose eyes are moved together: bounds the memory


def measure_baselines(
    train: Samples, held_out: EvalSet, references: Sequence[Reference], estimator: Estimator | None = None
) -> dict[str, dict[str, float] | None]:
    """The numbers of both baselines on held-out frames; None without held-out frames, or without references."""
    pasted = {"mean_eye_patch": None, "reference_eyes": None}
    if len(held_out):
        pasted["mean_eye_patch"] = mean_eye_patch(train, held_out.samples)
        if references:
            pasted["reference_eyes"] = reference_eyes(references, train, held_out.samples)
    numbers = {}
    for name, pixels in pasted.items():
        numbers[name] = None
        if pixels is not None:
            numbers[name] = measure(to_unit_range(pixels).to(held_out.frames.target.device), held_out.frames)
            if estimator is not None:
                true = held_out.true_gaze(estimator)
                numbers[name] |= gaze_errors(estimator, pixels, held_out.frames, train.canvas, true)
    return numbers


def mean_eye_patch(train: Samples, targets: Samples) -> np.ndarray:
    """Baseline: the mean of the training frames' eyes, pasted at each target's eye centres; (N, S, S, 3) uint8."""
    return _paste_patches(train, targets)


def reference_eyes(references: Sequence[Reference], train: Samples, targets: Samples) -> np.ndarray:
    """Baseline: the eyes of each target's nearest reference, pasted at its eye centres; (N, S, S, 3) uint8."""
    results = []
    for i, (image, head) in enumerate(zip(targets.images, targets.head)):
        reference = nearest_reference(references, image, head) or references[0]
        row = next(row for row, image in enumerate(train.images) if np.array_equal(image, reference.image))
        results.append(_paste_patches(train.take([row]), targets.take([i])))
    return np.concatenate(results)


def _paste_patches(sources: Samples, targets: Samples) -> np.ndarray:
    results = targets.images.copy()
    source_centres = np.array([eye_centres(mask) for mask in sources.eye_masks])
    for result, mask in zip(results, targets.eye_masks):
        for eye, centre in enumerate(eye_centres(mask)):
            rows, columns = np.nonzero(_one_eye(mask, eye))
            shifts = np.rint(source_centres[:, eye] - centre).astype(int)
            result[rows, columns] = np.rint(_mean_patch(sources.images, rows, columns, shifts))
    return results


def _mean_patch(images: np.ndarray, rows: np.ndarray, columns: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """The mean over images (N, H, W, 3) of the pixels (P,), moved by each image's shift (N, 2); (P, 3) float."""
    total = np.zeros((len(rows), 3))
    for first in range(0, len(images), IMAGES_AT_ONCE):
        some, by = images[first : first + IMAGES_AT_ONCE], shifts[first : first + IMAGES_AT_ONCE]
        y = np.clip(rows + by[:, :1], 0, images.shape[1] - 1)  # (images, P)
        x = np.clip(columns + by[:, 1:], 0, images.shape[2] - 1)
        total += some[np.arange(len(some))[:, None], y, x].sum(axis=0)
    return total / len(images)


def eye_centres(mask: np.ndarray) -> np.ndarray:
    """Centres (2, 2) = row, column of the image's left and right eye in a mask (S, S)."""
    return np.array([np.mean(np.nonzero(_one_eye(mask, eye)), axis=1) for eye in (0, 1)])


def _one_eye(mask: np.ndarray, eye: int) -> np.ndarray:
    """The left (0) or right (1) half of a mask, cut between the eyes; the whole mask if it is too narrow to cut."""
    columns = np.flatnonzero(mask.any(axis=0))
    middle = (columns[0] + columns[-1] + 1) / 2
    half = mask & ((np.arange(mask.shape[1]) < middle) == (eye == 0))
    return half if half.any() else mask
