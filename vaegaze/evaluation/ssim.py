"""Structural similarity (Wang et al. 2004), pixel by pixel, with the windows and constants of torchmetrics."""

import torch
from torch import Tensor
from torch.nn import functional as F

SIGMA_PX, REACH_PX = 1.5, 5  # of the Gaussian window, 11 × 11 pixels
C1, C2 = 0.01**2, 0.03**2  # for a range of 1


def ssim_map(results: Tensor, targets: Tensor) -> Tensor:
    """(N, C, H, W) of pictures of that shape in [0, 1]; mirrored beyond their borders."""
    channels = results.shape[1]
    offsets_px = torch.arange(-REACH_PX, REACH_PX + 1, dtype=results.dtype, device=results.device)
    weights = torch.exp(-0.5 * (offsets_px / SIGMA_PX) ** 2)
    weights = (weights / weights.sum()).expand(channels, 1, 1, -1)

    def window_mean(pictures: Tensor) -> Tensor:
        padded = F.pad(pictures, (REACH_PX,) * 4, mode="reflect")
        across = F.conv2d(padded, weights, groups=channels)
        return F.conv2d(across, weights.transpose(2, 3), groups=channels)

    pictures = torch.cat([results, targets, results * results, targets * targets, results * targets])
    mean, true_mean, square, true_square, product = window_mean(pictures).chunk(5)
    variances = (square - mean**2).clamp(min=0) + (true_square - true_mean**2).clamp(min=0)
    covariance = product - mean * true_mean
    alike = (2 * mean * true_mean + C1) * (2 * covariance + C2)
    return alike / ((mean**2 + true_mean**2 + C1) * (variances + C2))
