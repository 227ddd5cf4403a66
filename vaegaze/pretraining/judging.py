"""Where the eyes that a pre-trained model draws seem to look."""

from collections.abc import Sequence

import torch

from vaegaze.evaluation.gaze import Estimator, gaze_errors
from vaegaze.geometry.pasting import paste_on_canvas
from vaegaze.models import VAEGaze, to_pixels
from vaegaze.pretraining.losses import redraw_eyes
from vaegaze.pretraining.sources import HeldOut

WORDS = {
    "gaze_error_deg": "the label",
    "gaze_error_to_target_deg": "the estimator's reading of the true frame",
    "estimator_error_deg": "label and true frame: the estimator's own error",
}


@torch.no_grad()
def judge_gaze(model: VAEGaze, estimator: Estimator, held_out: Sequence[HeldOut]) -> dict[str, float]:
    """Mean angular errors in degrees over held-out frames, the drawn eyes in their places, by what they are against."""
    errors = []
    for batch in (batch for each in held_out for batch in each.batches):
        drawn, true = (to_pixels(each) for each in (redraw_eyes(model, batch).float(), batch.target))
        pasted = paste_on_canvas(
            drawn, true, batch.eye_masks[:, 0].cpu().numpy() > 0, model.canvas, batch.valid[:, 0].cpu().numpy() > 0
        )
        errors.append(gaze_errors(estimator, pasted, batch, model.canvas))
    return {words: sum(each[name] for each in errors) / len(errors) for name, words in WORDS.items()}
