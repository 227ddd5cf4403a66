"""The variational autoencoder: pictures to latents and back, as diffusers' `AutoencoderKL`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vaegaze.models.blocks import Downsample2D, ModelMixin, ResnetBlock2D, SpatialAttention, Upsample2D
from vaegaze.models.diffusers.options import covered_by_autoencoder, refuse_uncountable, refuse_uncovered

NORM_EPS = 1e-6


@dataclass(frozen=True)
class DiagonalGaussianDistribution:
    """The posterior over latents; both tensors (B, latent_channels, H / f, W / f)."""

    mean: Tensor
    logvar: Tensor

    def mode(self) -> Tensor:
        return self.mean

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        noise = torch.randn(self.mean.shape, generator=generator, dtype=self.mean.dtype).to(self.mean.device)
        return self.mean + noise * torch.exp(0.5 * self.logvar)

    def kl(self) -> Tensor:
        """KL divergence from the standard normal, (B,), summed over a picture's latents."""
        return 0.5 * (self.mean.square() + self.logvar.exp() - 1.0 - self.logvar).sum(dim=(1, 2, 3))


@dataclass(frozen=True)
class AutoencoderKLOutput:
    latent_dist: DiagonalGaussianDistribution


@dataclass(frozen=True)
class DecoderOutput:
    sample: Tensor


class _MidBlock(nn.Module):
    def __init__(self, channels: int, groups: int):
        super().__init__()
        self.resnets = nn.ModuleList(ResnetBlock2D(channels, channels, groups=groups, eps=NORM_EPS) for _ in range(2))
        self.attentions = nn.ModuleList([SpatialAttention(channels, groups=groups, eps=NORM_EPS)])

    def forward(self, x: Tensor) -> Tensor:
        return self.resnets[1](self.attentions[0](self.resnets[0](x)))


class _DownEncoderBlock2D(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, *, layers: int, groups: int, downsample: bool):
        super().__init__()
        self.resnets = nn.ModuleList(
            ResnetBlock2D(in_channels if i == 0 else out_channels, out_channels, groups=groups, eps=NORM_EPS)
            for i in range(layers)
        )
        self.downsamplers = nn.ModuleList([Downsample2D(out_channels, padding=0)] if downsample else [])

    def forward(self, x: Tensor) -> Tensor:
        for layer in (*self.resnets, *self.downsamplers):
            x = layer(x)
        return x


class _UpDecoderBlock2D(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, *, layers: int, groups: int, upsample: bool):
        super().__init__()
        self.resnets = nn.ModuleList(
            ResnetBlock2D(in_channels if i == 0 else out_channels, out_channels, groups=groups, eps=NORM_EPS)
            for i in range(layers)
        )
        self.upsamplers = nn.ModuleList([Upsample2D(out_channels)] if upsample else [])

    def forward(self, x: Tensor) -> Tensor:
        for layer in (*self.resnets, *self.upsamplers):
            x = layer(x)
        return x


