"""Eyes redrawn by a trained model, in batches; what pictures share is encoded once."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from vaegaze.data.photo import Photo, without_own_error
from vaegaze.errors import UserError
from vaegaze.geometry.camera import rolled
from vaegaze.models import VAEGaze, to_pixels, to_unit_range
from vaegaze.models.checkpoint import Checkpoint, Reference
from vaegaze.models.cpu import drawing_forms, use_drawing_forms
from vaegaze.models.cpu.mixed_precision import frozen_weights, in_bf16
from vaegaze.models.device import autocast, find_precision
from vaegaze.training.references import nearest_reference, reference_distances, references_at

BATCH_SIZE = 8  # pictures
CLEARLY_NEARER_RAD = 0.1  # by which another reference must be nearer to take over within a video
REFERENCES = ("auto", "own", "model", "none")  # what a picture may be drawn from


def reference_of(choice: str, checkpoint: Checkpoint, photo: Photo) -> Reference | None:
    """The reference for drawing a photo; `choice` is one of REFERENCES.

    own: the photo itself, as it is; auto: the photo itself for a base model, and for one that learnt to draw from it;
    else the nearest of the model's. A model fine-tuned on a single photo without replay never saw a reference, and
    draws worse with one. UserError for `model` if it has none.
    """
    samples, known = photo.samples, checkpoint.references
    if is_own_reference(choice, checkpoint):
        return references_at(samples, [0])[0]
    if choice == "none" or not known:
        return None
    return nearest_reference(known, samples.images[0], samples.head[0]) or known[0]


def is_own_reference(choice: str, checkpoint: Checkpoint) -> bool:
    """Whether each picture is its own reference; see `reference_of`."""
    if choice not in REFERENCES:
        raise UserError(f"reference: got {choice!r}; expected one of {', '.join(REFERENCES)}")
    if choice == "model" and not checkpoint.references:
        raise UserError("the model holds no reference frame", about="reference")
    is_base = not checkpoint.references and "fine_tuned_on" not in checkpoint.info
    learnt = checkpoint.draws_from_itself and bool(checkpoint.references)
    return choice == "own" or (choice == "auto" and (is_base or learnt))


@torch.no_grad()
def encode_reference(model: VAEGaze, reference: Reference | None) -> Tensor:
    """Latents (1, 4, H / f, W / f): zeros if there is no reference."""
    if reference is None:
        return torch.zeros_like(encode_pictures(model, np.zeros((1, *model.canvas.shape, 3), np.uint8)))
    return encode_pictures(model, reference.image[None])


class FollowedReferences:
    """The references of a video's frames, each encoded once.

    A frame takes the reference of the frame before unless another is clearly nearer: the eyes must not flicker.
    """

    def __init__(self, model: VAEGaze, references: Sequence[Reference]):
        self.references = references
        self.encoded = torch.cat([encode_reference(model, each) for each in references or [None]])
        self.rows: dict[int, int] = {}  # of each person in the frame before

    def latents(self, images: np.ndarray, heads: np.ndarray, persons: Sequence[int] | None = None) -> Tensor:
        """For the next frames (B, H, W, 3) uint8 with heads (B, 2): (B, 4, H / f, W / f).

        `persons` numbers who is in each; by default it is one.
        """
        of_whom = [0] * len(images) if persons is None else persons
        return self.encoded[[self._next(*each) for each in zip(images, heads, of_whom)]]

    def _next(self, image: np.ndarray, head: np.ndarray, person: int) -> int:
        if len(self.references) < 2:
            return 0
        distances = reference_distances(self.references, image, head)
        nearest = int(np.argmin(distances))
        row = self.rows.get(person)
        if row is None or distances[nearest] < distances[row] - CLEARLY_NEARER_RAD:
            self.rows[person] = nearest
        return self.rows[person]


@torch.no_grad()
def encode_pictures(model: VAEGaze, images: np.ndarray) -> Tensor:
    """Whole pictures (B, H, W, 3) uint8, eyes included → latents (B, 4, H / f, W / f)."""
    return model.encode(to_unit_range(images).to(device_of(model)))


@torch.no_grad()
def encode_masked(model: VAEGaze, images: np.ndarray, eye_masks: np.ndarray) -> Tensor:
    """Pictures (B, H, W, 3) uint8 without the eyes, (B, H, W) bool → latents (B, 4, H / f, W / f)."""
    masks = torch.from_numpy(eye_masks)[:, None].float().to(device_of(model))
    return model.encode(model.mask(to_unit_range(images).to(device_of(model)), masks))


@torch.no_grad()
def redraw_eyes(model: VAEGaze, masked: Tensor, reference: Tensor, head: np.ndarray, gaze: np.ndarray) -> np.ndarray:
    """Latents of B pictures, or of one for all, and angles (B, 2) on the canvas → pictures (B, H, W, 3) uint8."""
    head, gaze = (
        torch.from_numpy(np.asarray(angles, dtype=np.float32)).to(device_of(model)) for angles in (head, gaze)
    )
    masked, reference = (latents.expand(len(gaze), *latents.shape[1:]) for latents in (masked, reference))
    redrawn = model(masked, reference, head, gaze)  # (B, 3, H, W)
    if not torch.isfinite(redrawn).all():
        raise UserError("the model draws infinite or NaN pictures", about="checkpoint")
    return to_pixels(redrawn)


def redraw_gazes(
    model: VAEGaze,
    photo: Photo,
    reference: Reference | None,
    gazes: np.ndarray,
    on_batch: Callable[[int, int], None] = lambda done, total: None,
) -> np.ndarray:
    """The photo's canvas with each of the gazes (K, 2), as seen in the photo → (K, H, W, 3) uint8.

    Where it is known where the photo looks, that is drawn, too, and what is wrong in it is taken off the others: see
    `without_own_error`. A gaze that was read is too far off for that.
    `on_batch(done, total)` follows each batch, if there are several.
    """
    samples, knows_gaze = photo.samples, photo.gaze is not None
    asked = np.vstack([gazes, photo.gaze]) if knows_gaze else gazes
    different, position = np.unique(asked, axis=0, return_inverse=True)  # a sweep there and back draws each once
    on_canvas, redrawn = rolled(different, photo.roll_rad), []
    with drawing_forms(model):
        masked = encode_masked(model, samples.images, samples.eye_masks)
        reference_latents = encode_reference(model, reference)
        for start in range(0, len(on_canvas), BATCH_SIZE):
            batch = on_canvas[start : start + BATCH_SIZE]
            heads = samples.head.repeat(len(batch), axis=0)
            redrawn.append(redraw_eyes(model, masked, reference_latents, heads, batch))
            if len(on_canvas) > BATCH_SIZE:
                on_batch(start + len(batch), len(on_canvas))
    drawn = np.concatenate(redrawn)[position.ravel()]
    return without_own_error(photo, drawn[:-1], gazes, drawn[-1]) if knows_gaze else drawn


def low_precision(model: VAEGaze) -> torch.autocast:
    """A context in which the model computes in bf16, on devices that do so natively; its weights stay in bf16.

    The shipped model then draws in two thirds of the time, and differs by at most 4 of 255 levels; pasted with
    irises, by 6. Elsewhere it draws in float32 from now on, and its weights must not change.
    """
    device = device_of(model)
    precision = find_precision("auto", str(device))
    if precision == "bf16" and device.type == "cpu":
        for parameter in frozen_weights([model.requires_grad_(False)]):
            parameter.data = in_bf16(parameter.data)
    if precision == "fp32":
        use_drawing_forms(model)
    return autocast(device.type, precision)


def device_of(model: VAEGaze) -> torch.device:
    return next(model.parameters()).device
