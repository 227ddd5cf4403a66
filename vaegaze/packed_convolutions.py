"""Kernels of frozen convolutions, packed once for oneDNN: it computes with them in an order of its own.

Given them in PyTorch's, it brings them into that order at every call. Of a small picture this takes longer than the
convolution itself. PyTorch's compiler packs in the same way, by the same operations, but needs a C++ compiler and
minutes. Results are the same to the bit.
"""

import functools
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from vaegaze.models.layers import LARGE_KERNEL

SMALL_PICTURE = (32, 32)  # pixels: in what is larger the order of a kernel makes little difference
# They are no public part of PyTorch. Where another version lacks them, all is computed without, only slower.
OPERATIONS = ("_convolution_pointwise", "_reorder_convolution_weight")


@contextmanager
def packed_convolutions(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Till the end of the block, in bf16 on a CPU, the modules' frozen convolutions have packed kernels.

    Their weights are channels-last bf16. They are two more copies, but only of what is called with small pictures.
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
    """Only one whose gradient is a convolution as well, and whose kernel is not too large for two more copies.

    Those of 1 x 1 are best packed differently for each size of a picture, and in a wrong order are very slow.
    """
    frozen = not any(parameter.requires_grad for parameter in layer.parameters())
    plain = layer.stride == layer.dilation == (1, 1) and layer.groups == 1 and layer.kernel_size == (3, 3)
    here = layer.weight.device.type == "cpu" and all(hasattr(torch.ops.mkldnn, name) for name in OPERATIONS)
    return frozen and plain and here and layer.weight.numel() < LARGE_KERNEL


def packed(layer: nn.Conv2d) -> Callable[[Tensor], Tensor]:
    """Its forward pass in bf16; packs the kernel when it is first called with a small picture."""
    padding = list(layer.padding)
    padding_back = [side - 1 - before for side, before in zip(layer.kernel_size, padding)]

    def pack(kernel: Tensor, padding: list[int]) -> Tensor:
        kernel = kernel.contiguous(memory_format=torch.channels_last)
        picture = [1, kernel.shape[1], *SMALL_PICTURE]
        return torch.ops.mkldnn._reorder_convolution_weight(kernel, padding, [1, 1], [1, 1], 1, picture)

    @functools.cache
    def kernels() -> tuple[Tensor, Tensor]:
        kernel = layer.weight.data
        return pack(kernel, padding), pack(kernel.transpose(0, 1).flip(-1, -2), padding_back)

    def forward(x: Tensor) -> Tensor:
        if x.shape[-2:].numel() > math.prod(SMALL_PICTURE):
            return type(layer).forward(layer, x)
        x = x.to(torch.bfloat16, memory_format=torch.channels_last)
        return PackedConvolution.apply(x, layer.bias, *kernels(), padding, padding_back)

    return forward


class PackedConvolution(torch.autograd.Function):
    """The gradient of x is a convolution, too: with the kernel transposed and turned by half a circle."""

    @staticmethod
    def forward(ctx, x: Tensor, bias: Tensor | None, kernel: Tensor, kernel_back: Tensor, padding, padding_back):
        ctx.back = kernel_back, padding_back
        return _convolve(x, kernel, bias, padding)

    @staticmethod
    def backward(ctx, grad: Tensor):
        kernel, padding = ctx.back
        grad = grad.contiguous(memory_format=torch.channels_last)
        return _convolve(grad, kernel, None, padding), None, None, None, None, None


def _convolve(x: Tensor, kernel: Tensor, bias: Tensor | None, padding: list[int]) -> Tensor:
    return torch.ops.mkldnn._convolution_pointwise(x, kernel, bias, padding, [1, 1], [1, 1], 1, "none", [], "")
