"""Which step's weights to keep: those that draw the eyes best and still obey, by the rule of `blend_choice`."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from vaegaze.evaluation.blend_choice import Judgement, StepPoint, obeys


@dataclass(frozen=True)
class BestStep:
    """The step whose weights are kept, 0 for the base model's, and all that were judged."""

    step: int
    of: int  # steps in all
    frames: int  # on which they were judged
    held_out: bool  # whether the training never saw these
    curve: list[StepPoint]

    def summary(self) -> dict:
        """For summary.json."""
        return asdict(self)


def curve_of(judged: Sequence[tuple[int, Judgement]]) -> list[StepPoint]:
    """Steps and their judgements, the base model's first; without those that draw NaN."""
    base = judged[0][1]
    finite = [(step, each) for step, each in judged if math.isfinite(each.eye_l1) or step == 0]
    return [StepPoint(step, each.eye_l1, each.gaze_error_deg, each.travel_share(base)) for step, each in finite]


def best_step(curve: Sequence[StepPoint]) -> int:
    """The step with the smallest eye L1 among those that obey; the base model always does."""
    return min((point for point in curve if obeys(point, curve[0])), key=lambda point: point.eye_l1).step
