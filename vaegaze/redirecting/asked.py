"""What a Python caller asks for, held to the limits that the commands have."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from vaegaze.config import shared
from vaegaze.config.tree import option, resolve


@dataclass(frozen=True)
class Asked:
    """Where to look, of which face, and how strongly. Angles are (pitch, yaw) in radians."""

    gaze: tuple[float, float] = shared.angles("where to look", (0.0, 0.0))
    head: tuple[float, float] | None = shared.angles("how the head is turned")
    face: int | None = shared.face()
    strength: float = option(1.0, low=0, high=1, help="how far the eyes move")


def asked(gaze: Any, head: Any, face: Any, strength: Any) -> Asked:
    """UserError for what is of another form, or beyond the limits. Arrays are taken as well."""
    given = {"gaze": gaze, "head": head, "face": face, "strength": strength}
    return resolve(Asked, named={name: _plain(value) for name, value in given.items()}).config


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
    try:
        return np.asarray(value).tolist()
    except ValueError:  # rows of unequal length, which are refused later on
        return value
