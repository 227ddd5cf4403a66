"""The loop of pre-training: first the autoencoder, then UNet and gaze MLP on latents alone, which is cheap; then both
through the frozen decoder, on pixels.

Every batch is a function of (seed, phase, process, step) alone, so a resumed run sees exactly what an uninterrupted one
would have seen.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from vaegaze.config.pretrain import PretrainConfig, PretrainParams
from vaegaze.errors import UserError
from vaegaze.models import VAEGaze
from vaegaze.models.device import autocast
from vaegaze.pretraining.averaging import first_average, take_average, update_average
from vaegaze.pretraining.batches import Crops, StoredBatch
from vaegaze.pretraining.distributed import Processes
from vaegaze.pretraining.losses import Encode, Objective, encode_batch, eye_errors, pictures_of, redraw_through_vae
from vaegaze.pretraining.patch_codec import start_from_principal_components
from vaegaze.pretraining.phases import AUTOENCODER, Phase, phases
from vaegaze.pretraining.progress import Progress
from vaegaze.pretraining.sources import DataSet, HeldOut, RenderedPersons, person_batches, phase_batches
from vaegaze.pretraining.waiting import WaitingTime
from vaegaze.pretraining.workers import worked_ahead
from vaegaze.training.losses import load_vgg
from vaegaze.training.optimizer import AdamW

FIRST_PICTURES = range(10**9, 10**9 + 64)  # steps whose batches, never trained on, give a patch shortcut its start
SCALED_BATCHES, SCALED_PERSONS = FIRST_PICTURES[:8], 8  # and those that give the latents their scale
ADAM_BETAS, WEIGHT_DECAY = (0.9, 0.99), 1e-4


@dataclass(frozen=True)
class Step:
    """One finished step. Its tensors stay on the device until they are read."""

    phase: Phase
    number: int  # of the phase, counted from 1
    loss: Tensor
    last_good: Tensor  # (), this step's number, or that of the last step that was still finite
    measured: bool  # whether `progress.records` has a new entry
    settle: Callable[[], None]  # completes `progress` for saving; every process calls it after the same step

    def refuse_bad(self) -> None:
        """UserError if a loss or gradient was not finite; the weights have not changed since the last good step.

        Call it before showing or saving anything of the step. It waits for the device.
        """
        last_good = int(self.last_good)
        if last_good < self.number:
            raise UserError(
                f"{self.phase.name}: the loss became infinite or NaN at step {last_good + 1}; lower that phase's "
                "learning rate"
            )


def pretraining_steps(
    model: VAEGaze,
    config: PretrainConfig,
    sources: Sequence[RenderedPersons | DataSet],
    held_out: Sequence[HeldOut],
    progress: Progress,
    processes: Processes,
    *,
    encode: Encode = encode_batch,
) -> Iterator[Step]:
    """Train `model` in place from `progress` on, which is kept up to date; yields after every step.

    Every `eval_every` steps and at the end of a phase, `progress.records` gains an entry measured on `held_out`, with
    the averaged weights in `progress.average` if there are any.
    """
    todo = phases(config)
    while progress.phase < len(todo):
        yield from _phase_steps(model, config, todo[progress.phase], sources, held_out, progress, processes, encode)
        if todo[progress.phase].name == AUTOENCODER:
            settle_autoencoder(model, config, sources, held_out, progress, processes)
        progress.phase, progress.step, progress.optimizer, progress.average = progress.phase + 1, 0, None, None


@dataclass
class _PhaseRun:
    """What one phase trains with."""

    phase: Phase
    params: PretrainParams
    model: VAEGaze
    device: torch.device
    processes: Processes
    trained: list[torch.nn.Parameter]
    optimizer: AdamW
    objective: torch.nn.Module
    batches: Iterator[StoredBatch | Crops | UserError]
    waiting: WaitingTime
    last_good: Tensor  # (), the number of the last step that was finite


def _phase_steps(
    model: VAEGaze,
    config: PretrainConfig,
    phase: Phase,
    sources: Sequence[RenderedPersons | DataSet],
    held_out: Sequence[HeldOut],
    progress: Progress,
    processes: Processes,
    encode: Encode,
) -> Iterator[Step]:
    params = config.pretrain_params
    run = _begin(model, config, phase, sources, progress, processes, encode)
    started = time.perf_counter()
    for step in range(progress.step, phase.steps):
        loss = _forward_and_backward(run, step, progress)
        _update(run, step, loss, progress)
        now = time.perf_counter()
        progress.seconds, progress.busy, started = progress.seconds + now - started, progress.busy + now - started, now

        measured = progress.step % params.eval_every == 0 or progress.step == phase.steps
        done = Step(phase, progress.step, loss, run.last_good, measured, partial(_settle, run, progress))
        if measured:
            done.refuse_bad()
            done.settle()
            with progress.shipped_weights(model):
                progress.records.append(measure(model, phase, held_out, progress))
        yield done
        started = time.perf_counter()
    if progress.average is not None:
        take_average(model, progress.average)  # what follows builds on it


def _settle(run: _PhaseRun, progress: Progress) -> None:
    """Adds what other processes noted, and the seconds that `progress` lacks: the first one saves for all of them."""
    progress.waited += run.waiting.seconds()
    progress.merge_skipped(run.processes.gather(progress.skipped))
    progress.loss_sum = run.processes.mean(progress.loss_sum)


def _begin(
    model: VAEGaze,
    config: PretrainConfig,
    phase: Phase,
    sources: Sequence[RenderedPersons | DataSet],
    progress: Progress,
    processes: Processes,
    encode: Encode,
) -> _PhaseRun:
    """Freeze what the phase does not train, and bring optimiser, average and batches to where the run stands."""
    params, device = config.pretrain_params, processes.device
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.split(".")[0] in phase.trained)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = AdamW(trained, lr=phase.learning_rate, betas=ADAM_BETAS, weight_decay=WEIGHT_DECAY, fused=True)
    batches = phase_batches(sources, params, model.canvas, phase, process=processes.rank, processes=processes.count)
    if progress.step == 0:
        if phase.name == AUTOENCODER and model.vae.patch_decoder is not None:
            first = (_usable(batches[i]).to(device) for i in FIRST_PICTURES)
            start_from_principal_components(model.vae, map(pictures_of, first))
            batches.close()
    else:
        if progress.step < phase.steps:
            optimizer.load_state_dict(progress.optimizer)
        if progress.average is not None:
            progress.average = {name: mean.to(device) for name, mean in progress.average.items()}
    loss_sum = torch.zeros((), dtype=torch.float64) if progress.loss_sum is None else progress.loss_sum
    progress.loss_sum = loss_sum.to(device)

    vgg = load_vgg(params.vgg_weights, seed=params.seed).to(device) if phase.weights.vgg else None
    compiled = params.compile and phase.name != AUTOENCODER  # its noise is reseeded at every step
    objective = Objective(model, phase.loss, phase.weights, vgg, encode)
    objective = processes.together(torch.compile(objective) if compiled else objective)
    if progress.step == 0:  # now that all processes have the first one's weights
        progress.average = first_average(model) if params.ema else None
    steps = range(progress.step * phase.accumulation, phase.steps * phase.accumulation)
    return _PhaseRun(
        phase=phase,
        params=params,
        model=model,
        device=device,
        processes=processes,
        trained=trained,
        optimizer=optimizer,
        objective=objective,
        batches=worked_ahead(batches, steps, params.workers, pinned=device.type == "cuda"),
        waiting=WaitingTime(device),
        last_good=torch.tensor(progress.step, device=device),
    )


def _usable(stored):
    """The stored batch. A worker hands an error on instead of one, since it must not raise there."""
    if isinstance(stored, UserError):
        raise stored
    return stored


def _forward_and_backward(run: _PhaseRun, step: int, progress: Progress) -> Tensor:
    """Sum up the gradients of a step's batches; → the loss, on the device."""
    phase = run.phase
    run.optimizer.zero_grad(set_to_none=True)
    loss = torch.zeros((), device=run.device)
    for part in range(phase.accumulation):
        with run.waiting.for_data():
            stored = _usable(next(run.batches))
        progress.note_skipped(stored.skipped)
        batch = stored.to(run.device)
        batch = batch.eye_band() if step < phase.band_steps else batch
        last = part == phase.accumulation - 1  # with it the processes exchange their gradients
        with nullcontext() if last or run.processes.count == 1 else run.objective.no_sync():
            with autocast(run.device.type, run.params.precision):
                part_loss = run.objective(batch) / phase.accumulation
            part_loss.backward()
        loss += part_loss.detach()
    return loss


