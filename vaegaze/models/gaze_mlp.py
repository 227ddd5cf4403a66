"""Gaze and head angles to the two tokens that the UNet attends to."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from vaegaze.models.blocks import MAX_LAYERS

ANGLE_SPREAD_RAD = 0.25  # roughly the standard deviation of gaze and head angles


class _Branch(nn.Module):
    def __init__(self, widths: list[int]):
        super().__init__()
        layers = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.LeakyReLU()]
        self.net = nn.Sequential(*layers[:-1])

    def forward(self, angles: Tensor) -> Tensor:
        return self.net(angles)


class GazeMLP(nn.Module):
    """Two branches of linear layers, one for the head and one for the gaze (upstream's `gazenet_params`)."""

    def __init__(self, *, num_layers: int = 4, num_in: int = 2, num_hidden: int = 128, num_out: int = 384):
        super().__init__()
        if type(num_layers) is not int or not 1 <= num_layers <= MAX_LAYERS:
            raise ValueError(f"num_layers is {num_layers!r}, not a whole number from 1 to {MAX_LAYERS}")
        widths = [num_in] + [num_hidden] * (num_layers - 1) + [num_out]
        self.head_mlp = _Branch(widths)
        self.gaze_mlp = _Branch(widths)

    def forward(self, head: Tensor, gaze: Tensor) -> Tensor:
        """head and gaze (B, 2) = pitch, yaw in radians → tokens (B, 2, num_out), the head's first."""
        return torch.stack([self.head_mlp(head), self.gaze_mlp(gaze)], dim=1)

    @torch.no_grad()
    def initialise(self) -> None:
        """Initial weights that keep different gazes apart; PyTorch's default shrinks the signal at every layer."""
        for branch in (self.head_mlp, self.gaze_mlp):
            linears = [layer for layer in branch.net if isinstance(layer, nn.Linear)]
            for linear in linears:
                nn.init.kaiming_normal_(linear.weight, a=0.01)
            linears[0].weight /= ANGLE_SPREAD_RAD
