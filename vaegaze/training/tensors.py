"""A person's samples as the tensors that a training step takes."""

from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields, replace

import torch
from torch import Tensor

from vaegaze.data.samples import Samples
from vaegaze.models import VAEGaze, to_unit_range
from vaegaze.models.checkpoint import Reference
from vaegaze.training.references import nearest_reference, reference_rows, references_at, spare_reference


@dataclass(frozen=True)
class Frames:
    """The tensors of N frames, on the device, encoded once for all steps."""

    target: Tensor  # (N, 3, S, S) in [−1, 1]
    eye_masks: Tensor  # (N, 1, S, S) in {0, 1}
    valid: Tensor  # (N, 1, S, S) in {0, 1}
    masked_latents: Tensor  # (N, 4, S / f, S / f)
    reference_latents: Tensor  # (N, 4, S / f, S / f), zeros without a reference
    head: Tensor  # (N, 2) pitch, yaw in radians
    gaze: Tensor  # (N, 2) pitch, yaw in radians
    features: Tensor | None = None  # (N, C, S / f, S / f) of the UNet's trunk, if `precompute` has added them
    target_features: tuple[Tensor, ...] = ()  # each (N, …), VGG19's features of the targets, likewise

    def __len__(self) -> int:
        return len(self.target)

    def without_precomputed(self) -> "Frames":
        """The frames without the results of `precompute`, which are valid for their current gaze and target only."""
        return replace(self, features=None, target_features=())

    def take(self, rows) -> "Frames":
        """The frames at these positions, in this order."""
        prepared = {name: getattr(self, name)[rows] for name in PREPARED}
        features = None if self.features is None else self.features[rows]
        return Frames(**prepared, features=features, target_features=tuple(tap[rows] for tap in self.target_features))

    def looking(self, gaze: tuple[float, float] | Tensor) -> "Frames":
        """The frames with another gaze: (2,) for all, or (N, 2)."""
        other = torch.as_tensor(gaze, dtype=self.gaze.dtype, device=self.gaze.device).expand_as(self.gaze)
        return replace(self.without_precomputed(), gaze=other)


PREPARED = tuple(field.name for field in fields(Frames) if field.default is MISSING)


@torch.no_grad()
def prepare_frames(
    model: VAEGaze,
    samples: Samples,
    references: Sequence[Reference],
    device: torch.device,
    spare: Reference | None = None,
) -> Frames:
    """Samples as tensors on `device`, encoded one by one so that the result does not depend on their number.

    Each frame has the nearest of the references but itself; where no other is left the `spare` one, or none.
    """
    target = to_unit_range(samples.images).to(device)
    eye_masks = torch.from_numpy(samples.eye_masks)[:, None].float().to(device)
    masked_latents = torch.cat(
        [model.encode(model.mask(target[i : i + 1], eye_masks[i : i + 1])) for i in range(len(samples))]
    )
    reference_latents = torch.zeros_like(masked_latents)
    encoded: dict[int, Tensor] = {}
    for i, (image, head) in enumerate(zip(samples.images, samples.head)):
        reference = nearest_reference(references, image, head) or (spare if references else None)
        if reference is not None:
            if id(reference) not in encoded:
                encoded[id(reference)] = model.encode(to_unit_range(reference.image[None]).to(device))[0]
            reference_latents[i] = encoded[id(reference)]
    return Frames(
        target=target,
        eye_masks=eye_masks,
        valid=torch.from_numpy(samples.valid)[:, None].float().to(device),
        masked_latents=masked_latents,
        reference_latents=reference_latents,
        head=torch.from_numpy(samples.head).to(device),
        gaze=torch.from_numpy(samples.gaze).to(device),
    )


@torch.no_grad()
def drawn_from_itself(model: VAEGaze, frames: Frames) -> Frames:
    """The frames, each with itself as its reference."""
    return replace(frames, reference_latents=torch.cat([model.encode(target) for target in frames.target.split(1)]))


def prepare_training_frames(
    model: VAEGaze, samples: Samples, device: torch.device, *, mirror: bool, from_itself: bool = False
) -> Frames:
    """The samples with their own references; with `mirror` followed by their mirror images, references included.

    With `from_itself` all of them follow once more, each with itself as its reference, as when a picture is redirected;
    alone they would teach copying, so they need replayed persons beside them, who look elsewhere than their references.
    A single frame is then drawn from itself only.
    """
    seen = [samples, samples.mirrored()] if mirror else [samples]
    chosen = [references_at(each, reference_rows(samples)) for each in seen]
    frames = joined(
        [prepare_frames(model, each, few, device, spare_reference(few, each)) for each, few in zip(seen, chosen)]
    )
    if not from_itself:
        return frames
    own = drawn_from_itself(model, frames)
    return joined([frames, own]) if chosen[0] else own


def joined(parts: Sequence[Frames]) -> Frames:
    """Frames one after the other, without what `precompute` adds."""
    return Frames(**{name: torch.cat([getattr(part, name) for part in parts]) for name in PREPARED})
