"""The gaze estimator that judges pictures. No loss uses it; it was trained on rendered train persons only."""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vaegaze.errors import UserError
from vaegaze.geometry.camera import BETWEEN_EYES_MM, Camera
from vaegaze.models.tensor_files import load_tensors, save_tensors, state_of

FORMAT = "vaegaze-estimator-3"
CANVAS = Camera(128, 64, 2000 / 3, BETWEEN_EYES_MM)  # the band that contains both eyes at every head pose
ANGLE_SCALE_RAD = 0.25  # roughly the standard deviation of gazes, so that the network's outputs are near 1


class GazeEstimator(nn.Module):
    """Pictures (B, 3, 64, 128) in [−1, 1] on `CANVAS` → gaze (B, 2) = pitch, yaw in radians.

    One small ResNet reads both eyes: the left half of the picture, and the mirrored right half. The result
    averages the reading of the picture and the mirrored-back reading of its mirror image.
    """

    def __init__(self):
        super().__init__()
        self.backbone = Backbone()
        self.gaze = nn.Sequential(nn.Linear(2 * 3 * 256, 256), nn.ReLU(), nn.Linear(256, 2))

    def forward(self, images: Tensor) -> Tensor:
        left, right = images.chunk(2, dim=-1)
        left, right = self.backbone(torch.cat([left, right.flip(-1)])).chunk(2)  # (B, 768) each
        mirrored = self.gaze(torch.cat([right, left], dim=1)) * torch.tensor([1, -1], device=left.device)
        return ANGLE_SCALE_RAD * (self.gaze(torch.cat([left, right], dim=1)) + mirrored) / 2


class Backbone(nn.Module):
    """A ResNet of three stages (He et al. 2015, arXiv:1512.03385), in torchvision's names: (B, 3, H, W) → (B, 768).

    Without torchvision, whose import takes two seconds.
    """

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 5, stride=2, padding=2, bias=False)
        self.bn1 = nn.BatchNorm2d(64)  # no pooling after it: half a pixel of iris position is three degrees
        self.layer1 = nn.Sequential(BasicBlock(64, 64, stride=1))
        self.layer2 = nn.Sequential(BasicBlock(64, 128, stride=2))
        self.layer3 = nn.Sequential(BasicBlock(128, 256, stride=2))
        self.what_and_where = WhatAndWhere()
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))  # (B, 64, H / 2, W / 2)
        return self.what_and_where(self.layer3(self.layer2(self.layer1(x))))  # of (B, 256, H / 8, W / 8)


class BasicBlock(nn.Module):
    """Two 3 × 3 convolutions beside a shortcut: (B, C_in, H, W) → (B, C_out, H / stride, W / stride)."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample = nn.Identity()
        if stride > 1:
            shortcut = nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(hidden + self.downsample(x))


class WhatAndWhere(nn.Module):
    """Features (B, C, H, W) → (B, 3·C): the mean of each, and the row and column in [−1, 1] where it is strongest.

    The place is a softmax-weighted mean (Finn et al. 2016, arXiv:1509.06113), finer than the grid, as irises need.
    """

    def forward(self, features: Tensor) -> Tensor:
        features = features.float()  # and no @ below, which autocast would compute in bf16
        like = {"dtype": features.dtype, "device": features.device}
        rows, columns = (torch.linspace(-1, 1, side, **like) for side in features.shape[-2:])
        places = features.flatten(2).softmax(dim=-1).view_as(features)
        row, column = (places.sum(dim=3) * rows).sum(dim=-1), (places.sum(dim=2) * columns).sum(dim=-1)
        return torch.cat([features.mean(dim=(2, 3)), row, column], dim=1)


@dataclass(frozen=True)
class TrainedEstimator:
    """An estimator and its errors as measured after its training."""

    model: GazeEstimator
    info: dict  # own_error_deg: mean angular errors on true pictures of test persons, by group


def save_estimator(path: str | Path, model: GazeEstimator, info: dict) -> None:
    """Write the weights, in half precision, and `info`."""
    state = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state_of(model).items()}
    save_tensors(path, {"format": FORMAT, "state_dict": state, "info": info})


def load_estimator(path: str | Path) -> TrainedEstimator:
    """Read an estimator onto the CPU, in evaluation mode. UserError for any other file."""
    content = load_tensors(path, about="estimator")
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"{path} is not a gaze estimator (expected format {FORMAT!r})", about="estimator")
    model = GazeEstimator().float()
    try:
        model.load_state_dict({name: tensor.float() for name, tensor in content["state_dict"].items()})
        info = dict(content["info"])
        if not all(type(error) is float and math.isfinite(error) for error in info["own_error_deg"].values()):
            raise ValueError("own_error_deg")
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise UserError(
            f"{path}: the contents are not a gaze estimator ({type(error).__name__})", about="estimator"
        ) from error
    return TrainedEstimator(model.eval().requires_grad_(False), info)
