"""Weights between the base model's and the fine-tuned ones (WiSE-FT, Wortsman et al. 2022, arXiv:2109.01903)."""

import torch
from torch import Tensor

from vaegaze.models import VAEGaze


def trainable_weights(model: VAEGaze) -> dict[str, Tensor]:
    """Copies of the trainable parameters, by name."""
    return {name: each.detach().clone() for name, each in model.named_parameters() if each.requires_grad}


@torch.no_grad()
def blend_weights(model: VAEGaze, base: dict[str, Tensor], tuned: dict[str, Tensor], alpha: float) -> None:
    """Set the trainable parameters to base + alpha · (tuned − base); exactly the tuned ones for alpha 1."""
    parameters = dict(model.named_parameters())
    for name, weights in tuned.items():
        parameters[name].copy_(weights if alpha == 1 else torch.lerp(base[name], weights, alpha))
