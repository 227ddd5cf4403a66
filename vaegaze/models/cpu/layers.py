"""Layers whose plain form is slow on a CPU, computed another way: the same parameters, the same formulas.

Shapes in comments: B pictures, C channels, H × W pixels, T tokens of width D.
"""

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from vaegaze.models import blocks

PRODUCT_UP_TO = 8 * 8  # pixels
LARGE_KERNEL = 3 * 2**20  # weights; smaller frozen kernels are packed instead, see packed_convolutions
NORM_BY_HAND_FROM = 64 * 64  # pixels
FEW_CHANNELS = 16  # per group; with fewer, PyTorch's channels-last backward pass does not vectorise
FEW_WEIGHTS = 2**20  # of attention; up to here plain products beat the fused kernel, forward and backward
FEW_IN_BF16 = 2**21  # the same in bf16, of each picture
DOUBLED_IN_ONE_FROM = 32 * 32  # pixels


def use_fast_layers(model: nn.Module, *, on: bool = True) -> nn.Module:
    """Switch a model's layers to their fast forms, or back to the plain ones, in place; returns the model."""
    forms = FAST_FORMS if on else {fast: plain for plain, fast in FAST_FORMS.items()}
    for module in model.modules():
        module.__class__ = forms.get(type(module), type(module))  # they hold the same parameters by the same names
    return model


class Conv2d(nn.Conv2d):
    """Multiplies as matrices where the picture is small and the 3 × 3 kernel large.

    There oneDNN spends most of its time reordering the kernel or its gradient.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) → (B, C_out, H, W)."""
        size, kernel = x.shape[-2:], self.weight  # (C_out, C_in, 3, 3)
        if size.numel() > PRODUCT_UP_TO or kernel.numel() < LARGE_KERNEL or not keeps_size(self):
            return super().forward(x)
        last = kernel.is_contiguous(memory_format=torch.channels_last)
        wide = x.to(torch.promote_types(x.dtype, torch.float32))  # so the gradient's nine parts are summed in float32
        patches = F.unfold(wide, 3, padding=1).unflatten(1, (self.in_channels, 9))  # (B, C_in, 9, HW)
        if last:  # match the kernel's layout, which saves copying it
            kernel, patches = kernel.permute(0, 2, 3, 1), patches.transpose(1, 2)
        product = F.linear(patches.flatten(1, 2).transpose(1, 2), kernel.flatten(1), self.bias)  # (B, HW, C_out)
        result = product.transpose(1, 2).unflatten(2, size)
        return result if last or x.is_contiguous(memory_format=torch.channels_last) else result.contiguous()


def keeps_size(layer: nn.Conv2d) -> bool:
    """Whether it is a plain 3 × 3 convolution whose output has the size of its input."""
    sides = (layer.kernel_size, layer.padding, layer.stride, layer.dilation)
    return sides == ((3, 3), (1, 1), (1, 1), (1, 1)) and layer.groups == 1 and layer.padding_mode == "zeros"


class Upsample2D(blocks.Upsample2D):
    """Doubles and convolves a large picture in one transposed convolution.

    After repetition a 3 × 3 kernel covers only four different pixels, so four products replace nine. Summing the
    kernel costs more than that saves on a small picture.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C, 2 H, 2 W)."""
        if x.shape[-2:].numel() < DOUBLED_IN_ONE_FROM:
            return super().forward(x)
        weight = self.conv.weight
        last = weight.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if last else torch.contiguous_format
        mirrored = weight.transpose(0, 1).contiguous(memory_format=layout).flip(-1, -2)
        sums = F.avg_pool2d(F.pad(mirrored, (1, 1, 1, 1)), 2, stride=1, divisor_override=1)  # (C, C, 4, 4)
        return F.conv_transpose2d(x, sums, self.conv.bias, stride=2, padding=1)


