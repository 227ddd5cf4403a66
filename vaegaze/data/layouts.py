"""The published HDF5 layouts of gaze data sets: a layout is a row in this table, found by what a file itself holds."""

from collections.abc import Mapping
from dataclasses import dataclass

from vaegaze.config import UserError
from vaegaze.data.geometry import BETWEEN_EYES_MM, FACE_ORIGIN_MM, Camera


@dataclass(frozen=True)
class Angles:
    """Where a sample's (pitch, yaw) in radians stands: two neighbouring columns of a dataset (N, width)."""

    key: str
    pitch_column: int


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
    parsing_key: str | None = None  # optional dataset (N, height, width): 1, 3 one eye and its iris; 2, 4 the other
    mask_key: str | None = None  # optional dataset (N, height, width): the eyes, 0..1 or 0..255
    without: tuple[str, ...] = ()  # a group that holds one of these is another layout

    def camera(self, height_px: int, width_px: int) -> Camera:
        return Camera(width_px, height_px, self.focal_per_width * width_px, self.origin_mm)

    def fits_frame(self, height_px: int, width_px: int) -> bool:
        return (height_px, width_px) == self.frame_hw if self.frame_hw else height_px == width_px


# Sources and column meanings: swook/faze_preprocess create_hdf_files_for_sted.py and …_for_faze.py, ALable/FAGE
# dataset/gaze_capture.py. The first row that fits wins, so the more particular ones stand first.
LAYOUTS = (
    Layout(
        name="ST-ED",
        images_key="pixels",
        frame_hw=(128, 128),
        gaze=Angles("labels", 0),
        head=Angles("labels", 2),
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
        gaze=Angles("labels", 0),
        head=Angles("labels", 2),
        label_widths=range(4, 5),
        colour_order="RGB",
        focal_per_width=1300 / 256,
        origin_mm=BETWEEN_EYES_MM,
    ),
    Layout(
        name="upstream",
        images_key="pixels",
        frame_hw=None,
        gaze=Angles("labels", 0),
        head=Angles("labels", 2),
        label_widths=range(4, 1000),
        colour_order="RGB",
        focal_per_width=1000 / 256,
        origin_mm=FACE_ORIGIN_MM,
        parsing_key="face_parsing",
        mask_key="mask",
    ),
)


def known_keys() -> tuple[str, ...]:
    """Every dataset name that some layout reads."""
    keys = [
        key
        for row in LAYOUTS
        for key in (row.images_key, row.gaze.key, row.head.key, row.parsing_key, row.mask_key, *row.without)
    ]
    return tuple(dict.fromkeys(key for key in keys if key))


def detect(shapes: Mapping[str, tuple[int, ...]], where: str) -> Layout:
    """The layout of a person's group, told from its datasets' shapes by name.

    `where` names the file and person in errors. UserError when the group lacks images or labels, when no known layout
    has such frames or such labels, and when the datasets count different numbers of samples.
    """
    held = ", ".join(f"{key} {shape}" for key, shape in shapes.items()) or "none of the names known"
    rows = [row for row in LAYOUTS if row.images_key in shapes]
    if not rows:
        raise UserError(f"{where} has no images: expected a dataset {_names(LAYOUTS, 'images_key')}, it holds {held}")
    rows = [row for row in rows if row.gaze.key in shapes and row.head.key in shapes]
    if not rows:
        raise UserError(f"{where} has no labels: expected a dataset 'labels' (gaze and head in radians), found {held}")

    rows = [row for row in rows if _is_frame_of(row, shapes[row.images_key])]
    if not rows:
        expected = "; ".join(f"{row.name} {_frame_text(row)}" for row in LAYOUTS)
        raise UserError(f"{where} has frames of no known layout: found {held}; expected {expected}")
    narrower = [row for row in rows if _has_labels_of(row, shapes)]
    if not narrower:
        expected = " or ".join(f"{_width_text(row)} ({row.name})" for row in rows)
        raise UserError(f"{where} has labels of the wrong width: found {held}; expected (N, width), width {expected}")

    layout = next((row for row in narrower if not any(key in shapes for key in row.without)), None)
    if layout is None:
        raise UserError(f"{where} is of no known layout: it holds {held}")
    counts = {shape[0] for key, shape in shapes.items() if key in _keys_read(layout)}
    if len(counts) > 1:
        raise UserError(f"{where} has datasets of different lengths: {held}; expected one entry per sample in each")
    return layout


def _is_frame_of(row: Layout, shape: tuple[int, ...]) -> bool:
    return len(shape) == 4 and min(shape[1:3]) > 0 and shape[3] == 3 and row.fits_frame(shape[1], shape[2])


def _has_labels_of(row: Layout, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    return all(len(shapes[key]) == 2 and shapes[key][1] in row.label_widths for key in (row.gaze.key, row.head.key))


def _keys_read(row: Layout) -> tuple[str | None, ...]:
    return row.images_key, row.gaze.key, row.head.key, row.parsing_key, row.mask_key


def _frame_text(row: Layout) -> str:
    return f"(N, {row.frame_hw[0]}, {row.frame_hw[1]}, 3)" if row.frame_hw else "(N, size, size, 3)"


def _width_text(row: Layout) -> str:
    return str(row.label_widths[0]) if len(row.label_widths) == 1 else f"{row.label_widths[0]} or more"


def _names(rows: tuple[Layout, ...], field: str) -> str:
    return " or ".join(dict.fromkeys(repr(getattr(row, field)) for row in rows))
