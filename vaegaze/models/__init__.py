from vaegaze.models.autoencoder import AutoencoderKL
from vaegaze.models.gaze_mlp import GazeMLP
from vaegaze.models.unet import UNet2DConditionModel
from vaegaze.models.vaegaze import VAEGaze, to_pixels, to_unit_range

__all__ = ["AutoencoderKL", "GazeMLP", "UNet2DConditionModel", "VAEGaze", "to_pixels", "to_unit_range"]
