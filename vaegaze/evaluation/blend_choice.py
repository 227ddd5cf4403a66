"""How much of a fine-tuning to keep: the blend of base and tuned weights that draws the eyes best and still obeys.

The more of the fine-tuning is kept, the nearer the eyes come to the person's, and the more control over the gaze can be
lost. So each blend is judged by both, on frames that the training never saw if there are any.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from vaegaze.evaluation.eval_set import EvalSet
from vaegaze.evaluation.gaze import Estimator, angular_error_deg, read_gaze
from vaegaze.evaluation.metrics import draw, eye_l1, paste
from vaegaze.models import VAEGaze, to_pixels, to_unit_range
from vaegaze.models.device import autocast
from vaegaze.renderer.redrawing import other_gazes
from vaegaze.training.blending import blend_weights

ALPHAS = (0.0, 0.15, 0.3, 0.5, 0.75, 1.0)
GAZES_PER_FRAME = 3
BATCH_SIZE = 8
SWEEP_YAW_RAD = 0.35  # iris travel is measured between this yaw and its opposite
GAZE_TOLERANCE_DEG = 0.2  # by which a blend may miss the gaze more than the base model
TRAVEL_KEPT = 0.9  # of the base model's iris travel
WORST_ESTIMATOR_DEG = 4.0  # an estimator that misreads true frames by more says nothing about these


@dataclass(frozen=True)
class BlendPoint:
    """One blend, judged."""

    alpha: float
    eye_l1: float
    gaze_error_deg: float | None  # of other gazes, the estimator's bias for the person taken off; None if it misreads
    iris_travel: float  # as a share of the base model's


@dataclass(frozen=True)
class StepPoint:
    """The weights after a step, judged alike."""

    step: int
    eye_l1: float
    gaze_error_deg: float | None
    iris_travel: float


@dataclass(frozen=True)
class BlendChoice:
    """The chosen blend, and all that were judged."""

    alpha: float
    frames: int  # on which they were judged
    held_out: bool  # whether the training never saw these
    curve: list[BlendPoint]

    def summary(self) -> dict:
        """For summary.json."""
        return asdict(self)


def choose_blend(
    model: VAEGaze,
    base: dict[str, Tensor],
    tuned: dict[str, Tensor],
    eval_set: EvalSet,
    estimator: Estimator | None,
    *,
    held_out: bool,
    precision: str = "fp32",
    check: Callable[[], None] = lambda: None,
) -> BlendChoice:
    """Set the model to the blend with the smallest eye L1 among those that still obey, and return it.

    A blend obeys if it keeps TRAVEL_KEPT of the base model's iris travel and, as far as an estimator can tell, misses
    the gaze by at most GAZE_TOLERANCE_DEG more than the base model. The base model itself always obeys.
    """
    judge, curve, first = Judge(eval_set, estimator, precision), [], None
    for alpha in ALPHAS:
        blend_weights(model, base, tuned, alpha)
        judged = judge(model, check)
        first = first or judged
        if math.isfinite(judged.eye_l1) or not curve:  # a blend that draws NaN is no choice
            curve.append(BlendPoint(alpha, judged.eye_l1, judged.gaze_error_deg, judged.travel_share(first)))
    alpha = best_blend(curve)
    blend_weights(model, base, tuned, alpha)
    return BlendChoice(alpha, len(eval_set), held_out, curve)


def best_blend(curve: Sequence[BlendPoint]) -> float:
    """The rule of `choose_blend`; the first point of the curve is the base model."""
    return min((point for point in curve if obeys(point, curve[0])), key=lambda point: point.eye_l1).alpha


def obeys(point: BlendPoint | StepPoint, base: BlendPoint | StepPoint) -> bool:
    """The rule of `choose_blend`."""
    accurate = base.gaze_error_deg is None or point.gaze_error_deg <= base.gaze_error_deg + GAZE_TOLERANCE_DEG
    return point is base or (accurate and point.iris_travel >= TRAVEL_KEPT)


@dataclass(frozen=True)
class Judgement:
    """Of one state of a model."""

    eye_l1: float
    gaze_error_deg: float | None  # as in `BlendPoint`
    iris_travel_px: float

    def travel_share(self, base: "Judgement") -> float:
        """The iris travel as a share of the base model's."""
        return self.iris_travel_px / base.iris_travel_px if base.iris_travel_px else 1.0


