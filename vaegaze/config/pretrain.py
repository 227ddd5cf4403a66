"""The settings of one pre-training. Nothing here needs torch."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vaegaze.config import shared
from vaegaze.config.tree import option

RENDERED = "rendered"
HELD_OUT_BATCH = 8  # held-out frames measured at a time


@dataclass(frozen=True)
class AugmentationParams:
    """Random changes to frames from files; a person's target and reference share colour, blur and JPEG quality"""

    mirror: float = option(0.5, help="share of samples mirrored, with their yaws negated", low=0, high=1, flag=False)
    colour: float = option(
        0.1, help="spread of gain, contrast and saturation: log, standard deviation", low=0, high=1, flag=False
    )
    jpeg: float = option(0.2, help="share of samples compressed, quality 40 to 95", low=0, high=1, flag=False)
    blur: float = option(0.2, help="share of samples blurred", low=0, high=1, flag=False)
    scale: float = option(0.04, help="largest change of scale", low=0, high=0.5, flag=False)
    shift: float = option(0.02, help="largest shift, as a share of the frame's height", low=0, high=0.5, flag=False)

    @property
    def is_off(self) -> bool:
        return not any(vars(self).values())


@dataclass(frozen=True)
class PretrainParams:
    """Pre-training on rendered people, on data sets, or on both"""

    save_dir: str = option(
        "./outputs/pretrain", help="run folder: metrics, curves, pictures, resume file", metavar="PATH"
    )
    output: str = option(
        "./outputs/pretrain/model.pth", help="the finished checkpoint, in half precision", metavar="PATH"
    )
    sources: tuple[str, ...] = option(
        (RENDERED,),
        legal=f"{RENDERED} | PATH",
        help="what to train on; PATH is an HDF5 file or a folder of one-person files",
        metavar="SOURCE",
    )
    source_weights: tuple[float, ...] | None = option(
        None, help="each source's share of the samples, in any unit; null: equal", above=0, metavar="X"
    )
    split: tuple[str, ...] = option(
        ("auto",),
        legal="auto | file | share | PATH",
        help="who is held out; file: the file's own split; share: val_share of the people; PATH: a JSON file's lists; "
        "auto: the file's own split if it has one, else share; one for all sources, or one for each",
        metavar="SPLIT",
    )
    val_share: float = option(0.05, help="share of people held out with split: share", above=0, high=0.9)
    frames_per_person: int = option(8, help="frames per epoch from each person of a data set", low=2)
    data_licence: str | None = option(None, help="the data's licence, for the model card", metavar="TEXT")
    augmentation: AugmentationParams = AugmentationParams()
    seed: int = shared.seed("chooses people, frames and initial weights")
    device: str = shared.device()
    precision: str = shared.precision("fp32")
    threads: int = option(2, help="CPU threads", low=1, high=1024)
    workers: int = option(0, help="processes that prepare batches ahead; best a divisor of 12", low=0, high=1024)
    compile: bool = option(False, help="compile the UNet's training step (torch.compile)")
    gradient_checkpointing: bool = option(
        False, help="recompute activations in the backward pass: less memory, more time"
    )
    gradient_accumulation: int = option(1, help="batches accumulated per optimiser step", low=1)
    ema: float = option(
        0.0, help="decay of the weights' moving average, which is what is saved; 0: off", low=0, high=0.99999
    )
    latent_cache: str | None = option(
        None, help="file for frozen latents, computed once per frame; needs augmentation off", metavar="PATH"
    )
    tracker: str = shared.tracker()
    estimator: str = shared.estimator()
    persons: int = option(100_000, help="rendered people to choose from", low=2)
    samples_per_person: int = option(32, help="frames of each rendered person", low=2)
    held_out: int = option(32, help="frames of other people, measured during training", low=HELD_OUT_BATCH)
    eval_every: int = option(200, help="steps between measurements on held-out frames, and between saves", low=1)
    log_every: int = option(10, help="steps between reports of the loss", low=1)
    drop_reference: float = option(0.3, help="share of samples without their reference frame", low=0, high=1)
    same_frame_reference: float = option(
        0.0,
        help="share of rendered references that are the target's own frame with another gaze, as for a photo",
        low=0,
        high=1,
    )
    max_grad_norm: float = option(1.0, help="gradient clipping", above=0)
    warmup_share: float = option(0.05, help="share of a phase's steps with a rising learning rate", low=0, high=1)
    l1_loss: float = option(1.0, help="weight of L1 over the whole picture", low=0)
    mask_l1_loss: float = option(2.0, help="weight of L1 over the eyes, while the autoencoder trains", low=0)
    unet_mask_l1_loss: float = option(4.0, help="weight of L1 over the eyes, while the UNet trains", low=0)
    vae_l1_loss: float | None = option(None, help="in place of l1_loss while the autoencoder trains", low=0)
    latent_l1_loss: float | None = option(None, help="in place of l1_loss while the UNet trains on latents", low=0)
    latent_mask_l1_loss: float | None = option(None, help="in place of unet_mask_l1_loss on latents", low=0)
    pixel_l1_loss: float | None = option(None, help="in place of l1_loss while the UNet trains on pixels", low=0)
    pixel_mask_l1_loss: float | None = option(None, help="in place of unet_mask_l1_loss on pixels", low=0)
    vae_vgg_loss: float = option(0.0, help="weight of the VGG19 loss while the autoencoder trains", low=0)
    pixel_vgg_loss: float = option(0.0, help="weight of the VGG19 loss while the UNet trains on pixels", low=0)
    vgg_weights: str = option(
        "imagenet", legal="imagenet | random | PATH", help="VGG19's weights; imagenet needs a network once", metavar="W"
    )
    gradient_loss: float = option(1.0, help="weight of the gradient difference loss; with photographs only", low=0)
    pixel_gradient_loss: float = option(
        0.0, help="weight of the gradient difference loss over the eyes, while the UNet trains on pixels", low=0
    )
    kl_loss: float = option(1e-5, help="weight of the KL divergence per latent", low=0)
    min_vae_eye_psnr: float = option(
        28.0, help="held-out eye PSNR in dB that the autoencoder must reach before the UNet trains", low=0
    )
    photographs: str | None = option(
        None,
        help="folder of photographs; the autoencoder then trains on crops of these and of rendered eyes",
        metavar="FOLDER",
    )
    crop_px: int = option(96, help="side of the crops, px", low=32)
    vae_photographic: float = option(
        0.5, help="share of rendered people with sharpened, recoloured frames", low=0, high=1
    )
    unet_photographic: float = option(0.25, help="as vae_photographic, while the UNet trains", low=0, high=1)
    vae_steps: int = option(2800, help="steps of the autoencoder", low=1)
    vae_band_steps: int = option(2300, help="first autoencoder steps, on the eye band alone", low=0)
    vae_batch_size: int = option(2, help="people per step, with two frames or both eyes of each", low=1)
    vae_learning_rate: float = option(1e-3, help="peak learning rate (cosine schedule)", above=0)
    gazes_per_person: int = option(2, help="targets per person while the UNet trains", low=1)
    latent_steps: int = option(800, help="steps of the UNet on latents alone; 0 skips the phase", low=0)
    latent_batch_size: int = option(4, help="people per step", low=1)
    latent_learning_rate: float = option(1e-3, help="peak learning rate (cosine schedule)", above=0)
    pixel_steps: int = option(1000, help="steps of the UNet through the decoder; 0 skips the phase", low=0)
    pixel_batch_size: int = option(2, help="people per step", low=1)
    pixel_learning_rate: float = option(4e-4, help="peak learning rate (cosine schedule)", above=0)

    @property
    def weights_of_sources(self) -> tuple[float, ...]:
        return self.source_weights or (1.0,) * len(self.sources)

    def split_of(self, source: int) -> str:
        return self.split[source if len(self.split) > 1 else 0]