class Attention(blocks.Attention):
    """Plain products where there are few attention weights.

    PyTorch's fused kernel gives each head one thread, and its backward pass is slow. Where the weights of a whole batch
    would not fit into the cache, pictures take turns.
    """

    @staticmethod
    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(B, heads, T, D) attends to (B, heads, T', D)."""
        weights = query.shape[:-1].numel() * key.shape[-2]
        if weights <= FEW_WEIGHTS:
            return plain_products(query, key, value)
        if query.dtype == torch.bfloat16 and weights <= FEW_IN_BF16 * len(query):
            return torch.cat([plain_products(*each) for each in zip(query.split(1), key.split(1), value.split(1))])
        return F.scaled_dot_product_attention(query, key, value)


def plain_products(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    scores = query * query.shape[-1] ** -0.5 @ key.transpose(-1, -2)  # (B, heads, T, T')
    return scores.softmax(dim=-1) @ value


class SpatialAttention(blocks.SpatialAttention):
    attend = staticmethod(Attention.attend)


class GroupNorm(nn.GroupNorm):
    """Uses `FrozenGroupNorm` if frozen, for large inputs in channels_last format with few channels per group."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W), normalised."""
        slow = x.shape[1] < FEW_CHANNELS * self.num_groups and x.shape[-2:].numel() >= NORM_BY_HAND_FROM
        last = x.is_contiguous(memory_format=torch.channels_last)
        frozen = not any(parameter.requires_grad for parameter in self.parameters())
        if slow and last and frozen:
            return FrozenGroupNorm.apply(x, self.weight, self.bias, self.num_groups, self.eps)
        return super().forward(x)


class FrozenGroupNorm(torch.autograd.Function):
    """Group normalisation whose gradient is composed of a few operations over the whole picture.

    With x̂ = (x − mean) / std over a group's n values, y = γ x̂ + β and g the gradient of y, that of x is
    (γ g − mean(γ g) − x̂ mean(γ g x̂)) / std (Wu and He 2018, arXiv:1803.08494, differentiated). Written as
    a g + b x + c with a of each channel and b, c of each group. In bf16 products, sums of rows, a, b and c are rounded.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
        batch, channels, height, width = x.shape
        y, mean, rstd = torch.native_group_norm(x, weight, bias, batch, channels, height * width, groups, eps)
        ctx.save_for_backward(x, weight, mean, rstd)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, rstd = ctx.saved_tensors  # mean, rstd: (B, G)
        groups, size, n = mean.shape[1], x.shape[1] // mean.shape[1], x[0].numel() // mean.shape[1]

        def per_channel(values: Tensor) -> Tensor:
            return values.repeat_interleave(size, dim=1)  # (B, G) → (B, C)

        def group_mean(sums: Tensor) -> Tensor:
            return per_channel((sums * weight).unflatten(1, (groups, size)).sum(2) / n)

        mean, rstd = per_channel(mean), per_channel(rstd)
        grad, x = grad.permute(0, 2, 3, 1), x.permute(0, 2, 3, 1)  # (B, H, W, C)
        grad_sum, product_sum = (each.sum(2).sum(1, dtype=torch.float32) for each in (grad, grad * x))  # (B, C)
        normalized_sum = (product_sum - mean * grad_sum) * rstd  # of g x̂
        a = weight * rstd
        b = -group_mean(normalized_sum) * rstd**2
        c = -group_mean(grad_sum) * rstd - b * mean
        a, b, c = (each[:, None, None].to(x.dtype) for each in (a, b, c))
        grad_x = torch.addcmul(c, grad, a).addcmul_(x, b)
        return grad_x.permute(0, 3, 1, 2), None, None, None, None


class L1Loss(nn.L1Loss):
    """The mean difference, with a gradient in the memory layout of the features (see `MeanL1`)."""

    def forward(self, result: Tensor, target: Tensor) -> Tensor:
        return MeanL1.apply(result, target) if self.reduction == "mean" else super().forward(result, target)


class MeanL1(torch.autograd.Function):
    """Mean |result − target| of tensors of one shape.

    Autograd's own gradient loses the features' layout, which slows every channels-last operation before them; autocast
    would also copy them to float32.
    """

    @staticmethod
    def forward(ctx, result: Tensor, target: Tensor) -> Tensor:
        difference = result - target
        ctx.save_for_backward(difference)
        return difference.abs().sum(dtype=torch.float32) / difference.numel()

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        (difference,) = ctx.saved_tensors
        return difference.sgn().mul_(grad / difference.numel()), None


FAST_FORMS = {
    nn.Conv2d: Conv2d,
    nn.GroupNorm: GroupNorm,
    nn.L1Loss: L1Loss,
    blocks.Upsample2D: Upsample2D,
    blocks.Attention: Attention,
    blocks.SpatialAttention: SpatialAttention,
}
