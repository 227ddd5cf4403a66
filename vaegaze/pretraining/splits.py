"""Who of a data set is trained on, and who is held out."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from vaegaze.data import heap_texts
from vaegaze.data.persons import files_of, named_twice, person_counts
from vaegaze.data.safe_hdf5 import is_hard_link, member, opened, plain_attributes, text_list
from vaegaze.errors import UserError, plain
from vaegaze.files import spelling_among

NAMES = ("train", "val", "test")
MAX_JSON_BYTES = 64 * 2**20
SPLIT_STREAM = 7  # keeps the share's random numbers apart from others of the seed


@dataclass(frozen=True)
class Split:
    """A data set's persons by split; those of none are not used."""

    source: str  # in words, where the split comes from
    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...] = ()
    counts: Mapping[str, int] | None = None  # person id → samples, of everybody with any
    empty: tuple[str, ...] = ()  # persons without readable images or labels
    unlisted: tuple[str, ...] = ()  # persons whom the split does not name


def read_split(path: str | Path, how: str, *, val_share: float, seed: int) -> Split:
    """Counts a data set's persons and splits them: `how` is auto, file, share or the path of a JSON file.

    UserError when the file has no such split, when the split names a person the file lacks, or somebody twice, be it
    by two names that are links to one another, and when it leaves nobody to train on or nobody to hold out.
    """
    all_counts = person_counts(path)
    counts = {person: count for person, count in all_counts.items() if count}
    if not counts:
        raise UserError(f"{path}: none of its {len(all_counts)} persons has images and labels")
    groups, source = _groups(path, how, counts, all_counts, val_share, seed)
    listed = set().union(*groups.values())
    split = Split(
        source,
        **{name: tuple(person for person in groups[name] if person in counts) for name in NAMES},
        counts=counts,
        empty=tuple(sorted(set(all_counts) - set(counts) - set(NAMES))),
        unlisted=tuple(sorted(set(counts) - listed)),
    )
    for name, purpose in (("train", "train on"), ("val", "hold out")):
        if not getattr(split, name):
            raise UserError(
                f"{path}: the split from {source} leaves nobody to {purpose} ({name}); try another split", about="split"
            )
    if pair := named_twice(path, (*split.train, *split.val, *split.test)):
        who = f"{path}: {pair[0]} and {pair[1]} are one person under two names"
        raise UserError(plain(f"{who}; remove one, or leave it out of the split"))
    return split


def _groups(path, how: str, counts, all_counts, val_share: float, seed: int) -> tuple[dict[str, Sequence[str]], str]:
    if how not in ("auto", "file", "share"):
        return _checked(_from_json(Path(how)), all_counts, path, how), how
    if how != "share":
        groups = _from_file(path, all_counts)
        if groups is not None:
            return _checked(groups, all_counts, path, "the file"), "the file"
        if how == "file":
            raise UserError(
                f"{path} states no split: neither 'split' attributes, nor groups or lists named train, val and test; "
                "take a share of the persons, or a JSON file",
                about="split",
            )
    ids = sorted(counts)
    if len(ids) < 2:
        raise UserError(f"{path} holds one person; nobody is left to hold out: give a data set of several")
    order = np.random.default_rng([seed, SPLIT_STREAM]).permutation(len(ids))
    held_out = max(1, round(val_share * len(ids)))
    groups = {"val": sorted(ids[i] for i in order[:held_out]), "train": sorted(ids[i] for i in order[held_out:])}
    return {**groups, "test": ()}, f"a share of {val_share:g}, drawn by seed {seed}"


def _checked(groups: Mapping, all_counts: Mapping[str, int], path, source: str) -> dict[str, tuple[str, ...]]:
    spelt = spelling_among(all_counts)
    checked: dict[str, tuple[str, ...]] = {name: tuple(map(spelt, groups.get(name, ()))) for name in NAMES}
    seen: dict[str, str] = {}
    for name, ids in checked.items():
        for person in ids:
            if person not in all_counts:
                raise UserError(f"{path} lacks person {plain(repr(person))}, whom {source} lists under {name}")
            if person in seen:
                raise UserError(f"{source} lists person {plain(repr(person))} under {seen[person]} and {name}")
            seen[person] = name
    return checked


def _from_json(path: Path) -> Mapping:
    """A file such as {"train": ["00002", …], "val": […], "test": […]}."""
    if not path.is_file():
        what = f"{path} is no plain file" if path.exists() else f"there is no file {path}"
        raise UserError(f"split: {what}; expected auto, file, share or a JSON file")
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ValueError("it is too large")
        groups = json.loads(path.read_text(encoding="utf-8-sig"))
        known = isinstance(groups, dict) and groups.keys() >= {"train"} and set(groups) <= set(NAMES)
        if not known or not all(isinstance(ids, list) and all(type(i) is str for i in ids) for ids in groups.values()):
            raise ValueError("expected lists of person ids, as text, under train, val and test")
    except (ValueError, RecursionError) as error:
        raise UserError(f"split: {path} is not a split ({plain(str(error).splitlines()[0])})") from error
    return groups


def _from_file(path: str | Path, all_counts: Mapping[str, int]) -> dict[str, list[str]] | None:
    """By lists named train, val and test at the file's top; else person by person: by the attribute `split` of the
    group, or of the file of a folder, or by the group train, val or test that the person lies in. None without any.
    """
    groups: dict[str, list[str]] = {name: [] for name in NAMES}
    if Path(path).is_dir():
        stated = {file.stem: split for file, split in heap_texts.of_files(files_of(path), "split").items()}
    else:
        with opened(path) as file:
            lists = {name: text_list(file, name) for name in NAMES}
            if any(ids is not None for ids in lists.values()):
                return {name: ids or [] for name, ids in lists.items()}
            stated = {person: _stated(file, person) for person in all_counts}
    for person in all_counts:
        if stated.get(person) in groups:
            groups[stated[person]].append(person)
    return groups if any(groups.values()) else None


def _stated(file: h5py.File, person: str) -> str | None:
    """What the person's attribute says; else the name of the group that holds the person's, as in "train/ID"."""
    found = member(file, person) if is_hard_link(file.id, person) else None
    if isinstance(found, h5py.h5g.GroupID) and h5py.h5a.exists(found, b"split"):
        name = plain_attributes(h5py.Group(found), ("split",)).get("split")
        if name in NAMES:
            return name
    return person.partition("/")[0] if "/" in person else None
