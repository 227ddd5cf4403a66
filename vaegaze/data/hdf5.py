"""Reading one person's samples from a gaze data set's HDF5 file: read once, brought onto the canvas, file closed."""

import difflib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from vaegaze.config import UserError
from vaegaze.data.layouts import LAYOUTS, Angles, Layout, detect, known_keys
from vaegaze.data.masks import eye_mask
from vaegaze.data.pictures import read_grey
from vaegaze.data.placement import draw, place
from vaegaze.data.redrawing import RenderedPerson
from vaegaze.data.safe_hdf5 import (
    MAX_SAMPLES,
    dataset_shape,
    is_hard_link,
    names_in,
    opened,
    plain_attributes,
    safe_datasets,
    safe_group,
)
from vaegaze.data.samples import Samples

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PersonData:
    """One person's samples on the canvas, and what they were read from."""

    person_id: str
    samples: Samples
    layout: str  # name of the row in `layouts`
    mask_source: str  # such as "face_parsing (2 of 30 samples: head pose)"
    rendered: RenderedPerson | None  # which one, if it is one of ours


def person_counts(path: str | Path) -> dict[str, int]:
    """Person id → number of samples, for every entry of the file; 0 for one without images or labels.

    Opens one dataset per person (1,474 of them in about 0.15 s) and reads none. UserError when the file is missing, is
    no HDF5 file, is damaged, or holds nobody.
    """
    with opened(path) as file:
        counts = {name: _count(file, name) for name in names_in(file)}
    if not any(counts.values()):
        raise UserError(f"{path} holds no samples; expected one group per person, each with images and labels")
    log.debug("%s: %d persons, %d samples", path, len(counts), sum(counts.values()))
    return counts


def sample_count(path: str | Path, person_id: str) -> int:
    """How many samples a person has; at least one.

    UserError, besides those of the file itself, when the person is not found or the group is of no known layout.
    """
    with opened(path) as file:
        layout, datasets, _ = _person(file, person_id)
        return len(datasets[layout.images_key])


def read_person(
    path: str | Path, person_id: str, rows: Sequence[int], size_px: int, mask_path: str | Path | None = None
) -> PersonData:
    """Reads rows of one person (at least one; their order stays) onto the canvas of size_px × size_px; closes the file.

    Eye masks come from the file; else from the picture at `mask_path`, of the frames' or the canvas's size and the same
    for every sample; else from the head pose. UserError, besides those of `sample_count`, names the person and row
    whose labels are not finite or not radians, or whose pixels are not colours.
    """
    with opened(path) as file:
        layout, datasets, where = _person(file, person_id)
        frame_hw = datasets[layout.images_key].shape[1:3]
        mask_key = next((key for key in (layout.parsing_key, layout.mask_key) if key in datasets), None)
        is_parsing = mask_key is not None and mask_key == layout.parsing_key
        picture = _mask_picture(mask_path, frame_hw, size_px) if mask_path and not mask_key else None

        rendered = RenderedPerson.told_by(plain_attributes(file[person_id], ("split", "seed", "number")), frame_hw[0])

        read, by_pose = {}, set()
        for row in sorted(set(map(int, rows))):  # one by one: h5py's fancy indexing takes fifteen times as long
            row_where = f"{where}, row {row}"
            frame = _rgb_frame(datasets[layout.images_key][row], layout, row_where)
            gaze, head = (_angles(datasets, angles, row, row_where) for angles in (layout.gaze, layout.head))
            to_canvas = place(layout.camera(*frame_hw), head, size_px)
            image, valid = draw(frame, to_canvas, size_px, size_px)

            stored = datasets[mask_key][row] if mask_key else picture
            drawn_by = to_canvas if stored is not None and stored.shape == frame_hw else np.eye(2, 3)
            mask, from_pose = eye_mask(stored, is_parsing, drawn_by, head, valid)
            by_pose |= {row} if from_pose else set()
            read[row] = (image, mask, valid, gaze, head, np.int64(row))

    samples = Samples(*map(np.stack, zip(*(read[int(row)] for row in rows))))
    mask_source = _mask_source(mask_key, mask_path, sum(int(row) in by_pose for row in rows), len(rows))
    log.debug("%s: layout %s, frames %s, masks from %s", where, layout.name, frame_hw, mask_source)
    return PersonData(person_id, samples, layout.name, mask_source, rendered)


