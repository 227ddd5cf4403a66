"""Which weights a run keeps in the end: those of its best step, or of its last one, blended with the base's."""

from collections.abc import Callable
from dataclasses import asdict, replace

import numpy as np

from vaegaze.config.finetune import OneshotParams
from vaegaze.data.samples import Samples
from vaegaze.evaluation.best_step import BestStep, best_step, curve_of
from vaegaze.evaluation.blend_choice import BlendChoice, Judge, Judgement, StepPoint, choose_blend
from vaegaze.evaluation.eval_set import EvalSet
from vaegaze.evaluation.gaze import Estimator
from vaegaze.models import VAEGaze
from vaegaze.runs.person import Person
from vaegaze.runs.resume import Progress
from vaegaze.training.blending import blend_weights, trainable_weights

CHOOSING_TRAINING = 8  # training frames that choose where too few are held out
CHOOSING_EVERY = 4  # with blend: auto or keep_best every fourth held-out frame chooses


def choosing_rows(held_out: int) -> list[int]:
    """Rows of the held-out frames that choose what to keep; empty for fewer than four: these are for measuring."""
    return list(range(0, held_out, CHOOSING_EVERY)) if held_out >= CHOOSING_EVERY else []


def set_aside(person: Person, params: OneshotParams) -> tuple[Person, Samples, bool]:
    """The person without the frames that choose, these frames, and whether they are held out.

    With blend: auto and keep_best some held-out frames choose, and only the others are measured; where too few are held
    out, training frames choose.
    """
    if params.blend != "auto" and not params.keep_best:
        return person, person.train.take([]), False
    rows = choosing_rows(len(person.held_out))
    if not rows:
        return person, person.train.take(slice(CHOOSING_TRAINING)), False
    choosing, others = person.held_out.take(rows), np.delete(np.arange(len(person.held_out)), rows)
    held_out = person.held_out.take(others)
    known = {"held_out_indices": held_out.indices.tolist(), "blend_indices": choosing.indices.tolist()}
    return replace(person, held_out=held_out, info={**person.info, **known}), choosing, True


class KeptWeights:
    """Judges a model's weights as it trains, and sets it to those that are kept."""

    def __init__(
        self, model: VAEGaze, params: OneshotParams, choosing: EvalSet, estimator: Estimator | None,
        progress: Progress, *, held_out: bool,
    ):  # fmt: skip
        """`choosing` are the frames that choose, `held_out` or trained on; `model` has the base's weights."""
        self.model, self.params, self.choosing, self.estimator = model, params, choosing, estimator
        self.progress, self.held_out = progress, held_out
        self.judge = Judge(choosing, estimator, params.precision) if params.keep_best else None
        self.base = trainable_weights(model) if params.blend != "1" or params.keep_best else {}
        self.best: BestStep | None = None
        self.blend: BlendChoice | None = None

    def judge_step(self) -> None:
        """With keep_best: judge the present weights, and remember them if they are the best so far."""
        if self.judge is None:
            return
        step, judged = self.progress.step, self.progress.judged
        judged.append({"step": step, **asdict(self.judge(self.model))})
        if step and best_step(self._curve()) == step:
            self.progress.best = trainable_weights(self.model)

    def keep_best(self) -> BestStep | None:
        """With keep_best: set the model to the weights of the best step. None without it."""
        if self.judge is None:
            return None
        curve = self._curve()
        blend_weights(self.model, self.base, self.progress.best or self.base, 1.0)
        self.best = BestStep(best_step(curve), self.progress.step, len(self.choosing), self.held_out, curve)
        return self.best

    def keep_blend(self, check: Callable[[], None]) -> BlendChoice | None:
        """Blend base and tuned weights as the settings say; None where all of the fine-tuning is kept unseen."""
        if self.params.blend == "1":
            return None
        tuned = trainable_weights(self.model)
        if self.params.blend == "auto":
            self.blend = choose_blend(
                self.model,
                self.base,
                tuned,
                self.choosing,
                self.estimator,
                held_out=self.held_out,
                precision=self.params.precision,
                check=check,
            )
        else:
            self.blend = BlendChoice(float(self.params.blend), frames=0, held_out=False, curve=[])
            blend_weights(self.model, self.base, tuned, self.blend.alpha)
        return self.blend

    def _curve(self) -> list[StepPoint]:
        judged = [dict(each) for each in self.progress.judged]
        return curve_of([(each.pop("step"), Judgement(**each)) for each in judged])
