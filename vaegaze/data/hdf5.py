"""Reading one person's samples from a gaze data set: read once, brought onto the canvas, file closed."""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from vaegaze.data import persons
from vaegaze.data.layouts import Angles, Layout, detect, image_keys, known_keys, label_keys
from vaegaze.data.persons import SUFFIX, opened_person
from vaegaze.data.safe_hdf5 import NoGroup, outline, plain_attributes, safe_datasets, written_rows
from vaegaze.data.samples import Samples
from vaegaze.errors import UserError
from vaegaze.geometry.alignment import place
from vaegaze.geometry.camera import SQUARES, Camera
from vaegaze.geometry.eye_regions import eye_mask, shows_eyes, squares_of_parsings, threshold
from vaegaze.geometry.transforms import is_identity, warp
from vaegaze.images.pictures import read_grey
from vaegaze.images.side_by_side import side_by_side

log = logging.getLogger(__name__)

LABELS_AT_ONCE_BYTES = 2**20  # read whole where they lie in one piece
MOST_LEFT_OUT = 10_000  # rows of a person without angles: more than anybody's; to look at a million takes a minute
ROUNDING, OVERSHOOT = 1e-3, 0.2  # of pixels that are floats: what storing them, and resizing, leave below 0


@dataclass(frozen=True)
class PersonData:
    """One person's samples on the canvas, and what they were read from."""

    person_id: str
    samples: Samples
    layout: str  # name of the row in `layouts`
    mask_source: str  # such as "face_parsing (2 of 30 samples: head pose)"
    mask_by_pose: np.ndarray  # (N,) bool: whether the head pose had to place one eye's mask or both
    frame_px: int  # height of the frames in the file
    attributes: dict[str, int | str]  # of the person's group, those that name a rendered person


def person_counts(path: str | Path) -> dict[str, int]:
    """Person id → number of samples, as `persons.person_counts` says; at least one of them is not 0.

    UserError, besides those of the file itself, says why there is nobody.
    """
    counts = persons.person_counts(path)
    if not any(counts.values()):
        raise UserError(_why_nobody(path, list(counts)))
    return counts


def _why_nobody(path: str | Path, ids: list[str]) -> str:
    """What is wrong with the first person who has images or cannot be opened: most often it is so with all."""
    for person_id in ids:
        try:
            with opened_person(path, person_id) as (group, where):
                if set(group).isdisjoint(image_keys()):
                    continue
                layout, datasets = _person(group, where)
                _written(group, datasets[layout.images_key], where)
        except NoGroup:
            continue
        except UserError as error:
            return f"{error}; none of the {len(ids)} persons can be used" if len(ids) > 1 else str(error)
    images = " or ".join(map(repr, image_keys()))
    labels = ", ".join(map(repr, label_keys()))
    found = "" if Path(path).is_dir() else f": found {persons.contents(path)}"
    return (
        f"{path} holds no samples{found}; expected one group per person with images (a dataset {images}) and labels "
        f"({labels}), or a folder of one {SUFFIX} file per person"
    )


@contextmanager
def opened_samples(path: str | Path, person_id: str) -> Iterator["OpenPerson"]:
    """One person's datasets, open for reading.

    UserError, besides those of the file itself, when the person is not found or the group is of no known layout.
    """
    with opened_person(path, person_id) as (group, where):
        yield OpenPerson(group, where)


def sample_count(path: str | Path, person_id: str) -> int:
    """How many samples a person has; at least one. UserError as for `opened_samples`."""
    with opened_samples(path, person_id) as person:
        return person.count


def evenly_spread(total: int, at_most: int) -> np.ndarray:
    """At most so many of 0 … total − 1, evenly spread, the first and the last among them; total is at least 1."""
    return np.unique(np.linspace(0, total - 1, at_most).round().astype(int))


