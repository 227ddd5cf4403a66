"""The loss: named terms and their weighted sum.

Every term takes pictures (B, 3, S, S) in [−1, 1] and ignores pixels that are not `valid`.
"""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import skip_init

from vaegaze.config.finetune import LossParams
from vaegaze.errors import UserError
from vaegaze.models.device import to_device
from vaegaze.models.tensor_files import load_tensors

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
VGG19_TAPS = (1, 6, 11, 20, 29)  # relu1_1 … relu5_1 in torchvision's vgg19().features; no next layer is in place
VGG19_STAGES = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 1))  # channels and convolutions, up to the last tap
IMAGENET_SHA256 = "dcbb9e9d"  # first digits for torchvision's vgg19-dcbb9e9d.pth
PYRAMID_SCALES = (1, 2, 4, 8)  # the picture at full size, ½, ¼ and ⅛ (upstream's loss)
SMALLEST_LEVEL_PX = 16  # the last tapped layer sees a 16th of it


def masked_mean_l1(result: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Mean |result − target| over the pixels where `weights` (B, 1, S, S) is 1, per picture, then over pictures."""
    return mean_over((result - target).abs(), weights).mean()


def mean_over(values: Tensor, weights: Tensor) -> Tensor:
    """Mean of (B, 3, S, S) over the pixels where `weights` (B, 1, S, S) is 1, per picture: (B,)."""
    return (values * weights).sum(dim=(1, 2, 3)) / (weights.sum(dim=(1, 2, 3)) * values.shape[1])


class Loss:
    """l1, mask_l1 and vgg with their weights; a term of weight 0 is neither computed nor loaded."""

    def __init__(self, params: LossParams, *, seed: int, device: torch.device):
        self.weights = {
            name: weight
            for name, weight in (("l1", params.l1_loss), ("mask_l1", params.mask_l1_loss), ("vgg", params.vgg_loss))
            if weight > 0
        }
        self.vgg = to_device(load_vgg(params.vgg_weights, seed=seed), device) if "vgg" in self.weights else None

    def target_features(self, target: Tensor, valid: Tensor) -> tuple[Tensor, ...]:
        """VGG19's features of the targets, each (B, …), the same at every step; empty without that term."""
        with torch.no_grad():
            return () if self.vgg is None else tuple(self.vgg.taps(target * valid))

    def terms(
        self, result: Tensor, target: Tensor, eye_masks: Tensor, valid: Tensor, target_features: tuple[Tensor, ...] = ()
    ) -> dict[str, Tensor]:
        """Each term before weighting; eye_masks and valid (B, 1, S, S) in {0, 1}, neither empty for any picture.

        `target_features` are those of the method of that name; without them they are computed here.
        """
        compute: dict[str, Callable[[], Tensor]] = {
            "l1": lambda: masked_mean_l1(result, target, valid),
            "mask_l1": lambda: masked_mean_l1(result, target, eye_masks * valid),
            "vgg": lambda: self.vgg(result * valid, target_features or self.target_features(target, valid)),
        }
        return {name: compute[name]() for name in self.weights}

    def total(self, terms: dict[str, Tensor]) -> Tensor:
        return sum(self.weights[name] * value for name, value in terms.items())


class VGGLoss(nn.Module):
    """Mean absolute difference of VGG19 features at five layers, summed over layers and an image pyramid.

    Pictures with a side under 128 px have fewer levels: none is smaller than 16 px.

    Source: Johnson et al. 2016 (arXiv:1603.08155), in the form upstream uses (weights 1, four pyramid levels).
    """

    def __init__(self, features: nn.Sequential, source: str):
        super().__init__()
        self.source = source  # in words
        self.features = features.eval().requires_grad_(False)
        self.distance = nn.L1Loss()
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN, dtype=torch.float32).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD, dtype=torch.float32).view(1, 3, 1, 1))

    def taps(self, images: Tensor) -> list[Tensor]:
        """Features of pictures (B, 3, S, S) in [−1, 1] at every pyramid level and tapped layer."""
        taps = []
        for scale in (scale for scale in PYRAMID_SCALES if min(images.shape[-2:]) // scale >= SMALLEST_LEVEL_PX):
            x = (F.avg_pool2d(images, scale) + 1) / 2  # (B, 3, S / scale, S / scale) in [0, 1]
            x = (x - self.mean) / self.std
            for i, layer in enumerate(self.features):
                x = layer(x)
                if i in VGG19_TAPS:
                    taps.append(x)
        return taps

    def forward(self, result: Tensor, target_features: Sequence[Tensor]) -> Tensor:
        """`target_features`: the taps of the target pictures."""
        return sum(self.distance(got, want) for got, want in zip(self.taps(result), target_features))


def vgg19_features() -> nn.Sequential:
    """torchvision's `vgg19().features` up to the last tap, its weights not yet set."""
    layers, channels = [], 3
    for stage, (width, depth) in enumerate(VGG19_STAGES):
        layers += [nn.MaxPool2d(2)] if stage else []
        for _ in range(depth):
            convolution = skip_init(nn.Conv2d, channels, width, 3, padding=1, dtype=torch.float32)
            layers += [convolution, nn.ReLU(inplace=True)]
            channels = width
    return nn.Sequential(*layers)


def load_vgg(weights: str, *, seed: int) -> VGGLoss:
    """VGG19 from `weights`: "imagenet", "random" or a file with torchvision's state dict; else UserError."""
    features = vgg19_features()
    if weights == "random":
        generator = torch.Generator().manual_seed(seed)
        for layer in features:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
                nn.init.zeros_(layer.bias)
    else:
        state = _imagenet_state() if weights == "imagenet" else _state_from_file(weights)
        expected = features.state_dict()
        found = {name: state.get(f"features.{name}", state.get(name)) for name in expected}
        wrong = [name for name, tensor in expected.items() if getattr(found[name], "shape", None) != tensor.shape]
        if wrong:
            raise UserError(
                f"{weights} is not a VGG19 state dict: {len(wrong)} of {len(expected)} tensors are missing or "
                f"have the wrong shape, first features.{wrong[0]}",
                about="vgg",
            )
        features.load_state_dict(found)
    return VGGLoss(features, _source_words(weights, seed))


def _source_words(weights: str, seed: int) -> str:
    if weights == "random":
        return f"untrained weights, drawn by seed {seed}"
    if weights == "imagenet":
        return "ImageNet weights"
    checksum = hashlib.sha256(Path(weights).read_bytes()).hexdigest()
    known = "torchvision's ImageNet weights" if checksum.startswith(IMAGENET_SHA256) else "not torchvision's file"
    return f"{weights} (sha256 {checksum[:16]}…, {known})"


def _imagenet_state() -> dict:
    from torchvision.models import VGG19_Weights  # takes two seconds to import

    try:
        return VGG19_Weights.IMAGENET1K_V1.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except Exception as error:  # no network; or a damaged file in the cache, which can fail in any way
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"the ImageNet weights of VGG19 are neither in the cache nor available ({reason})",
            about="vgg",
        ) from error


def _state_from_file(path: str) -> dict:
    state = load_tensors(path, about="vgg")
    if not isinstance(state, dict):
        raise UserError(f"vgg_weights: {path} holds a {type(state).__name__}, not a state dict", about="vgg")
    return state
