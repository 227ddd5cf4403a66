"""The building blocks that the autoencoder and the UNet share.

Classes and parameter names follow huggingface/diffusers, so that its state dicts load without renaming. Shapes in
comments: B pictures, C channels, H × W pixels, T tokens of width D.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

MAX_LAYERS = 32  # in a row; a hostile file could otherwise ask for hours of building


class GradientCheckpointingLayer(nn.Module):
    """A layer that can discard its activations and recompute them in the backward pass, as in transformers.

    This trades time for memory: only the layer's inputs are kept (Chen et al. 2016, arXiv:1604.06174). If nothing in
    it trains and no input needs a gradient, nothing is kept or recomputed.
    """

    gradient_checkpointing = False

    def __call__(self, *inputs: Tensor | None) -> Tensor:
        if not (self.gradient_checkpointing and torch.is_grad_enabled()):
            return super().__call__(*inputs)
        # No layer here draws random numbers, so there is no random state to restore.
        return checkpoint(super().__call__, *inputs, use_reentrant=False, preserve_rng_state=False)


class ModelMixin(nn.Module):
    """Methods of a model built from such layers, as in diffusers."""

    def enable_gradient_checkpointing(self) -> None:
        """From now on every layer that can recomputes its activations in the backward pass."""
        for module in self.modules():
            if isinstance(module, GradientCheckpointingLayer):
                module.gradient_checkpointing = True


class ResnetBlock2D(GradientCheckpointingLayer):
    """Two 3 × 3 convolutions around a shortcut; with `time_channels` it adds the time embedding in between."""

    def __init__(self, in_channels: int, out_channels: int, *, groups: int, eps: float, time_channels: int = 0):
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, in_channels, eps=eps)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        if time_channels:
            self.time_emb_proj = nn.Linear(time_channels, out_channels)
        self.norm2 = nn.GroupNorm(groups, out_channels, eps=eps)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else None

    def forward(self, x: Tensor, time_embedding: Tensor | None = None) -> Tensor:
        """(B, C_in, H, W) → (B, C_out, H, W); time_embedding (B, time_channels)."""
        hidden = self.conv1(F.silu(self.norm1(x)))
        if time_embedding is not None:
            hidden = hidden + self.time_emb_proj(F.silu(time_embedding))[:, :, None, None]
        hidden = self.conv2(F.silu(self.norm2(hidden)))
        return hidden + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class Downsample2D(nn.Module):
    """Halves height and width. The autoencoder pads at the right and bottom only, the UNet on all sides."""

    def __init__(self, channels: int, *, padding: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=padding)

    def forward(self, x: Tensor) -> Tensor:
        if self.conv.padding == (0, 0):
            x = F.pad(x, (0, 1, 0, 1))
        return self.conv(x)


class Upsample2D(GradientCheckpointingLayer):
    """Doubles height and width by repetition, then convolves."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C, 2 H, 2 W)."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Attention(nn.Module):
    """Multi-head attention from (B, T, D) to a context (B, T', D'), or to itself."""

    attend = staticmethod(F.scaled_dot_product_attention)

    def __init__(self, channels: int, *, heads: int, context_channels: int | None = None, bias: bool = False):
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(channels, channels, bias=bias)
        self.to_k = nn.Linear(context_channels or channels, channels, bias=bias)
        self.to_v = nn.Linear(context_channels or channels, channels, bias=bias)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        context = x if context is None else context
        query, key, value = (
            projected.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, T, D / heads)
            for projected in (self.to_q(x), self.to_k(context), self.to_v(context))
        )
        attended = self.attend(query, key, value)
        return self.to_out[0](attended.transpose(1, 2).flatten(2))  # (B, T, D)


class SpatialAttention(GradientCheckpointingLayer, Attention):
    """The autoencoder's attention over all pixels: one head, normalised, residual."""

    def __init__(self, channels: int, *, groups: int, eps: float):
        super().__init__(channels, heads=1, bias=True)
        self.group_norm = nn.GroupNorm(groups, channels, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.group_norm(x).flatten(2).transpose(1, 2)  # (B, HW, C)
        return x + super().forward(tokens).transpose(1, 2).reshape(x.shape)


class GEGLU(nn.Module):
    """A linear layer whose one half is gated by the GELU of the other (Shazeer 2020, arXiv:2002.05202)."""

    def __init__(self, channels: int, hidden_channels: int):
        super().__init__()
        self.proj = nn.Linear(channels, 2 * hidden_channels)

    def forward(self, x: Tensor) -> Tensor:
        hidden, gate = self.proj(x).chunk(2, dim=-1)
        return hidden * F.gelu(gate)


class FeedForward(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.net = nn.ModuleList([GEGLU(channels, 4 * channels), nn.Identity(), nn.Linear(4 * channels, channels)])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.net:
            x = layer(x)
        return x


class BasicTransformerBlock(nn.Module):
    """Self-attention (attn1), cross-attention to the gaze tokens (attn2), feed-forward; each residual."""

    def __init__(self, channels: int, *, heads: int, context_channels: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attn1 = Attention(channels, heads=heads)
        self.norm2 = nn.LayerNorm(channels)
        self.attn2 = Attention(channels, heads=heads, context_channels=context_channels)
        self.norm3 = nn.LayerNorm(channels)
        self.ff = FeedForward(channels)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        x = x + self.attn1(self.norm1(x))
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class Transformer2DModel(GradientCheckpointingLayer):
    """One transformer block over all pixels of a feature map, residual."""

    def __init__(self, channels: int, *, heads: int, context_channels: int, groups: int):
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6)
        self.proj_in = nn.Conv2d(channels, channels, 1)
        self.transformer_blocks = nn.ModuleList(
            [BasicTransformerBlock(channels, heads=heads, context_channels=context_channels)]
        )
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        hidden = self.proj_in(self.norm(x))
        tokens = hidden.flatten(2).transpose(1, 2)  # (B, HW, C)
        tokens = self.transformer_blocks[0](tokens, context)
        return x + self.proj_out(tokens.transpose(1, 2).reshape(x.shape))


def sinusoidal_embedding(timesteps: Tensor, channels: int) -> Tensor:
    """Timesteps (B,) → (B, channels), cosines first (diffusers' flip_sin_to_cos, freq_shift 0)."""
    half = channels // 2
    exponents = -math.log(10000.0) * torch.arange(half, dtype=torch.float32, device=timesteps.device) / half
    angles = timesteps[:, None].float() * torch.exp(exponents)  # (B, channels / 2)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)