def read_person(
    path: str | Path, person_id: str, rows: Sequence[int], canvas: Camera, mask_path: str | Path | None = None
) -> PersonData:
    """Reads rows of one person (at least one; their order stays) onto the canvas; closes the file.

    Eye masks come from the file; else from the picture at `mask_path`, of the frames' or the canvas's size and the same
    for every sample; else from the head pose. UserError, besides those of `opened_samples`, names the person and row
    whose labels are not finite or not radians, or whose pixels are not colours.
    """
    with opened_person(path, person_id) as (group, where):
        person = OpenPerson(group, where)
        layout, mask_keys = person.layout, person.mask_keys
        picture = _mask_picture(mask_path, person.frame_hw, canvas) if mask_path and not mask_keys else None
        attributes = plain_attributes(group, ("split", "seed", "number"))
        once = sorted(set(map(int, rows)))
        read = dict(zip(once, side_by_side(lambda row: person.frame(row, canvas, picture), once)))

    frames = [read[int(row)] for row in rows]
    samples = Samples(
        *map(np.stack, zip(*((each.image, each.eye_mask, each.valid, each.gaze, each.head) for each in frames))),
        np.array(rows, dtype=np.int64),
        canvas,
    )
    mask_by_pose = np.array([each.mask_by_pose for each in frames])
    mask_source = _mask_source(mask_keys, mask_path, mask_by_pose.sum(), len(rows))
    log.debug("%s: layout %s, frames %s, masks from %s", where, layout.name, person.frame_hw, mask_source)
    return PersonData(person_id, samples, layout.name, mask_source, mask_by_pose, person.frame_hw[0], attributes)


@dataclass(frozen=True)
class RawFrame:
    """One sample as the file has it."""

    pixels: np.ndarray  # (h, w, 3) uint8 RGB
    eyes: np.ndarray | None  # (h, w) where they are, if the file says so: a mask, or a parsing's labels
    gaze: np.ndarray  # (2,) float32 pitch, yaw in radians
    head: np.ndarray  # (2,) the same


@dataclass(frozen=True)
class StoredFrame:
    """One sample on the canvas."""

    image: np.ndarray  # (H, W, 3) uint8 RGB
    eye_mask: np.ndarray  # (H, W) bool
    valid: np.ndarray  # (H, W) bool
    gaze: np.ndarray  # (2,) float32 pitch, yaw in radians
    head: np.ndarray  # (2,) the same
    mask_by_pose: bool  # whether the head pose had to place one eye's mask or both


