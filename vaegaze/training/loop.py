"""The plain training loop. It knows nothing of files, plots or terminals: it yields a record after every step."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vaegaze.config.finetune import OneshotParams
from vaegaze.models import VAEGaze
from vaegaze.models.device import autocast
from vaegaze.training.frames import Frames
from vaegaze.training.losses import Loss

ADAM_BETAS = (0.9, 0.999)


class TrainingDiverged(Exception):
    """The loss or the gradient was no longer finite; the weights are those of the last good step."""


@dataclass(frozen=True)
class Step:
    """One finished step; all that was computed stays on the device until someone wants to see it."""

    number: int  # counted from 1
    total: Tensor
    terms: dict[str, Tensor]
    grad_norm: Tensor
    last_good: Tensor  # (), this step's number, or that of the last step that was still finite

    def refuse_bad(self) -> None:
        """TrainingDiverged if a loss or gradient was not finite: none was taken into the weights, nor any after it.

        To be called before anything of the step is shown or saved; waits for the device.
        """
        last_good = int(self.last_good)
        if last_good < self.number:
            raise TrainingDiverged(f"the loss or its gradient became infinite or NaN at step {last_good + 1}")


def make_optimizer(model: VAEGaze, params: OneshotParams) -> torch.optim.AdamW:
    """AdamW over the trainable parameters alone; fused, since that form can leave out an update by itself."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(
        trainable, lr=params.learning_rate, betas=ADAM_BETAS, weight_decay=params.weight_decay, fused=True
    )


def batch_rows(step: int, frames: int, batch_size: int, seed: int) -> list[int]:
    """The rows of step 0, 1, 2 …: epoch after epoch in a new random order, a function of its arguments alone."""
    positions = range(step * batch_size, (step + 1) * batch_size)
    orders = {p // frames: None for p in positions}
    orders = {epoch: np.random.default_rng([seed, epoch]).permutation(frames) for epoch in orders}
    return [int(orders[p // frames][p % frames]) for p in positions]


def training_steps(
    model: VAEGaze,
    optimizer: torch.optim.AdamW,
    frames: Frames,
    loss: Loss,
    params: OneshotParams,
    *,
    precision: str,
    first_step: int = 0,
) -> Iterator[Step]:
    """Train until `params.num_steps`, yielding after each step; no bad update is made, see `Step.refuse_bad`.

    In bf16 frozen weights may be float32, which autocast converts at every step, or see `frozen_weights_in`.
    """
    trainable = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    device = frames.target.device
    last_good = torch.tensor(first_step, device=device)
    numbers = range(first_step, params.num_steps)
    rows = [batch_rows(step, len(frames), params.batch_size, params.seed) for step in numbers]
    rows = torch.tensor(rows, dtype=torch.int64, device=device)  # (steps, B): copied once, not at every step

    for step, batch_of in zip(numbers, rows):
        # the batch
        batch = frames.take(batch_of)

        # forward: whatever was not computed once for all steps
        with autocast(device.type, precision):
            features = batch.features
            if features is None:
                features = model.trunk(batch.masked_latents, batch.reference_latents, batch.head, batch.gaze)
            result = model.decode(model.output(features, batch.masked_latents))
            terms = loss.terms(result.float(), batch.target, batch.eye_masks, batch.valid, batch.wanted)
            total = loss.total(terms)

        # backward
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        grad_norm = torch.nn.utils.clip_grad_norm_(trainable, params.max_grad_norm)

        # update, unless this step or one before it was bad; decided on the device, for which nobody waits here
        finite = torch.isfinite(total.detach() + grad_norm)
        last_good = last_good + (finite & (last_good == step))
        optimizer.found_inf = (last_good <= step).float()  # as torch.amp.GradScaler tells it
        optimizer.step()

        terms = {name: term.detach() for name, term in terms.items()}
        yield Step(step + 1, total.detach(), terms, grad_norm, last_good)
