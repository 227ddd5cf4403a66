"""Persons in a data set: groups of one HDF5 file, or a folder of files with one person each."""

import difflib
import logging
from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from vaegaze.data.layouts import LAYOUTS, image_keys
from vaegaze.data.safe_hdf5 import (
    MAX_SAMPLES,
    NoDataSet,
    dataset_shape,
    is_hard_link,
    names_in,
    object_address,
    opened,
    outline,
    safe_group,
    written_rows,
)
from vaegaze.errors import UserError, plain
from vaegaze.files import as_spelt

log = logging.getLogger(__name__)

SUFFIX = ".h5"  # of the files in a folder, as every published writer names them
SUFFIXES = (SUFFIX, ".hdf5")  # and as others do


def person_counts(path: str | Path) -> dict[str, int]:
    """Person id → number of samples, for every person of a data set; 0 for a person without images or labels.

    `path` is one of: an HDF5 file with one group per person, named after the id; an HDF5 file with the datasets of a
    single person, named after the id; a folder of such files. Persons may also lie one level deeper, in groups such as
    "train"; their ids are then "train/ID". Opens one dataset per person and reads none. UserError if the file is
    missing, not HDF5 or damaged, or if the folder holds none.
    """
    if Path(path).is_dir():
        counts = {person_id: _count_in_file(file, person_id) for person_id, file in _files_in(path).items()}
    else:
        with opened(path) as file:
            if _is_one_person(file):
                counts = {Path(path).stem: _count(file, Path(path).stem, "")}
            else:
                counts = _group_counts(file)
    log.debug("%s: %d persons, %d samples", path, len(counts), sum(counts.values()))
    return counts


def named(path: str | Path) -> str:
    """One line about the data set."""
    if not Path(path).is_dir():
        return f"HDF5 file: {path}"
    files = len(_files_in(path))
    return f"Data set: {path} ({files} file{'s' if files > 1 else ''})"


def files_of(path: str | Path) -> list[Path]:
    """The files of a data set, sorted by name, without links to nothing. UserError as for `person_counts`."""
    return list(filter(Path.exists, _files_in(path).values())) if Path(path).is_dir() else [Path(path)]


def same_file(file: Path) -> tuple[int, int] | Path:
    """What a file has in common with links to it, hard links as well as symbolic ones, and with no other file."""
    if file.exists() and (found := file.stat()).st_ino:  # some network shares have no numbers
        return found.st_dev, found.st_ino
    return file.resolve()


def named_twice(path: str | Path, ids: Iterable[str]) -> tuple[str, str] | None:
    """Two of these ids whose images are one another's by a link: of files in a folder, or within a file. Or None."""
    if Path(path).is_dir():
        files = _files_in(path)
        return _first_pair((person_id, same_file(files[person_id])) for person_id in ids)
    with opened(path) as file:
        images = ((person_id, f"{person_id}/{key}") for person_id in ids for key in image_keys())
        return _first_pair((who, object_address(file, each)) for who, each in images if is_hard_link(file.id, each))


def _first_pair(identities: Iterable[tuple[str, Hashable]]) -> tuple[str, str] | None:
    ids: dict[Hashable, str] = {}
    for person_id, identity in identities:
        if (other := ids.setdefault(identity, person_id)) != person_id:
            return other, person_id
    return None


@contextmanager
def opened_person(path: str | Path, person_id: str) -> Iterator[tuple[h5py.Group, str]]:
    """The group that holds one person's datasets, open for reading, and its name in errors.

    UserError as for `opened`, and if there is no such person.
    """
    where = f"{path}: person {person_id!r}"
    if Path(path).is_dir():
        files = _files_in(path)
        person_id = _known(person_id, files, where, "folder")
        with opened(files[person_id]) as file:
            if not _is_one_person(file) and (persons := sum(map(bool, _group_counts(file).values()))):
                raise UserError(
                    f"{where} is no single person: {files[person_id]} holds {persons} in groups; give that file itself"
                )
            yield file, where
        return
    with opened(path) as file:
        if _is_one_person(file):
            _known(person_id, [Path(path).stem], where, "file")
            yield file, where
        else:
            yield safe_group(file, _known(person_id, _ids(file), where, "file"), where), where


