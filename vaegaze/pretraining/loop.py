"""Pre-training on rendered persons: three phases, one loop.

First the autoencoder, on crops of photographs and of rendered eyes if there is a folder of photographs; without one it
can begin on the band around the eyes alone, at half the cost. Then UNet and gaze MLP on
latents alone, which is cheap; then both through the frozen decoder, on pixels. Every batch is rendered anew and is a
function of (seed, phase, process, step) alone, so a resumed run sees exactly what an uninterrupted one would have seen.
Under torchrun every process renders a batch of its own, and the gradients are averaged.
"""

import math
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, distributed
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from vaegaze.config.tree import option
from vaegaze.errors import UserError
from vaegaze.geometry.camera import Camera
from vaegaze.models import VAEGaze
from vaegaze.pretraining.averaging import averaged, first_average, take_average, update_average
from vaegaze.pretraining.batches import Batch, RenderedBatches, RenderSettings, render_batch
from vaegaze.pretraining.patch_codec import start_from_principal_components
from vaegaze.pretraining.photographs import CropBatches, gradient_difference
from vaegaze.training.losses import masked_mean_l1, mean_over

HELD_OUT_BATCH = 8
HELD_OUT_STREAM = 99  # apart from the phases' numbers
FIRST_PICTURES = range(10**9, 10**9 + 64)  # steps whose batches, never trained on, give a patch shortcut its start


@dataclass(frozen=True)
class PretrainParams:
    """Pre-training on rendered persons"""

    save_dir: str = option("./outputs/pretrain", help="run folder: metrics, curves, pictures, resume file")
    output: str = option("./outputs/pretrain/model.pth", help="the finished checkpoint, in half precision")
    seed: int = option(0, help="draws persons, frames and initial weights", low=0, high=2**31)
    device: str = option("auto", choices=("auto", "cpu", "cuda"), help="what to compute on; auto takes a GPU")
    precision: str = option("fp32", choices=("fp32", "bf16"), help="number format; bf16 where the hardware computes it")
    threads: int = option(2, help="CPU threads", low=1)
    workers: int = option(0, help="processes that render ahead", low=0)
    persons: int = option(100_000, help="rendered persons to draw from", low=2)
    samples_per_person: int = option(32, help="frames that each of them has", low=2)
    held_out: int = option(32, help="frames of other persons, watched while it trains", low=HELD_OUT_BATCH)
    eval_every: int = option(200, help="steps between looks at held-out frames, and between saves", low=1)
    drop_reference: float = option(0.3, help="how often the reference frame is dropped", low=0, high=1)
    max_grad_norm: float = option(1.0, help="gradient clipping", above=0)
    l1_loss: float = option(1.0, help="weight of L1 over the whole picture", low=0)
    mask_l1_loss: float = option(2.0, help="weight of L1 over the eyes", low=0)
    unet_mask_l1_loss: float = option(4.0, help="the same while the UNet trains", low=0)
    gradient_loss: float = option(1.0, help="weight of differences between neighbours; with photographs only", low=0)
    ema: float = option(
        0, help="share of the averaged weights, which are shipped, kept at a step; 0: off", low=0, high=1
    )
    kl_loss: float = option(1e-5, help="weight of the latents' divergence from the normal, per latent", low=0)
    min_vae_eye_psnr: float = option(28.0, help="dB in held-out eyes without which the UNet is not begun", low=0)
    photographs: str | None = option(None, help="folder from which the autoencoder learns texture", metavar="FOLDER")
    crop_px: int = option(96, help="side of crops of photographs and of rendered eyes", low=32)
    vae_photographic: float = option(0.5, help="share of persons seen sharper, in other colours", low=0, high=1)
    unet_photographic: float = option(0.25, help="the same while the UNet trains", low=0, high=1)
    vae_steps: int = option(2800, help="steps of the autoencoder", low=1)
    vae_band_steps: int = option(2300, help="the first of them see the band around the eyes alone", low=0)
    vae_batch_size: int = option(2, help="persons in a step: two frames, or eyes, of each", low=1)
    vae_learning_rate: float = option(1e-3, help="highest of a cosine schedule", above=0)
    gazes_per_person: int = option(2, help="targets that differ in gaze alone, while the UNet trains", low=1)
    latent_steps: int = option(800, help="steps of the UNet on latents alone", low=0)
    latent_batch_size: int = option(4, help="persons in a step", low=1)
    latent_learning_rate: float = option(1e-3, help="highest of a cosine schedule", above=0)
    pixel_steps: int = option(1000, help="steps of the UNet through the decoder", low=0)
    pixel_batch_size: int = option(2, help="persons in a step", low=1)
    pixel_learning_rate: float = option(4e-4, help="highest of a cosine schedule", above=0)

    def rendering(self, photographic: float = 0.0) -> RenderSettings:
        return RenderSettings(self.seed, self.persons, self.samples_per_person, self.drop_reference, photographic)


