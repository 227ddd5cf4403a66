"""The plain training loop. It knows nothing of files, plots or terminals: it yields a record after every step."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vaegaze.config import OneshotParams
from vaegaze.device import autocast
from vaegaze.frames import Frames
from vaegaze.losses import Loss
from vaegaze.models import VAEGaze

ADAM_BETAS = (0.9, 0.999)


class TrainingDiverged(Exception):
    """The loss or the gradient was no longer finite; the weights are those of the last good step."""

    def __init__(self, step: int):
        super().__init__(f"the loss or its gradient became infinite or NaN at step {step}")


@dataclass(frozen=True)
class Step:
    """One finished step; the loss terms and the gradient's norm stay tensors until someone wants to see them."""

    number: int  # counted from 1
    total: Tensor
    terms: dict[str, Tensor]
    grad_norm: Tensor


def make_optimizer(model: VAEGaze, params: OneshotParams) -> torch.optim.AdamW:
    """AdamW over the trainable parameters alone."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(trainable, lr=params.learning_rate, betas=ADAM_BETAS, weight_decay=params.weight_decay)


def batch_rows(step: int, frames: int, batch_size: int, seed: int) -> list[int]:
    """The rows of step 0, 1, 2 …: epoch after epoch in a new random order, a function of its arguments alone."""
    positions = range(step * batch_size, (step + 1) * batch_size)
    orders = {p // frames: None for p in positions}
    orders = {epoch: np.random.default_rng([seed, epoch]).permutation(frames) for epoch in orders}
    return [int(orders[p // frames][p % frames]) for p in positions]


def training_steps(
    model: VAEGaze,
    optimizer: torch.optim.Optimizer,
    frames: Frames,
    loss: Loss,
    params: OneshotParams,
    *,
    precision: str,
    first_step: int = 0,
) -> Iterator[Step]:
    """Train until `params.num_steps`, yielding after each step. TrainingDiverged before a bad update is made."""
    trainable = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    device_type = frames.target.device.type

    for step in range(first_step, params.num_steps):
        # the batch
        batch = frames.take(batch_rows(step, len(frames), params.batch_size, params.seed))

        # forward: whatever was not computed once for all steps
        with autocast(device_type, precision):
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

        # refuse a bad update: the one place where the host waits for the device
        if not torch.isfinite(total.detach() + grad_norm):
            raise TrainingDiverged(step + 1)
        optimizer.step()

        yield Step(step + 1, total.detach(), {name: term.detach() for name, term in terms.items()}, grad_norm)
