"""Pre-training on rendered persons: three phases, one loop.

First the autoencoder; then UNet and gaze MLP on latents alone, which is cheap; then both through the frozen decoder, on
pixels. Every batch is rendered anew and is a function of (seed, phase, step) alone, so a resumed run sees exactly what
an uninterrupted one would have seen.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vaegaze.config_tree import UserError, option
from vaegaze.data import geometry, masks, synthetic
from vaegaze.losses import masked_mean_l1, mean_over
from vaegaze.models import VAEGaze, mask_eyes, to_unit_range

MASK_FACTORS = (1.25, 1.6)  # around upstream's 1.4: masks of other sources are cut differently
EYE_BAND = (6, 70)  # rows of 128 that hold both eyes at every head pose
MASK_JITTER = 0.04  # of the eye's radius, standard deviation of the centre
HELD_OUT_BATCH = 8
HELD_OUT_STREAM = 99  # apart from the phases' numbers


@dataclass(frozen=True)
class PretrainParams:
    """Pre-training on rendered persons"""

    save_dir: str = option("./outputs/pretrain", help="run folder: metrics, pictures, resume file")
    output: str = option("./outputs/pretrain/model.pth", help="the finished checkpoint, in half precision")
    seed: int = option(0, help="draws persons, frames and initial weights", low=0, high=2**31)
    threads: int = option(2, help="CPU threads", low=1)
    persons: int = option(100_000, help="rendered persons to draw from", low=2)
    samples_per_person: int = option(32, help="frames that each of them has", low=2)
    held_out: int = option(32, help="frames of other persons, watched while it trains", low=HELD_OUT_BATCH)
    eval_every: int = option(200, help="steps between looks at held-out frames, and between saves", low=1)
    drop_reference: float = option(0.3, help="how often the reference frame is dropped", low=0, high=1)
    max_grad_norm: float = option(1.0, help="gradient clipping", above=0)
    l1_loss: float = option(1.0, help="weight of L1 over the whole picture", low=0)
    mask_l1_loss: float = option(2.0, help="weight of L1 over the eyes", low=0)
    unet_mask_l1_loss: float = option(4.0, help="the same while the UNet trains", low=0)
    kl_loss: float = option(1e-5, help="weight of the latents' divergence from the normal, per latent", low=0)
    min_vae_eye_psnr: float = option(28.0, help="dB in held-out eyes without which the UNet is not begun", low=0)
    vae_steps: int = option(2800, help="steps of the autoencoder", low=1)
    vae_band_steps: int = option(
        2300, help="the first of them see the band around the eyes alone: half the cost", low=0
    )
    vae_batch_size: int = option(2, help="persons in a step, two frames of each", low=1)
    vae_learning_rate: float = option(1e-3, help="highest of a cosine schedule", above=0)
    gazes_per_person: int = option(2, help="targets that differ in gaze alone, while the UNet trains", low=1)
    latent_steps: int = option(800, help="steps of the UNet on latents alone", low=1)
    latent_batch_size: int = option(4, help="persons in a step", low=1)
    latent_learning_rate: float = option(1e-3, help="highest of a cosine schedule", above=0)
    pixel_steps: int = option(1000, help="steps of the UNet through the decoder", low=1)
    pixel_batch_size: int = option(2, help="persons in a step", low=1)
    pixel_learning_rate: float = option(4e-4, help="highest of a cosine schedule", above=0)


@dataclass(frozen=True)
class Batch:
    """Rendered frames of P persons: each with G targets that differ in gaze alone, and another frame as reference."""

    target: Tensor  # (P·G, 3, S, S) in [−1, 1]; the G of a person follow each other
    eye_masks: Tensor  # (P·G, 1, S, S) in {0, 1}
    gaze: Tensor  # (P·G, 2) pitch, yaw in radians
    head: Tensor  # (P·G, 2) pitch, yaw in radians
    reference: Tensor  # (P, 3, S, S) in [−1, 1]
    reference_eye_masks: Tensor  # (P, 1, S, S) in {0, 1}
    keep_reference: Tensor  # (P, 1, 1, 1) in {0, 1}; 0 drops the reference


def render_batch(
    split: str, entropy: list[int], size: int, persons: int, params: PretrainParams, gazes: int = 1
) -> Batch:
    """Draw random persons of `split`; the same `entropy` gives the same batch."""
    rng = np.random.default_rng(entropy)
    targets, target_masks, scenes, references, reference_masks = [], [], [], [], []
    for number in rng.integers(params.persons, size=persons).tolist():
        person = synthetic.person_from_seed(params.seed, number, split)
        frame = partial(synthetic.scene_from_seed, params.seed, number, split=split)
        scene, other = map(frame, rng.choice(params.samples_per_person, size=2, replace=False).tolist())
        target_mask, reference_mask = _eye_mask(scene, size, rng), _eye_mask(other, size, rng)
        elsewhere = rng.integers(params.samples_per_person, size=gazes - 1).tolist()
        looks = [scene, *(replace(scene, gaze=frame(sample).gaze) for sample in elsewhere)]

        targets += [synthetic.render(person, look, size).image for look in looks]
        target_masks += [target_mask] * gazes
        scenes += looks
        references.append(synthetic.render(person, other, size).image)
        reference_masks.append(reference_mask)
    return Batch(
        target=to_unit_range(np.stack(targets)),
        eye_masks=torch.from_numpy(np.stack(target_masks))[:, None].float(),
        gaze=torch.tensor([scene.gaze for scene in scenes], dtype=torch.float32),
        head=torch.tensor([scene.head for scene in scenes], dtype=torch.float32),
        reference=to_unit_range(np.stack(references)),
        reference_eye_masks=torch.from_numpy(np.stack(reference_masks))[:, None].float(),
        keep_reference=torch.from_numpy(rng.random((persons, 1, 1, 1)) >= params.drop_reference).float(),
    )


def _eye_mask(scene: synthetic.Scene, size: int, rng: np.random.Generator) -> np.ndarray:
    circles = geometry.eye_circles(scene.head, geometry.canvas_camera(size))
    circles[:, :2] += rng.normal(0.0, MASK_JITTER, size=(2, 2)) * circles[:, 2:]
    return masks.draw_squares(circles, size, rng.uniform(*MASK_FACTORS))


def autoencoder_loss(model: VAEGaze, batch: Batch, params: PretrainParams, step: int) -> Tensor:
    images = torch.cat([batch.target, batch.reference])
    eye_masks = torch.cat([batch.eye_masks, batch.reference_eye_masks])
    if step < params.vae_band_steps:
        rows = slice(*(edge * model.image_size // 128 for edge in EYE_BAND))
        images, eye_masks = images[:, :, rows], eye_masks[:, :, rows]
    generator = torch.Generator().manual_seed(step)
    posterior = model.vae.encode(images).latent_dist
    result = model.vae.decode(posterior.sample(generator)).sample
    divergence = posterior.kl().mean() / posterior.mean[0].numel()
    return params.kl_loss * divergence + weighted_l1(result, images, eye_masks, params.l1_loss, params.mask_l1_loss)


def latent_loss(model: VAEGaze, batch: Batch, params: PretrainParams, step: int) -> Tensor:
    with torch.no_grad():
        inputs = encode_inputs(model, batch)
        target = model.encode(batch.target)
    result = model.inpaint(*inputs, batch.head, batch.gaze)
    eye_masks = F.adaptive_avg_pool2d(batch.eye_masks, target.shape[-2:])
    return weighted_l1(result, target, eye_masks, params.l1_loss, params.unet_mask_l1_loss)


def redrawing_loss(model: VAEGaze, batch: Batch, params: PretrainParams, step: int) -> Tensor:
    result = redraw_eyes(model, batch)
    return weighted_l1(result, batch.target, batch.eye_masks, params.l1_loss, params.unet_mask_l1_loss)


def redraw_eyes(model: VAEGaze, batch: Batch) -> Tensor:
    with torch.no_grad():
        inputs = encode_inputs(model, batch)
    return model(*inputs, batch.head, batch.gaze)


def redraw_through_vae(model: VAEGaze, batch: Batch) -> Tensor:
    return model.decode(model.encode(batch.target))


def encode_inputs(model: VAEGaze, batch: Batch) -> tuple[Tensor, Tensor]:
    masked = model.encode(mask_eyes(batch.target, batch.eye_masks))
    reference = model.encode(batch.reference) * batch.keep_reference
    return masked, reference.repeat_interleave(len(masked) // len(reference), dim=0)


def weighted_l1(result: Tensor, target: Tensor, eye_masks: Tensor, l1_loss: float, mask_l1_loss: float) -> Tensor:
    """Weighted sum of L1 everywhere and L1 over the eyes; of pictures, or of latents with eye masks of their size."""
    everywhere = masked_mean_l1(result, target, torch.ones_like(eye_masks))
    return l1_loss * everywhere + mask_l1_loss * masked_mean_l1(result, target, eye_masks)


@torch.no_grad()
def eye_psnr(model: VAEGaze, redraw: Callable[[VAEGaze, Batch], Tensor], batches: list[Batch]) -> float:
    """Mean peak signal-to-noise ratio over the eye pixels of rendered frames, in dB."""
    values = []
    for batch in batches:
        mse = mean_over((redraw(model, batch).clamp(-1, 1) - batch.target).square(), batch.eye_masks)  # (B,)
        values.append(10 * torch.log10(2.0**2 / mse))  # [−1, 1] is 2 wide
    return torch.cat(values).mean().item()


@dataclass(frozen=True)
class Phase:
    name: str
    trained: tuple[str, ...]  # the parts of the model that train
    loss: Callable[[VAEGaze, Batch, PretrainParams, int], Tensor]
    redraw: Callable[[VAEGaze, Batch], Tensor]  # what held-out frames are judged by
    gazes: int  # targets of each person
    steps: int
    batch_size: int  # persons
    learning_rate: float


def phases(params: PretrainParams) -> list[Phase]:
    return [
        Phase(
            name,
            trained,
            loss,
            redraw,
            gazes,
            *(getattr(params, f"{prefix}_{key}") for key in ("steps", "batch_size", "learning_rate")),
        )
        for name, prefix, trained, loss, redraw, gazes in (
            ("autoencoder", "vae", ("vae",), autoencoder_loss, redraw_through_vae, 1),
            ("UNet on latents", "latent", ("unet", "gaze_mlp"), latent_loss, redraw_eyes, params.gazes_per_person),
            ("UNet on pixels", "pixel", ("unet", "gaze_mlp"), redrawing_loss, redraw_eyes, params.gazes_per_person),
        )
    ]


@dataclass
class Progress:
    """Where a run stands: with the model's weights, all that is needed to go on."""

    phase: int = 0
    step: int = 0  # finished steps of that phase
    optimizer: dict | None = None
    seconds: float = 0.0
    records: list[dict] = field(default_factory=list)  # what was measured on held-out frames


