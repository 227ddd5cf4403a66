"""Files that are never half written, files that ship with the package, and what else may stand at a path."""

import errno
import hashlib
import os
import platform
import re
import secrets
import tempfile
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from vaegaze.errors import UserError

MARK = "writes-here"
NO_ROOM = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))  # writing alone raises these
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


def as_spelt(name: str, names: Iterable[str]) -> str:
    """`name`, or where it is not among `names` the one that differs only in how Unicode spells its letters.

    A Mac writes é as e and an accent (NFD), most other systems as one letter (NFC).
    """
    names = list(names)
    return name if name in names or name.isascii() else spelling_among(names)(name)


def spelling_among(names: Iterable[str]) -> Callable[[str], str]:
    """`as_spelt` for many names among the same ones: thousands of them cost no more than a look at each."""
    names = set(names)
    composed = {unicodedata.normalize("NFC", each): each for each in sorted(names, reverse=True)}

    def spelt(name: str) -> str:
        return name if name in names else composed.get(unicodedata.normalize("NFC", name), name)

    return spelt


def ignores_case(folder: Path) -> bool:
    """Whether names in the folder that differ only in letter case are one, as on most Macs and on Windows."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    with tempfile.NamedTemporaryFile(prefix=_temporary_prefix(), suffix="-case", dir=there) as file:
        path = Path(file.name)
        return path.with_name(path.name.upper()).exists()


def address_words(path: str | Path) -> str:
    """What to do about an address given as a path; empty for a path."""
    return "is an address; download the file and give its path" if _is_address(path) else ""


def refuse_address(path: str | Path) -> None:
    """UserError for an address where something is to be written: a path would make folders of its name."""
    if _is_address(path):
        raise UserError(f"{path} is an address; results are written to this computer's disks: give a path")


def _is_address(path: str | Path) -> bool:
    return re.match(r"(https?|ftp|sftp|s3|gs|az|hf|hdfs):/", str(path), re.IGNORECASE) is not None


def stand_in_words(path: str | Path) -> str:
    """What a failed download has left in the file's place; empty for anything else."""
    try:
        with open(path, "rb") as file:
            begin = file.read(512).lstrip().lower()
    except OSError:
        return ""
    if begin.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS, not the file itself; run `git lfs pull`, or download the file"
    if begin.startswith((b"<!doctype html", b"<html")):
        return "is a web page, not the file itself; download the file once more"
    if begin.startswith((b"\x1f\x8b", b"bzh", b"\xfd7zxz", b"7z\xbc\xaf", b"(\xb5/\xfd")):
        return "is compressed as a whole (gzip, bzip2, xz, 7z or zstd); unpack it first"
    return ""


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path`, which takes its name once the block has ended well; on any error it is removed.

    The temporary file keeps the ending of `path`, since writers such as Pillow choose the format by it. Only a process
    that is killed leaves it behind; the next one to write into the folder removes it.
    """
    refuse_address(path)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_dead_once(path.parent.absolute())
    temporary = path.parent / f"{_temporary_prefix()}{secrets.token_hex(8)}{path.suffix}"
    try:
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))  # less the umask, as for any file
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError) and (
            error.filename == str(temporary) or (error.filename is None and error.errno in NO_ROOM)
        ):
            error.filename = str(path)  # which the user knows
        raise
    _fsync_folder(path.parent)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` to `path` atomically, as UTF-8. Bytes of a file's name that are no text stand as `\\udce9`."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(as_bytes(text))


def read_text(path: Path) -> str:
    """What `write_text` wrote. OSError for anything but a plain file: for a pipe's writer one would wait."""
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "Not a plain file", str(path))
    return path.read_text(encoding="utf-8")


def as_bytes(text: str) -> bytes:
    """As `write_text` writes it."""
    return text.encode(errors="backslashreplace")


def probe_folder(folder: Path) -> None:
    """OSError if `folder`, or a file in it, cannot be made, UserError for an address. Leaves nothing behind."""
    refuse_address(folder)
    for path in (folder, *folder.parents):
        if path.is_symlink() and not path.exists():
            raise FileNotFoundError(errno.ENOENT, f"{path} is a link to {os.readlink(path)}, which is not there")
    there = next((path for path in (folder, *folder.parents) if path.exists()), None)
    if there is None:
        raise FileNotFoundError(errno.ENOENT, f"{folder.anchor} is not there")
    with tempfile.TemporaryDirectory(prefix=_temporary_prefix(), dir=there):
        pass


@contextmanager
def occupied(folder: Path) -> Iterator[None]:
    """Marks the folder, which is made if need be, as one that this process writes to.

    UserError if another process of this machine does so already: two runs would mix their files. What killed
    processes left there, their marks too, is removed. If nothing has been written at the end, a folder that was made
    is removed.
    """
    refuse_address(folder)
    refuse_occupied(folder)
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder / f"{_temporary_prefix()}{MARK}"
    os.close(os.open(mark, os.O_CREAT | os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0)))
    try:
        refuse_occupied(folder)  # by one that began at the same time
        remove_dead_temporaries(folder)
        yield
    finally:
        with suppress(OSError):
            mark.unlink()
            for each in made:
                each.rmdir()


def refuse_occupied(folder: Path) -> None:
    """UserError if another process of this machine writes to the folder. Windows does not tell, so it never does."""
    if os.name == "nt":
        return
    pattern = re.compile(rf"\.vaegaze-{_machine()}-(\d+)-.*{MARK}")
    for path in folder.glob(f".vaegaze-*{MARK}"):
        match = pattern.fullmatch(path.name)
        if match and int(match[1]) != os.getpid() and _is_running(int(match[1])):
            raise UserError(
                f"process {match[1]} is writing to {folder} (as {path.name} there says); wait for it, or give another "
                "folder"
            )


def remove_dead_temporaries(folder: str | Path) -> None:
    """Remove what killed processes of this machine left half written in `folder`. Running ones keep their files."""
    pattern = re.compile(rf"\.vaegaze-{_machine()}-(\d+)-.*")
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            match = pattern.fullmatch(entry.name)
            if match and not _is_running(int(match[1])):
                with suppress(OSError):
                    os.rmdir(entry.path) if entry.is_dir(follow_symlinks=False) else os.unlink(entry.path)


@cache  # a process leaves nothing behind while it runs, so one look at each folder will do
def _remove_dead_once(folder: Path) -> None:
    remove_dead_temporaries(folder)


def _temporary_prefix() -> str:
    return f".vaegaze-{_machine()}-{os.getpid()}-"


@cache
def _machine() -> str:
    """A short name of the space in which process ids are unique: this machine, or a container on it."""
    try:
        space = f"{os.stat('/proc/self/ns/pid').st_ino} {Path('/proc/sys/kernel/random/boot_id').read_text()}"
    except OSError:  # not Linux
        space = ""
    return hashlib.sha256(f"{platform.node()} {space}".encode()).hexdigest()[:8]


def _is_running(pid: int) -> bool:
    if os.name == "nt":  # where os.kill(pid, 0) would end the process
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it is another user's
        return True
    return True


def _fsync_folder(folder: Path) -> None:
    """Make the rename itself durable, where folders can be opened (not on Windows)."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
