"""The first weights of an autoencoder's patch shortcut: the best linear one."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vaegaze.models import AutoencoderKL

WHITENED = (
    0.5  # the power of its own spread by which each latent is divided: 0 keeps the pixels' scale, 1 makes all alike
)


@torch.no_grad()
def start_from_principal_components(vae: AutoencoderKL, pictures: Iterable[Tensor]) -> None:
    """Give `vae`, in place, the principal components of the pictures' patches; its networks begin by adding nothing.

    `pictures` are batches (N, 3, H, W) in [−1, 1]. No other linear map to as many numbers loses less (Eckart and Young
    1936). The latents' mean variance is 1.
    """
    latents, _, f, _ = vae.patch_decoder.weight.shape
    count, total, products = 0, 0.0, 0.0
    for batch in pictures:
        patches = F.unfold(batch.cpu(), f, stride=f).transpose(1, 2).flatten(0, 1).double()  # (patches, 3 f²)
        count, total, products = count + len(patches), total + patches.sum(0), products + patches.T @ patches
    mean = total / count
    variance, axes = torch.linalg.eigh(products / count - mean.outer(mean))  # ascending
    if len(variance) < latents:
        raise ValueError(f"patches of {len(variance)} numbers have no {latents} principal components")
    spread = variance.flip(0)[:latents].clamp(min=1e-8).sqrt()
    axes = axes.flip(1)[:, :latents]
    axes = torch.where(axes.sum(0) < 0, -axes, axes)  # eigenvectors leave their sign open
    scale = spread**WHITENED
    scale *= (spread / scale).square().mean().sqrt()

    vae.patch_encoder.weight.copy_((axes / scale).T.reshape(vae.patch_encoder.weight.shape))
    vae.patch_encoder.bias.copy_(-mean @ (axes / scale))
    vae.patch_decoder.weight.copy_((axes * scale).T.reshape(vae.patch_decoder.weight.shape))
    vae.patch_decoder.bias.copy_(mean.reshape(3, -1).mean(1))  # one for each colour: the pixels' means hardly differ
    for layer in (vae.encoder.conv_out, vae.decoder.conv_out):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    nn.init.zeros_(vae.quant_conv.bias[:latents])  # of the mean; the rest is the logarithm of the variance
