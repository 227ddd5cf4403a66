"""Eyes drawn anew by a trained model, in batches; what pictures have in common is encoded once."""

from contextlib import nullcontext

import numpy as np
import torch
from torch import Tensor

from vaegaze.commands.progress import progress_bar
from vaegaze.data.photo import Photo
from vaegaze.errors import UserError
from vaegaze.geometry.camera import rolled
from vaegaze.models import VAEGaze, to_pixels, to_unit_range
from vaegaze.models.checkpoint import Reference

AT_ONCE = 8  # pictures that are drawn in one batch


@torch.no_grad()
def encode_reference(model: VAEGaze, reference: Reference | None) -> Tensor:
    """Latents (1, 4, S / f, S / f): zeros where there is none."""
    if reference is None:
        size_px = model.image_size
        latents = model.encode(torch.zeros(1, 3, size_px, size_px, device=device_of(model)))
        return torch.zeros_like(latents)
    return model.encode(to_unit_range(reference.image[None]).to(device_of(model)))


@torch.no_grad()
def encode_masked(model: VAEGaze, images: np.ndarray, eye_masks: np.ndarray) -> Tensor:
    """Pictures (B, S, S, 3) uint8 without the eyes, (B, S, S) bool → latents (B, 4, S / f, S / f)."""
    masks = torch.from_numpy(eye_masks)[:, None].float().to(device_of(model))
    return model.encode(model.mask(to_unit_range(images).to(device_of(model)), masks))


@torch.no_grad()
def draw_eyes(model: VAEGaze, masked: Tensor, referred: Tensor, head: np.ndarray, gaze: np.ndarray) -> np.ndarray:
    """Latents of B pictures, or of one for all, and angles (B, 2) on the canvas → (B, S, S, 3) uint8."""
    head, gaze = (
        torch.from_numpy(np.asarray(angles, dtype=np.float32)).to(device_of(model)) for angles in (head, gaze)
    )
    masked, referred = (latents.expand(len(gaze), *latents.shape[1:]) for latents in (masked, referred))
    drawn = model(masked, referred, head, gaze)  # (B, 3, S, S)
    if not torch.isfinite(drawn).all():
        raise UserError("the pictures that the model draws are infinite or NaN; give another --checkpoint")
    return to_pixels(drawn)


def draw_gazes(model: VAEGaze, photo: Photo, reference: Reference | None, gazes: np.ndarray) -> np.ndarray:
    """The photo's canvas drawn anew with each of the gazes (K, 2), as seen in the photo → (K, S, S, 3) uint8."""
    samples = photo.samples
    masked, referred = encode_masked(model, samples.images, samples.eye_masks), encode_reference(model, reference)
    different, position = np.unique(gazes, axis=0, return_inverse=True)  # a sweep there and back draws each once
    told, drawn = rolled(different, photo.roll_rad), []
    with progress_bar("drawing", len(told)) if len(told) > AT_ONCE else nullcontext() as bar:
        for start in range(0, len(told), AT_ONCE):
            few = told[start : start + AT_ONCE]
            drawn.append(draw_eyes(model, masked, referred, samples.head.repeat(len(few), axis=0), few))
            if bar is not None:
                bar.update(len(few))
    return np.concatenate(drawn)[position.ravel()]


def device_of(model: VAEGaze) -> torch.device:
    return next(model.parameters()).device