def autoencoder_loss(model: VAEGaze, batch: Batch, params: PretrainParams, step: int) -> Tensor:
    images = pictures_of(batch)
    eye_masks = torch.cat([batch.eye_masks, batch.reference_eye_masks])
    result, divergence = sample_through_vae(model, images, step)
    return params.kl_loss * divergence + weighted_l1(result, images, eye_masks, params.l1_loss, params.mask_l1_loss)


def texture_loss(model: VAEGaze, crops: Tensor, params: PretrainParams, step: int) -> Tensor:
    result, divergence = sample_through_vae(model, crops, step)
    l1, gradient = (result - crops).abs().mean(), gradient_difference(result, crops)
    return params.kl_loss * divergence + params.l1_loss * l1 + params.gradient_loss * gradient


def sample_through_vae(model: VAEGaze, images: Tensor, step: int) -> tuple[Tensor, Tensor]:
    """Pictures redrawn from a sample of their latents, and these latents' mean divergence from the normal."""
    posterior = model.vae.encode(images).latent_dist
    result = model.vae.decode(posterior.sample(torch.Generator().manual_seed(step))).sample.float()
    return result, posterior.kl().mean() / posterior.mean[0].numel()


def pictures_of(batch: Batch | Tensor) -> Tensor:
    return batch if isinstance(batch, Tensor) else torch.cat([batch.target, batch.reference])


def latent_loss(model: VAEGaze, batch: Batch, params: PretrainParams, step: int) -> Tensor:
    with torch.no_grad():
        inputs = encode_inputs(model, batch)
        target = model.encode(batch.target).float()
    result = model.inpaint(*inputs, batch.head, batch.gaze)
    eye_masks = F.adaptive_avg_pool2d(batch.eye_masks, target.shape[-2:])
    return weighted_l1(result.float(), target, eye_masks, params.l1_loss, params.unet_mask_l1_loss)


def redrawing_loss(model: VAEGaze, batch: Batch, params: PretrainParams, step: int) -> Tensor:
    result = redraw_eyes(model, batch)
    return weighted_l1(result.float(), batch.target, batch.eye_masks, params.l1_loss, params.unet_mask_l1_loss)


def redraw_eyes(model: VAEGaze, batch: Batch) -> Tensor:
    with torch.no_grad():
        inputs = encode_inputs(model, batch)
    return model(*inputs, batch.head, batch.gaze)


def redraw_through_vae(model: VAEGaze, batch: Batch) -> Tensor:
    return model.decode(model.encode(batch.target))