def _update(run: _PhaseRun, step: int, loss: Tensor, progress: Progress) -> None:
    """One step of the optimiser, skipped if this step or an earlier one was not finite.

    The device decides this itself, so the CPU does not wait for it.
    """
    grad_norm = torch.nn.utils.clip_grad_norm_(run.trained, run.params.max_grad_norm)
    finite = torch.isfinite(loss + grad_norm)
    run.last_good = run.last_good + (finite & (run.last_good == step))
    run.optimizer.found_inf = (run.last_good <= step).float()  # as torch.amp.GradScaler passes it on
    for group in run.optimizer.param_groups:
        group["lr"] = run.phase.learning_rate * learning_rate_factor(step, run.phase.steps, run.params.warmup_share)
    run.optimizer.step()
    progress.step += 1
    if progress.average is not None:
        update_average(progress.average, run.model, run.params.ema, progress.step)
    progress.loss_sum, progress.loss_steps = progress.loss_sum + loss, progress.loss_steps + 1
    # References, no copies. A finished phase needs none, and the file to resume from is a third as large.
    progress.optimizer = run.optimizer.state_dict() if progress.step < run.phase.steps else None


def measure(model: VAEGaze, phase: Phase, held_out: Sequence[HeldOut], progress: Progress) -> dict:
    """Measures held-out frames and the mean loss since the last record, and resets the running sums.

    `progress` is settled.
    """
    loss = (progress.loss_sum / progress.loss_steps).item()
    psnr, l1 = eye_errors(model, phase.redraw, [batch for each in held_out for batch in each.batches])
    record = {"phase": phase.name, "step": progress.step, "loss": loss}
    record |= {"held_out_eye_psnr": psnr, "held_out_eye_l1": l1}
    if len(held_out) > 1:
        record["held_out_eye_psnr_by_source"] = {
            each.source: eye_errors(model, phase.redraw, each.batches)[0] for each in held_out
        }
    record |= {"waiting_share": round(progress.waited / max(progress.busy, 1e-9), 4)}
    record |= {"seconds": round(progress.seconds, 1)}
    progress.loss_sum, progress.loss_steps = torch.zeros_like(progress.loss_sum), 0
    progress.waited = progress.busy = 0.0
    return record


