"""Opening an HDF5 file that may be damaged or hostile.

HDF5 "is not designed to handle maliciously crafted files safely", so a dataset is read only when it lies in this very
file and is no larger than faces need: no soft or external links, no external storage, no virtual datasets, no object
types, no giant shapes (the rules of Keras' `safe_get_h5_*`; CVE-2026-1669, CVE-2026-0897).
"""

import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import h5py
import numpy as np

from vaegaze.data import heap_texts
from vaegaze.errors import UserError, plain
from vaegaze.files import address_words, stand_in_words

MAX_SAMPLES = 1_000_000  # of one person; GazeCapture's largest has about 2,700
MAX_ROW_BYTES = 64 * 2**20  # one sample
MAX_ATTRIBUTE_BYTES = 1024
OUTLINED = 6  # members of a group, in an error
FILTERS = {  # by their numbers in The HDF Group's registry of filters
    305: "lzo", 307: "bzip2", 32001: "blosc", 32004: "lz4", 32008: "bitshuffle", 32013: "zfp", 32015: "zstd",
    32017: "sz", 32018: "fcidecomp", 32026: "blosc2",
}  # fmt: skip
MAX_TEXTS_BYTES = 64 * 2**20  # of a list, where their length is fixed
MAX_CHUNK_BYTES = 256 * 2**20  # reading one sample unpacks a whole chunk


class NoDataSet(UserError):
    """The path itself is wrong."""

    def __init__(self, what: str):
        super().__init__(what, about="data_set")


class NoGroup(UserError):
    """What should be a person's group is a dataset."""


@contextmanager
def opened(path: str | Path) -> Iterator[h5py.File]:
    """The file, open for reading. UserError if it is missing, not a plain file, not HDF5, cut short or damaged."""
    if not Path(path).is_file():
        if words := address_words(path):
            raise UserError(f"{path} {words}")
        what = "is no plain file" if Path(path).exists() else "does not exist"
        raise NoDataSet(f"HDF5 file {path} {what}")
    try:
        if not h5py.is_hdf5(path):
            Path(path).open("rb").close()  # PermissionError if that is the reason
            if words := stand_in_words(path):
                raise UserError(f"{path} {words}")
            raise NoDataSet(f"{path} is not an HDF5 file")
        with h5py.File(path, "r") as file:
            yield file
    except PermissionError as error:
        raise NoDataSet(f"HDF5 file {path} may not be read; grant access to it") from error
    except (OSError, RuntimeError, KeyError) as error:  # h5py raises any of these on malformed bytes
        reason = " ".join(str(error).strip("'\"").split())
        if "already open for" in reason:  # a mark in the file itself, which its writer removes when it closes it
            raise UserError(
                f"HDF5 file {path} was not closed: its writer still runs, or was killed. Wait for it, or, if it was "
                f"killed, make a copy and run `h5clear -s COPY` (of the HDF5 tools), which makes it readable"
            ) from error
        if "unable to lock file" in reason:
            raise UserError(
                f"HDF5 file {path} is open for writing in another program; close it there, or set "
                "HDF5_USE_FILE_LOCKING=FALSE in the environment"
            ) from error
        raise UserError(f"HDF5 file {path} is damaged or cut short ({reason}); copy or download it again") from error


def names_in(file: h5py.File) -> list[str]:
    """The names at the file's top level, except those that are not valid text, which h5py returns as bytes."""
    return [name for name in file if isinstance(name, str)]


def is_hard_link(group: h5py.h5g.GroupID, name: str) -> bool:
    """Whether the name is an object in this file, not a soft or external link. In a path, the last name counts."""
    try:
        return group.links.get_info(_encoded(name)).type == h5py.h5l.TYPE_HARD
    except (KeyError, RuntimeError):  # depending on HDF5's version
        return False


def object_address(file: h5py.File, path: str) -> int:
    """Where an object lies in the file: hard links to it share that."""
    return h5py.h5o.get_info(file.id, _encoded(path)).addr


