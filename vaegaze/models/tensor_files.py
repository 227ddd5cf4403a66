"""Files of tensors: written atomically, read without pickle's powers, and refused unless every tensor fits."""

import errno
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from vaegaze.errors import UserError, plain
from vaegaze.files import address_words, atomic_path, shipped_path, stand_in_words

SHOWN_NAMES = 3  # of mismatched tensors, in an error
SUFFIXES = (".pth", ".safetensors", ".bin", ".ckpt", ".pt")
SAFETENSORS_MISSING = "needs the safetensors package: pip install safetensors"


def state_of(model: nn.Module) -> dict[str, torch.Tensor]:
    """All weights on the CPU, in plain memory order."""
    return {name: in_plain_order(tensor.detach().cpu()) for name, tensor in model.state_dict().items()}


def in_plain_order(tensor: torch.Tensor) -> torch.Tensor:
    """Contiguous with canonical strides; `contiguous()` alone keeps the strides of a channels-last 1 × 1 kernel.

    Strides matter: a channels-last kernel makes every later convolution channels-last, which is slower in float32.
    """
    return tensor.flatten().view(tensor.shape)


def save_tensors(path: str | Path, content: dict) -> None:
    """torch.save, atomically, the same bytes for the same content; OSError if it cannot be written."""
    refuse_name(path)
    with (
        atomic_path(path) as temporary,
        open(temporary, "wb") as file,
    ):  # a path would leave its name in the file
        try:
            torch.save(content, file)
        except RuntimeError as error:  # how torch reports a full disk
            raise OSError(
                errno.EIO, f"cannot be written, is the disk full? ({first_line(error)})", str(path)
            ) from error


def refuse_name(path: str | Path) -> None:
    """UserError about a name by which other programs would take a file of PyTorch's for something else."""
    if Path(path).suffix.lower() in (".safetensors", ".onnx", ".gguf"):
        raise UserError(f"{path} would be a PyTorch file under the name of another kind; give one that ends in .pth")


def require_safetensors(what: str) -> None:
    """UserError if the package that `what` needs is missing."""
    try:
        import safetensors.torch  # noqa: F401
    except ImportError as error:
        raise UserError(f"{what} {SAFETENSORS_MISSING}") from error


def save_safetensors(path: str | Path, state: dict[str, torch.Tensor]) -> None:
    """A state dict as `.safetensors`, atomically; UserError without the package, OSError if it cannot be written."""
    require_safetensors(f"{path}: writing it")
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with atomic_path(path) as temporary:
        try:
            save_file(state, temporary, metadata={"format": "pt"})
        except SafetensorError as error:  # how it reports a full disk
            raise OSError(
                errno.EIO, f"cannot be written, is the disk full? ({first_line(error)})", str(path)
            ) from error


