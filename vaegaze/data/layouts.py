"""The published HDF5 layouts of gaze data sets. Each is a row of a table, recognised by the contents of the file."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from vaegaze.errors import UserError
from vaegaze.geometry.camera import (
    BETWEEN_EYES_MM,
    FACE_CENTRE_MM,
    FACE_ORIGIN_MM,
    Camera,
    gaze_vector,
    head_rotation,
    pitch_yaw,
)


@dataclass(frozen=True)
class Angles:
    """Where a sample's (pitch, yaw) in radians is stored: two neighbouring columns of a dataset (N, width)."""

    key: str
    pitch_column: int = 0
    pitch_up: int = 1  # sign of the pitch of an upward direction
    in_head_frame: bool = False  # relative to the head, not to the camera

    def in_camera(self, stored: np.ndarray, head: np.ndarray | None = None) -> np.ndarray:
        """A stored direction (2,) as (2,) pitch, yaw in the convention of `geometry`;
        `head` (2,) is already in it.

        The normalised camera has no roll, so the head's pitch and yaw are its whole rotation R. A direction v in the
        head's frame is R v in the camera's.
        """
        direction = stored.astype(np.float64)
        direction[0] *= self.pitch_up
        return pitch_yaw(head_rotation(head) @ gaze_vector(direction)) if self.in_head_frame else direction


@dataclass(frozen=True)
class Layout:
    """How one published layout names and shapes a person's samples, and which camera took them."""

    name: str
    images_key: str  # dataset (N, height, width, 3), uint8 or float
    frame_hw: tuple[int, int] | None  # height, width; None: square frames of any size
    gaze: Angles
    head: Angles
    label_widths: range  # how many columns the label datasets may have
    colour_order: str  # "RGB" or "BGR"
    focal_per_width: float  # the normalised camera's focal length / the frame's width
    origin_mm: tuple[float, float, float]  # the point of the head it looks at
    distance_mm: float = 600.0  # from there
    parsing_key: str | None = None  # optional dataset (N, height, width): 1, 3 one eye and its iris; 2, 4 the other
    one_eye_keys: tuple[str, ...] = ()  # two optional datasets (N, height, width), an eye each, 0..1 or 0..255
    mask_key: str | None = None  # optional dataset (N, height, width): the eyes, 0..1 or 0..255
    needs: tuple[str, ...] = ()  # datasets that this layout always has
    without: tuple[str, ...] = ()  # datasets that it never has

    def camera(self, height_px: int, width_px: int) -> Camera:
        return Camera(width_px, height_px, self.focal_per_width * width_px, self.origin_mm, self.distance_mm)

    def mask_keys(self, held: Mapping) -> tuple[str, ...]:
        """Those of the datasets in `held` that say where the eyes are; () if there are none."""
        choices = ((self.parsing_key,), self.one_eye_keys, (self.mask_key,))
        return next((keys for keys in choices if keys and all(key in held for key in keys)), ())

    def fits_frame(self, height_px: int, width_px: int) -> bool:
        return (height_px, width_px) == self.frame_hw if self.frame_hw else height_px == width_px


# GazeNeRF's gaze is relative to the head, its vector (x right, y down, z into the head) is
# (-cos p · sin y, +sin p, -cos p · cos y), and it starts some 40 mm off the face centre: the writer averages the first
# six of 50 landmarks, not those of eyes and nose. No file says how many degrees that makes, so it is not corrected.
_GAZENERF = Layout(
    name="GazeNeRF (GazeCapture)",
    images_key="face_patch",
    frame_hw=(512, 512),
    gaze=Angles("pitchyaw_head", pitch_up=-1, in_head_frame=True),
    head=Angles("face_head_pose"),
    label_widths=range(2, 3),
    colour_order="BGR",
    focal_per_width=1200 / 512,
    origin_mm=FACE_CENTRE_MM,
    distance_mm=680.0,
    one_eye_keys=("left_eye_mask", "right_eye_mask"),
)

# Sources: swook/faze_preprocess create_hdf_files_for_sted.py and …_for_faze.py, ALable/FAGE dataset/gaze_capture.py,
# xucong-zhang/ETH-XGaze normalization_example.py, AlessandroRuzzi/GazeNeRF dataset_pre_processing.py and
# pre_processing/data_process.py. The first row that fits wins, so the more specific ones come first.
LAYOUTS = (
    Layout(
        name="ST-ED",
        images_key="pixels",
        frame_hw=(128, 128),
        gaze=Angles("labels"),
        head=Angles("labels", pitch_column=2),
        label_widths=range(8, 9),
        colour_order="RGB",
        focal_per_width=500 / 128,
        origin_mm=FACE_ORIGIN_MM,
        without=("face_parsing", "mask"),
    ),
    Layout(
        name="FAZE",
        images_key="pixels",
        frame_hw=(64, 256),
        gaze=Angles("labels"),
        head=Angles("labels", pitch_column=2),
        label_widths=range(4, 5),
        colour_order="RGB",
        focal_per_width=1300 / 256,
        origin_mm=BETWEEN_EYES_MM,
    ),
    Layout(
        name="upstream",
        images_key="pixels",
        frame_hw=None,
        gaze=Angles("labels"),
        head=Angles("labels", pitch_column=2),
        label_widths=range(4, 1000),
        colour_order="RGB",
        focal_per_width=1000 / 256,
        origin_mm=FACE_ORIGIN_MM,
        parsing_key="face_parsing",
        mask_key="mask",
    ),
    Layout(
        name="ETH-XGaze",
        images_key="face_patch",
        frame_hw=None,
        gaze=Angles("face_gaze"),
        head=Angles("face_head_pose"),
        label_widths=range(2, 3),
        colour_order="BGR",
        focal_per_width=960 / 448,
        origin_mm=FACE_CENTRE_MM,
        distance_mm=300.0,
    ),
    # GazeNeRF's writer takes another camera for each data set it knows, and leaves other datasets beside. (Only its
    # Columbia files, of focal length 1600, hold nothing that tells them from GazeCapture's.)
    replace(_GAZENERF, name="GazeNeRF (MPIIFaceGaze)", focal_per_width=1400 / 512, needs=("face_center",)),
    replace(_GAZENERF, name="GazeNeRF (ETH-XGaze)", focal_per_width=1600 / 512, needs=("frame_index",)),
    _GAZENERF,
)