def contents(path: str | Path) -> str:
    """What an HDF5 file contains, in a few words: its top level, and the first group that is not empty."""
    with opened(path) as file:
        top = outline(file)
        for name in names_in(file):
            if is_hard_link(file.id, name) and isinstance(group := file[name], h5py.Group) and len(group):
                return f"{top}; in {plain(name)}/: {outline(group)}"
        return top


def _files_in(folder: str | Path) -> dict[str, Path]:
    """Person id → file, sorted by name. Hidden files, such as temporary ones, are ignored."""
    files = (path for path in Path(folder).iterdir() if path.suffix.lower() in SUFFIXES)
    paths = sorted(path for path in files if not path.name.startswith("."))
    if not paths:
        raise NoDataSet(
            f"{folder} is a folder without {' or '.join(SUFFIXES)} files; expected one file per person, named after "
            "the id"
        )
    persons: dict[str, Path] = {}
    for path in paths:
        if (other := persons.setdefault(path.stem, path)) != path:
            raise UserError(f"{folder}: {other.name} and {path.name} are both of person {path.stem!r}; remove one")
    return persons


def _is_one_person(file: h5py.File) -> bool:
    return any(is_hard_link(file.id, key) and isinstance(file[key], h5py.Dataset) for key in image_keys())


def _known(person_id: str, ids: Iterable[str], where: str, of: str) -> str:
    """The id as the data set spells it. UserError if it has no such person."""
    ids = list(ids)
    if (spelt := as_spelt(person_id, ids)) in ids:
        return spelt
    closest = difflib.get_close_matches(person_id, ids, n=3, cutoff=0.3)
    hint = f"the closest: {', '.join(map(repr, closest))}" if closest else f"such as {', '.join(map(repr, ids[:3]))}"
    raise UserError(f"{where} is not among the {of}'s {len(ids)}; {hint}")


def _count_in_file(path: Path, person_id: str) -> int:
    try:
        with opened(path) as file:
            return _count(file, person_id, "")
    except (UserError, OSError) as error:  # one damaged file leaves the other persons usable
        log.debug("%r is counted as empty: %s", person_id, error)
        return 0


def _group_counts(file: h5py.File) -> dict[str, int]:
    return {person_id: _count(file, person_id, f"{person_id}/") for person_id in _ids(file)}


def _ids(file: h5py.File) -> list[str]:
    """The names of the groups at the file's top; in place of one that groups persons, "name/person" for each."""
    ids = []
    for name in names_in(file):
        ids += _grouped(file, name) or [name]
    return ids


def _grouped(file: h5py.File, name: str) -> list[str]:
    """The persons in a group of persons, such as "train"; none if it is a person itself, or no group."""
    try:
        keys = image_keys()
        if not is_hard_link(file.id, name) or any(is_hard_link(file.id, f"{name}/{key}") for key in keys):
            return []
        if not isinstance(group := file[name], h5py.Group):
            return []
        inner = [each for each in group if isinstance(each, str) and is_hard_link(group.id, each)]
        return [f"{name}/{each}" for each in inner if any(is_hard_link(group.id, f"{each}/{key}") for key in keys)]
    except (OSError, RuntimeError, KeyError):  # one damaged group leaves the other persons usable
        return []


def _count(file: h5py.File, person_id: str, prefix: str) -> int:
    """A person's number of samples. `prefix` is "" if they are at the file's top level, else "GROUP/"."""
    try:
        if not person_id.isprintable() or (prefix and not is_hard_link(file.id, person_id)):
            return 0  # control characters in an id would reach the terminal
        for row in LAYOUTS:
            keys = dict.fromkeys((row.images_key, row.gaze.key, row.head.key))
            if all(is_hard_link(file.id, prefix + key) for key in keys):
                shape = dataset_shape(file, prefix + row.images_key)
                if len(shape) != 4 or shape[0] > MAX_SAMPLES:
                    return 0
                return shape[0] if prefix else written_rows(file[row.images_key])
    except (OSError, RuntimeError, KeyError) as error:  # one damaged group leaves the other persons usable
        log.debug("%r is counted as empty: %s", person_id, error)
    return 0
