"""What the model sees in place of the eyes that it draws."""

import torch
from torch import Tensor
from torch.nn import functional as F


def paint_eyes(images: Tensor, eye_masks: Tensor) -> Tensor:
    """Paint the eyes −1, as upstream: images (B, 3, H, W) in [−1, 1], eye_masks (B, 1, H, W) in {0, 1}."""
    return images * (1 - eye_masks) - eye_masks


def fill_eyes(images: Tensor, eye_masks: Tensor) -> Tensor:
    """Fill the eyes smoothly with the colours around them; arguments as for `paint_eyes`.

    Pull-push (Gortler et al. 1996, "The Lumigraph", 3.4): average the known pixels at ever coarser scales until no
    gap is left, then go back down and fill each gap from the next coarser scale.
    """
    known = 1 - eye_masks
    scales = [(images * known, known)]  # sum and count of known pixels, per pixel of a cell
    while max(scales[-1][1].shape[-2:]) > 1:
        scales.append(tuple(F.avg_pool2d(part, 2, ceil_mode=True) for part in scales[-1]))
    filled = torch.zeros_like(scales[-1][0])  # grey if no pixel is known
    for total, weight in reversed(scales):
        coarser = F.interpolate(filled, size=total.shape[-2:], mode="bilinear", align_corners=False)
        filled = torch.where(weight > 0, total / weight.where(weight > 0, 1), coarser)
    return filled
