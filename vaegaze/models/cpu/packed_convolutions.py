"""Kernels of frozen convolutions, packed once for oneDNN: it computes with them in an order of its own.

Given them in PyTorch's, it brings them into that order at every call. Of a small picture this takes longer than the
convolution itself. PyTorch's compiler packs in the same way, by the same operations, but needs a C++ compiler and
minutes. What is computed is the same to the bit.
"""

import functools
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from vaegaze.models.layers import LARGE_KERNEL

PACKED_UP_TO = (32, 32)  # pixels: in a larger picture the order of a kernel makes little difference
# They are no public part of PyTorch. Where another version lacks them, all is computed without, only slower.
OPERATIONS = ("_convolution_pointwise", "_reorder_convolution_weight", "_is_mkldnn_bf16_supported")


@contextmanager
def packed_convolutions(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Till the end of the block, on a CPU that computes bf16 natively, the modules' frozen convolutions are `packed`.

    Their weights have to be bf16 by then. The packed kernels are up to two more copies of what is called with small
    pictures. Meanwhile no layer is to be copied, or packed again.
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
    """Only one whose gradient is a convolution of the same kind, and whose kernel is not too large for two more copies.

    Those of 1 × 1 are best packed differently for each size of a picture, and in a wrong order are very slow.
    """
    frozen = not any(parameter.requires_grad for parameter in layer.parameters())
    sides = (layer.kernel_size, layer.padding, layer.stride, layer.dilation)
    plain = sides == ((3, 3), (1, 1), (1, 1), (1, 1)) and layer.groups == 1 and layer.padding_mode == "zeros"
    here = layer.weight.device.type == "cpu" and _is_native()
    return frozen and plain and here and layer.weight.numel() < LARGE_KERNEL


def _is_native() -> bool:
    """Elsewhere oneDNN cannot pack in bf16, or computes otherwise with what is packed."""
    there = torch.cpu._is_avx512_bf16_supported() and all(hasattr(torch.ops.mkldnn, name) for name in OPERATIONS)
    return there and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def packed(layer: nn.Conv2d) -> Callable[[Tensor], Tensor]:
    """Its forward pass under autocast; packs a kernel when it is first needed for a small picture."""

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
    """The gradient of x is a convolution, too: with the kernel transposed and turned by half a circle."""

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
