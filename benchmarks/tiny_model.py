"""The smallest model that has every part: for runs of a second, in tests too."""

SIZE_PX = 32
TINY_CONFIG = {
    "image_size": SIZE_PX,
    "vae": {"block_out_channels": [8, 8, 16], "layers_per_block": 1, "norm_num_groups": 4, "scaling_factor": 0.7},
    "unet": {
        "block_out_channels": [8, 16],
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "attention_head_dim": 2,
        "cross_attention_dim": 8,
    },
    "gaze_mlp": {"num_layers": 3, "num_hidden": 8, "num_out": 8},
}