def dataset_shape(file: h5py.File, path: str) -> tuple[int, ...]:
    """A dataset's shape, or () if it has none. For counting: h5py's own objects take three times as long."""
    return h5py.h5d.open(file.id, _encoded(path)).shape or ()


def written_rows(dataset: h5py.Dataset) -> int:
    """The number of rows written, which may be less than the shape says.

    The published writers of one-person files allocate rows before they know the count, and then write from the first
    row on. In chunks of one row each, a missing chunk is a row never written.
    """
    rows = dataset.shape[0]
    return min(rows, dataset.id.get_num_chunks()) if dataset.chunks and dataset.chunks[0] == 1 else rows


def _encoded(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def safe_group(file: h5py.File, path: str, where: str) -> h5py.Group:
    """An existing group of the file, by its name or by names joined by slashes. `where` names it in errors."""
    group: h5py.Group = file
    for name in path.split("/"):
        if not is_hard_link(group.id, name):
            raise UserError(f"{where} is a link; links are not followed: copy what it points to into the file")
        if not isinstance(found := member(group, name), h5py.h5g.GroupID):
            raise NoGroup(f"{where} is no group; expected one group per person, each with images and labels")
        group = h5py.Group(found)
    return group


def member(group: h5py.Group, name: str) -> h5py.h5g.GroupID | h5py.h5d.DatasetID | h5py.h5t.TypeID:
    """What a group holds by this name. h5py's `group[name]` takes three times as long."""
    return h5py.h5o.open(group.id, _encoded(name))


def outline(group: h5py.Group) -> str:
    """What a group contains, in a few words: groups as "name/", datasets with their shapes."""
    found = []
    for name in itertools.islice(group, OUTLINED):
        try:
            member = group[name] if isinstance(name, str) and is_hard_link(group.id, name) else None
        except (OSError, RuntimeError, KeyError):
            member = None
        shown = plain(str(name))
        if isinstance(member, h5py.Group):
            found.append(f"{shown}/")
        else:
            found.append(f"{shown} {member.shape}" if isinstance(member, h5py.Dataset) else f"{shown} (unreadable)")
    more = len(group) - len(found)
    return ", ".join(found + ([f"and {more} more"] if more > 0 else [])) or "nothing"


def safe_datasets(group: h5py.Group, keys: tuple[str, ...], where: str) -> dict[str, h5py.Dataset]:
    """The datasets that exist among `keys`, each checked by the rules of this module."""
    held = set(group)
    return {key: _safe_dataset(group, key, f"{where}, {key!r}") for key in keys if key in held}


def _safe_dataset(group: h5py.Group, key: str, where: str) -> h5py.Dataset:
    if not is_hard_link(group.id, key):
        raise UserError(f"{where} is a link; links are not followed: copy what it points to into the file")
    if not isinstance(found := member(group, key), h5py.h5d.DatasetID):
        raise UserError(f"{where} is no dataset; expected an array with one entry per sample")
    dataset = h5py.Dataset(found, readonly=True)  # so that it keeps what it looked up once
    creation = found.get_create_plist()
    if creation.get_layout() == h5py.h5d.VIRTUAL or creation.get_external_count() > 0:
        raise UserError(f"{where} keeps its data in other files; copy it into this one")

    try:
        kind, itemsize = found.dtype.kind, found.dtype.itemsize
    except (TypeError, ValueError):  # a type that numpy lacks
        kind, itemsize = "O", 0
    if kind not in "buif" or itemsize > 8:
        raise UserError(f"{where} is of a type that is not read here; expected plain numbers")
    shape = dataset.shape
    if not shape or not 1 <= shape[0] <= MAX_SAMPLES:  # None: no extent at all
        raise UserError(f"{where} has the shape {shape}; expected 1 to {MAX_SAMPLES} samples")
    _refuse_unknown_filters(creation, where)
    chunks = creation.get_chunk() if creation.get_layout() == h5py.h5d.CHUNKED else None
    row_bytes, chunk_bytes = math.prod(shape[1:]) * itemsize, math.prod(chunks or ()) * itemsize
    if row_bytes > MAX_ROW_BYTES or chunk_bytes > MAX_CHUNK_BYTES:
        raise UserError(
            f"{where} has the shape {shape}, chunks {chunks}; at most {MAX_ROW_BYTES >> 20} MB a "
            f"sample and {MAX_CHUNK_BYTES >> 20} MB a chunk are read: store it as one-sample chunks"
        )
    return dataset


def _refuse_unknown_filters(creation: h5py.h5p.PropDCID, where: str) -> None:
    """UserError if the dataset is compressed in a way that neither h5py nor hdf5plugin, if installed, can undo."""
    filters = [creation.get_filter(i) for i in range(creation.get_nfilters())]
    if all(h5py.h5z.filter_avail(each[0]) for each in filters):
        return
    with suppress(ImportError):
        import hdf5plugin  # noqa: F401, it registers its filters with h5py
    for number, _, _, stored_name in filters:
        if not h5py.h5z.filter_avail(number):
            name = FILTERS.get(number) or plain(stored_name.decode("utf-8", "replace")) or "without a name"
            raise UserError(
                f"{where} is compressed with the HDF5 filter {name} (number {number}), which h5py alone cannot undo; "
                "pip install hdf5plugin, which has many, or store it with gzip or lzf"
            )


def plain_attributes(group: h5py.Group, names: tuple[str, ...]) -> dict[str, int | str]:
    """The attributes among `names` that are a single whole number or a short text; any others are ignored.

    UserError if the file is damaged so that reading a text would not end.
    """
    found = {}
    for name in names:
        if name not in group.attrs:
            continue
        try:
            attribute = group.attrs.get_id(name)
            if attribute.shape != () or attribute.get_storage_size() > MAX_ATTRIBUTE_BYTES:
                continue
            kind = attribute.get_type()
            if isinstance(kind, h5py.h5t.TypeStringID) and kind.is_variable_str():
                path = Path(group.file.filename)
                value = heap_texts.of_groups(path, path.stat().st_mtime_ns, name).get(group.name)
            elif isinstance(kind, h5py.h5t.TypeStringID | h5py.h5t.TypeIntegerID):
                value = group.attrs[name]
            else:
                continue
        except (TypeError, ValueError, OSError, RuntimeError):  # of a type that numpy lacks, or damaged
            continue
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        if isinstance(value, str | np.integer):
            found[name] = value if isinstance(value, str) else int(value)
    return found


def text_list(file: h5py.File, name: str) -> list[str] | None:
    """A one-dimensional list of texts, an attribute of the file or a dataset at its top; None if there is none.

    UserError if the file is damaged so that reading it would not end.
    """
    try:
        if name in file.attrs:
            stored = file.attrs.get_id(name)
            size, read = stored.get_storage_size(), lambda: file.attrs[name]
        elif name in file and is_hard_link(file.id, name) and isinstance(file[name], h5py.Dataset):
            stored = file[name].id
            layout = stored.get_create_plist()
            if layout.get_layout() == h5py.h5d.VIRTUAL or layout.get_external_count() > 0:
                return None
            size, read = math.prod(stored.shape) * stored.get_type().get_size(), lambda: file[name][:]
        else:
            return None
        kind = stored.get_type()
        if not isinstance(kind, h5py.h5t.TypeStringID) or len(stored.shape) != 1 or size > MAX_TEXTS_BYTES:
            return None
        if kind.is_variable_str():
            path = Path(file.filename)
            return heap_texts.of_list(path, path.stat().st_mtime_ns, name)
        return [value.decode() for value in read()]
    except (OSError, RuntimeError, KeyError, TypeError, ValueError):
        return None
