"""Kernels of frozen convolutions, packed once for oneDNN, which computes with them in an order of its own.

oneDNN reorders a kernel in PyTorch's layout at every call, which takes longer than the convolution of a small picture.
PyTorch's compiler packs by the same operations, but needs a C++ compiler and minutes. Results are equal to the bit.
"""

import functools
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from vaegaze.models.cpu.layers import LARGE_KERNEL, keeps_size

PACKED_UP_TO = (32, 32)  # pixels; in a larger picture the kernel's order makes little difference
# Not public in PyTorch. A version without them computes the same, unpacked and slower.
OPERATIONS = ("_convolution_pointwise", "_reorder_convolution_weight", "_is_mkldnn_bf16_supported")


@contextmanager
def packed_convolutions(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Inside the block, on a CPU with native bf16, the modules' frozen convolutions are `packed`.

    Their weights must already be bf16. Packed kernels hold up to two more copies of each layer that sees small
    pictures. Do not copy or pack a layer inside the block.
    """
    layers = {layer for module in modules for layer in module.modules() if isinstance(layer, nn.Conv2d)}
    layers = [layer for layer in layers if _is_packable(layer)]
    try:
        for layer in layers:
            layer.forward = packed(layer)
        yield
    finally:
        for layer in layers:
            vars(layer).pop("forward", None)


def _is_packable(layer: nn.Conv2d) -> bool:
    """Frozen, a convolution whose gradient is another of its kind, and small enough for two more copies.

    1 × 1 kernels stay out: their best order depends on the picture's size, and a wrong one is very slow.
    """
    frozen = not any(parameter.requires_grad for parameter in layer.parameters())
    return frozen and keeps_size(layer) and layer.weight.numel() < LARGE_KERNEL and _is_native()


def _is_native() -> bool:
    """Elsewhere oneDNN cannot pack in bf16, or packed kernels change the result."""
    there = torch.cpu._is_avx512_bf16_supported() and all(hasattr(torch.ops.mkldnn, name) for name in OPERATIONS)
    return there and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def packed(layer: nn.Conv2d) -> Callable[[Tensor], Tensor]:
    """The layer's forward pass under autocast; packs a kernel when a small picture first needs it."""

    def pack(kernel: Tensor) -> Tensor:
        kernel = kernel.contiguous(memory_format=torch.channels_last)
        picture = [1, kernel.shape[1], *PACKED_UP_TO]
        return torch.ops.mkldnn._reorder_convolution_weight(kernel, [1, 1], [1, 1], [1, 1], 1, picture)

    @functools.cache
    def kernel() -> Tensor:
        return pack(layer.weight.data)

    @functools.cache
    def kernel_back() -> Tensor:
        return pack(layer.weight.data.transpose(0, 1).flip(-1, -2))

    def forward(x: Tensor) -> Tensor:
        if x.shape[-2:].numel() > math.prod(PACKED_UP_TO) or not torch.is_autocast_enabled("cpu"):
            return type(layer).forward(layer, x)
        x = x.to(torch.bfloat16, memory_format=torch.channels_last)
        return PackedConvolution.apply(x, layer.bias, kernel(), kernel_back)

    return forward


class PackedConvolution(torch.autograd.Function):
    """The gradient of x is a convolution, too, with the kernel transposed and rotated by 180°."""

    @staticmethod
    def forward(ctx, x: Tensor, bias: Tensor | None, kernel: Tensor, kernel_back: Callable[[], Tensor]) -> Tensor:
        ctx.kernel_back = kernel_back
        return _convolve(x, kernel, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        grad = grad.contiguous(memory_format=torch.channels_last)
        return _convolve(grad, ctx.kernel_back(), None), None, None, None


def _convolve(x: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._convolution_pointwise(x, kernel, bias, [1, 1], [1, 1], [1, 1], 1, "none", [], "")
