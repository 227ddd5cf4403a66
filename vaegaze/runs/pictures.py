"""The pictures of a run, as sheets."""

from collections.abc import Callable

import numpy as np
import torch

from vaegaze.data.samples import Samples
from vaegaze.evaluation.eval_set import EvalSet
from vaegaze.evaluation.metrics import draw, paste
from vaegaze.images.sheets import picture_sheet
from vaegaze.models import VAEGaze, to_pixels
from vaegaze.report.pictures import eye_area

BEFORE_AFTER, EYES_PX = 3, 320  # frames, and the least longer side of each, since small differences are to be seen
SHEET_PITCHES_RAD, SHEET_YAWS_RAD = (0.25, 0.0, -0.25), (0.4, 0.0, -0.4)


def results_sheet(model: VAEGaze, eval_sets: dict[str, EvalSet]) -> np.ndarray:
    """A row per frame: target, masked input, result, pasted result; labelled with the set's name and the index."""
    rows = []
    for kind, each in eval_sets.items():
        if len(each):
            results = to_pixels(draw(model, each.frames))
            masked = to_pixels(model.mask(each.frames.target, each.frames.eye_masks))
            pictures = zip(each.samples.images, masked, results, paste(results, each.samples))
            rows += [(f"{kind}\n{index}", row) for index, row in zip(each.samples.indices, pictures)]
    return picture_sheet(("target", "masked input", "result", "pasted result"), rows)


def gazes_sheet(model: VAEGaze, one: EvalSet, check: Callable[[], None]) -> np.ndarray:
    """One frame (N = 1) with nine other gazes, pasted. `check` is called before each drawing and may raise."""
    gazes = [(pitch, yaw) for pitch in SHEET_PITCHES_RAD for yaw in SHEET_YAWS_RAD]
    every = one.take([0] * len(gazes))
    drawn = draw(model, every.frames.looking(torch.tensor(gazes)), check)
    pasted = iter(paste(to_pixels(drawn), every.samples))
    rows = [(f"pitch\n{pitch:+.2f}", [next(pasted) for _ in SHEET_YAWS_RAD]) for pitch in SHEET_PITCHES_RAD]
    return picture_sheet([f"yaw {yaw:+.2f}" for yaw in SHEET_YAWS_RAD], rows)


def before_after(samples: Samples, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """The eyes of the first few frames, a column each: as they are, and drawn before and after training, pasted.

    `before` and `after` (N, S, S, 3) uint8 are drawings of the N samples.
    """
    few = slice(BEFORE_AFTER)
    some, before, after = samples.take(few), before[few], after[few]
    rows, columns = eye_area(some.eye_masks.any(axis=0))
    shown = {"as it is": some.images, "before": paste(before, some), "after": paste(after, some)}
    named = [(caption, list(pictures[:, rows, columns])) for caption, pictures in shown.items()]
    return picture_sheet([f"frame {index}" for index in some.indices], named, EYES_PX)
