"""Random changes to frames from files, each proven on a picture with known labels by its test."""

import io
from dataclasses import replace

import numpy as np
from PIL import Image, ImageFilter

from vaegaze.config.pretrain import AugmentationParams
from vaegaze.data.samples import Samples
from vaegaze.geometry.transforms import warp

JPEG_QUALITIES = (40, 95)
BLUR_OF_HEIGHT = (0.002, 0.008)  # Gaussian sigma / height of the canvas: up to one pixel of 128


def augmented(samples: Samples, params: AugmentationParams, rng: np.random.Generator) -> Samples:
    """A person's frames, changed at random. What a reference tells of its target holds afterwards, too.

    Mirror, colours, blur and JPEG quality are the same for all; each frame is scaled and moved independently.
    """
    if rng.random() < params.mirror:
        samples = samples.mirrored()
    if params.scale or params.shift:
        samples = _moved(samples, params, rng)
    images = samples.images
    if params.colour:
        images = coloured(images, params.colour, rng)
    if rng.random() < params.blur:
        sigma_px = rng.uniform(*BLUR_OF_HEIGHT) * images.shape[1]
        images = np.stack([np.asarray(Image.fromarray(i).filter(ImageFilter.GaussianBlur(sigma_px))) for i in images])
    if rng.random() < params.jpeg:
        quality = int(rng.integers(*JPEG_QUALITIES, endpoint=True))
        images = np.stack([compressed(image, quality) for image in images])
    return replace(samples, images=images)


def _moved(samples: Samples, params: AugmentationParams, rng: np.random.Generator) -> Samples:
    images, masks, valid = [], [], []
    height, width = samples.images.shape[1:3]
    centre = np.array([width / 2, height / 2])
    for image, mask, shown in zip(samples.images, samples.eye_masks, samples.valid):
        scale = np.exp(rng.uniform(-1, 1) * np.log1p(params.scale))
        shift = rng.uniform(-1, 1, size=2) * params.shift * height
        transform = np.column_stack([scale * np.eye(2), centre + shift - scale * centre])
        drawn, covered = warp(image, transform, height, width)
        moved_mask, _ = warp(mask.astype(np.uint8) * 255, transform, height, width)
        moved_valid, _ = warp(shown.astype(np.uint8) * 255, transform, height, width)
        shown = covered & (moved_valid == 255)
        images.append(drawn)
        masks.append((moved_mask >= 128) & shown)
        valid.append(shown)
    return replace(samples, images=np.stack(images), eye_masks=np.stack(masks), valid=np.stack(valid))


def coloured(images: np.ndarray, spread: float, rng: np.random.Generator) -> np.ndarray:
    """Pictures (N, H, W, 3) uint8 with another gain of each channel, another contrast and saturation, all alike."""
    gain, contrast, saturation = np.exp(spread * rng.normal(size=3)), *np.exp(spread * rng.normal(size=2))
    grey_of = np.full((3, 3), 1 / 3)
    mix = (saturation * np.eye(3) + (1 - saturation) * grey_of) * gain[:, None] * contrast
    offset = 127.5 * (1 - contrast)
    return np.rint(images.astype(np.float32) @ mix.T.astype(np.float32) + offset).clip(0, 255).astype(np.uint8)


def compressed(image: np.ndarray, quality: int) -> np.ndarray:
    """A picture (H, W, 3) uint8 after JPEG."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file).convert("RGB"))