class Encoder(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, widths: Sequence[int], layers: int, groups: int):
        super().__init__()
        self.conv_in = nn.Conv2d(in_channels, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(
            _DownEncoderBlock2D(before, width, layers=layers, groups=groups, downsample=i < len(widths) - 1)
            for i, (before, width) in enumerate(zip([widths[0], *widths], widths))
        )
        self.mid_block = _MidBlock(widths[-1], groups)
        self.conv_norm_out = nn.GroupNorm(groups, widths[-1], eps=NORM_EPS)
        self.conv_out = nn.Conv2d(widths[-1], out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)  # (B, widths[0], H, W)
        for block in self.down_blocks:
            x = block(x)  # (B, widths[i], H / 2^(i+1), …), the last block keeps the size
        x = self.mid_block(x)
        return self.conv_out(F.silu(self.conv_norm_out(x)))  # (B, out_channels, H / f, W / f)


class Decoder(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, widths: Sequence[int], layers: int, groups: int):
        super().__init__()
        widths = list(reversed(widths))
        self.conv_in = nn.Conv2d(in_channels, widths[0], 3, padding=1)
        self.mid_block = _MidBlock(widths[0], groups)
        self.up_blocks = nn.ModuleList(
            _UpDecoderBlock2D(before, width, layers=layers + 1, groups=groups, upsample=i < len(widths) - 1)
            for i, (before, width) in enumerate(zip([widths[0], *widths], widths))
        )
        self.conv_norm_out = nn.GroupNorm(groups, widths[-1], eps=NORM_EPS)
        self.conv_out = nn.Conv2d(widths[-1], out_channels, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.mid_block(self.conv_in(z))  # (B, widths[0], H / f, W / f)
        for block in self.up_blocks:
            x = block(x)
        return self.conv_out(F.silu(self.conv_norm_out(x)))  # (B, out_channels, H, W)


class AutoencoderKL(ModelMixin):
    """The keyword arguments are diffusers' config keys; the defaults are sd-vae-ft-mse's.

    `others` are keys for which the family covers one value: ValueError for any other, TypeError for an unknown key.
    The compression f is 2^(number of block_out_channels − 1).

    `patch_shortcut` is not an option of diffusers: a linear map from each patch of f × f pixels to its latent, and one
    back, are added to what encoder and decoder compute (compare the residual autoencoding of Chen et al. 2024,
    arXiv:2410.10733). The decoder enlarges a picture by repeating pixels, which blurs the finest pattern that pixels
    can hold; the shortcut keeps it, at next to no cost.
    """

    def __init__(
        self,
        *,
        in_channels: int = 3,
        out_channels: int = 3,
        block_out_channels: Sequence[int] = (128, 256, 512, 512),
        layers_per_block: int = 2,
        latent_channels: int = 4,
        norm_num_groups: int = 32,
        scaling_factor: float = 0.18215,
        patch_shortcut: bool = False,
        **others: Any,
    ):
        super().__init__()
        refuse_uncountable(
            block_out_channels,
            layers_per_block,
            in_channels=in_channels,
            out_channels=out_channels,
            latent_channels=latent_channels,
            norm_num_groups=norm_num_groups,
        )
        refuse_uncovered("AutoencoderKL", others, covered_by_autoencoder(len(block_out_channels)))
        if type(patch_shortcut) is not bool:
            raise ValueError(f"patch_shortcut is {patch_shortcut!r}, neither true nor false")
        if not 0 < scaling_factor < math.inf:
            raise ValueError(f"scaling_factor {scaling_factor} is not above 0")
        self.scaling_factor = scaling_factor
        shape = (tuple(block_out_channels), layers_per_block, norm_num_groups)
        self.encoder = Encoder(in_channels, 2 * latent_channels, *shape)
        self.decoder = Decoder(latent_channels, out_channels, *shape)
        self.quant_conv = nn.Conv2d(2 * latent_channels, 2 * latent_channels, 1)
        self.post_quant_conv = nn.Conv2d(latent_channels, latent_channels, 1)
        f = 2 ** (len(block_out_channels) - 1)
        self.patch_encoder = nn.Conv2d(in_channels, latent_channels, f, stride=f) if patch_shortcut else None
        self.patch_decoder = nn.ConvTranspose2d(latent_channels, out_channels, f, stride=f) if patch_shortcut else None

    def encode(self, x: Tensor) -> AutoencoderKLOutput:
        """Pictures (B, 3, H, W) in [−1, 1] → the posterior over latents (B, latent_channels, H / f, W / f)."""
        mean, logvar = self.quant_conv(self.encoder(x)).chunk(2, dim=1)
        if self.patch_encoder is not None:
            mean = mean + self.patch_encoder(x)
        return AutoencoderKLOutput(DiagonalGaussianDistribution(mean, logvar.clamp(-30.0, 20.0)))

    def decode(self, z: Tensor) -> DecoderOutput:
        """Latents (B, latent_channels, H / f, W / f), unscaled → pictures (B, 3, H, W), about [−1, 1]."""
        picture = self.decoder(self.post_quant_conv(z))
        if self.patch_decoder is not None:
            picture = picture + self.patch_decoder(z)
        return DecoderOutput(picture)