def settle_autoencoder(
    model: VAEGaze,
    config: PretrainConfig,
    sources: Sequence[RenderedPersons | DataSet],
    held_out: Sequence[HeldOut],
    progress: Progress,
    processes: Processes,
) -> None:
    """Scale the latents to unit standard deviation. UserError if the autoencoder's eye PSNR is too low to continue.

    The standard deviation is of train persons' frames, the same ones however many processes there are.
    """
    params, todo = config.pretrain_params, phases(config)
    psnr, _ = eye_errors(model, redraw_through_vae, [batch for each in held_out for batch in each.batches])
    if psnr < params.min_vae_eye_psnr:
        raise UserError(
            f"the autoencoder redraws held-out eyes with {psnr:.2f} dB, less than {params.min_vae_eye_psnr} dB; "
            f"raise pretrain_params.vae_steps ({params.vae_steps}) or lower pretrain_params.min_vae_eye_psnr"
        )
    trains_next = todo[min(progress.phase + 1, len(todo) - 1)]  # its frames' latents are those to be scaled
    batches, latents = person_batches(sources, params, model.canvas, trains_next, SCALED_PERSONS), []
    for i in SCALED_BATCHES:
        stored = _usable(batches[i])
        progress.note_skipped(stored.skipped)
        with torch.no_grad():
            latents.append(model.vae.encode(stored.to(processes.device).target).latent_dist.mode())
    batches.close()
    spread = processes.gather(torch.cat(latents).std().item())[0]  # the devices may round differently
    model.vae.scaling_factor = model.config["vae"]["scaling_factor"] = 1 / spread


def learning_rate_factor(step: int, steps: int, warmup_share: float = 0.05) -> float:
    """The factor at a step: linear warm-up, then half a cosine down to 0.01."""
    warmup = max(1, int(steps * warmup_share))
    if step < warmup:
        return (step + 1) / warmup
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))