def pretraining_steps(model: VAEGaze, params: PretrainParams, progress: Progress) -> Iterator[tuple[Phase, float]]:
    """Train `model` in place from `progress` on, which is kept up to date; yields the phase and loss of every step.

    After each `eval_every` steps and at a phase's end, `progress.records` has a new entry.
    """
    size = model.image_size
    held_out = [
        render_batch("val", [params.seed, HELD_OUT_STREAM, i], size, HELD_OUT_BATCH, params)
        for i in range(params.held_out // HELD_OUT_BATCH)
    ]
    todo = phases(params)
    while progress.phase < len(todo):
        phase = todo[progress.phase]
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.split(".")[0] in phase.trained)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=phase.learning_rate, betas=(0.9, 0.99), weight_decay=1e-4)
        if progress.optimizer is not None:
            optimizer.load_state_dict(progress.optimizer)

        while progress.step < phase.steps:
            started = time.perf_counter()
            entropy = [params.seed, progress.phase, progress.step]
            batch = render_batch("train", entropy, size, phase.batch_size, params, phase.gazes)
            for group in optimizer.param_groups:
                group["lr"] = phase.learning_rate * learning_rate_factor(progress.step, phase.steps)

            loss = phase.loss(model, batch, params, progress.step)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            grad_norm = torch.nn.utils.clip_grad_norm_(trained, params.max_grad_norm)
            if not torch.isfinite(loss.detach() + grad_norm):
                raise UserError(f"{phase.name}: the loss became infinite or NaN; lower that phase's learning rate")
            optimizer.step()

            progress.step += 1
            progress.seconds += time.perf_counter() - started
            if progress.step % params.eval_every == 0 or progress.step == phase.steps:
                psnr = eye_psnr(model, phase.redraw, held_out)
                record = {"phase": phase.name, "step": progress.step, "loss": loss.item(), "held_out_eye_psnr": psnr}
                progress.records.append({**record, "seconds": round(progress.seconds, 1)})
            progress.optimizer = optimizer.state_dict()  # references, no copies
            yield phase, loss.item()

        if phase.redraw is redraw_through_vae:
            settle_autoencoder(model, held_out, params)
        progress.phase, progress.step, progress.optimizer = progress.phase + 1, 0, None


def settle_autoencoder(model: VAEGaze, held_out: list[Batch], params: PretrainParams) -> None:
    """Refuse to go on with an autoencoder that bounds all after it too low; bring its latents to unit spread."""
    psnr = eye_psnr(model, redraw_through_vae, held_out)
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
