"""Frozen weights in bf16 while a step computes: autocast would convert them anew at every step, to the same values."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

CONVERTED_BY_AUTOCAST = (nn.Conv2d, nn.Linear)


class Copy(NamedTuple):
    parameter: nn.Parameter
    full: Tensor  # float32: what is saved, and what is measured with
    low: Tensor  # bfloat16


def bf16_copies(modules: Iterable[nn.Module]) -> list[Copy]:
    """Of the frozen weights that autocast converts, in these modules."""
    layers = (layer for module in modules for layer in module.modules() if isinstance(layer, CONVERTED_BY_AUTOCAST))
    frozen = (parameter for layer in layers for parameter in layer.parameters() if not parameter.requires_grad)
    return [Copy(parameter, parameter.data, _low(parameter.data)) for parameter in frozen]


def _low(tensor: Tensor) -> Tensor:
    """In bfloat16; kernels with the channels last, which is how convolutions in that precision are fastest.

    Each convolution hands its layout on to what follows.
    """
    layout = torch.channels_last if tensor.dim() == 4 else torch.contiguous_format
    return tensor.to(torch.bfloat16, memory_format=layout)


@contextmanager
def swapped_in(copies: list[Copy]) -> Iterator[None]:
    """The copies stand for the weights till the end of the block, however it ends: forward and backward go in one."""
    try:
        for copy in copies:
            copy.parameter.data = copy.low
        yield
    finally:
        for copy in copies:
            copy.parameter.data = copy.full