def encode_inputs(model: VAEGaze, batch: Batch) -> tuple[Tensor, Tensor]:
    masked = model.encode(model.mask(batch.target, batch.eye_masks)).float()
    reference = model.encode(batch.reference).float() * batch.keep_reference
    return masked, reference.repeat_interleave(len(masked) // len(reference), dim=0)


def weighted_l1(result: Tensor, target: Tensor, eye_masks: Tensor, l1_loss: float, mask_l1_loss: float) -> Tensor:
    """Weighted sum of L1 everywhere and L1 over the eyes; of pictures, or of latents with eye masks of their size."""
    everywhere = masked_mean_l1(result, target, torch.ones_like(eye_masks))
    return l1_loss * everywhere + mask_l1_loss * masked_mean_l1(result, target, eye_masks)


@torch.no_grad()
def eye_errors(model: VAEGaze, redraw: Callable[[VAEGaze, Batch], Tensor], batches: list[Batch]) -> tuple[float, float]:
    """Mean peak signal-to-noise ratio, in dB, and mean L1 over the eye pixels of rendered frames in [−1, 1]."""
    psnr, l1 = [], []
    for batch in batches:
        error = redraw(model, batch).clamp(-1, 1) - batch.target
        psnr.append(10 * torch.log10(2.0**2 / mean_over(error.square(), batch.eye_masks)))  # [−1, 1] is 2 wide
        l1.append(mean_over(error.abs(), batch.eye_masks))
    return torch.cat(psnr).mean().item(), torch.cat(l1).mean().item()


@dataclass(frozen=True)
class Phase:
    name: str
    trained: tuple[str, ...]  # the parts of the model that train
    loss: Callable[[VAEGaze, Batch, PretrainParams, int], Tensor]
    redraw: Callable[[VAEGaze, Batch], Tensor]  # what held-out frames are judged by
    gazes: int  # targets of each person
    photographic: float
    steps: int
    band_steps: int
    batch_size: int  # persons
    learning_rate: float


def phases(params: PretrainParams) -> list[Phase]:
    """Those that have any steps."""
    vae = Phase(
        name="autoencoder",
        trained=("vae",),
        loss=texture_loss if params.photographs else autoencoder_loss,
        redraw=redraw_through_vae,
        gazes=1,
        photographic=params.vae_photographic,
        steps=params.vae_steps,
        band_steps=0 if params.photographs else params.vae_band_steps,
        batch_size=params.vae_batch_size,
        learning_rate=params.vae_learning_rate,
    )
    latents = Phase(
        name="UNet on latents",
        trained=("unet", "gaze_mlp"),
        loss=latent_loss,
        redraw=redraw_eyes,
        gazes=params.gazes_per_person,
        photographic=params.unet_photographic,
        steps=params.latent_steps,
        band_steps=0,  # a UNet that has seen the band alone must learn the whole picture anew
        batch_size=params.latent_batch_size,
        learning_rate=params.latent_learning_rate,
    )
    pixels = replace(
        latents,
        name="UNet on pixels",
        loss=redrawing_loss,
        steps=params.pixel_steps,
        batch_size=params.pixel_batch_size,
        learning_rate=params.pixel_learning_rate,
    )
    return [phase for phase in (vae, latents, pixels) if phase.steps]


def batches_of(phase: Phase, params: PretrainParams, entropy: tuple[int, ...], canvas: Camera) -> Dataset:
    """Item `step` is that step's batch: a function of `entropy` and `step`."""
    if phase.loss is texture_loss:
        counts = {"photographs": 2 * phase.batch_size, "persons": phase.batch_size}  # as many crops of either kind
        drawn = (params.seed, params.persons, params.samples_per_person)
        return CropBatches(params.photographs, entropy, params.crop_px, *counts.values(), *drawn)
    return RenderedBatches(entropy, canvas, phase.batch_size, params.rendering(phase.photographic), phase.gazes)


@dataclass
class Progress:
    """Where a run stands: with the model's weights, all that is needed to go on."""

    processes: int = 1  # each renders batches of its own
    phase: int = 0
    step: int = 0  # finished steps of that phase
    optimizer: dict | None = None
    average: dict[str, Tensor] | None = None  # of the trained weights
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)  # since the last record
    records: list[dict] = field(default_factory=list)  # what was measured on held-out frames


