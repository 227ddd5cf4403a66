"""PyTorch's layers, computed otherwise where its own form is slow on a CPU. Parameters and results are the same.

Shapes in comments: B pictures, C channels, H × W pixels.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SMALL_PICTURE = 8 * 8  # pixels
LARGE_KERNEL = 3 * 2**20  # weights: more than VGG19's largest has
FEW_CHANNELS = 16  # in a group: fewer than PyTorch's backward pass needs to compute with vectors, channels last
LARGE_PICTURE = 64 * 64  # pixels


class Conv2d(nn.Conv2d):
    """A convolution of a small picture with a large kernel is one product of matrices.

    oneDNN takes many times as long, to bring such a kernel, or its gradient, into an order of its own.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) → (B, C_out, H', W')."""
        pixels, weights = x.shape[-2:].numel(), self.weight.numel()
        if pixels > SMALL_PICTURE or weights < LARGE_KERNEL or x.device.type != "cpu" or self.stride != (1, 1):
            return super().forward(x)
        kernel = self.weight  # (C_out, C_in, k, k)
        patches = F.unfold(x, self.kernel_size, padding=self.padding).unflatten(1, (self.in_channels, -1))
        if kernel.is_contiguous(memory_format=torch.channels_last):
            kernel, patches = kernel.permute(0, 2, 3, 1), patches.transpose(1, 2)  # whose order costs no copy
        product = kernel.flatten(1) @ patches.flatten(1, 2) + self.bias[:, None]  # (B, C_out, HW)
        return product.view(len(x), -1, *x.shape[-2:])


class GroupNorm(nn.GroupNorm):
    """The backward pass in bf16, with the channels last, where nothing of it trains: see `FrozenGroupNorm`."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W), normalised."""
        slow = x.shape[1] < FEW_CHANNELS * self.num_groups and x.shape[-2:].numel() >= LARGE_PICTURE
        last = x.is_contiguous(memory_format=torch.channels_last) and x.dtype == torch.bfloat16
        if slow and last and x.device.type == "cpu" and not self.weight.requires_grad:
            return FrozenGroupNorm.apply(x, self.weight, self.bias, self.num_groups, self.eps)
        return super().forward(x)


class FrozenGroupNorm(torch.autograd.Function):
    """Group normalisation whose gradient is put together from a few operations over the whole picture.

    With x̂ = (x − mean) / std over a group's n values, y = γ x̂ + β and g the gradient of y, that of x is
    (γ g − mean(γ g) − x̂ mean(γ g x̂)) / std (Wu and He 2018, arXiv:1803.08494, differentiated). Written as
    a g + b x + c with a of each channel and b, c of each group. The sums are float32's, what is summed is rounded.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
        batch, channels, height, width = x.shape
        y, mean, rstd = torch.native_group_norm(x, weight, bias, batch, channels, height * width, groups, eps)
        ctx.save_for_backward(x, weight, mean, rstd)
        return y

    @staticmethod
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
