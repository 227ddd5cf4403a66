"""Weights as others publish them, here random ones, and what the tests of converting them share."""

import diffusers
import torch

from vaegaze.models import GazeMLP
from vaegaze.models.checkpoint import load_checkpoint

SIZE_PX = 32
TOKEN = 16
# As upstream's, but for widths and depths: 32 groups and 8 heads are what no shape tells.
VAE = {
    "block_out_channels": [32, 32, 64, 32],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 1,
}
UNET = {
    "in_channels": 8,
    "block_out_channels": [32, 64],
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "layers_per_block": 1,
    "cross_attention_dim": TOKEN,
}


class Published:
    """Random weights as diffusers holds them, and a gaze MLP."""

    def __init__(self, seed):
        self.vae = diffusers.AutoencoderKL(**VAE).eval().requires_grad_(False)
        self.unet = diffusers.UNet2DConditionModel(**UNET).eval().requires_grad_(False)
        self.gaze_mlp = GazeMLP(num_out=TOKEN).requires_grad_(False)
        for part in (self.vae, self.unet, self.gaze_mlp):
            with_random_weights(part, seed)

    def states(self):
        return {part: dict(getattr(self, part).state_dict()) for part in ("vae", "unet", "gaze_mlp")}

    def weights(self):
        return {f"{part}.{name}": tensor for part, state in self.states().items() for name, tensor in state.items()}


@torch.no_grad()
def with_random_weights(model, seed):
    """Every tensor random, biases and norms too; scaled so that numbers stay near 1 through any depth."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 16
        parameter.normal_(1.0 if "norm" in name and name.endswith("weight") else 0.0, fan_in**-0.5, generator=generator)


def flags_of(files):
    return [word for pair in files.items() for word in pair]


def assert_same(path, weights):
    state = load_checkpoint(path).model.state_dict()
    assert state.keys() == weights.keys()
    for name, tensor in weights.items():
        assert state[name].dtype == torch.float32 and torch.equal(state[name], tensor.float()), name


def prefixed(state, prefix):
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


# Every key and value as published with MuseTalk's weights and with sd-vae-ft-mse.
MUSETALK_JSON = {
    "_class_name": "UNet2DConditionModel",
    "_diffusers_version": "0.6.0.dev0",
    "act_fn": "silu",
    "attention_head_dim": 8,
    "block_out_channels": [320, 640, 1280, 1280],
    "center_input_sample": False,
    "cross_attention_dim": 384,
    "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    "downsample_padding": 1,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "in_channels": 8,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-05,
    "norm_num_groups": 32,
    "out_channels": 4,
    "sample_size": 64,
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
}

SD_VAE_JSON = {
    "_class_name": "AutoencoderKL",
    "_diffusers_version": "0.4.2",
    "act_fn": "silu",
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "in_channels": 3,
    "latent_channels": 4,
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "out_channels": 3,
    "sample_size": 256,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
}
