"""What no trainable parameter touches, computed once and not at every step."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from vaegaze.models import VAEGaze
from vaegaze.models.device import MB, autocast
from vaegaze.training.losses import Loss
from vaegaze.training.tensors import Frames


class Stopped(Exception):
    """`should_stop` ended the computation early."""


@torch.no_grad()
def precompute(
    model: VAEGaze,
    frames: Frames,
    loss: Loss,
    *,
    precision: str,
    memory_mb: int,
    should_stop: Callable[[], bool] = lambda: False,
) -> tuple[Frames, list[str]]:
    """Add to the frames what no trainable parameter touches, as far as `memory_mb` allow; also says what, in words.

    The UNet's trunk comes first, then VGG19's features of the targets. Computed in the steps' precision, but frame by
    frame, so that the result does not depend on their number. `should_stop` is asked before each; Stopped if it agrees.
    """
    notes, left = [], memory_mb * MB

    def keep(what: str, compute: Callable[[Frames], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        nonlocal left
        with autocast(frames.target.device.type, precision):
            first = compute(frames.take(slice(1)))
            size = len(frames) * sum(tensor.nbytes for tensor in first)
            if size > left:
                notes.append(f"{what}: at every step, since {size / MB:,.0f} MB are more than {left / MB:,.0f}")
                return ()
            kept = tuple(torch.empty_like(tensor.expand(len(frames), *tensor.shape[1:])) for tensor in first)
            for i in range(len(frames)):
                if should_stop():
                    raise Stopped
                for whole, part in zip(kept, compute(frames.take(slice(i, i + 1))) if i else first):
                    whole[i] = part[0]
        left -= size
        notes.append(f"{what}: once, {size / MB:,.1f} MB")
        return kept

    if not any(parameter.requires_grad for parameter in model.trunk_parameters()):
        kept = keep(
            "the UNet's trunk",
            lambda one: (model.trunk(one.masked_latents, one.reference_latents, one.head, one.gaze),),
        )
        frames = replace(frames, features=kept[0] if kept else None)
    if loss.vgg is not None:
        kept = keep("VGG19 on the targets", lambda one: loss.target_features(one.target, one.valid))
        frames = replace(frames, target_features=kept)
    return frames, notes
