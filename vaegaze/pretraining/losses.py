"""What the phases minimise, and what held-out frames are judged by."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vaegaze.evaluation.metrics import eye_l1, eye_psnr
from vaegaze.models import VAEGaze
from vaegaze.pretraining.batches import Batch, Crops
from vaegaze.training.losses import VGGLoss

Encode = Callable[..., tuple[Tensor, Tensor, Tensor | None]]  # as `encode_batch`


@dataclass(frozen=True)
class LossWeights:
    """Of one phase."""

    l1: float
    mask_l1: float
    vgg: float = 0.0
    kl: float = 0.0
    gradient: float = 0.0


class Objective(nn.Module):
    """A phase's loss as a module, since DistributedDataParallel and torch.compile take nothing else."""

    def __init__(
        self, model: VAEGaze, loss: Callable[["Objective", Batch], Tensor], weights: LossWeights,
        vgg: VGGLoss | None, encode: Encode,
    ):  # fmt: skip
        super().__init__()
        self.model, self.loss, self.weights, self.vgg, self.encode = model, loss, weights, vgg, encode

    def forward(self, batch: Batch) -> Tensor:
        return self.loss(self, batch)

    def compare(self, result: Tensor, target: Tensor, eye_masks: Tensor, valid: Tensor) -> Tensor:
        """The weighted terms of pictures (B, 3, H, W), or of latents with masks of their size."""
        weights = self.weights
        total = weights.l1 * mean_l1(result, target, valid) + weights.mask_l1 * mean_l1(result, target, eye_masks)
        if self.vgg is not None:
            with torch.no_grad():
                wanted = self.vgg.taps(target * valid)
            total = total + weights.vgg * self.vgg(result * valid, wanted)
        return total


def autoencoder_loss(objective: Objective, batch: Batch) -> Tensor:
    """Targets and references, redrawn from noisy latents."""
    images = pictures_of(batch)
    eye_masks = torch.cat([batch.eye_masks, batch.reference_eye_masks])
    valid = torch.cat([batch.valid, batch.reference_valid])
    seeds = (*batch.noise_seeds, *(seed + 1 for seed in batch.noise_seeds))
    result, divergence = sample_through_vae(objective.model, images, seeds)
    return objective.weights.kl * divergence + objective.compare(result, images, eye_masks, valid)


def texture_loss(objective: Objective, crops: Crops) -> Tensor:
    """Crops, redrawn from noisy latents: their pixels, and what makes them sharp."""
    weights = objective.weights
    result, divergence = sample_through_vae(objective.model, crops.pictures, crops.noise_seeds)
    everywhere = torch.ones_like(result[:, :1])
    l1, gradient = (compare(result, crops.pictures, everywhere) for compare in (mean_l1, gradient_difference))
    return weights.kl * divergence + weights.l1 * l1 + weights.gradient * gradient


def pictures_of(batch: Batch | Crops) -> Tensor:
    return batch.pictures if isinstance(batch, Crops) else torch.cat([batch.target, batch.reference])


