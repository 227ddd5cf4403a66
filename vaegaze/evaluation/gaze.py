"""Where a picture seems to look: what an estimator reads, and how far that is off."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from vaegaze.geometry.alignment import place
from vaegaze.geometry.camera import Camera
from vaegaze.geometry.transforms import warp
from vaegaze.models import to_pixels, to_unit_range
from vaegaze.models.estimator import CANVAS
from vaegaze.training.tensors import Frames

Estimator = Callable[[Tensor], Tensor]  # pictures (B, 3, 64, 128) in [−1, 1] → gaze (B, 2) = pitch, yaw in radians
AT_ONCE = 16  # pictures in one pass
UNBIASED = "gaze_error_unbiased_deg"


@torch.no_grad()
def gaze_errors(
    estimator: Estimator, pictures: np.ndarray, frames: Frames, canvas: Camera, true: Tensor | None = None
) -> dict[str, float | None]:
    """Mean angular errors, in degrees, of the gaze that an estimator reads from pictures (N, H, W, 3) uint8.

    See `reading_errors`; the true pictures are the frames' targets, and `true` what it reads off them, if that is
    known.
    """
    if true is None:
        true = read_gaze(estimator, frames.target, frames.head, canvas)
    return reading_errors(read_drawn(estimator, pictures, frames, canvas), true, frames.gaze)


def read_drawn(estimator: Estimator, pictures: np.ndarray, frames: Frames, canvas: Camera) -> Tensor:
    """Gaze (N, 2) of pictures (N, H, W, 3) uint8 drawn for these frames."""
    return read_gaze(estimator, to_unit_range(pictures).to(frames.target.device), frames.head, canvas)


def reading_errors(drawn: Tensor, true: Tensor, label: Tensor) -> dict[str, float | None]:
    """The means of `reading_angles`; gaze_error_unbiased_deg is None for a single picture, of which nothing is left."""
    errors = {name: angles.mean().item() for name, angles in reading_angles(drawn, true, label).items()}
    return errors if len(label) > 1 else errors | {UNBIASED: None}


def reading_angles(drawn: Tensor, true: Tensor, label: Tensor) -> dict[str, Tensor]:
    """Angles (N,) in degrees between an estimator's readings of drawn and of true pictures of one person, and labels.

    All are (N, 2) = pitch, yaw in radians. gaze_error_to_target_deg is the drawn against the true (GazeNeRF's
    protocol), gaze_error_deg the drawn against the label (ST-ED's). gaze_error_unbiased_deg is the same after the mean
    by which the estimator misreads this person's true pictures is taken off. estimator_error_deg is its own error on
    the true pictures.
    """
    pairs = {
        "gaze_error_deg": (drawn, label),
        "gaze_error_to_target_deg": (drawn, true),
        UNBIASED: (drawn - (true - label).mean(dim=0), label),
        "estimator_error_deg": (true, label),
    }
    return {name: angular_error_deg(*pair) for name, pair in pairs.items()}


def read_gaze(estimator: Estimator, pictures: Tensor, head: Tensor, canvas: Camera) -> Tensor:
    """Gaze (N, 2) of pictures (N, 3, H, W) in [−1, 1] on a canvas, with head poses (N, 2), in small batches.

    They are warped to the estimator's canvas, with edge pixels repeated where they end.
    """
    placed = [
        warp(picture, place(canvas, pose, CANVAS), *CANVAS.shape)[0]
        for picture, pose in zip(to_pixels(pictures), head.cpu().numpy())
    ]
    pictures = to_unit_range(np.stack(placed)).to(pictures.device)
    return torch.cat([estimator(few) for few in pictures.split(AT_ONCE)])


def angular_error_deg(first: Tensor, second: Tensor) -> Tensor:
    """Angles (B,) in degrees between directions (B, 2) = pitch, yaw in radians (see `geometry.camera.gaze_vector`).

    Twice the arcsine of half the distance of the unit vectors: near 0 the arccosine of their product loses its digits.
    """

    def vectors(angles: Tensor) -> Tensor:
        pitch, yaw = angles.double().unbind(-1)
        return torch.stack([pitch.cos() * yaw.sin(), pitch.sin(), pitch.cos() * yaw.cos()], dim=-1)  # (B, 3)

    distance = (vectors(first) - vectors(second)).norm(dim=-1)
    return torch.rad2deg(2 * torch.asin((distance / 2).clamp(max=1)))