@dataclass(frozen=True)
class ModelParams:
    """The architecture, in diffusers' own keys; a part with `checkpoint: PATH` starts from published weights"""

    image_size: int = option(128, help="side of the pictures, px", low=32, high=1024)
    canvas: Mapping = option(
        {}, help="in place of image_size: width_px, height_px, focal_px, looks_at (eyes or face)", flag=False
    )
    residual: bool = option(False, help="add the UNet's output to the masked latents")
    fill_eyes: bool = option(False, help="fill masked eyes with the colours around them, instead of black")
    eye_masks: str = option("squares", choices=("squares", "lids"), help="shape of the masks that the model learns")
    vae: Mapping = option({}, help="AutoencoderKL; with a checkpoint it is frozen and its phase skipped", flag=False)
    unet: Mapping = option({}, help="UNet2DConditionModel", flag=False)
    gaze_mlp: Mapping = option({}, help="GazeMLP", flag=False)

    @property
    def canvas_config(self) -> dict[str, Any]:
        """The canvas if one is set, else the image size; and masks other than squares: `VAEGaze`'s own keys."""
        size = {"canvas": dict(self.canvas)} if self.canvas else {"image_size": self.image_size}
        return size if self.eye_masks == "squares" else size | {"eye_masks": self.eye_masks}

    def checkpoint_of(self, part: str) -> str | None:
        return getattr(self, part).get("checkpoint")


@dataclass(frozen=True)
class PretrainConfig:
    """The settings of one pre-training."""

    pretrain_params: PretrainParams = PretrainParams()
    model_params: ModelParams = ModelParams()

    def problems(self, origins: Mapping[str, str]) -> Iterator[tuple[tuple[str, ...], str]]:
        """Settings that contradict each other, though each is legal; see `config.tree.resolve`."""
        params, at = self.pretrain_params, "pretrain_params"
        count = len(params.sources)
        if len(set(params.sources)) < count:
            yield (f"{at}.sources",), "names a source twice; give it a larger weight instead"
        if params.source_weights is not None and len(params.source_weights) != count:
            yield (f"{at}.source_weights", f"{at}.sources"), f"expected {count}, one for each of the sources"
        if len(params.split) not in (1, count):
            yield (f"{at}.split", f"{at}.sources"), f"expected 1 or {count}, one for each of the sources"
        if params.frames_per_person < params.gazes_per_person:
            keys = f"{at}.frames_per_person", f"{at}.gazes_per_person"
            yield keys, f"expected at least gazes_per_person, {params.gazes_per_person}"
        if params.latent_cache is not None:
            keys = f"{at}.latent_cache", f"{at}.sources", f"{at}.augmentation"
            if RENDERED in params.sources:
                yield keys, f"cannot be used with {RENDERED}, whose frames never repeat"
            elif not params.augmentation.is_off:
                yield keys, "needs every setting of augmentation at 0: a cached frame cannot change"
            if self.model_params.checkpoint_of("vae") is None:
                yield (
                    (keys[0], "model_params.vae"),
                    "needs a frozen autoencoder: set model_params.vae.checkpoint",
                )
        for part in ("vae", "unet", "gaze_mlp"):
            path = self.model_params.checkpoint_of(part)
            if path is not None and not (isinstance(path, str) and path.strip()):
                yield (f"model_params.{part}",), f"checkpoint is {path!r}; expected the path of published weights"
