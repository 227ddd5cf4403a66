"""Checkpoint files: written atomically, read without pickle's powers, loaded strictly.

A checkpoint is one dictionary of tensors and plain Python values:

    format        "vaegaze-1"
    model_config  keyword arguments of `VAEGaze`: nobody states the architecture twice
    state_dict    all weights, under diffusers' names
    info          what it was trained on, in words, and how
    reference     None, or the person's reference frame: image (S, S, 3) uint8, gaze and head [pitch, yaw]
"""

import errno
import logging
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from vaegaze.config import UserError
from vaegaze.config_tree import plain
from vaegaze.files import atomic_path
from vaegaze.models.vaegaze import VAEGaze

log = logging.getLogger(__name__)

FORMAT = "vaegaze-1"
SHOWN_NAMES = 3  # of the tensors that do not fit


@dataclass(frozen=True)
class Reference:
    """The frame of the person that every picture is drawn with."""

    image: np.ndarray  # (S, S, 3) uint8
    gaze: np.ndarray  # (2,) pitch, yaw in radians
    head: np.ndarray  # (2,) pitch, yaw in radians


@dataclass(frozen=True)
class Checkpoint:
    model: VAEGaze
    info: dict
    reference: Reference | None


def save_checkpoint(
    path: str | Path, model: VAEGaze, info: dict, reference: Reference | None = None, *, half: bool = False
) -> None:
    """Write model, `info` and reference to `path`; `half` stores the weights as float16."""
    state = state_of(model)
    if half:
        state = {name: tensor.half() for name, tensor in state.items()}
    content = {"format": FORMAT, "model_config": model.config, "state_dict": state, "info": info, "reference": None}
    if reference is not None:
        content["reference"] = {
            "image": torch.from_numpy(reference.image),
            "gaze": [float(angle) for angle in reference.gaze],
            "head": [float(angle) for angle in reference.head],
        }
    save_tensors(path, content)


def state_of(model: VAEGaze) -> dict[str, torch.Tensor]:
    """All weights on the CPU, in plain memory order."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint onto the CPU, weights as float32. UserError for whatever is not one of ours, whole."""
    content = load_tensors(path, hint="give a VAE-GAZE checkpoint with --checkpoint_path")
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"{path} is not a VAE-GAZE checkpoint (expected format {FORMAT!r}); see --checkpoint_path")
    try:
        with torch.device("meta"):  # shapes first: a file with absurd widths must not allocate them
            model = VAEGaze(content["model_config"])
        info, state = dict(content["info"]), dict(content["state_dict"])
        reference = _read_reference(content["reference"], model.image_size)
        if not all(type(index) is int for index in info.get("trained_indices", [])):
            raise ValueError("trained_indices are no sample numbers")
    except (KeyError, TypeError, ValueError, IndexError, RuntimeError, AttributeError, ArithmeticError) as error:
        raise UserError(
            f"{path}: the checkpoint's contents do not describe a VAE-GAZE model: {_first_line(error)}"
        ) from error
    _refuse_mismatch(path, model, state)
    model.load_state_dict({name: tensor.float() for name, tensor in state.items()}, strict=True, assign=True)
    log.debug("loaded %d tensors from %s", len(state), path)
    return Checkpoint(model, info, reference)


def save_tensors(path: str | Path, content: dict) -> None:
    """torch.save, atomically, the same bytes for the same content; OSError when it cannot be written."""
    with atomic_path(path) as temporary, open(temporary, "wb") as file:  # given a path, torch stores its random name
        try:
            torch.save(content, file)
        except RuntimeError as error:  # so torch reports a full disk
            raise OSError(
                errno.EIO, f"cannot be written, is the disk full? ({_first_line(error)})", str(path)
            ) from error


def load_tensors(path: str | Path, *, hint: str):
    """torch.load restricted to tensors and plain values; every failure is one UserError that ends in `hint`."""
    if not Path(path).is_file():
        raise UserError(f"there is no file {path}; {hint}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a foreign file's pickle version: the error below says enough
            return torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except PermissionError as error:  # the file may well be whole
        raise UserError(f"{path} cannot be read ({error.strerror}); {hint}") from error
    except Exception as error:  # a foreign file can make the unpickler fail in any way
        if "GLOBAL" in str(error) or ("Unsupported" in str(error) and _begins_as_pickle(path)):
            raise UserError(
                f"{path} holds Python code or objects besides tensors and was not opened, since that could run "
                f"anything; {hint}"
            ) from error
        raise UserError(f"{path} is no PyTorch file, or it is damaged or cut short; {hint}") from error


def _refuse_mismatch(path: str | Path, model: VAEGaze, state: dict) -> None:
    """Both sides of every tensor that is missing, unknown or of another shape, in one error."""
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: _shape(tensor) for name, tensor in state.items()}
    wrong = [name for name in sorted(wanted | found, key=str) if wanted.get(name) != found.get(name)]
    if wrong:
        sides = "; ".join(
            f"{plain(str(name))}: expected {wanted.get(name, 'nothing')}, found {found.get(name, 'nothing')}"
            for name in wrong[:SHOWN_NAMES]
        )
        more = f"; and {len(wrong) - SHOWN_NAMES} more" if len(wrong) > SHOWN_NAMES else ""
        raise UserError(f"{path}: {len(wrong)} tensors do not fit the checkpoint's own model config: {sides}{more}")


def _shape(value) -> tuple[int, ...] | str:
    """Of a tensor that holds numbers; what else a file may bring fits nowhere."""
    plain_tensor = isinstance(value, torch.Tensor) and value.layout is torch.strided and value.device.type == "cpu"
    return tuple(value.shape) if plain_tensor and value.is_floating_point() else "something else"


def _read_reference(content: dict | None, size: int) -> Reference | None:
    if content is None:
        return None
    image = content["image"].numpy()
    gaze, head = (np.array(content[key], dtype=np.float32) for key in ("gaze", "head"))
    if image.shape != (size, size, 3) or image.dtype != np.uint8 or gaze.shape != (2,) or head.shape != (2,):
        raise ValueError(f"reference frame of shape {image.shape} {image.dtype}, expected ({size}, {size}, 3) uint8")
    return Reference(image, gaze, head)


def _begins_as_pickle(path: str | Path) -> bool:
    with open(path, "rb") as file:
        return file.read(1) == b"\x80"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