class Judge:
    """Judges a model's weights by how they draw the eyes of some frames, and by how well these follow a told gaze."""

    def __init__(self, eval_set: EvalSet, estimator: Estimator | None, precision: str):
        self.eval_set, self.estimator, self.precision = eval_set, estimator, precision
        self.bias = _estimator_bias(estimator, eval_set)

    def __call__(self, model: VAEGaze, check: Callable[[], None] = lambda: None) -> Judgement:
        frames = self.eval_set.frames
        with autocast(frames.target.device.type, self.precision):  # anew, since autocast caches converted weights
            drawn = draw(model, frames, check, batch_size=BATCH_SIZE).float()
            error = eye_l1(drawn, frames.target, frames.eye_masks * frames.valid).mean().item()
            gaze_error = None
            if self.bias is not None:
                gaze_error = _gaze_error_deg(model, self.eval_set, self.estimator, self.bias, check)
            return Judgement(error, gaze_error, iris_travel_px(model, self.eval_set, check))


def _estimator_bias(estimator: Estimator | None, eval_set: EvalSet) -> Tensor | None:
    """Mean difference (2,) in radians between readings of the true frames and labels; None if it cannot read them."""
    if estimator is None:
        return None
    frames = eval_set.frames
    read = eval_set.true_gaze(estimator)
    bias = (read - frames.gaze).mean(dim=0)
    error = angular_error_deg(read, frames.gaze) if len(frames) == 1 else angular_error_deg(read - bias, frames.gaze)
    return bias if error.mean() <= WORST_ESTIMATOR_DEG else None


def _gaze_error_deg(
    model: VAEGaze, eval_set: EvalSet, estimator: Estimator, bias: Tensor, check: Callable[[], None]
) -> float:
    """Mean angle between requested gazes and those read from the drawings, with `bias` subtracted."""
    gazes = other_gazes(eval_set.samples)[:, :GAZES_PER_FRAME].astype(np.float32)  # (N, K, 2)
    rows = torch.arange(len(eval_set)).repeat_interleave(gazes.shape[1])
    frames = eval_set.frames.take(rows).looking(torch.from_numpy(gazes.reshape(-1, 2)))
    samples = eval_set.samples.take(rows.numpy())
    pasted = paste(to_pixels(draw(model, frames, check, batch_size=BATCH_SIZE).float()), samples)
    read = read_gaze(estimator, to_unit_range(pasted).to(frames.target.device), frames.head, samples.canvas)
    return angular_error_deg(read - bias, frames.gaze).mean().item()


def iris_travel_px(model: VAEGaze, eval_set: EvalSet, check: Callable[[], None] = lambda: None) -> float:
    """How far the dark of the eyes moves, in canvas pixels, between looks to both sides; mean over frames.

    The dark is the centroid of darkness within the eye mask. Lashes and shadows, which stay where they are, dilute the
    travel, but alike for every model.
    """
    looks = []
    for yaw in (SWEEP_YAW_RAD, -SWEEP_YAW_RAD):
        gaze = eval_set.frames.gaze.clone()
        gaze[:, 1] = yaw
        drawn = draw(model, eval_set.frames.looking(gaze), check, batch_size=BATCH_SIZE).float()
        looks.append(_darkness_centroids(drawn, eval_set))
    return (looks[1] - looks[0]).mean().item()  # yaw > 0 looks to the picture's left


def _darkness_centroids(pictures: Tensor, eval_set: EvalSet) -> Tensor:
    """x (N,) of the darkness within the eye masks of pictures (N, 3, H, W) in [−1, 1]."""
    masks = (eval_set.frames.eye_masks * eval_set.frames.valid)[:, 0]
    luminance = pictures.mean(dim=1)
    mean = (luminance * masks).sum(dim=(1, 2), keepdim=True) / masks.sum(dim=(1, 2), keepdim=True)
    darkness = (mean - luminance).clamp(min=0).square() * masks
    columns = torch.arange(pictures.shape[-1], device=pictures.device) + 0.5
    return (darkness * columns).sum(dim=(1, 2)) / darkness.sum(dim=(1, 2)).clamp(min=1e-9)
