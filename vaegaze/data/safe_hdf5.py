"""Opening an HDF5 file that may be damaged or hostile.

HDF5 "is not designed to handle maliciously crafted files safely", so a dataset is read only when it lies in this very
file and is no larger than faces need: no soft or external links, no external storage, no virtual datasets, no object
types, no giant shapes (the rules of Keras' `safe_get_h5_*`; CVE-2026-1669, CVE-2026-0897).
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from vaegaze.errors import UserError

MAX_SAMPLES = 1_000_000  # of one person; GazeCapture's largest has about 2,700
MAX_ROW_BYTES = 64 * 2**20  # one sample
MAX_ATTRIBUTE_BYTES = 1024
MAX_CHUNK_BYTES = 256 * 2**20  # reading one sample unpacks a whole chunk


class NoDataSet(UserError):
    """The path itself is wrong."""

    def __init__(self, what: str):
        super().__init__(f"{what}; give the path of a gaze data set")


@contextmanager
def path_given_by(key: str) -> Iterator[None]:
    """Says of a wrong path where it is to be set: of a command that has a key for it. Also a decorator."""
    try:
        yield
    except NoDataSet as error:
        raise UserError(f"{error} ({key})") from error


@contextmanager
def opened(path: str | Path) -> Iterator[h5py.File]:
    """The file, open for reading. UserError when it is missing, no plain file, no HDF5 file, cut short or damaged."""
    if not Path(path).is_file():
        what = "is no plain file" if Path(path).exists() else "does not exist"
        raise NoDataSet(f"HDF5 file {path} {what}")
    try:
        if not h5py.is_hdf5(path):
            Path(path).open("rb").close()  # one that may not be read is another matter
            raise NoDataSet(f"{path} is not an HDF5 file")
        with h5py.File(path, "r") as file:
            yield file
    except PermissionError as error:
        raise NoDataSet(f"HDF5 file {path} may not be read; grant access to it") from error
    except (OSError, RuntimeError, KeyError) as error:  # what h5py raises on bytes it cannot make sense of
        reason = " ".join(str(error).strip("'\"").split())
        if "unable to lock file" in reason:
            raise UserError(
                f"HDF5 file {path} is open for writing in another program; close that, or set "
                "HDF5_USE_FILE_LOCKING=FALSE in the environment"
            ) from error
        raise UserError(f"HDF5 file {path} is damaged or cut short ({reason}); copy or download it again") from error


def names_in(file: h5py.File) -> list[str]:
    """The names at the file's top level; without those that are no text, which h5py gives as bytes."""
    return [name for name in file if isinstance(name, str)]


def is_hard_link(group: h5py.h5g.GroupID, name: str) -> bool:
    """Whether the group holds this name itself, rather than pointing elsewhere. Of a path, the last name is meant."""
    try:
        return group.links.get_info(_encoded(name)).type == h5py.h5l.TYPE_HARD
    except (KeyError, RuntimeError):  # which of them, depends on HDF5's version
        return False


def dataset_shape(file: h5py.File, path: str) -> tuple[int, ...]:
    """A dataset's shape, () without any; for counting, as h5py's own objects take three times as long."""
    return h5py.h5d.open(file.id, _encoded(path)).shape or ()


def written_rows(dataset: h5py.Dataset) -> int:
    """How many rows were written: the published writers of one-person files make room before they know for how many.

    With chunks of one row each, a chunk that is not there was never written, and they write from the first row on.
    """
    rows = dataset.shape[0]
    return min(rows, dataset.id.get_num_chunks()) if dataset.chunks and dataset.chunks[0] == 1 else rows


def _encoded(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def safe_group(file: h5py.File, name: str, where: str) -> h5py.Group:
    """A group of the file's top level that is there. `where` names it in errors."""
    if not is_hard_link(file.id, name):
        raise UserError(f"{where} is a link; links are not followed: copy what it points to into the file")
    if not isinstance(group := file[name], h5py.Group):
        raise UserError(f"{where} is no group; expected one group per person, each with images and labels")
    return group


def safe_datasets(group: h5py.Group, keys: tuple[str, ...], where: str) -> dict[str, h5py.Dataset]:
    """Those of the datasets that the group holds, each checked as the module says."""
    return {key: _safe_dataset(group, key, f"{where}, {key!r}") for key in keys if key in group.keys()}  # noqa: SIM118


def _safe_dataset(group: h5py.Group, key: str, where: str) -> h5py.Dataset:
    if not is_hard_link(group.id, key):
        raise UserError(f"{where} is a link; links are not followed: copy what it points to into the file")
    if not isinstance(dataset := group[key], h5py.Dataset):
        raise UserError(f"{where} is no dataset; expected an array with one entry per sample")
    creation = dataset.id.get_create_plist()
    if creation.get_layout() == h5py.h5d.VIRTUAL or creation.get_external_count() > 0:
        raise UserError(f"{where} keeps its data in other files; copy it into this one")

    try:
        kind, itemsize = dataset.dtype.kind, dataset.dtype.itemsize
    except (TypeError, ValueError):  # a type that numpy has not
        kind, itemsize = "O", 0
    if kind not in "buif" or itemsize > 8:
        raise UserError(f"{where} is of a type that is not read here; expected plain numbers")
    if not dataset.shape or not 1 <= dataset.shape[0] <= MAX_SAMPLES:  # None: it has no extent at all
        raise UserError(f"{where} has the shape {dataset.shape}; expected 1 to {MAX_SAMPLES} samples")
    row_bytes = math.prod(dataset.shape[1:]) * itemsize
    chunk_bytes = math.prod(dataset.chunks or ()) * itemsize
    if row_bytes > MAX_ROW_BYTES or chunk_bytes > MAX_CHUNK_BYTES:
        raise UserError(
            f"{where} has the shape {dataset.shape}, chunks {dataset.chunks}; at most {MAX_ROW_BYTES >> 20} MB a "
            f"sample and {MAX_CHUNK_BYTES >> 20} MB a chunk are read: store it as one-sample chunks"
        )
    return dataset


def plain_attributes(group: h5py.Group, names: tuple[str, ...]) -> dict[str, int | str]:
    """Those of the attributes that are one whole number or one short text each; all others are passed over."""
    found = {}
    for name in names:
        if name not in group.attrs:
            continue
        try:
            attribute = group.attrs.get_id(name)
            small = attribute.shape == () and attribute.get_storage_size() <= MAX_ATTRIBUTE_BYTES
            value = group.attrs[name] if small else None
        except (TypeError, ValueError, OSError, RuntimeError):  # of a type that numpy has not, or damaged
            continue
        if isinstance(value, str | np.integer):
            found[name] = value if isinstance(value, str) else int(value)
    return found
