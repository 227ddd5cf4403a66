"""Frozen weights in bf16 while a model trains: autocast would convert them again at every step."""

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

CONVERTED_BY_AUTOCAST = (nn.Conv2d, nn.Linear)


@contextmanager
def frozen_weights_in_bf16(modules: Iterable[nn.Module], scratch_dir: str | Path | None) -> Iterator[None]:
    """Inside the block the modules' frozen weights are bf16; trainable ones stay float32.

    The float32 values wait in a temporary file in `scratch_dir` (None: the system's), where they take no memory, and
    return unchanged however the block ends. OSError if the disk cannot hold them.
    """
    weights = frozen_weights(modules)
    with tempfile.TemporaryFile(dir=scratch_dir) as file:
        for parameter in weights:
            file.write(parameter.data.contiguous().numpy())
        file.flush()  # a full disk shows here, before anything changes
        try:
            for parameter in weights:
                parameter.data = in_bf16(parameter.data)
            yield
        finally:
            file.seek(0)
            for parameter in weights:
                values = torch.from_numpy(np.fromfile(file, np.float32, parameter.numel()))
                parameter.data = values.view(parameter.shape)


def frozen_weights(modules: Iterable[nn.Module]) -> list[nn.Parameter]:
    """The frozen weights that autocast converts, each once."""
    layers = (layer for module in modules for layer in module.modules())
    layers = (layer for layer in layers if isinstance(layer, CONVERTED_BY_AUTOCAST))
    weights = (parameter for layer in layers for parameter in layer.parameters() if not parameter.requires_grad)
    return list(dict.fromkeys(weights))


def in_bf16(weights: Tensor) -> Tensor:
    """The weights in bf16, kernels with the channels last.

    Convolutions in bf16 are fastest in that layout, and each passes it on to the layers behind it.
    """
    layout = torch.channels_last if weights.dim() == 4 else torch.contiguous_format
    return weights.to(torch.bfloat16, memory_format=layout)
