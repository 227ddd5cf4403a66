"""The frames of a run as a training step takes them: what stands in here is computed once, not once a step."""

from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vaegaze.data import hdf5
from vaegaze.data.samples import Samples
from vaegaze.errors import plain
from vaegaze.geometry.camera import Camera
from vaegaze.models import VAEGaze, to_unit_range
from vaegaze.models.checkpoint import Checkpoint, Reference
from vaegaze.models.device import MB, autocast
from vaegaze.training.losses import Loss


@dataclass(frozen=True)
class Frames:
    """What a step needs of N frames, on the device; what no trainable parameter touches is in here, computed once."""

    target: Tensor  # (N, 3, S, S) in [−1, 1]
    eye_masks: Tensor  # (N, 1, S, S) in {0, 1}
    valid: Tensor  # (N, 1, S, S) in {0, 1}
    masked_latents: Tensor  # (N, 4, S / f, S / f)
    reference_latents: Tensor  # (N, 4, S / f, S / f), zeros where there is no reference
    head: Tensor  # (N, 2) pitch, yaw in radians
    gaze: Tensor  # (N, 2) pitch, yaw in radians
    features: Tensor | None = None  # (N, C, S / f, S / f) of the UNet's trunk, where `precompute` has added them
    wanted: tuple[Tensor, ...] = ()  # each (N, …), what VGG19 makes of the targets, likewise

    def __len__(self) -> int:
        return len(self.target)

    def without_precomputed(self) -> "Frames":
        """For whoever changes what it was computed from."""
        return replace(self, features=None, wanted=())

    def take(self, rows) -> "Frames":
        prepared = {name: getattr(self, name)[rows] for name in PREPARED}
        features = None if self.features is None else self.features[rows]
        return Frames(**prepared, features=features, wanted=tuple(tap[rows] for tap in self.wanted))

    def looking(self, gaze: tuple[float, float]) -> "Frames":
        """The same frames, told to look elsewhere."""
        told = torch.tensor(gaze, device=self.gaze.device).expand_as(self.gaze)
        return replace(self.without_precomputed(), gaze=told)


PREPARED = tuple(field.name for field in fields(Frames) if field.default is MISSING)

REFERENCE_POOL = 32  # frames of a person the model was not fine-tuned on, to choose a reference from
SAME_FRAME_TOLERANCE = 1  # of 255: how far the same frame may be off that another machine has rendered or read


def choose_references(samples: Samples) -> list[Reference]:
    """The training frame whose head is turned least, and the next other one for that frame itself.

    Where all frames are the same there is none: copying the answer from it would teach nothing.
    """
    first, *others = np.argsort(np.linalg.norm(samples.head, axis=1), kind="stable")
    second = next((i for i in others if not np.array_equal(samples.images[i], samples.images[first])), None)
    if second is None:
        return []
    return [Reference(samples.images[i], samples.gaze[i], samples.head[i]) for i in (first, second)]


def references_of(path: str | Path, person_id: str, canvas: Camera) -> list[Reference]:
    """Those of a person in a file on whom the model was not fine-tuned, out of frames spread over all of theirs."""
    rows = hdf5.evenly_spread(hdf5.sample_count(path, person_id), REFERENCE_POOL)
    return choose_references(hdf5.read_person(path, person_id, rows, canvas).samples)


def fine_tuned_on(checkpoint: Checkpoint, path: str | Path, person_id: str) -> bool:
    """Whether the model was fine-tuned on this person of this file; where it was on another one, that is said.

    Another file may have the same id, so the reference must be one of the frames that were trained on. A model without
    one, which a single frame leaves, is known by the id alone.
    """
    name, reference = checkpoint.info.get("fine_tuned_on"), checkpoint.reference
    if name == person_id and (reference is None or _is_trained_frame(reference, checkpoint, path, person_id)):
        return True
    if name is not None:
        whom = f"another {name} than that of {path}" if name == person_id else f"{name}, not on {person_id}"
        print(plain(f"⚠️ The model was fine-tuned on {whom}"))
    return False


