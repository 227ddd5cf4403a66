"""Options of huggingface/diffusers' model classes for which this family covers one value only.

`AutoencoderKL` and `UNet2DConditionModel` accept every key of a diffusers `config.json`. Keys that vary within the
family are named arguments; the others are checked here, so that a model always matches its config. docs/diffusers.md
lists both.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from vaegaze.models.blocks import MAX_LAYERS

WITHOUT_EFFECT = {  # on a model of this family, so any value is accepted
    "sample_size",  # the training size; convolutions take any
    "force_upcast",  # a pipeline's choice of precision
    "addition_embed_type_num_heads",  # belongs to an option that is off
}


def covered_by_autoencoder(blocks: int) -> dict[str, Any]:
    """Each option of diffusers' AutoencoderKL that has a single value here."""
    return {
        "act_fn": "silu",
        "down_block_types": ("DownEncoderBlock2D",) * blocks,
        "up_block_types": ("UpDecoderBlock2D",) * blocks,
        "mid_block_add_attention": True,
        "use_quant_conv": True,
        "use_post_quant_conv": True,
        "shift_factor": None,
        "latents_mean": None,
        "latents_std": None,
    }


def covered_by_unet(blocks: int) -> dict[str, Any]:
    """Each option of diffusers' UNet2DConditionModel that has a single value here."""
    return {
        "act_fn": "silu",
        "down_block_types": ("CrossAttnDownBlock2D",) * (blocks - 1) + ("DownBlock2D",),
        "mid_block_type": "UNetMidBlock2DCrossAttn",
        "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * (blocks - 1),
        "center_input_sample": False,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "downsample_padding": 1,
        "mid_block_scale_factor": 1,
        "dropout": 0,
        "conv_in_kernel": 3,
        "conv_out_kernel": 3,
        "resnet_time_scale_shift": "default",
        "resnet_skip_time_act": False,
        "resnet_out_scale_factor": 1,
        "transformer_layers_per_block": 1,
        "reverse_transformer_layers_per_block": None,
        "num_attention_heads": None,  # attention_head_dim is their number
        "attention_type": "default",
        "only_cross_attention": False,
        "mid_block_only_cross_attention": None,
        "dual_cross_attention": False,
        "cross_attention_norm": None,
        "use_linear_projection": False,
        "upcast_attention": False,
        "time_embedding_type": "positional",
        "time_embedding_dim": None,
        "time_embedding_act_fn": None,
        "timestep_post_act": None,
        "time_cond_proj_dim": None,
        "encoder_hid_dim": None,
        "encoder_hid_dim_type": None,
        "class_embed_type": None,
        "num_class_embeds": None,
        "class_embeddings_concat": False,
        "projection_class_embeddings_input_dim": None,
        "addition_embed_type": None,
        "addition_time_embed_dim": None,
    }


def refuse_uncovered(class_name: str, given: Mapping[str, Any], covered: Mapping[str, Any]) -> None:
    """TypeError for an option that diffusers' class does not have, ValueError for a value that is not `covered`."""
    for key, value in given.items():
        if key == "_class_name":
            if value != class_name:
                raise ValueError(f"the config is of {value!r}, not of {class_name}")
        elif key not in covered:
            if not key.startswith("_") and key not in WITHOUT_EFFECT:  # diffusers' bookkeeping begins with _
                raise TypeError(f"{class_name} has no option {key!r}")
        elif (tuple(value) if isinstance(value, list) else value) != covered[key]:
            raise ValueError(f"{key} is {value!r}; only {covered[key]!r} is supported for {class_name}")


def refuse_uncountable(block_out_channels: Sequence[int], layers_per_block: int, **counts: Any) -> None:
    """ValueError unless there is at least one block and every number is whole, above 0, and not per block."""
    if not isinstance(block_out_channels, list | tuple) or not block_out_channels:
        raise ValueError(f"block_out_channels is {block_out_channels!r}, not a list of numbers")
    widths = [("block_out_channels", width) for width in block_out_channels]
    for key, value in (*widths, ("layers_per_block", layers_per_block), *counts.items()):
        if type(value) is not int or value < 1:
            raise ValueError(f"{key} is {value!r}, not a whole number above 0")
    if max(len(block_out_channels), layers_per_block) > MAX_LAYERS:
        raise ValueError(f"more than {MAX_LAYERS} layers in a row")
