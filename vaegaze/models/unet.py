"""The UNet that inpaints the eyes' latents in one pass, as diffusers' `UNet2DConditionModel`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vaegaze.models.blocks import (
    Downsample2D,
    ModelMixin,
    ResnetBlock2D,
    Transformer2DModel,
    Upsample2D,
    sinusoidal_embedding,
)
from vaegaze.models.diffusers.options import covered_by_unet, refuse_uncountable, refuse_uncovered


@dataclass(frozen=True)
class UNet2DConditionOutput:
    sample: Tensor


class TimestepEmbedding(nn.Module):
    def __init__(self, in_channels: int, channels: int):
        super().__init__()
        self.linear_1 = nn.Linear(in_channels, channels)
        self.linear_2 = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear_2(F.silu(self.linear_1(x)))


class _Block(nn.Module):
    """One resolution: resnets, each followed by a transformer if `attention` (its keyword arguments) is given."""

    def __init__(self, in_channels: Sequence[int], out_channels: int, *, resnet: dict, attention: dict | None):
        super().__init__()
        self.resnets = nn.ModuleList(ResnetBlock2D(channels, out_channels, **resnet) for channels in in_channels)
        if attention is not None:
            self.attentions = nn.ModuleList(Transformer2DModel(out_channels, **attention) for _ in in_channels)

    def attend(self, i: int, x: Tensor, context: Tensor) -> Tensor:
        return self.attentions[i](x, context) if hasattr(self, "attentions") else x


class _DownBlock(_Block):
    def __init__(self, in_channels: Sequence[int], out_channels: int, *, downsample: bool, **layers):
        super().__init__(in_channels, out_channels, **layers)
        if downsample:
            self.downsamplers = nn.ModuleList([Downsample2D(out_channels, padding=1)])

    def forward(self, x: Tensor, time_embedding: Tensor, context: Tensor) -> list[Tensor]:
        """The output of every layer, as skip connections for the up blocks."""
        outputs = []
        for i, resnet in enumerate(self.resnets):
            x = self.attend(i, resnet(x, time_embedding), context)
            outputs.append(x)
        if hasattr(self, "downsamplers"):
            outputs.append(self.downsamplers[0](x))
        return outputs


class _UpBlock(_Block):
    def __init__(self, in_channels: Sequence[int], out_channels: int, *, upsample: bool, **layers):
        super().__init__(in_channels, out_channels, **layers)
        if upsample:
            self.upsamplers = nn.ModuleList([Upsample2D(out_channels)])

    def forward(self, x: Tensor, skips: list[Tensor], time_embedding: Tensor, context: Tensor) -> Tensor:
        """Pops one of `skips` for each resnet."""
        for i, resnet in enumerate(self.resnets):
            x = self.attend(i, resnet(torch.cat([x, skips.pop()], dim=1), time_embedding), context)
        return self.upsamplers[0](x) if hasattr(self, "upsamplers") else x


class _MidBlock(nn.Module):
    def __init__(self, channels: int, *, resnet: dict, attention: dict):
        super().__init__()
        self.resnets = nn.ModuleList(ResnetBlock2D(channels, channels, **resnet) for _ in range(2))
        self.attentions = nn.ModuleList([Transformer2DModel(channels, **attention)])

    def forward(self, x: Tensor, time_embedding: Tensor, context: Tensor) -> Tensor:
        x = self.attentions[0](self.resnets[0](x, time_embedding), context)
        return self.resnets[1](x, time_embedding)


class UNet2DConditionModel(ModelMixin):
    """The keyword arguments are diffusers' config keys; the defaults are upstream's (MuseTalk's widths).

    `others` are keys for which the family covers one value: ValueError for any other, TypeError for an unknown key.
    All blocks but the deepest hold cross-attention. `attention_head_dim` is the NUMBER of heads: diffusers keeps that
    misnomer for its old configs. Height and width of the input are multiples of 2^(number of blocks − 1).
    """

    def __init__(
        self,
        *,
        in_channels: int = 8,
        out_channels: int = 4,
        block_out_channels: Sequence[int] = (320, 640, 1280, 1280),
        layers_per_block: int = 2,
        attention_head_dim: int = 8,
        cross_attention_dim: int = 384,
        norm_num_groups: int = 32,
        norm_eps: float = 1e-5,
        **others: Any,
    ):
        super().__init__()
        refuse_uncountable(
            block_out_channels,
            layers_per_block,
            in_channels=in_channels,
            out_channels=out_channels,
            attention_head_dim=attention_head_dim,
            cross_attention_dim=cross_attention_dim,
            norm_num_groups=norm_num_groups,
        )
        refuse_uncovered("UNet2DConditionModel", others, covered_by_unet(len(block_out_channels)))
        if not 0 < norm_eps < 1:
            raise ValueError(f"norm_eps {norm_eps!r} is not between 0 and 1")
        widths = list(block_out_channels)
        if any(width % attention_head_dim for width in widths):
            raise ValueError(f"block_out_channels {widths} cannot be split into {attention_head_dim} heads")
        time_channels = 4 * widths[0]
        self.conv_in = nn.Conv2d(in_channels, widths[0], 3, padding=1)
        self.time_embedding = TimestepEmbedding(widths[0], time_channels)
        resnet = {"groups": norm_num_groups, "eps": norm_eps, "time_channels": time_channels}
        attention = {
            "heads": attention_head_dim,
            "context_channels": cross_attention_dim,
            "groups": norm_num_groups,
        }
        last = len(widths) - 1

        self.down_blocks = nn.ModuleList()
        skips = [widths[0]]  # channels of each output of the down blocks
        for i, width in enumerate(widths):
            inputs = [skips[-1]] + [width] * (layers_per_block - 1)
            self.down_blocks.append(
                _DownBlock(inputs, width, resnet=resnet, attention=attention if i < last else None, downsample=i < last)
            )
            skips += [width] * (layers_per_block + (i < last))

        self.mid_block = _MidBlock(widths[-1], resnet=resnet, attention=attention)

        self.up_blocks = nn.ModuleList()
        channels = widths[-1]
        for i, width in enumerate(reversed(widths)):
            inputs = []
            for _ in range(layers_per_block + 1):
                inputs.append(channels + skips.pop())
                channels = width
            self.up_blocks.append(
                _UpBlock(inputs, width, resnet=resnet, attention=attention if i > 0 else None, upsample=i < last)
            )

        self.conv_norm_out = nn.GroupNorm(norm_num_groups, widths[0], eps=norm_eps)
        self.conv_out = nn.Conv2d(widths[0], out_channels, 3, padding=1)

    def forward(self, sample: Tensor, timestep: Tensor | int, encoder_hidden_states: Tensor) -> UNet2DConditionOutput:
        """sample (B, in_channels, h, w), timestep () or (B,), encoder_hidden_states (B, T, cross_attention_dim)."""
        features = self.trunk(sample, timestep, encoder_hidden_states)
        return UNet2DConditionOutput(self.output_layers(features))  # (B, out_channels, h, w)

    def trunk(self, sample: Tensor, timestep: Tensor | int, encoder_hidden_states: Tensor) -> Tensor:
        """Everything before the output layers → features (B, widths[0], h, w)."""
        if isinstance(timestep, int):
            timestep = torch.full((), timestep, device=sample.device)  # made there: no copy to wait for
        timesteps = timestep.to(sample.device).expand(len(sample))  # (B,)
        frequencies = sinusoidal_embedding(timesteps, self.conv_in.out_channels).to(sample.dtype)
        time_embedding = self.time_embedding(frequencies)  # (B, time_channels)
        context = encoder_hidden_states

        x = self.conv_in(sample)  # (B, widths[0], h, w)
        skips = [x]
        for block in self.down_blocks:
            skips += block(skips[-1], time_embedding, context)
        x = self.mid_block(skips[-1], time_embedding, context)  # (B, widths[-1], h / 2^last, w / 2^last)
        for block in self.up_blocks:
            x = block(x, skips, time_embedding, context)
        return x

    def output_layers(self, features: Tensor) -> Tensor:
        return self.conv_out(F.silu(self.conv_norm_out(features)))
