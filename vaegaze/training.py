"""The plain training loop. It knows nothing of files, plots or terminals: it yields a record after every step."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from vaegaze.config import OneshotParams
from vaegaze.data.samples import Samples
from vaegaze.losses import Loss
from vaegaze.models import VAEGaze, to_unit_range
from vaegaze.models.checkpoint import Reference

ADAM_BETAS = (0.9, 0.999)


class TrainingDiverged(Exception):
    """The loss or the gradient was no longer finite; the weights are those of the last good step."""

    def __init__(self, step: int):
        super().__init__(f"the loss or its gradient became infinite or NaN at step {step}")


@dataclass(frozen=True)
class Frames:
    """What a step needs of N frames, on the device; all that the frozen autoencoder gives is computed once."""

    target: Tensor  # (N, 3, S, S) in [−1, 1]
    eye_masks: Tensor  # (N, 1, S, S) in {0, 1}
    valid: Tensor  # (N, 1, S, S) in {0, 1}
    masked_latents: Tensor  # (N, 4, S / f, S / f)
    reference_latents: Tensor  # (N, 4, S / f, S / f), zeros where there is no reference
    head: Tensor  # (N, 2) pitch, yaw in radians
    gaze: Tensor  # (N, 2) pitch, yaw in radians

    def __len__(self) -> int:
        return len(self.target)

    def take(self, rows) -> "Frames":
        return Frames(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def looking(self, gaze: tuple[float, float]) -> "Frames":
        """The same frames, told to look elsewhere."""
        return replace(self, gaze=torch.tensor(gaze, device=self.gaze.device).expand_as(self.gaze))


@dataclass(frozen=True)
class Step:
    """One finished step; the loss terms and the gradient's norm stay tensors until someone wants to see them."""

    number: int  # counted from 1
    total: Tensor
    terms: dict[str, Tensor]
    grad_norm: Tensor


def choose_references(samples: Samples) -> list[Reference]:
    """The training frame whose head is turned least, and the next other one for that frame itself.

    Where all frames are the same there is none: copying the answer from it would teach nothing.
    """
    first, *others = np.argsort(np.linalg.norm(samples.head, axis=1), kind="stable")
    second = next((i for i in others if not np.array_equal(samples.images[i], samples.images[first])), None)
    if second is None:
        return []
    return [Reference(samples.images[i], samples.gaze[i], samples.head[i]) for i in (first, second)]


@torch.no_grad()
def prepare_frames(model: VAEGaze, samples: Samples, references: list[Reference], device: torch.device) -> Frames:
    """Samples to tensors on `device`, encoded one by one so that the result does not depend on their number.

    The first of the references serves all but the frame it is itself, the second, where there is one, that frame.
    """
    target = to_unit_range(samples.images).to(device)
    eye_masks = torch.from_numpy(samples.eye_masks)[:, None].float().to(device)
    masked_latents = torch.cat(
        [model.encode(model.mask(target[i : i + 1], eye_masks[i : i + 1])) for i in range(len(samples))]
    )
    reference_latents = torch.zeros_like(masked_latents)
    if references:
        encoded = [model.encode(to_unit_range(frame.image[None]).to(device))[0] for frame in references]
        for i, image in enumerate(samples.images):
            own = np.array_equal(image, references[0].image)
            if not own or len(encoded) > 1:
                reference_latents[i] = encoded[own]
    return Frames(
        target=target,
        eye_masks=eye_masks,
        valid=torch.from_numpy(samples.valid)[:, None].float().to(device),
        masked_latents=masked_latents,
        reference_latents=reference_latents,
        head=torch.from_numpy(samples.head).to(device),
        gaze=torch.from_numpy(samples.gaze).to(device),
    )


def prepare_training_frames(model: VAEGaze, samples: Samples, device: torch.device, *, mirror: bool) -> Frames:
    """The samples with their own references; behind them, where wanted, the same in a mirror, the references too."""
    seen = [samples, samples.mirrored()] if mirror else [samples]
    parts = [prepare_frames(model, each, choose_references(each), device) for each in seen]
    return Frames(**{field.name: torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Frames)})


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

        # forward: everything after the frozen encoder
        with torch.autocast(device_type, dtype=torch.bfloat16, enabled=precision == "bf16"):
            result = model(batch.masked_latents, batch.reference_latents, batch.head, batch.gaze)
            terms = loss.terms(result.float(), batch.target, batch.eye_masks, batch.valid)
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