def held_out_batches(params: PretrainParams, canvas: Camera, device: torch.device) -> list[Batch]:
    """Frames of persons that nothing is trained on, the same ones for the same seed."""
    return [
        render_batch("val", [params.seed, HELD_OUT_STREAM, i], canvas, HELD_OUT_BATCH, params.rendering()).to(device)
        for i in range(params.held_out // HELD_OUT_BATCH)
    ]


def pretraining_steps(
    model: VAEGaze, params: PretrainParams, progress: Progress, held_out: list[Batch]
) -> Iterator[tuple[Phase, float]]:
    """Train `model` in place from `progress` on, which is kept up to date; yields the phase and loss of every step.

    After each `eval_every` steps and at a phase's end, `progress.records` has a new entry about `held_out`.
    """
    device = held_out[0].target.device
    process = distributed.get_rank() if distributed.is_initialized() else 0
    todo = phases(params)
    while progress.phase < len(todo):
        phase = todo[progress.phase]
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.split(".")[0] in phase.trained)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=phase.learning_rate, betas=(0.9, 0.99), weight_decay=1e-4)
        if progress.optimizer is not None:
            optimizer.load_state_dict(progress.optimizer)
        batches = batches_of(phase, params, (params.seed, progress.phase, process), model.canvas)
        if progress.step == 0:
            if phase.trained == ("vae",) and model.vae.patch_decoder is not None:
                start_from_principal_components(model.vae, map(pictures_of, map(batches.__getitem__, FIRST_PICTURES)))
            progress.average = first_average(model) if params.ema else None
        to_come = range(progress.step, phase.steps)

        started = time.perf_counter()
        loader = DataLoader(
            batches, batch_size=None, sampler=to_come, num_workers=params.workers, worker_init_fn=ignore_signals
        )
        for step, batch in zip(to_come, loader):
            batch = (batch.eye_band() if step < phase.band_steps else batch).to(device)
            for group in optimizer.param_groups:
                group["lr"] = phase.learning_rate * learning_rate_factor(step, phase.steps)

            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=params.precision == "bf16"):
                loss = phase.loss(model, batch, params, step)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            average_gradients(trained)
            grad_norm = torch.nn.utils.clip_grad_norm_(trained, params.max_grad_norm)
            if not torch.isfinite(loss.detach() + grad_norm):
                raise UserError(f"{phase.name}: the loss became infinite or NaN; lower that phase's learning rate")
            optimizer.step()

            progress.step += 1
            if progress.average is not None:
                update_average(progress.average, model, params.ema, progress.step)
            progress.losses.append(loss.item())
            progress.seconds += time.perf_counter() - started
            if progress.step % params.eval_every == 0 or progress.step == phase.steps:
                with averaged(model, progress.average):
                    psnr, l1 = eye_errors(model, phase.redraw, held_out)
                record = {"phase": phase.name, "step": progress.step, "loss": statistics.fmean(progress.losses)}
                record |= {"held_out_eye_psnr": psnr, "held_out_eye_l1": l1, "seconds": round(progress.seconds, 1)}
                progress.records.append(record)
                progress.losses = []
            progress.optimizer = optimizer.state_dict()  # references, no copies
            yield phase, loss.item()
            started = time.perf_counter()

        if progress.average is not None:
            take_average(model, progress.average)
        if phase.redraw is redraw_through_vae:
            settle_autoencoder(model, held_out, params)
        progress.phase, progress.step, progress.optimizer = progress.phase + 1, 0, None
        progress.average = None


def ignore_signals(worker: int) -> None:
    """Ctrl-C and `timeout` reach the processes that render ahead as well: the main one ends them."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.SIG_IGN)


def average_gradients(trained: list[torch.nn.Parameter]) -> None:
    """Under torchrun, the mean over all processes, in place."""
    if not distributed.is_initialized():
        return
    together = torch.cat([parameter.grad.flatten() for parameter in trained])  # one exchange, not one for each
    distributed.all_reduce(together)
    together /= distributed.get_world_size()
    for parameter, mean in zip(trained, together.split([parameter.numel() for parameter in trained])):
        parameter.grad.copy_(mean.view(parameter.shape))


def settle_autoencoder(model: VAEGaze, held_out: list[Batch], params: PretrainParams) -> None:
    """Refuse to go on with an autoencoder that bounds all after it too low; bring its latents to unit spread."""
    psnr, _ = eye_errors(model, redraw_through_vae, held_out)
    if psnr < params.min_vae_eye_psnr:
        raise UserError(
            f"the autoencoder redraws held-out eyes with {psnr:.2f} dB, but {params.min_vae_eye_psnr} are asked for; "
            f"raise pretrain_params.vae_steps ({params.vae_steps}) or lower pretrain_params.min_vae_eye_psnr"
        )
    with torch.no_grad():
        spread = torch.cat([model.vae.encode(batch.target).latent_dist.mode() for batch in held_out]).std().item()
    model.vae.scaling_factor = model.config["vae"]["scaling_factor"] = 1 / spread


def learning_rate_factor(step: int, steps: int) -> float:
    """A warm-up of 5 %, then half a cosine down to a hundredth."""
    warmup = max(1, steps // 20)
    if step < warmup:
        return (step + 1) / warmup
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))