def sample_through_vae(model: VAEGaze, images: Tensor, seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Pictures redrawn from a sample of their latents, and these latents' mean divergence from the normal."""
    posterior = model.vae.encode(images).latent_dist
    latents = posterior.mean + _noise(posterior.mean, seeds) * torch.exp(0.5 * posterior.logvar)
    return model.vae.decode(latents).sample.float(), posterior.kl().mean() / posterior.mean[0].numel()


def _noise(latents: Tensor, seeds: Sequence[int]) -> Tensor:
    """Noise from each picture's own seed, so that it does not depend on the rest of the batch."""
    generator = torch.Generator(latents.device)
    shape, kind = latents.shape[1:], {"device": latents.device, "dtype": latents.dtype, "generator": generator}
    noise = []
    for seed in seeds:
        generator.manual_seed(seed)
        noise.append(torch.randn(shape, **kind))
    return torch.stack(noise)


def latent_loss(objective: Objective, batch: Batch) -> Tensor:
    """The UNet's latents against the target's own."""
    model = objective.model
    with torch.no_grad():
        masked, reference, target = objective.encode(model, batch, with_target=True)
    result = model.inpaint(masked, reference, batch.head, batch.gaze)
    eye_masks, valid = (F.adaptive_avg_pool2d(mask, target.shape[-2:]) for mask in (batch.eye_masks, batch.valid))
    return objective.compare(result.float(), target, eye_masks, valid)


def redrawing_loss(objective: Objective, batch: Batch) -> Tensor:
    """The picture with its eyes redrawn against the target."""
    model = objective.model
    with torch.no_grad():
        masked, reference, _ = objective.encode(model, batch, with_target=False)
    result = model(masked, reference, batch.head, batch.gaze).float()
    loss = objective.compare(result, batch.target, batch.eye_masks, batch.valid)
    return loss + objective.weights.gradient * gradient_difference(result, batch.target, batch.eye_masks)


def encode_batch(model: VAEGaze, batch: Batch, *, with_target: bool) -> tuple[Tensor, Tensor, Tensor | None]:
    """Latents of the masked target, its reference and, if asked for, the target itself, each (P·G, C, h, w) float32."""
    masked, reference = encode_inputs(model, batch)
    return masked, reference, model.encode(batch.target).float() if with_target else None


def encode_inputs(model: VAEGaze, batch: Batch) -> tuple[Tensor, Tensor]:
    masked = model.encode(model.mask(batch.target, batch.eye_masks)).float()
    return masked, for_each_target(model.encode(batch.reference).float(), batch)


def for_each_target(reference: Tensor, batch: Batch) -> Tensor:
    """Reference latents (P, …), zeros where dropped, once for each of a person's targets (P·G, …)."""
    return (reference * batch.keep_reference).repeat_interleave(len(batch.target) // len(reference), dim=0)


def mean_l1(result: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Mean |result − target| by weights (B, 1, H, W) in [0, 1], per picture, then over pictures; 0 without weights."""
    total = weights.sum(dim=(1, 2, 3)).clamp(min=1e-6) * result.shape[1]
    return (((result - target).abs() * weights).sum(dim=(1, 2, 3)) / total).mean()


def gradient_difference(result: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Gradient difference loss: L1 between the images' gradients, at full and at half size; a scalar.

    L1 alone barely penalises blur; this term does (Mathieu et al. 2016, arXiv:1511.05440, eq. 6). Pixels count by
    weights (B, 1, H, W) in [0, 1].
    """
    total = result.new_zeros(())
    for _ in range(2):
        for dim in (-2, -1):
            size = weights.shape[dim] - 1
            both = torch.minimum(weights.narrow(dim, 1, size), weights.narrow(dim, 0, size))
            total = total + mean_l1(result.diff(dim=dim), target.diff(dim=dim), both)
        result, target, weights = (F.avg_pool2d(each, 2) for each in (result, target, weights))
    return total / 2


def redraw_eyes(model: VAEGaze, batch: Batch) -> Tensor:
    return model(*encode_inputs(model, batch), batch.head, batch.gaze)


def redraw_through_vae(model: VAEGaze, batch: Batch) -> Tensor:
    return model.decode(model.encode(batch.target))


@torch.no_grad()
def eye_errors(model: VAEGaze, redraw: Callable[[VAEGaze, Batch], Tensor], batches: list[Batch]) -> tuple[float, float]:
    """Mean peak signal-to-noise ratio, in dB, and mean L1 over the eye pixels of frames in [−1, 1]."""
    psnr, l1 = [], []
    for batch in batches:
        result = redraw(model, batch).float().clamp(-1, 1)
        psnr.append(eye_psnr(result, batch.target, batch.eye_masks))
        l1.append(eye_l1(result, batch.target, batch.eye_masks))
    return torch.cat(psnr).mean().item(), torch.cat(l1).mean().item()