def is_file(path: str | Path) -> bool:
    """Whether a file exists; False for an impossible path, such as one that is too long."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False


def exists(path: str | Path) -> bool:
    """Whether anything has that name; False for an impossible path."""
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False


def is_folder(path: str | Path) -> bool:
    """Whether a folder exists; False for an impossible path."""
    try:
        return Path(path).is_dir()
    except (OSError, ValueError):
        return False


def load_tensors(path: str | Path, *, hint: str = "", about: str = ""):
    """Read a file of tensors and plain values onto the CPU.

    Safetensors are read as such, whatever the file's name, everything else by torch.load, restricted to tensors and
    plain values. Every failure is a UserError that ends in `hint` and is tagged `about`.
    """
    path, then = shipped_path(path), f"; {hint}" if hint else ""
    if is_folder(path):
        raise UserError(f"{path} is a folder{_weights_in(Path(path))}{then}", about=about)
    if not is_file(path):
        if words := address_words(path):
            raise UserError(f"{path} {words}")
        what = f"{path} is no plain file" if exists(path) else f"there is no file {path}"
        raise UserError(f"{what}{then}", about=about)
    kind = "PyTorch"
    try:
        if _is_safetensors(Path(path)):
            kind = "safetensors"
            return _load_safetensors(path)
        with warnings.catch_warnings(), open(path, "rb") as file:  # by the name, PyTorch would take it for safetensors
            warnings.simplefilter("ignore")  # about a foreign file's pickle version; the errors below suffice
            return torch.load(file, map_location="cpu", weights_only=True)
    except (MemoryError, UserError):
        raise
    except PermissionError as error:  # the file itself may be intact
        raise UserError(f"{path} cannot be read ({error.strerror}){then}", about=about) from error
    except Exception as error:  # a foreign file can make the unpickler fail in any way
        if "GLOBAL" in str(error) or ("Unsupported" in str(error) and _begins_as_pickle(path)):
            raise UserError(
                f"{path} holds Python code or objects besides tensors and was not opened: that could run any "
                f"code{then}",
                about=about,
            ) from error
        if words := stand_in_words(path):
            raise UserError(f"{path} {words}") from error
        raise UserError(f"{path} is not a {kind} file, or it is damaged or cut short{then}", about=about) from error


def _weights_in(folder: Path) -> str:
    """What a folder contains that its user may have meant, in words."""
    if (folder / "vae").is_dir() and (folder / "unet").is_dir():
        return ", as diffusers has them: bring its vae and unet into one file with vaegaze convert"
    names = sorted(path.name for path in folder.iterdir() if path.suffix in SUFFIXES and path.name[0] != ".")
    more = ", …" if len(names) > SHOWN_NAMES else ""
    return f" with {', '.join(map(plain, names[:SHOWN_NAMES]))}{more}" if names else " without a file of weights"


def _is_safetensors(path: Path) -> bool:
    """By the first bytes, since files are renamed; by the name where they tell of no format."""
    with open(path, "rb") as file:
        begin = file.read(9)
    if begin[8:] == b"{" and int.from_bytes(begin[:8], "little") < path.stat().st_size:  # a header's length, and JSON
        return True
    return path.suffix.lower() == ".safetensors" and not begin.startswith((b"PK\x03\x04", b"\x80"))  # torch.save's


def _load_safetensors(path: str | Path) -> dict[str, torch.Tensor]:
    require_safetensors(f"{path}: reading it")
    from safetensors.torch import load

    return load(Path(path).read_bytes())  # `load_file` maps the file: who cuts it short meanwhile kills this process


def shapes_of(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def refuse_mismatch(source: str | Path, expected: Mapping[str, tuple[int, ...]], state: Mapping) -> None:
    """UserError with both sides of every tensor that is missing, unknown or not of its `expected` shape."""
    found = {name: _shape(tensor) for name, tensor in state.items()}
    wrong = [name for name in sorted(expected | found, key=str) if expected.get(name) != found.get(name)]
    if wrong:
        sides = "; ".join(
            f"{plain(str(name))}: expected {expected.get(name, 'nothing')}, found {found.get(name, 'nothing')}"
            for name in wrong[:SHOWN_NAMES]
        )
        more = f"; and {len(wrong) - SHOWN_NAMES} more" if len(wrong) > SHOWN_NAMES else ""
        raise UserError(f"{source}: {len(wrong)} tensors do not fit the model config: {sides}{more}")


def _shape(value) -> tuple[int, ...] | str:
    """The shape of a plain tensor of numbers; anything else a file may hold gets words that match no shape."""
    plain_tensor = isinstance(value, torch.Tensor) and value.layout is torch.strided and value.device.type == "cpu"
    if not plain_tensor or not value.is_floating_point():
        return "something else"
    if value.untyped_storage().nbytes() < value.numel() * value.element_size():  # a few bytes may claim terabytes
        return f"{tuple(value.shape)} of fewer numbers, repeated"
    return tuple(value.shape)


def with_own_memory(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors as float32, contiguous, each in memory of its own.

    Tensors in a file may be views of one storage: each would be saved with all of it, and training one would change
    the others.
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
