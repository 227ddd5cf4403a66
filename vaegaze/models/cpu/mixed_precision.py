"""Frozen weights in bf16 while a model trains: autocast would convert them anew at every step."""

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from vaegaze.models.cpu.packed_convolutions import packed_convolutions

CONVERTED_BY_AUTOCAST = (nn.Conv2d, nn.Linear)


@contextmanager
def frozen_weights_in(precision: str, modules: Iterable[nn.Module | None], folder: str | Path | None) -> Iterator[None]:
    """In `bf16`, till the end of the block, the modules' frozen weights are in that; what trains stays float32.

    Their float32 values wait in a temporary file in `folder` (None: the system's), where they take no memory, and come
    back as they were, however the block ends. OSError where the disk is too full for them. Convolutions among what is
    frozen compute with packed kernels meanwhile, see `packed_convolutions`.
    """
    if precision != "bf16":
        yield
        return
    modules = [module for module in modules if module is not None]
    weights = frozen_weights(modules)
    with tempfile.TemporaryFile(dir=folder) as file:
        for parameter in weights:
            file.write(parameter.data.cpu().contiguous().numpy())
        file.flush()  # a full disk is told here, where nothing has changed yet
        try:
            for parameter in weights:
                parameter.data = in_bf16(parameter.data)
            with packed_convolutions(modules):
                yield
        finally:
            file.seek(0)
            for parameter in weights:
                values = torch.from_numpy(np.fromfile(file, np.float32, parameter.numel()))
                parameter.data = values.view(parameter.shape).to(parameter.device)


def frozen_weights(modules: Iterable[nn.Module]) -> list[nn.Parameter]:
    """Those that autocast converts, each once."""
    layers = (layer for module in modules for layer in module.modules())
    layers = (layer for layer in layers if isinstance(layer, CONVERTED_BY_AUTOCAST))
    weights = (parameter for layer in layers for parameter in layer.parameters() if not parameter.requires_grad)
    return list(dict.fromkeys(weights))


def in_bf16(weights: Tensor) -> Tensor:
    """Kernels with the channels last, too, which is how convolutions in bf16 are fastest.

    Each convolution hands its layout on to what follows.
    """
    layout = torch.channels_last if weights.dim() == 4 else torch.contiguous_format
    return weights.to(torch.bfloat16, memory_format=layout)
