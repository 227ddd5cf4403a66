"""Frames to judge a model on: pixels, tensors, and the true pictures of other gazes together."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from vaegaze.data.samples import Samples
from vaegaze.evaluation.gaze import Estimator, read_gaze
from vaegaze.models import VAEGaze, to_unit_range
from vaegaze.models.checkpoint import Reference
from vaegaze.renderer.redrawing import RenderedPerson
from vaegaze.training.tensors import Frames, drawn_from_itself, prepare_frames


@dataclass(frozen=True)
class EvalSet:
    """N frames of one person."""

    samples: Samples  # (N, …): the original pixels, into which results are pasted
    frames: Frames  # (N, …): what the model is given, and the target
    redirections: "EvalSet | None" = None  # the samples with other gazes, and the true pictures as targets
    _read: list[tuple[Estimator, Tensor]] = field(default_factory=list, init=False, repr=False, compare=False)

    @classmethod
    def prepare(
        cls,
        model: VAEGaze,
        samples: Samples,
        references: Sequence[Reference],
        rendered: RenderedPerson | None = None,
        *,
        spare: Reference | None = None,
        from_itself: bool = False,
    ) -> "EvalSet":
        """The samples encoded by the model, on its device; with the rendered person behind them also redirected.

        Each frame is drawn from the nearest of the references, see `prepare_frames`; redirected frames, with
        `from_itself`, each from the frame itself.
        """
        frames = prepare_frames(model, samples, references, next(model.parameters()).device, spare)
        eval_set = cls(samples, frames)
        if rendered is None or not len(samples):
            return eval_set
        drawn = eval_set.drawn_from_itself(model) if from_itself else eval_set
        return replace(eval_set, redirections=drawn.redirected(rendered.redirected(samples)))

    def __len__(self) -> int:
        return len(self.samples)

    def true_gaze(self, estimator: Estimator) -> Tensor:
        """What the estimator reads off the true pictures, (N, 2). Read once for all models judged."""
        if not self._read or self._read[0][0] is not estimator:
            self._read[:] = [
                (estimator, read_gaze(estimator, self.frames.target, self.frames.head, self.samples.canvas))
            ]
        return self._read[0][1]

    def take(self, rows) -> "EvalSet":
        """The frames at these positions, without redirections."""
        return EvalSet(self.samples.take(rows), self.frames.take(rows))

    def drawn_from_itself(self, model: VAEGaze) -> "EvalSet":
        """The frames, each with itself as its reference: what a base model draws from."""
        return replace(self, frames=drawn_from_itself(model, self.frames))

    def redirected(self, true: Samples) -> "EvalSet":
        """The frames redirected to the gazes of the `true` pictures (K·N of them, K in a row for each frame).

        Latents and samples are those of the original frames, target and gaze those of the true pictures.
        """
        rows = np.repeat(np.arange(len(self)), len(true) // len(self))
        device = self.frames.target.device
        frames = replace(
            self.frames.take(torch.from_numpy(rows).to(device)).without_precomputed(),
            target=to_unit_range(true.images).to(device),
            gaze=torch.from_numpy(true.gaze).to(device),
        )
        return EvalSet(self.samples.take(rows), frames)
