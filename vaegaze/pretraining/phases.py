"""The phases of pre-training, as the settings have them."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from vaegaze.config.pretrain import PretrainConfig
from vaegaze.models import VAEGaze
from vaegaze.pretraining.batches import Batch
from vaegaze.pretraining.losses import (
    LossWeights,
    Objective,
    autoencoder_loss,
    latent_loss,
    redraw_eyes,
    redraw_through_vae,
    redrawing_loss,
    texture_loss,
)

AUTOENCODER = "autoencoder"


@dataclass(frozen=True)
class Phase:
    name: str
    number: int  # the same whichever phases there are
    trained: tuple[str, ...]  # the parts of the model that train
    loss: Callable[[Objective, Batch], Tensor]
    weights: LossWeights
    redraw: Callable[[VAEGaze, Batch], Tensor]  # what held-out frames are judged by
    gazes: int  # targets of each person
    photographic: float
    steps: int
    band_steps: int
    batch_size: int  # persons, in each process
    accumulation: int  # batches a step
    learning_rate: float


def phases(config: PretrainConfig) -> list[Phase]:
    """The autoencoder, unless its weights are given; then the UNet on latents; then the UNet on pixels."""
    params = config.pretrain_params

    def either(weight: float | None, otherwise: float) -> float:
        return otherwise if weight is None else weight

    vae = Phase(
        name=AUTOENCODER,
        number=0,
        trained=("vae",),
        loss=texture_loss if params.photographs else autoencoder_loss,
        weights=LossWeights(
            l1=either(params.vae_l1_loss, params.l1_loss),
            mask_l1=params.mask_l1_loss,
            vgg=params.vae_vgg_loss,
            kl=params.kl_loss,
            gradient=params.gradient_loss,
        ),
        redraw=redraw_through_vae,
        gazes=1,
        photographic=params.vae_photographic,
        steps=params.vae_steps,
        band_steps=0 if params.photographs else params.vae_band_steps,
        batch_size=params.vae_batch_size,
        accumulation=params.gradient_accumulation,
        learning_rate=params.vae_learning_rate,
    )
    latents = Phase(
        name="UNet on latents",
        number=1,
        trained=("unet", "gaze_mlp"),
        loss=latent_loss,
        weights=LossWeights(
            l1=either(params.latent_l1_loss, params.l1_loss),
            mask_l1=either(params.latent_mask_l1_loss, params.unet_mask_l1_loss),
        ),
        redraw=redraw_eyes,
        gazes=params.gazes_per_person,
        photographic=params.unet_photographic,
        steps=params.latent_steps,
        band_steps=0,  # a UNet trained on the band alone would have to relearn the whole picture
        batch_size=params.latent_batch_size,
        accumulation=params.gradient_accumulation,
        learning_rate=params.latent_learning_rate,
    )
    pixels = replace(
        latents,
        name="UNet on pixels",
        number=2,
        loss=redrawing_loss,
        weights=LossWeights(
            l1=either(params.pixel_l1_loss, params.l1_loss),
            mask_l1=either(params.pixel_mask_l1_loss, params.unet_mask_l1_loss),
            vgg=params.pixel_vgg_loss,
            gradient=params.pixel_gradient_loss,
        ),
        steps=params.pixel_steps,
        batch_size=params.pixel_batch_size,
        learning_rate=params.pixel_learning_rate,
    )
    given = config.model_params.checkpoint_of("vae") is not None
    # Without steps a phase is left out; an autoencoder whose weights are given is frozen.
    return [phase for phase in (vae, latents, pixels) if phase.steps and not (given and phase is vae)]