class OpenPerson:
    """One person's datasets in an open file, read row by row. UserError unless they are of a known layout."""

    def __init__(self, group: h5py.Group, where: str):
        self.where = where
        self.layout, self.datasets = _person(group, where)
        self.mask_keys = self.layout.mask_keys(self.datasets)
        self.frame_hw: tuple[int, int] = self.datasets[self.layout.images_key].shape[1:3]
        self._camera = self.layout.camera(*self.frame_hw)
        self._labels = {
            key: dataset[:] if dataset.chunks is None and dataset.nbytes <= LABELS_AT_ONCE_BYTES else dataset
            for key in (self.layout.gaze.key, self.layout.head.key)
            for dataset in (self.datasets[key],)
        }
        self.count = _written(group, self.datasets[self.layout.images_key], where)
        self.left_out: list[int] = []  # rows that `has_angles` refused

    def has_angles(self, row: int) -> bool:
        """Whether a sample's labels are finite; if not, its row is noted. UserError if that are far too many."""
        if all(np.isfinite(self._values(angles, row)).all() for angles in (self.layout.gaze, self.layout.head)):
            return True
        self.left_out.append(row)
        if len(self.left_out) > MOST_LEFT_OUT:
            raise UserError(f"{self.where} has labels with NaN or infinity in more than {MOST_LEFT_OUT} rows")
        return False

    def labels(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """Gaze and head of one sample, each (2,) float32 pitch, yaw in radians, in the convention of `geometry`.

        UserError unless both are finite and radians.
        """
        head = self.layout.head.in_camera(self._angles(self.layout.head, row))
        gaze = self.layout.gaze.in_camera(self._angles(self.layout.gaze, row), head)
        return gaze.astype(np.float32), head.astype(np.float32)

    def _angles(self, angles: Angles, row: int) -> np.ndarray:
        """(2,) float32 pitch, yaw in radians of one sample, as they are stored."""
        values = self._values(angles, row)
        pitch, yaw = values.tolist()
        if math.isfinite(pitch) and math.isfinite(yaw) and max(abs(pitch), abs(yaw)) <= np.float32(np.pi):
            return values
        where = f"{self.where}, row {row}: {angles.key!r} holds {values}"
        if not np.isfinite(values).all():
            raise UserError(f"{where}, which are no angles", about="sample")
        raise UserError(f"{where}, beyond ±π; are they degrees? Radians are expected")

    def _values(self, angles: Angles, row: int) -> np.ndarray:
        return self._labels[angles.key][row][angles.pitch_column : angles.pitch_column + 2].astype(np.float32)

    def frame(
        self,
        row: int,
        canvas: Camera,
        mask_picture: np.ndarray | None = None,
        move_corners: Callable[[np.ndarray], np.ndarray] = lambda corners: corners,
    ) -> StoredFrame:
        """One sample on the canvas.

        `mask_picture` (H, W) holds the eyes where the file has no masks; `move_corners` as for `eye_mask`. UserError
        names a row whose labels are not finite or not radians, or whose pixels are not colours.
        """
        return self.on_canvas([self.raw(row)], canvas, mask_picture, move_corners)[0]

    def raw(self, row: int) -> RawFrame:
        """UserError as for `frame`. One row at a time: h5py's fancy indexing takes fifteen times as long."""
        gaze, head = self.labels(row)
        pixels = _rgb_frame(self.datasets[self.layout.images_key][row], self.layout, f"{self.where}, row {row}")
        eyes = _stored_mask([self.datasets[key][row] for key in self.mask_keys]) if self.mask_keys else None
        return RawFrame(pixels, eyes, gaze, head)

    @property
    def _has_parsings(self) -> bool:
        return self.mask_keys not in ((), (self.layout.mask_key,))

    def shows_eyes(self, frame: RawFrame) -> bool:
        """False if the file has masks, and the frame's own is empty. `on_canvas` takes the head pose's in its place."""
        return frame.eyes is None or shows_eyes(frame.eyes, self._has_parsings)

    def on_canvas(
        self,
        frames: Sequence[RawFrame],
        canvas: Camera,
        mask_picture: np.ndarray | None = None,
        move_corners: Callable[[np.ndarray], np.ndarray] = lambda corners: corners,
    ) -> list[StoredFrame]:
        """Frames of this person, as `frame` gives them; many at once take less time."""
        to_canvas = [place(self._camera, frame.head, canvas) for frame in frames]
        drawn = [_drawn(frame.pixels, transform, canvas) for frame, transform in zip(frames, to_canvas)]
        is_parsing = self._has_parsings
        if is_parsing and canvas.eye_masks == SQUARES:
            squares, by_pose = squares_of_parsings(
                np.stack([frame.eyes for frame in frames]), to_canvas, [frame.head for frame in frames], canvas
            )
            masks = [(mask & valid, by) for mask, (_, valid), by in zip(squares, drawn, by_pose)]
        else:
            masks = []
            for frame, transform, (_, valid) in zip(frames, to_canvas, drawn):
                eyes = mask_picture if frame.eyes is None else frame.eyes
                placed = transform if eyes is not None and eyes.shape == self.frame_hw else np.eye(2, 3)
                masks.append(eye_mask(eyes, is_parsing, placed, frame.head, valid, canvas, move_corners))
        for i, (mask, _) in enumerate(masks):
            if not mask.any():  # eyes of less than a pixel, or beside the canvas
                masks[i] = eye_mask(None, False, np.eye(2, 3), frames[i].head, drawn[i][1], canvas, move_corners)
        return [
            StoredFrame(image, mask, valid, frame.gaze, frame.head, bool(by_pose))
            for frame, (image, valid), (mask, by_pose) in zip(frames, drawn, masks)
        ]


def _drawn(pixels: np.ndarray, to_canvas: np.ndarray, canvas: Camera) -> tuple[np.ndarray, np.ndarray]:
    """`warp`, which would copy a frame that is on the canvas already."""
    if pixels.shape[:2] == canvas.shape and is_identity(to_canvas):
        return pixels, np.ones(canvas.shape, dtype=bool)
    return warp(pixels, to_canvas, *canvas.shape)


def _person(group: h5py.Group, where: str) -> tuple[Layout, dict[str, h5py.Dataset]]:
    """The layout and the datasets by name, checked as far as no sample need be read."""
    datasets = safe_datasets(group, known_keys(), where)
    layout = detect({key: dataset.shape for key, dataset in datasets.items()}, where, lambda: outline(group))

    pixels = datasets[layout.images_key].dtype
    if pixels != np.uint8 and pixels.kind != "f":
        raise UserError(f"{where} has pixels of type {pixels}; expected uint8, or float in 0..1 or 0..255")
    frames = datasets[layout.images_key].shape
    for key in layout.mask_keys(datasets):
        if datasets[key].shape != frames[:3]:
            raise UserError(f"{where} has {key!r} of shape {datasets[key].shape}; expected the frames' {frames[:3]}")
    return layout, datasets


def _written(group: h5py.Group, images: h5py.Dataset, where: str) -> int:
    total = written_rows(images) if group.name == "/" else len(images)
    if not total:
        raise UserError(f"{where} has room for {len(images)} samples, but none was written; expected at least one")
    return total


def _rgb_frame(pixels: np.ndarray, layout: Layout, where: str) -> np.ndarray:
    """Stored pixels (H, W, 3) → uint8 RGB. Floats of at most 1, but for rounding, are taken ×255.

    Up to 2 they are of neither range: resizing made them larger than they were, or the frame is black.
    """
    if pixels.dtype != np.uint8:
        least, most = pixels.min(), pixels.max()
        if not (least >= -ROUNDING and most <= 255 + ROUNDING) or 1 + ROUNDING < most < 2:  # so that NaN fails as well
            fit = "undo what normalised them: −1..1 is (x + 1) / 2 in 0..1"
            if np.isnan(least):
                fit = "put colours in place of NaN"
            elif least > -OVERSHOOT * (255 if most > 10 else 1):
                fit = "clip them to one"
            raise UserError(f"{where}: pixels from {least:.4g} to {most:.4g}, which fit neither 0..1 nor 0..255; {fit}")
        pixels = np.rint(pixels * (255.0 if most <= 1 + ROUNDING else 1.0)).clip(0, 255).astype(np.uint8)
    return pixels if layout.colour_order == "RGB" else np.ascontiguousarray(pixels[..., ::-1])


def _stored_mask(stored: list[np.ndarray]) -> np.ndarray:
    """What the file has of one sample's eyes (H, W): two masks of an eye each become labels 1 and 2 of a parsing."""
    if len(stored) == 1:
        return stored[0]
    first, second = map(threshold, stored)
    return np.where(first, 1, np.where(second, 2, 0))


def _mask_picture(mask_path: str | Path, frame_hw: tuple[int, int], canvas: Camera) -> np.ndarray:
    mask = read_grey(mask_path, "mask_path")
    if mask.shape not in (frame_hw, canvas.shape):
        raise UserError(
            f"mask_path: {mask_path} has {mask.shape[1]}×{mask.shape[0]} pixels; expected {frame_hw[1]}×{frame_hw[0]}, "
            f"the frames' size, or {canvas.width_px}×{canvas.height_px}, the model's"
        )
    return mask


def _mask_source(mask_keys: tuple[str, ...], mask_path: str | Path | None, pose_count: int, count: int) -> str:
    source = ", ".join(mask_keys) or (str(mask_path) if mask_path else None)
    if source is None:
        return "head pose"
    fallback = f" ({pose_count} of {count} samples: head pose)" if pose_count else ""
    unused = f" ({mask_path} is not used: the file has masks)" if mask_keys and mask_path else ""
    return f"{source}{fallback}{unused}"
