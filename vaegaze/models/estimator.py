"""The gaze estimator that judges pictures. No loss uses it; it was trained on rendered train persons only."""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, ResNet

from vaegaze.errors import UserError
from vaegaze.geometry.camera import BETWEEN_EYES_MM, Camera
from vaegaze.models.tensor_files import load_tensors, save_tensors, state_of

FORMAT = "vaegaze-estimator-3"
CANVAS = Camera(128, 64, 2000 / 3, BETWEEN_EYES_MM)  # the band that contains both eyes at every head pose
ANGLE_SCALE_RAD = 0.25  # roughly the standard deviation of gazes, so that the network's outputs are near 1


class GazeEstimator(nn.Module):
    """Pictures (B, 3, 64, 128) in [−1, 1] on `CANVAS` → gaze (B, 2) = pitch, yaw in radians.

    One torchvision ResNet reads both eyes: the left half of the picture, and the mirrored right half. The result
    averages the reading of the picture and the mirrored-back reading of its mirror image.
    """

    def __init__(self):
        super().__init__()
        self.backbone = ResNet(BasicBlock, [1, 1, 1, 1])
        self.backbone.conv1 = nn.Conv2d(3, 64, 5, stride=2, padding=2, bias=False)
        self.backbone.maxpool = nn.Identity()  # half a pixel of iris position is three degrees
        self.backbone.layer4 = nn.Identity()
        self.backbone.avgpool = WhatAndWhere()
        self.backbone.fc = nn.Identity()
        self.gaze = nn.Sequential(nn.Linear(2 * 3 * 256, 256), nn.ReLU(), nn.Linear(256, 2))

    def forward(self, images: Tensor) -> Tensor:
        left, right = images.chunk(2, dim=-1)
        left, right = self.backbone(torch.cat([left, right.flip(-1)])).chunk(2)  # (B, 768) each
        mirrored = self.gaze(torch.cat([right, left], dim=1)) * torch.tensor([1, -1], device=left.device)
        return ANGLE_SCALE_RAD * (self.gaze(torch.cat([left, right], dim=1)) + mirrored) / 2


class WhatAndWhere(nn.Module):
    """Features (B, C, H, W) → (B, 3·C): the mean of each, and the row and column in [−1, 1] where it is strongest.

    The place is a softmax-weighted mean (Finn et al. 2016, arXiv:1509.06113), finer than the grid, as irises need.
    """

    def forward(self, features: Tensor) -> Tensor:
        features = features.float()  # and no @ below, which autocast would compute in bf16
        rows, columns = (torch.linspace(-1, 1, side, device=features.device) for side in features.shape[-2:])
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
    model = GazeEstimator()
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
