"""Files of tensors: written atomically, read without pickle's powers, and refused unless every tensor fits."""

import errno
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from vaegaze.errors import UserError, plain
from vaegaze.files import atomic_path, shipped_path

SHOWN_NAMES = 3  # of the tensors that do not fit
SAFETENSORS_MISSING = "needs the safetensors package: pip install safetensors"


def state_of(model: nn.Module) -> dict[str, torch.Tensor]:
    """All weights on the CPU, in plain memory order."""
    return {name: in_plain_order(tensor.detach().cpu()) for name, tensor in model.state_dict().items()}


def in_plain_order(tensor: torch.Tensor) -> torch.Tensor:
    """Contiguous, and with the strides of that; `contiguous()` alone leaves those of a 1 × 1 kernel as they are.

    They matter: after such a kernel with the channels last all convolutions compute so, in float32 at a loss.
    """
    return tensor.flatten().view(tensor.shape)


def save_tensors(path: str | Path, content: dict) -> None:
    """torch.save, atomically, the same bytes for the same content; OSError when it cannot be written."""
    with atomic_path(path) as temporary, open(temporary, "wb") as file:  # given a path, torch stores its random name
        try:
            torch.save(content, file)
        except RuntimeError as error:  # so torch reports a full disk
            raise OSError(
                errno.EIO, f"cannot be written, is the disk full? ({first_line(error)})", str(path)
            ) from error


def require_safetensors(what: str) -> None:
    """UserError without the package: `what` needs it."""
    try:
        import safetensors.torch  # noqa: F401
    except ImportError as error:
        raise UserError(f"{what} {SAFETENSORS_MISSING}") from error


def save_safetensors(path: str | Path, state: dict[str, torch.Tensor]) -> None:
    """A state dict as `.safetensors`, atomically; UserError without the package, OSError when it cannot be written."""
    require_safetensors(f"{path}: writing it")
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with atomic_path(path) as temporary:
        try:
            save_file(state, temporary, metadata={"format": "pt"})
        except SafetensorError as error:  # so it reports a full disk
            raise OSError(
                errno.EIO, f"cannot be written, is the disk full? ({first_line(error)})", str(path)
            ) from error


def is_file(path: str | Path) -> bool:
    """Whether a file is there; none is at a path that no file can have, such as a too long one."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False


def load_tensors(path: str | Path, *, hint: str = "", about: str = ""):
    """What a file of tensors and plain values holds, on the CPU; every failure is one UserError,
    which ends in `hint` and is `about` that.

    `.safetensors` is read as such, all else by torch.load, restricted to tensors and plain values.
    """
    path, then = shipped_path(path), f"; {hint}" if hint else ""
    if not is_file(path):
        raise UserError(f"there is no file {path}{then}", about=about)
    try:
        if Path(path).suffix == ".safetensors":
            return _load_safetensors(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a foreign file's pickle version: the error below says enough
            return torch.load(path, map_location="cpu", weights_only=True)
    except (MemoryError, UserError):
        raise
    except PermissionError as error:  # the file may well be whole
        raise UserError(f"{path} cannot be read ({error.strerror}){then}", about=about) from error
    except Exception as error:  # a foreign file can make the unpickler fail in any way
        if "GLOBAL" in str(error) or ("Unsupported" in str(error) and _begins_as_pickle(path)):
            raise UserError(
                f"{path} holds Python code or objects besides tensors and was not opened, since that could run "
                f"anything{then}",
                about=about,
            ) from error
        kind = "safetensors" if Path(path).suffix == ".safetensors" else "PyTorch"
        raise UserError(f"{path} is not a {kind} file, or it is damaged or cut short{then}", about=about) from error


def _load_safetensors(path: str | Path) -> dict[str, torch.Tensor]:
    require_safetensors(f"{path}: reading it")
    from safetensors.torch import load_file

    return load_file(path)


def shapes_of(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def refuse_mismatch(source: str | Path, wanted: Mapping[str, tuple[int, ...]], state: Mapping) -> None:
    """Both sides of every tensor that is missing, unknown or of another shape than `wanted`, in one UserError."""
    found = {name: _shape(tensor) for name, tensor in state.items()}
    wrong = [name for name in sorted(wanted | found, key=str) if wanted.get(name) != found.get(name)]
    if wrong:
        sides = "; ".join(
            f"{plain(str(name))}: expected {wanted.get(name, 'nothing')}, found {found.get(name, 'nothing')}"
            for name in wrong[:SHOWN_NAMES]
        )
        more = f"; and {len(wrong) - SHOWN_NAMES} more" if len(wrong) > SHOWN_NAMES else ""
        raise UserError(f"{source}: {len(wrong)} tensors do not fit the model config: {sides}{more}")


def _shape(value) -> tuple[int, ...] | str:
    """Of a tensor that holds numbers; what else a file may bring fits nowhere."""
    plain_tensor = isinstance(value, torch.Tensor) and value.layout is torch.strided and value.device.type == "cpu"
    if not plain_tensor or not value.is_floating_point():
        return "something else"
    if value.untyped_storage().nbytes() < value.numel() * value.element_size():  # a few bytes could say: terabytes
        return f"{tuple(value.shape)} of fewer numbers, repeated"
    return tuple(value.shape)


def with_own_memory(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors as float32, each in plain order in memory that is all its own, as training and saving need them.

    In a file they may be views of one storage: each would be saved with all of it, and train with its neighbours.
    """
    own, seen = {}, set()
    for name, tensor in state.items():
        tensor = tensor.float()
        storage = tensor.untyped_storage()
        whole = tensor.is_contiguous() and storage.nbytes() == tensor.numel() * tensor.element_size()
        if not whole or storage.data_ptr() in seen:
            tensor = tensor.clone(memory_format=torch.contiguous_format)
        tensor = in_plain_order(tensor)
        seen.add(tensor.untyped_storage().data_ptr())
        own[name] = tensor
    return own


def _begins_as_pickle(path: str | Path) -> bool:
    with open(path, "rb") as file:
        return file.read(1) == b"\x80"


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
