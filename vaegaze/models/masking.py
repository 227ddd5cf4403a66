"""What a model sees in place of the eyes that it is to draw."""

import torch
from torch import Tensor
from torch.nn import functional as F


def paint_eyes(images: Tensor, eye_masks: Tensor) -> Tensor:
    """Paint the eyes −1, as upstream: images (B, 3, H, W) in [−1, 1], eye_masks (B, 1, H, W) in {0, 1}."""
    return images * (1 - eye_masks) - eye_masks


def fill_eyes(images: Tensor, eye_masks: Tensor) -> Tensor:
    """Fill the eyes smoothly with the colours around them; arguments as for `paint_eyes`.

    Pull-push (Gortler et al. 1996, "The Lumigraph", 3.4): known pixels are averaged at ever coarser scales, until
    there is one for every gap; on the way back each gap takes what the next coarser scale knows.
    """
    known = 1 - eye_masks
    scales = [(images * known, known)]  # sums of known pixels and their number, both divided by the pixels of a cell
    while max(scales[-1][1].shape[-2:]) > 1:
        scales.append(tuple(F.avg_pool2d(part, 2, ceil_mode=True) for part in scales[-1]))
    filled = torch.zeros_like(scales[-1][0])  # grey, where nothing at all is known
    for total, weight in reversed(scales):
        coarser = F.interpolate(filled, size=total.shape[-2:], mode="bilinear", align_corners=False)
        filled = torch.where(weight > 0, total / weight.where(weight > 0, 1), coarser)
    return filled