def _count(file: h5py.File, person_id: str) -> int:
    try:
        if not person_id.isprintable() or not is_hard_link(file.id, person_id):
            return 0  # an id with control characters would reach the terminal
        for row in LAYOUTS:
            if all(is_hard_link(file.id, f"{person_id}/{key}") for key in (row.images_key, row.gaze.key, row.head.key)):
                shape = dataset_shape(file, f"{person_id}/{row.images_key}")
                return shape[0] if len(shape) == 4 and shape[0] <= MAX_SAMPLES else 0
    except (OSError, RuntimeError, KeyError) as error:  # one damaged group leaves the other persons usable
        log.debug("%r is counted as empty: %s", person_id, error)
    return 0


def _person(file: h5py.File, person_id: str) -> tuple[Layout, dict[str, h5py.Dataset], str]:
    """A person's layout and datasets by name; and the words that name file and person in errors."""
    where = f"{file.filename}: person {person_id!r}"
    ids = names_in(file)
    if person_id not in ids:
        closest = difflib.get_close_matches(person_id, ids, n=3, cutoff=0.3)
        hint = (
            f"the closest: {', '.join(map(repr, closest))}" if closest else f"such as {', '.join(map(repr, ids[:3]))}"
        )
        raise UserError(f"{where} is not among the file's {len(ids)}; {hint}")
    datasets = safe_datasets(safe_group(file, person_id, where), known_keys(), where)
    layout = detect({key: dataset.shape for key, dataset in datasets.items()}, where)

    pixels = datasets[layout.images_key].dtype
    if pixels != np.uint8 and pixels.kind != "f":
        raise UserError(f"{where} has pixels of type {pixels}; expected uint8, or float in 0..1 or 0..255")
    frames = datasets[layout.images_key].shape
    for key in (layout.parsing_key, layout.mask_key):
        if key in datasets and datasets[key].shape != frames[:3]:
            raise UserError(f"{where} has {key!r} of shape {datasets[key].shape}; expected the frames' {frames[:3]}")
    return layout, datasets, where


def _rgb_frame(pixels: np.ndarray, layout: Layout, where: str) -> np.ndarray:
    """Stored pixels (H, W, 3) → uint8 RGB. Floats of at most 1 are taken ×255."""
    if pixels.dtype != np.uint8:
        if not (pixels.min() >= 0 and pixels.max() <= 255):  # so that NaN fails as well
            raise UserError(f"{where}: pixels from {pixels.min():g} to {pixels.max():g}; expected 0..1 or 0..255")
        pixels = np.rint(pixels * (255.0 if pixels.max() <= 1 else 1.0)).astype(np.uint8)
    return pixels if layout.colour_order == "RGB" else np.ascontiguousarray(pixels[..., ::-1])


def _angles(datasets: dict[str, h5py.Dataset], angles: Angles, row: int, where: str) -> np.ndarray:
    """(2,) float32 pitch, yaw in radians of one sample."""
    values = datasets[angles.key][row][angles.pitch_column : angles.pitch_column + 2].astype(np.float32)
    if not np.isfinite(values).all():
        raise UserError(
            f"{where}: {angles.key!r} holds {values}, which are no angles; mend it in the file, or draw "
            "other samples with another --seed"
        )
    if (abs(values) > np.pi).any():
        raise UserError(f"{where}: {angles.key!r} holds {values}, beyond ±π; are they degrees? Radians are expected")
    return values


def _mask_picture(mask_path: str | Path, frame_hw: tuple[int, int], size_px: int) -> np.ndarray:
    mask = read_grey(mask_path, "mask_path")
    if mask.shape not in (frame_hw, (size_px, size_px)):
        raise UserError(
            f"mask_path: {mask_path} has {mask.shape[1]}×{mask.shape[0]} pixels; expected {frame_hw[1]}×{frame_hw[0]}, "
            f"the frames' size, or {size_px}×{size_px}, the model's"
        )
    return mask


def _mask_source(mask_key: str | None, mask_path: str | Path | None, pose_count: int, count: int) -> str:
    source = mask_key or (str(mask_path) if mask_path else None)
    if source is None:
        return "head pose"
    fallback = f" ({pose_count} of {count} samples: head pose)" if pose_count else ""
    unused = f" ({mask_path} is not used: the file has masks)" if mask_key and mask_path else ""
    return f"{source}{fallback}{unused}"
