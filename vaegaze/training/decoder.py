"""The autoencoder's decoder, tuned on a person's frames: skin, lashes and irises it was not trained on look sharper.

It learns from the autoencoder's own task alone. Trained through the UNet, it would learn to draw the trained gazes.
"""

from collections.abc import Callable, Iterator

import torch
from torch import nn

from vaegaze.config.finetune import OneshotParams
from vaegaze.models import VAEGaze
from vaegaze.models.device import autocast
from vaegaze.training.loop import ADAM_BETAS, batch_rows
from vaegaze.training.losses import Loss
from vaegaze.training.optimizer import AdamW
from vaegaze.training.precompute import Stopped
from vaegaze.training.tensors import Frames

LEARNING_RATE = 2e-4  # of the decoder


def decoder_parameters(model: VAEGaze) -> Iterator[tuple[str, nn.Parameter]]:
    """What `decode` depends on, with the names in the model."""
    for part in ("post_quant_conv", "decoder"):
        for name, parameter in model.vae.get_submodule(part).named_parameters():
            yield f"vae.{part}.{name}", parameter


def tune_decoder(
    model: VAEGaze,
    frames: Frames,
    loss: Loss,
    settings: OneshotParams,
    *,
    precision: str,
    should_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Train the decoder for `settings.finetune_decoder` steps to give back the frames, and freeze it again.

    `should_stop` is asked before each step; Stopped if it agrees. A bad step changes nothing.
    """
    parameters = [parameter.requires_grad_(True) for _, parameter in decoder_parameters(model)]
    optimizer = AdamW(parameters, lr=LEARNING_RATE, betas=ADAM_BETAS, weight_decay=0.0)
    with torch.no_grad():
        latents = torch.cat([model.encode(each[None]) for each in frames.target])
    for step in range(settings.finetune_decoder):
        if should_stop():
            raise Stopped
        rows = torch.tensor(batch_rows(step, len(frames), settings.batch_size, settings.seed), device=latents.device)
        batch = frames.take(rows)
        with autocast(latents.device.type, precision):
            result = model.decode(latents[rows])
            total = loss.total(loss.terms(result.float(), batch.target, batch.eye_masks, batch.valid))
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm)
        if torch.isfinite(total.detach() + norm):
            optimizer.step()
    for parameter in parameters:
        parameter.requires_grad_(False)
        parameter.grad = None
