"""The training loop: plain steps, without files, plots or terminals. It yields a record after each."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from vaegaze.config.finetune import OneshotParams
from vaegaze.models import VAEGaze
from vaegaze.models.device import autocast
from vaegaze.training.losses import Loss
from vaegaze.training.optimizer import AdamW
from vaegaze.training.tensors import Frames

ADAM_BETAS = (0.9, 0.999)
_REPLAY = 1  # the stream of random numbers for replayed frames


class TrainingDiverged(Exception):
    """The loss or the gradient was no longer finite; the weights are those of the last good step."""


@dataclass(frozen=True)
class TrainingState:
    """What a resumed training needs besides base model, samples and settings to continue bit for bit.

    No random state is among it: which frames a step sees depends on seed and step number alone.
    """

    step: int  # finished steps
    trained: dict[str, Tensor]  # every trainable parameter, by name
    optimizer: dict  # its state_dict

    @classmethod
    def of(cls, model: VAEGaze, optimizer: torch.optim.Optimizer, step: int) -> "TrainingState":
        """The present state. Tensors are shared with the model and change with the next step: save them at once."""
        trained = {name: parameter.detach() for name, parameter in model.named_parameters() if parameter.requires_grad}
        return cls(step, trained, optimizer.state_dict())


@dataclass(frozen=True)
class Step:
    """One finished step. Its tensors stay on the device: reading one waits for it."""

    number: int  # counted from 1
    total: Tensor
    terms: dict[str, Tensor]
    grad_norm: Tensor
    last_good: Tensor  # (), this step's number, or that of the last step whose loss and gradient were finite
    state: Callable[[], TrainingState]  # as it is after this step, until the next one

    def refuse_bad(self) -> None:
        """TrainingDiverged if a loss or gradient was not finite. The weights are still those of the last good step.

        Call it before you show or save anything of the step; it waits for the device.
        """
        last_good = int(self.last_good)
        if last_good < self.number:
            raise TrainingDiverged(f"the loss or its gradient became infinite or NaN at step {last_good + 1}")


def make_optimizer(model: VAEGaze, params: OneshotParams) -> AdamW:
    """AdamW over the trainable parameters. Fused, because that form can skip an update without asking the CPU."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    weight_decay = 0.0 if params.anchor else params.weight_decay
    return AdamW(trainable, lr=params.learning_rate, betas=ADAM_BETAS, weight_decay=weight_decay, fused=True)


def batch_rows(
    step: int, frames: int, batch_size: int, seed: int, *, replay: float = 0.0, replayed: int = 0
) -> list[int]:
    """The rows of step 0, 1, 2 …: epoch after epoch in a new random order, a function of its arguments alone.

    A share `replay` of them, evenly spread, are those of the `replayed` frames that follow the person's own `frames`.
    """
    rows = []
    for position in range(step * batch_size, (step + 1) * batch_size):
        before = math.floor(position * replay)  # replayed frames among the positions so far
        if math.floor((position + 1) * replay) > before:
            rows.append(frames + _row_at(before, replayed, seed, _REPLAY))
        else:
            rows.append(_row_at(position - before, frames, seed))
    return rows


def rows_of_steps(settings: OneshotParams, frames: int, *, replayed: int = 0) -> list[list[int]]:
    """`batch_rows` of every step; of so many frames the last `replayed` are not the person's."""
    share = float(settings.replay) if replayed else 0.0
    return [
        batch_rows(step, frames - replayed, settings.batch_size, settings.seed, replay=share, replayed=replayed)
        for step in range(settings.num_steps)
    ]


def _row_at(position: int, frames: int, *entropy: int) -> int:
    epoch, place = divmod(position, frames)
    seed, *stream = entropy
    return int(np.random.default_rng([seed, epoch, *stream]).permutation(frames)[place])


def training_steps(
    model: VAEGaze,
    optimizer: AdamW,
    frames: Frames,
    loss: Loss,
    settings: OneshotParams,
    *,
    precision: str,
    first_step: int = 0,
    rows: Sequence[Sequence[int]] | None = None,
    anchors: Sequence[Tensor] = (),
) -> Iterator[Step]:
    """Train until `settings.num_steps`, yielding after each step. No bad update is made; see `Step.refuse_bad`.

    `rows` are those of every step's batch, as `rows_of_steps` gives them; None: epochs of all frames.

    `anchors` are the weights to stay near, one for each trainable parameter: after every update a parameter moves
    towards its own by learning_rate · anchor, which is AdamW's decoupled decay around them instead of around 0
    (L2-SP, Li et al. 2018, arXiv:1802.01483).
    """
    trainable = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    device = frames.target.device
    last_good = torch.tensor(first_step, device=device)
    numbers = range(first_step, settings.num_steps)
    rows = rows_of_steps(settings, len(frames)) if rows is None else rows
    rows = torch.tensor(rows[first_step:], dtype=torch.int64, device=device)  # copied once, not at every step

    for step, batch_of in zip(numbers, rows):
        # the batch
        batch = frames.take(batch_of)

        # forward, from the first stage that was not precomputed
        with autocast(device.type, precision):
            features = batch.features
            if features is None:
                features = model.trunk(batch.masked_latents, batch.reference_latents, batch.head, batch.gaze)
            result = model.decode(model.output(features, batch.masked_latents))
            terms = loss.terms(result.float(), batch.target, batch.eye_masks, batch.valid, batch.target_features)
            total = loss.total(terms)

        # backward
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        grad_norm = torch.nn.utils.clip_grad_norm_(trainable, settings.max_grad_norm)

        # update, unless this step or an earlier one was bad; decided on the device, so that the CPU need not wait
        finite = torch.isfinite(total.detach() + grad_norm)
        last_good = last_good + (finite & (last_good == step))
        optimizer.found_inf = (last_good <= step).float()  # as torch.amp.GradScaler sets it
        optimizer.step()
        for parameter, anchor in zip(trainable, anchors):
            parameter.data.lerp_(anchor, (1 - optimizer.found_inf) * (settings.learning_rate * settings.anchor))

        terms = {name: term.detach() for name, term in terms.items()}
        state = partial(TrainingState.of, model, optimizer, step + 1)
        yield Step(step + 1, total.detach(), terms, grad_norm, last_good, state)
