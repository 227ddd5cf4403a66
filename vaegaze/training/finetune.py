"""Fine-tuning as one function: what trains, on which tensors, in which precision, for how many steps."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from vaegaze.config.finetune import OneshotParams
from vaegaze.data.samples import Samples
from vaegaze.models import VAEGaze
from vaegaze.models.checkpoint import Reference
from vaegaze.models.cpu import fast_forms
from vaegaze.models.device import find_precision, to_device
from vaegaze.training.blending import trainable_weights
from vaegaze.training.decoder import tune_decoder
from vaegaze.training.loop import Step, TrainingState, make_optimizer, rows_of_steps, training_steps
from vaegaze.training.losses import Loss
from vaegaze.training.precompute import Stopped, precompute
from vaegaze.training.references import choose_references
from vaegaze.training.replay import MOST_PERSONS, rendered_frames
from vaegaze.training.strategies import Selection, freeze_all_but
from vaegaze.training.tensors import joined, prepare_training_frames


@dataclass(frozen=True)
class FineTuned:
    """What a fine-tuning did to its model."""

    selection: Selection  # which parameters trained
    references: list[Reference]  # belong to the model from now on; empty for a single frame without replay
    state: TrainingState  # after the last step; shares tensors with the model
    stopped: bool  # whether `should_stop` ended it
    losses: Tensor  # (steps,) of the steps made in this call, on the device
    precomputed: list[str]  # what was computed once, in words


class StateMismatch(ValueError):
    """The state to resume from belongs to another model or other settings."""


def select_trainable(model: VAEGaze, settings: OneshotParams) -> Selection:
    """Freeze all but what the strategy of the settings trains."""
    gaze_mlp_layers = settings.gaze_mlp_layers if settings.finetune_gaze_mlp else ()
    return freeze_all_but(model, settings.finetune_strategy, gaze_mlp_layers)


def finetune(
    model: VAEGaze,
    samples: Samples,
    settings: OneshotParams,
    loss: Loss,
    *,
    state: TrainingState | None = None,
    on_start: Callable[[list[str], float], None] = lambda precomputed, seconds: None,
    on_step: Callable[[Step], None] = lambda step: None,
    should_stop: Callable[[], bool] = lambda: False,
    scratch_dir: str | Path | None = None,
) -> FineTuned:
    """Adapt `model` in place to a person's samples, on the device that it is on.

    `settings` say what trains and how; those about data, files and logging are not read. `replay: auto` is none here,
    where nothing tells of the base: see `settle_replay`. `loss` is on the same device. One loss serves many persons,
    but one at a time, since its network changes precision meanwhile. To fine-tune several persons from one base, pass
    a copy of the base for each.

    state        continue from here, bit for bit as if never interrupted
    on_start     called before the first step: what was precomputed, in words, and the seconds that took
    on_step      called after every step; may draw with the model. Before you use a step's numbers, see its `refuse_bad`
    should_stop  asked after every step, and while precomputing
    scratch_dir  folder for a temporary file of the frozen float32 weights while they are bf16; None: the system's

    TrainingDiverged if a loss or gradient was not finite, at the latest after the last step; StateMismatch if `state`
    does not fit.
    """
    started = time.perf_counter()
    settings = replace(settings, replay="0") if settings.replay == "auto" else settings
    replay = float(settings.replay)
    device = next(model.parameters()).device
    to_device(model, device)  # its layers' forms for that device
    precision = find_precision(settings.precision, str(device))
    selection = select_trainable(model, settings)
    if settings.gradient_checkpointing:
        model.enable_gradient_checkpointing()
    references = choose_references(samples, sole=replay > 0)
    optimizer = make_optimizer(model, settings)
    anchors = list(trainable_weights(model).values()) if settings.anchor else []
    first_step = 0 if state is None else restore(model, optimizer, state)

    precomputed: list[str] = []
    losses: list[Tensor] = []
    stopped, step = False, None
    if first_step < settings.num_steps or settings.finetune_decoder:
        frames = prepare_training_frames(model, samples, device, mirror=settings.mirror, from_itself=replay > 0)
    if settings.finetune_decoder:  # on resuming, too: with the same steps it becomes the same
        try:
            tune_decoder(model, frames, loss, settings, precision=precision, should_stop=should_stop)
        except Stopped:
            stopped = True
    if first_step < settings.num_steps and not stopped:
        replayed = min(MOST_PERSONS, math.ceil(replay * settings.num_steps * settings.batch_size))
        if replayed:
            frames = joined([frames, rendered_frames(model, replayed, settings.seed, device)])
        rows = rows_of_steps(settings, len(frames), replayed=replayed)
        drawn = sorted({row for batch in rows for row in batch})
        if len(drawn) < len(frames):  # few steps do not come to every frame
            place_of = {row: place for place, row in enumerate(drawn)}
            frames, rows = frames.take(drawn), [[place_of[row] for row in batch] for batch in rows]
        with fast_forms((model, loss.vgg), precision, scratch_dir):
            try:
                frames, precomputed = precompute(
                    model,
                    frames,
                    loss,
                    precision=precision,
                    memory_mb=settings.cache_memory_mb,
                    should_stop=should_stop,
                )
            except Stopped:
                stopped = True
            if not stopped:
                if settings.finetune_decoder:
                    precomputed.append(f"the decoder: tuned on the frames for {settings.finetune_decoder:,} steps")
                on_start(precomputed, time.perf_counter() - started)
                for step in training_steps(
                    model,
                    optimizer,
                    frames,
                    loss,
                    settings,
                    precision=precision,
                    first_step=first_step,
                    rows=rows,
                    anchors=anchors,
                ):
                    losses.append(step.total)
                    on_step(step)
                    stopped = should_stop()
                    if stopped:
                        break
                step.refuse_bad()
    return FineTuned(
        selection=selection,
        references=references,
        state=TrainingState.of(model, optimizer, first_step if step is None else step.number),
        stopped=stopped,
        losses=torch.stack(losses) if losses else torch.zeros(0, device=device),
        precomputed=precomputed,
    )


@torch.no_grad()
def restore(model: VAEGaze, optimizer: torch.optim.Optimizer, state: TrainingState) -> int:
    """Bring model and optimiser to where they were; returns the number of finished steps."""
    trainable = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    try:
        if state.trained.keys() != trainable.keys():
            raise ValueError("other parameters were trained")
        for name, tensor in state.trained.items():
            trainable[name].copy_(tensor)
        optimizer.load_state_dict(state.optimizer)
        return int(state.step)
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise StateMismatch(str(error)) from error