def _is_trained_frame(reference: Reference, checkpoint: Checkpoint, path: str | Path, person_id: str) -> bool:
    total = hdf5.sample_count(path, person_id)
    rows = [row for row in checkpoint.info.get("trained_indices", ()) if 0 <= row < total]
    images = hdf5.read_person(path, person_id, rows, checkpoint.model.canvas).samples.images if rows else ()
    return any(np.abs(image.astype(int) - reference.image).max() <= SAME_FRAME_TOLERANCE for image in images)


@torch.no_grad()
def prepare_frames(model: VAEGaze, samples: Samples, references: list[Reference], device: torch.device) -> Frames:
    """Samples to tensors on `device`, encoded one by one so that the result does not depend on their number.

    The first of the references serves all but the frame it is itself, the second, where there is one, that frame.
    """
    target = to_unit_range(samples.images).to(device)
    eye_masks = torch.from_numpy(samples.eye_masks)[:, None].float().to(device)
    masked_latents = torch.cat(
        [model.encode(model.mask(target[i : i + 1], eye_masks[i : i + 1])) for i in range(len(samples))]
    )
    reference_latents = torch.zeros_like(masked_latents)
    if references:
        encoded = [model.encode(to_unit_range(frame.image[None]).to(device))[0] for frame in references]
        for i, image in enumerate(samples.images):
            own = np.array_equal(image, references[0].image)
            if not own or len(encoded) > 1:
                reference_latents[i] = encoded[own]
    return Frames(
        target=target,
        eye_masks=eye_masks,
        valid=torch.from_numpy(samples.valid)[:, None].float().to(device),
        masked_latents=masked_latents,
        reference_latents=reference_latents,
        head=torch.from_numpy(samples.head).to(device),
        gaze=torch.from_numpy(samples.gaze).to(device),
    )


def prepare_training_frames(model: VAEGaze, samples: Samples, device: torch.device, *, mirror: bool) -> Frames:
    """The samples with their own references; behind them, where wanted, the same in a mirror, the references too."""
    seen = [samples, samples.mirrored()] if mirror else [samples]
    parts = [prepare_frames(model, each, choose_references(each), device) for each in seen]
    return Frames(**{name: torch.cat([getattr(part, name) for part in parts]) for name in PREPARED})


@torch.no_grad()
def precompute(
    model: VAEGaze,
    frames: Frames,
    loss: Loss,
    *,
    precision: str,
    memory_mb: int,
    check: Callable[[], None] = lambda: None,
) -> tuple[Frames, list[str]]:
    """Add to the frames what no trainable parameter touches, as far as `memory_mb` reach; and say in words what.

    The UNet's trunk comes first, then VGG19 on the targets. Computed as the steps would, in their precision, but frame
    by frame, so that the result does not depend on their number; `check` is called before each.
    """
    said, left = [], memory_mb * MB

    def keep(what: str, compute: Callable[[Frames], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        nonlocal left
        with autocast(frames.target.device.type, precision):
            first = compute(frames.take(slice(1)))
            size = len(frames) * sum(tensor.nbytes for tensor in first)
            if size > left:
                said.append(f"{what}: at every step, since {size / MB:,.0f} MB are more than {left / MB:,.0f}")
                return ()
            kept = tuple(torch.empty_like(tensor.expand(len(frames), *tensor.shape[1:])) for tensor in first)
            for i in range(len(frames)):
                check()
                for whole, part in zip(kept, compute(frames.take(slice(i, i + 1))) if i else first):
                    whole[i] = part[0]
        left -= size
        said.append(f"{what}: once, {size / MB:,.1f} MB")
        return kept

    if not any(parameter.requires_grad for parameter in model.trunk_parameters()):
        kept = keep(
            "the UNet's trunk",
            lambda one: (model.trunk(one.masked_latents, one.reference_latents, one.head, one.gaze),),
        )
        frames = replace(frames, features=kept[0] if kept else None)
    if loss.vgg is not None:
        wanted = keep("VGG19 on the targets", lambda one: loss.wanted(one.target, one.valid))
        frames = replace(frames, wanted=wanted)
    return frames, said
