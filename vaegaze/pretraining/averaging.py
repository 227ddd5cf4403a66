"""An average of the weights over the steps: steadier than the last step's."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@torch.no_grad()
def update_average(average: dict[str, Tensor], model: nn.Module, decay: float, step: int) -> None:
    """In place: average ← d · average + (1 − d) · weights after `step` (1, 2, …), d = min(decay, (1 + n) / (10 + n)).

    The first steps count for little later on (TensorFlow's `ExponentialMovingAverage`).
    """
    share = 1 - min(decay, (1 + step) / (10 + step))
    weights = dict(model.named_parameters())
    for name, mean in average.items():
        mean.lerp_(weights[name], share)


def first_average(model: nn.Module) -> dict[str, Tensor]:
    """Copies of what trains."""
    return {name: weight.detach().clone() for name, weight in model.named_parameters() if weight.requires_grad}


@torch.no_grad()
def take_average(model: nn.Module, average: dict[str, Tensor]) -> None:
    """The model's weights become the average, for good."""
    weights = dict(model.named_parameters())
    for name, mean in average.items():
        weights[name].copy_(mean)


@contextmanager
def averaged(model: nn.Module, average: dict[str, Tensor] | None) -> Iterator[None]:
    """Till the end of the block the model has the averaged weights, if there are any."""
    if average is None:
        yield
        return
    weights = dict(model.named_parameters())
    trained = {name: weights[name].detach().clone() for name in average}
    take_average(model, average)
    try:
        yield
    finally:
        take_average(model, trained)
