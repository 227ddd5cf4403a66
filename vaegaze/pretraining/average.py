"""An exponential moving average of the weights that train."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """Keeps the average of a model's trainable parameters, which is what is evaluated and shipped.

    After t updates the decay is min(decay, (1 + t) / (10 + t)), so that the first weights are soon forgotten.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        self.updates = 0
        self._parameters = {name: each for name, each in model.named_parameters() if each.requires_grad}
        self.averages = {name: each.detach().clone() for name, each in self._parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        torch._foreach_lerp_(list(self.averages.values()), list(self._parameters.values()), 1 - decay)

    def state_dict(self) -> dict:
        return {"updates": self.updates, "averages": self.averages}

    @torch.no_grad()
    def load_state_dict(self, state: dict) -> None:
        self.updates = state["updates"]
        for name, average in self.averages.items():
            average.copy_(state["averages"][name])


@contextmanager
def weights_in_place(model: nn.Module, weights: dict[str, Tensor]) -> Iterator[None]:
    """Within the block the model has these weights, by parameter name; the others stay."""
    parameters = dict(model.named_parameters())
    own = {name: parameters[name].data for name in weights}
    for name, tensor in weights.items():
        parameters[name].data = tensor
    try:
        yield
    finally:
        for name, tensor in own.items():
            parameters[name].data = tensor
