"""What a pre-training would take, worked out before anything is trained: data, memory, arithmetic, steps."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from vaegaze.config.pretrain import PretrainConfig
from vaegaze.data.persons import files_of
from vaegaze.errors import UserError
from vaegaze.models import VAEGaze
from vaegaze.models.device import autocast
from vaegaze.models.diffusers.parts import CONFIG_ERRORS
from vaegaze.models.tensor_files import first_line
from vaegaze.pretraining.base_model import base_config
from vaegaze.pretraining.batches import Batch, Crops
from vaegaze.pretraining.latent_cache import cache_bytes
from vaegaze.pretraining.losses import Objective, encode_batch, texture_loss
from vaegaze.pretraining.phases import Phase, phases
from vaegaze.pretraining.sources import DataSet, RenderedPersons

FLOAT_BYTES, ADAM_FLOATS = 4, 2
MB, GB = 2**20, 2**30


@dataclass(frozen=True)
class PhaseCost:
    """What a phase costs in one process."""

    flops: float  # a step, forward and backward; a multiplication and an addition are two
    weights: int  # bytes: all weights, gradients, AdamW's moments, the average
    activations: int  # bytes that the backward pass needs, of one batch


def phase_cost(model: VAEGaze, phase: Phase, config: PretrainConfig) -> PhaseCost:
    """Counted on tensors without memory, within the FakeTensorMode that the model was made in. VGG19 is left out."""
    params = config.pretrain_params
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.split(".")[0] in phase.trained)
    objective = Objective(model, phase.loss, phase.weights, None, encode_batch)
    batch = _any_batch(phase, config, model.canvas.shape)
    saved: dict[int, int] = {}
    own = {parameter.untyped_storage()._cdata for parameter in model.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            saved[storage._cdata] = storage.nbytes()
            alive.append(storage)  # so that no later one takes its address
        return tensor

    alive: list = []
    with (
        FlopCounterMode(display=False) as counter,
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        autocast("cpu", params.precision),
    ):
        objective(batch).backward()
    model.zero_grad(set_to_none=True)
    everything = sum(parameter.numel() for parameter in model.parameters())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    floats = everything + trained * (1 + ADAM_FLOATS + bool(params.ema))
    return PhaseCost(counter.get_total_flops() * phase.accumulation, floats * FLOAT_BYTES, sum(saved.values()))


def _any_batch(phase: Phase, config: PretrainConfig, shape: tuple[int, int]) -> Batch | Crops:
    persons, targets = phase.batch_size, phase.batch_size * phase.gazes
    if phase.loss is texture_loss:
        crop = config.pretrain_params.crop_px
        return Crops(torch.zeros(4 * persons, 3, crop, crop), (0,) * 4 * persons)
    batch = Batch(
        target=torch.zeros(targets, 3, *shape),
        eye_masks=torch.ones(targets, 1, *shape),
        valid=torch.ones(targets, 1, *shape),
        gaze=torch.zeros(targets, 2),
        head=torch.zeros(targets, 2),
        reference=torch.zeros(persons, 3, *shape),
        reference_eye_masks=torch.ones(persons, 1, *shape),
        reference_valid=torch.ones(persons, 1, *shape),
        keep_reference=torch.ones(persons, 1, 1, 1),
        noise_seeds=(0,) * persons,
    )
    return batch.eye_band() if phase.band_steps == phase.steps else batch


def plan(config: PretrainConfig, sources: Sequence[RenderedPersons | DataSet], *, processes: int = 1) -> str:
    """In words: persons and frames, parameters, and of each phase its steps, epochs, memory and arithmetic."""
    params, described = config.pretrain_params, base_config(config.model_params)
    with FakeTensorMode():
        try:
            model = VAEGaze(described)
        except CONFIG_ERRORS as error:
            raise UserError(f"model_params do not describe a model: {first_line(error)}") from error
        if params.gradient_checkpointing:
            model.enable_gradient_checkpointing()
        costs = [phase_cost(model, phase, config) for phase in phases(config)]
    sizes = {part: sum(p.numel() for p in getattr(model, part).parameters()) for part in ("vae", "unet", "gaze_mlp")}
    lines = ["Data:", *(f"  {source.describe()}" for source in sources)]
    lines.append(f"Parameters: {', '.join(f'{part} {size:,}' for part, size in sizes.items())}")
    for source in sources:
        if isinstance(source, DataSet):
            frames = min(params.frames_per_person, max(source.split.counts.values())) * len(source.split.train)
            per_frame = bytes_per_frame(source)
            lines.append(
                f"An epoch of {source.name}: at most {frames:,} frames, {frames * per_frame / MB:,.0f} MB to be read"
            )
    if params.latent_cache is not None:
        size = sum(cache_bytes(model, source.train_frames) for source in sources if isinstance(source, DataSet))
        lines.append(f"Latent cache: {params.latent_cache}, {size / GB:.2f} GB when full")
    for phase, cost in zip(phases(config), costs):
        persons = processes * phase.batch_size * phase.accumulation
        lines.append(
            f"{phase.name}: {phase.steps:,} steps of {persons} persons × {phase.gazes + 1} frames; "
            f"{cost.flops / 1e12:.2f} TFLOP a step and process; "
            f"memory about {(cost.weights + cost.activations) / GB:.1f} GB "
            f"({cost.weights / GB:.1f} weights and optimiser, {cost.activations / GB:.1f} activations)"
        )
        lines += [f"  {line}" for line in _epochs(config, sources, phase, persons)]
    return "\n".join(lines)


def _epochs(
    config: PretrainConfig, sources: Sequence[RenderedPersons | DataSet], phase: Phase, persons: int
) -> list[str]:
    params = config.pretrain_params
    if phase.loss is texture_loss:
        return []
    turns = max(1, params.frames_per_person // phase.gazes)
    shares = [weight / sum(params.weights_of_sources) for weight in params.weights_of_sources]
    return [
        f"{source.name}: {steps:,.0f} steps an epoch, {phase.steps / steps:.2f} epochs"
        for source, share in zip(sources, shares)
        if isinstance(source, DataSet) and (steps := len(source.split.train) * turns / (persons * share))
    ]


def bytes_per_frame(source: DataSet) -> float:
    """Mean size of a data set's frame on disk, with its labels and masks."""
    return sum(os.path.getsize(file) for file in files_of(source.name)) / max(1, sum(source.split.counts.values()))
