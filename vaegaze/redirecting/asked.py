"""What a Python caller asks for, held to the limits that the commands have."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch

from vaegaze.config import shared
from vaegaze.config.tree import option, resolve
from vaegaze.errors import UserError
from vaegaze.redirecting.fading import Fades


@dataclass(frozen=True)
class Asked:
    """Where to look, of which face, and how strongly. Angles are (pitch, yaw) in radians."""

    gaze: tuple[float, float] = shared.angles("where to look", (0.0, 0.0))
    head: tuple[float, float] | None = shared.angles("how the head is turned")
    face: int | None = shared.face()
    strength: float = option(1.0, low=0, high=1, help="how far the eyes move")
    look_away: int | None = shared.seed("of looks away", None)


@dataclass(frozen=True)
class AskedFades:
    """The angles of `Fades`."""

    fade_head_pitch: tuple[float, float] = option((0.0, 0.0), low=0, high=3.2, unit="rad", help="")
    fade_head_yaw: tuple[float, float] = option((0.0, 0.0), low=0, high=3.2, unit="rad", help="")
    fade_gaze: tuple[float, float] = option((0.0, 0.0), low=0, high=3.2, unit="rad", help="")


def asked(gaze: Any, head: Any, face: Any, strength: Any, look_away: Any = None) -> Asked:
    """UserError for what is of another form, or beyond the limits. Arrays are taken as well."""
    given = {"gaze": gaze, "head": head, "face": face, "strength": strength, "look_away": look_away}
    return resolve(Asked, named={name: _plain(value) for name, value in given.items()}).config


def asked_fades(fades: Any) -> Fades:
    """The same for the angles between which eyes fade."""
    if not isinstance(fades, Fades):
        raise UserError(f"fades: got {type(fades).__name__}; expected vaegaze.redirecting.fading.Fades")
    named = {f"fade_{field.name}": _plain(getattr(fades, field.name)) for field in fields(Fades)}
    pairs = vars(resolve(AskedFades, named=named).config)
    for name, pair in pairs.items():
        if fault := shared.fault_of_range(pair):
            raise UserError(f"{name}: {fault}")
    return Fades(*pairs.values())


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
    try:
        return np.asarray(value).tolist()
    except ValueError:  # rows of unequal length, which are refused later on
        return value
