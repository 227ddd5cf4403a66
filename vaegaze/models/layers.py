"""PyTorch's layers, computed otherwise where its own form is slow on a CPU. The same parameters, the same formulas.

Shapes in comments: B pictures, C channels, H × W pixels.
"""

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

PRODUCT_UP_TO = 8 * 8  # pixels
LARGE_KERNEL = 3 * 2**20  # weights; smaller ones are packed instead where they are frozen, see packed_convolutions
NORM_BY_HAND_FROM = 64 * 64  # pixels
FEW_CHANNELS = 16  # in a group: fewer than PyTorch's backward pass needs to compute with vectors, channels last


class Conv3x3(nn.Conv2d):
    """A convolution that keeps the picture's size; a small picture and a large kernel are multiplied as matrices.

    oneDNN takes many times as long, to bring such a kernel, or its gradient, into an order of its own.
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(in_channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) → (B, C_out, H, W)."""
        size, kernel = x.shape[-2:], self.weight  # (C_out, C_in, 3, 3)
        if size.numel() > PRODUCT_UP_TO or kernel.numel() < LARGE_KERNEL or x.device.type != "cpu":
            return super().forward(x)
        last = kernel.is_contiguous(memory_format=torch.channels_last)
        wide = x.to(torch.promote_types(x.dtype, torch.float32))  # in which the gradient's nine parts are summed
        patches = F.unfold(wide, 3, padding=1).unflatten(1, (self.in_channels, 9))  # (B, C_in, 9, HW)
        if last:  # the order that costs no copy of the kernel
            kernel, patches = kernel.permute(0, 2, 3, 1), patches.transpose(1, 2)
        product = F.linear(patches.flatten(1, 2).transpose(1, 2), kernel.flatten(1), self.bias)  # (B, HW, C_out)
        result = product.transpose(1, 2).unflatten(2, size)
        return result if last or x.is_contiguous(memory_format=torch.channels_last) else result.contiguous()


class GroupNorm(nn.GroupNorm):
    """The backward pass in bf16, with the channels last, where nothing of it trains: see `FrozenGroupNorm`."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W), normalised."""
        slow = x.shape[1] < FEW_CHANNELS * self.num_groups and x.shape[-2:].numel() >= NORM_BY_HAND_FROM
        last = x.is_contiguous(memory_format=torch.channels_last) and x.dtype == torch.bfloat16
        frozen = not any(parameter.requires_grad for parameter in self.parameters())
        if slow and last and frozen and x.device.type == "cpu":
            return FrozenGroupNorm.apply(x, self.weight, self.bias, self.num_groups, self.eps)
        return super().forward(x)


class FrozenGroupNorm(torch.autograd.Function):
    """Group normalisation whose gradient is put together from a few operations over the whole picture.

    With x̂ = (x − mean) / std over a group's n values, y = γ x̂ + β and g the gradient of y, that of x is
    (γ g − mean(γ g) − x̂ mean(γ g x̂)) / std (Wu and He 2018, arXiv:1803.08494, differentiated). Written as
    a g + b x + c with a of each channel and b, c of each group. Products, sums of rows, a, b and c are rounded to bf16.
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

        def of_each_channel(values: Tensor) -> Tensor:
            return values.repeat_interleave(size, dim=1)  # (B, G) → (B, C)

        def group_mean(sums: Tensor) -> Tensor:
            return of_each_channel((sums * weight).unflatten(1, (groups, size)).sum(2) / n)

        mean, rstd = of_each_channel(mean), of_each_channel(rstd)
        grad, x = grad.permute(0, 2, 3, 1), x.permute(0, 2, 3, 1)  # (B, H, W, C)
        grad_sum, product_sum = (each.sum(2).sum(1, dtype=torch.float32) for each in (grad, grad * x))  # (B, C)
        normalized_sum = (product_sum - mean * grad_sum) * rstd  # of g x̂
        a = weight * rstd
        b = -group_mean(normalized_sum) * rstd**2
        c = -group_mean(grad_sum) * rstd - b * mean
        a, b, c = (each[:, None, None].to(x.dtype) for each in (a, b, c))
        grad_x = torch.addcmul(c, grad, a).addcmul_(x, b)
        return grad_x.permute(0, 3, 1, 2), None, None, None, None
