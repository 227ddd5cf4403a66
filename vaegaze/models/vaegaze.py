"""VAE-GAZE: autoencoder, UNet and gaze MLP. The forward pass is a chain of stages, each callable alone."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from vaegaze.geometry.camera import EYE_MASKS, MAX_SIDE_PX, SQUARES, Camera, camera_from_config, canvas_camera
from vaegaze.models.autoencoder import AutoencoderKL
from vaegaze.models.blocks import ModelMixin
from vaegaze.models.gaze_mlp import GazeMLP
from vaegaze.models.masking import fill_eyes, paint_eyes
from vaegaze.models.unet import UNet2DConditionModel

KEYS = {"vae", "unet", "gaze_mlp", "canvas", "image_size", "residual", "fill_eyes", "eye_masks"}  # of a config


class VAEGaze(ModelMixin):
    """Redraws the eyes of a masked face with a given gaze.

    `config` holds the keyword arguments of the three parts under "vae", "unet" and "gaze_mlp", and:

    canvas       the camera that every picture is aligned to, as `geometry.camera.camera_from_config` reads it; or
    image_size   the side in pixels of a square one
    residual     whether the UNet's output is added to the masked latents, which spares it learning to copy the
                 unmasked parts (default False, as upstream)
    fill_eyes    whether the masked eyes are filled with the colours around them (default False: painted black, as
                 upstream). In a small autoencoder a black square changes the latents of the whole face.
    eye_masks    the shape of the masks that it learnt: "squares" (default, as upstream) or "lids"
    """

    def __init__(self, config: dict):
        super().__init__()
        self.config = config
        unknown = sorted(map(str, set(config) - KEYS))
        if unknown:
            raise ValueError(f"unknown {', '.join(unknown)}: it may be of a newer version of this program")
        self.canvas: Camera = canvas_of(config)
        self.residual: bool = config.get("residual", False)
        self.fill_eyes: bool = config.get("fill_eyes", False)
        for key in ("residual", "fill_eyes"):
            if type(getattr(self, key)) is not bool:
                raise ValueError(f"{key} is {getattr(self, key)!r}, neither true nor false")
        self.vae = AutoencoderKL(**config["vae"])
        self.unet = UNet2DConditionModel(**config["unet"])
        self.gaze_mlp = GazeMLP(**config["gaze_mlp"])
        halvings = len(self.vae.encoder.down_blocks) + len(self.unet.down_blocks) - 2
        for key, size in _sides_of(self.canvas, config).items():
            if size % 2**halvings:
                raise ValueError(f"{key} {size} cannot be halved {halvings} times")
        self._refuse_parts_that_do_not_fit()

    def _refuse_parts_that_do_not_fit(self) -> None:
        latents = self.vae.post_quant_conv.in_channels
        token = self.unet.mid_block.attentions[0].transformer_blocks[0].attn2.to_k.in_features
        widths = {
            "vae.in_channels": (self.vae.encoder.conv_in.in_channels, 3),
            "vae.out_channels": (self.vae.decoder.conv_out.out_channels, 3),
            "unet.in_channels": (self.unet.conv_in.in_channels, 2 * latents),  # masked picture and reference
            "unet.out_channels": (self.unet.conv_out.out_channels, latents),
            "gaze_mlp.num_in": (self.gaze_mlp.gaze_mlp.net[0].in_features, 2),
            "gaze_mlp.num_out": (self.gaze_mlp.gaze_mlp.net[-1].out_features, token),
        }
        wrong = [f"{key} is {is_}, needs {needed}" for key, (is_, needed) in widths.items() if is_ != needed]
        if wrong:
            raise ValueError(f"the parts do not fit together: {'; '.join(wrong)}")

    def mask(self, images: Tensor, eye_masks: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in [−1, 1] without the eyes, where eye_masks (B, 1, H, W) in {0, 1} is 1."""
        return fill_eyes(images, eye_masks) if self.fill_eyes else paint_eyes(images, eye_masks)

    def encode(self, images: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in [−1, 1] → scaled latents (B, 4, H / f, W / f); the mode, never a sample."""
        return self.vae.encode(images).latent_dist.mode() * self.vae.scaling_factor

    def inpaint(self, masked_latents: Tensor, reference_latents: Tensor, head: Tensor, gaze: Tensor) -> Tensor:
        """Latents of the masked and the reference picture, angles (B, 2) → latents with the eyes drawn in.

        A reference of zeros stands for no reference.
        """
        return self.output(self.trunk(masked_latents, reference_latents, head, gaze), masked_latents)

    def trunk(self, masked_latents: Tensor, reference_latents: Tensor, head: Tensor, gaze: Tensor) -> Tensor:
        """The first part of `inpaint` → input of the UNet's output layers (B, C, H / f, W / f)."""
        tokens = self.gaze_mlp(head, gaze)  # (B, 2, D)
        latents = torch.cat([masked_latents, reference_latents], dim=1)  # (B, 8, H / f, W / f)
        return self.unet.trunk(latents, 0, encoder_hidden_states=tokens)

    def trunk_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters that `trunk` depends on."""
        yield from self.gaze_mlp.parameters()
        for name, layer in self.unet.named_children():
            if name not in ("conv_norm_out", "conv_out"):
                yield from layer.parameters()

    def output(self, features: Tensor, masked_latents: Tensor) -> Tensor:
        """The second part of `inpaint`."""
        drawn = self.unet.output_layers(features)
        return masked_latents + drawn if self.residual else drawn

    def decode(self, latents: Tensor) -> Tensor:
        """Scaled latents → pictures (B, 3, H, W), about [−1, 1]."""
        return self.vae.decode(latents / self.vae.scaling_factor).sample

    def forward(self, masked_latents: Tensor, reference_latents: Tensor, head: Tensor, gaze: Tensor) -> Tensor:
        """The stages after encoding: latents from `mask` and `encode` → pictures (B, 3, H, W)."""
        return self.decode(self.inpaint(masked_latents, reference_latents, head, gaze))


def canvas_of(config: dict) -> Camera:
    """ValueError unless the config has a valid image_size or a valid canvas, and eye masks of a known shape."""
    shape = config.get("eye_masks", SQUARES)
    if not isinstance(shape, str) or shape not in EYE_MASKS:
        raise ValueError(f"eye_masks is {shape!r}, none of {', '.join(EYE_MASKS)}")
    return replace(_camera_of(config), eye_masks=shape)


def _camera_of(config: dict) -> Camera:
    if ("image_size" in config) == ("canvas" in config):
        raise ValueError("expected either image_size or canvas")
    if "canvas" in config:
        return camera_from_config(config["canvas"])
    size = config["image_size"]
    if type(size) is not int or not 1 <= size <= MAX_SIDE_PX:
        raise ValueError(f"image_size {size!r} is not a whole number from 1 to {MAX_SIDE_PX}")
    return canvas_camera(size)


def _sides_of(canvas: Camera, config: dict) -> dict[str, int]:
    """The canvas's sides by the config's names."""
    if "image_size" in config:
        return {"image_size": canvas.width_px}
    return {"canvas.width_px": canvas.width_px, "canvas.height_px": canvas.height_px}


def to_unit_range(images: np.ndarray) -> Tensor:
    """Pixels (B, H, W, 3) uint8 → (B, 3, H, W) float32 in [−1, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0).contiguous()


def to_pixels(images: Tensor) -> np.ndarray:
    """The inverse of `to_unit_range`, rounded and clipped."""
    pixels = images.detach().float().cpu().add(1.0).mul(127.5).round().clamp(0, 255)
    return pixels.permute(0, 2, 3, 1).to(torch.uint8).numpy()