@cache
def known_keys() -> tuple[str, ...]:
    """Every dataset name that identifies a layout or is read from one."""
    keys = [key for row in LAYOUTS for key in (*_keys_read(row), *row.needs, *row.without)]
    return tuple(dict.fromkeys(keys))


@cache
def image_keys() -> tuple[str, ...]:
    """The names of the image datasets in all layouts."""
    return tuple(dict.fromkeys(row.images_key for row in LAYOUTS))


def label_keys() -> tuple[str, ...]:
    """The names of the gaze datasets in all layouts."""
    return tuple(dict.fromkeys(row.gaze.key for row in LAYOUTS))


def detect(shapes: Mapping[str, tuple[int, ...]], where: str, found: Callable[[], str]) -> Layout:
    """The layout of a person's datasets, recognised by their names and shapes.

    `where` names the file and person in errors, `found()` all that the person's group contains. UserError when there
    are no images or labels, when gaze cannot be brought into the camera's frame, when no known layout has such frames
    or such labels, and when the datasets count different numbers of samples.
    """
    rows = [row for row in LAYOUTS if row.images_key in shapes]
    if not rows:
        expected = " or ".join(map(repr, image_keys()))
        raise UserError(f"{where} has no images: expected a dataset {expected}, it holds {found()}")
    rows = _with_labels(rows, shapes, found, where)

    fitting = [row for row in rows if _is_frame_of(row, shapes[row.images_key])]
    if not fitting:
        expected = "; ".join(dict.fromkeys(f"{row.name} {_frame_text(row)}" for row in rows))
        raise UserError(f"{where} has frames of no known layout: found {found()}; expected {expected}")
    narrower = [row for row in fitting if _has_labels_of(row, shapes)]
    if not narrower:
        expected = " or ".join(_width_text(row) for row in fitting)
        raise UserError(
            f"{where} has labels of the wrong width: found {found()}; expected (N, width), width {expected}"
        )

    layout = next((row for row in narrower if _is_told_by(row, shapes)), None)
    if layout is None:
        raise UserError(f"{where} is of no known layout: it holds {found()}")
    counts = {shape[0] for key, shape in shapes.items() if key in _keys_read(layout)}
    if len(counts) > 1:
        raise UserError(f"{where} has datasets of different lengths: {found()}; expected one entry per sample in each")
    return layout


def _with_labels(
    rows: list[Layout], shapes: Mapping[str, tuple[int, ...]], found: Callable[[], str], where: str
) -> list[Layout]:
    labelled = [row for row in rows if row.gaze.key in shapes and row.head.key in shapes]
    if labelled:
        return labelled
    relative = next((row for row in rows if row.gaze.key in shapes and row.gaze.in_head_frame), None)
    if relative:
        raise UserError(
            f"{where} has gaze relative to the head ({relative.gaze.key!r}), and no {relative.head.key!r}: without the "
            "head's rotation it cannot be brought into the camera's frame; add that dataset"
        )
    expected = " or ".join(
        dict.fromkeys(" and ".join(dict.fromkeys(map(repr, (row.gaze.key, row.head.key)))) for row in rows)
    )
    raise UserError(f"{where} has no labels: expected {expected} (gaze and head in radians), found {found()}")


def _is_frame_of(row: Layout, shape: tuple[int, ...]) -> bool:
    return len(shape) == 4 and min(shape[1:3]) > 0 and shape[3] == 3 and row.fits_frame(shape[1], shape[2])


def _has_labels_of(row: Layout, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    return all(len(shapes[key]) == 2 and shapes[key][1] in row.label_widths for key in (row.gaze.key, row.head.key))


def _is_told_by(row: Layout, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    return all(key in shapes for key in row.needs) and not any(key in shapes for key in row.without)


def _keys_read(row: Layout) -> list[str]:
    keys = (row.images_key, row.gaze.key, row.head.key, row.parsing_key, *row.one_eye_keys, row.mask_key)
    return [key for key in keys if key]


def _frame_text(row: Layout) -> str:
    return f"(N, {row.frame_hw[0]}, {row.frame_hw[1]}, 3)" if row.frame_hw else "(N, size, size, 3)"


def _width_text(row: Layout) -> str:
    width = str(row.label_widths[0]) if len(row.label_widths) == 1 else f"{row.label_widths[0]} or more"
    columns = ": pitch and yaw of the gaze, then of the head" if row.gaze.key == row.head.key else ""
    return f"{width} ({row.name}{columns})"
