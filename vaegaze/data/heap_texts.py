"""Texts of variable length in HDF5 files, read by another process within a time limit.

They lie in a heap, and in a damaged one HDF5 searches without end, deaf to signals.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from vaegaze.errors import UserError

MAX_SEC = 6.0  # for a file's attributes; 10,000 groups take one
SEC_PER_FILE = 0.1  # in addition, of several files; on a disk of one's own one takes a millisecond

_READ = """
import sys
sys.path = [folder for folder in sys.path if folder]  # the working directory, where the file's author may have put code
import json, h5py
print("ready", flush=True)
form, name, *paths = json.load(sys.stdin)
FIRST = 8  # groups, and their members, that show whether groups hold groups

def text_at(file, place):
    try:
        if place != "/" and not isinstance(file.get(place, getlink=True), h5py.HardLink):
            return None
        value = file[place].attrs.get(name)
        value = value.decode() if isinstance(value, bytes) else value
        return value if isinstance(value, str) and len(value) <= 1024 else None
    except Exception:
        return None

def members(file, place):
    try:
        group = file[place] if isinstance(file.get(place, getlink=True), h5py.HardLink) else None
        return [f"{place}/{each}" for each in group] if isinstance(group, h5py.Group) else []
    except Exception:
        return []

def holds_groups(file, place):
    try:
        return any(isinstance(file[each], h5py.Group) for each in members(file, place)[:FIRST])
    except Exception:
        return False

for path in paths:
    text = None
    try:
        with h5py.File(path, "r") as file:
            if form == "list":
                values = file.attrs[name] if name in file.attrs else file[name][:]
                text = [value.decode() if isinstance(value, bytes) else value for value in values]
            elif form == "file":
                text = text_at(file, "/")
            else:
                places = ["/", *file]
                if any(holds_groups(file, place) for place in places[1 : FIRST + 1]):  # such as "train"
                    places += [each for place in places[1:] for each in members(file, place)]
                found = {"/" + place.lstrip("/"): text_at(file, place) for place in places}
                text = {place: each for place, each in found.items() if each is not None}
    except Exception:
        if form != "file":
            raise
    print(json.dumps(text), flush=True)
"""


@lru_cache(maxsize=64)
def of_groups(path: Path, mtime_ns: int, name: str) -> dict[str, str]:
    """The short texts that are the attribute `name` of the file and its groups, also one level deeper, by their paths.

    `mtime_ns` tells versions of the file apart. UserError if the file is damaged.
    """
    return _of_one(path, name, "groups", f"the attributes {name!r}")


@lru_cache(maxsize=64)
def of_list(path: Path, mtime_ns: int, name: str) -> list[str]:
    """The texts of the list `name` at the file's top. UserError if the file is damaged."""
    return _of_one(path, name, "list", f"the list {name!r}")


def of_files(files: Sequence[Path], name: str) -> dict[Path, str]:
    """The short text that is the attribute `name` of each file itself; none of a file that is damaged."""
    texts: dict[Path, str] = {}
    left = list(files)
    while left:
        lines, _ = _read(left, name, "file", MAX_SEC + SEC_PER_FILE * len(left))
        texts |= {file: text for file, text in zip(left, lines) if text is not None}
        left = left[len(lines) + 1 :]  # the next one is where reading did not end
    return texts


def _of_one(path: Path, name: str, form: str, what: str):
    lines, ended = _read([path], name, form, MAX_SEC)
    if not ended:
        raise UserError(f"HDF5 file {path} is damaged: reading {what} does not end; copy or download it again")
    if not lines:
        raise UserError(f"HDF5 file {path} is damaged: {what} cannot be read")
    return lines[0]


def _read(files: Sequence[Path], name: str, form: str, seconds: float) -> tuple[list, bool]:
    """What was read of the files, in order, up to the first that is damaged; and whether the reading came to an end."""
    command = [sys.executable, "-c", _READ]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, bufsize=0, **pipes) as child:
        child.stdout.readline()  # it has started, however long that takes on a busy machine
        ended = True
        try:
            said, _ = child.communicate(json.dumps([form, name, *map(str, files)]).encode(), timeout=seconds)
        except subprocess.TimeoutExpired:
            child.kill()
            said, _ = child.communicate()
            ended = False
    return [json.loads(line) for line in said.splitlines(keepends=True) if line.endswith(b"\n")], ended
