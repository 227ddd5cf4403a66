"""Files that are never half written, and files that ship with the package."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PACKAGE = Path(__file__).parent
SHIPPED = PACKAGE / "shipped" if (PACKAGE / "shipped").is_dir() else PACKAGE.parent  # in a clone: its top level


def shipped_path(path: str | Path) -> Path:
    """`path`, or the shipped file of that relative name where the working directory has none.

    So `./checkpoints/pretrained_model.pth` and `configs/finetune/…` are found from any folder after `pip install .`.
    """
    path = Path(path)
    if path.is_absolute() or ".." in path.parts or os.path.exists(path):
        return path
    shipped = SHIPPED / path
    return shipped if path.parts[:1] in (("checkpoints",), ("configs",), ("docs",)) and shipped.is_file() else path


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path`, which takes its name once the block has ended well; on any error it is removed.

    The temporary file keeps the ending of `path`, since writers such as Pillow choose the format by it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    temporary = Path(name)
    try:
        os.close(handle)
        yield temporary
        temporary.chmod(0o666 & ~_umask())  # mkstemp's 0600 would hide results from a user's group
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _fsync_folder(path.parent)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` to `path` atomically, as UTF-8."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def probe_folder(folder: Path) -> None:
    """OSError if `folder`, or a file in it, cannot be made. Leaves nothing behind."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    with tempfile.TemporaryDirectory(dir=there):
        pass


def _umask() -> int:
    mask = os.umask(0o022)  # there is no way to read it without setting it
    os.umask(mask)
    return mask


def _fsync_folder(folder: Path) -> None:
    """Make the rename itself durable, where folders can be opened (not on Windows)."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
