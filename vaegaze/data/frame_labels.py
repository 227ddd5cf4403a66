"""Labels of the user's own frames: a CSV file that says where the person looks in each frame.

Each line is a frame: a picture's name or a time in a video, followed by either the angles of the gaze, or the point
looked at and the eyes' distance from the camera. Cells are read as text, so a picture may be called 00002 or no. Errors
name the line, what it says and what was expected.
"""

import csv
import difflib
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vaegaze.data.safe_hdf5 import MAX_SAMPLES
from vaegaze.errors import UserError
from vaegaze.geometry.camera import gaze_at

FRAME = "file_or_time"
GAZE, HEAD = ("pitch_deg", "yaw_deg"), ("head_pitch_deg", "head_yaw_deg")
POINT, POINT_Z, DISTANCE, EYES = ("point_x_mm", "point_y_mm"), "point_z_mm", "distance_mm", ("eyes_x_mm", "eyes_y_mm")
BY_ANGLE, BY_POINT = (FRAME, *GAZE), (FRAME, *POINT, DISTANCE)  # the required columns
COLUMNS = (*BY_ANGLE, *HEAD, *POINT, POINT_Z, DISTANCE, *EYES)
EXPECTED = f"{','.join(BY_ANGLE)}, or {','.join(BY_POINT)}"
MAX_ANGLE_DEG, MAX_LENGTH_MM = 90.0, 100_000.0
MAX_BYTES = 64 * 2**20


@dataclass(frozen=True)
class FrameLabel:
    """One line of the file."""

    line: int
    frame: str  # a picture's name or a time, as written
    gaze: np.ndarray  # (2,) pitch, yaw in radians, as seen in the upright picture
    head: np.ndarray | None  # (2,) the same; None without these columns


def read_labels(path: str | Path) -> list[FrameLabel]:
    """The label of each line, at least one. UserError names the file, the line, what it says and what was expected."""
    path = Path(path)
    if not path.is_file():
        what = "is no plain file" if path.exists() else "does not exist"
        raise UserError(f"labels: {path} {what}; give a CSV file with the columns {EXPECTED}")
    if path.stat().st_size > MAX_BYTES:
        raise UserError(f"labels: {path} is larger than {MAX_BYTES >> 20} MB; give a CSV file with a line per frame")
    rows = _rows(path)
    line, names = next(rows, (1, []))
    if not names:
        raise UserError(f"{path} is empty; expected a first line with the columns {EXPECTED}")
    _check_columns(names, f"{path}, line {line}")
    labels: list[FrameLabel] = []
    for line, cells in rows:
        where = f"{path}, line {line}"
        if len(cells) != len(names):
            raise UserError(f"{where} has {len(cells)} values; expected {len(names)}: {','.join(names)}")
        if len(labels) == MAX_SAMPLES:
            raise UserError(f"{where}: at most {MAX_SAMPLES} frames are read; split the file")
        labels.append(_label(line, dict(zip(names, cells)), where))
    if not labels:
        raise UserError(f"{path} has no lines below the column names; expected one per frame")
    return labels


def in_degrees(labels: Sequence[FrameLabel], which: str = "gaze") -> bool:
    """False if all gazes, or heads, are so small that they must be radians, given where degrees are expected."""
    largest = max(abs(getattr(label, which)).max() for label in labels)
    return largest == 0 or largest > math.radians(math.pi / 2)


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of each line that is not blank."""
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")  # a spreadsheet's UTF-8 begins with a BOM
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}, line {line}: the text is not UTF-8; save the table as CSV in UTF-8") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True)
    while True:
        try:
            cells = [cell.strip() for cell in next(reader)]
        except StopIteration:
            return
        except csv.Error as error:
            raise UserError(f"{path}, line {reader.line_num}: no line of a CSV file ({error})") from error
        if any(cells):
            yield reader.line_num, cells


def _check_columns(names: Sequence[str], where: str) -> None:
    if len(names) == 1 and any(mark in names[0] for mark in ";\t"):
        raise UserError(f"{where} is separated by {'semicolons' if ';' in names[0] else 'tabs'}; expected commas")
    for name in names:
        if name not in COLUMNS:
            close = difflib.get_close_matches(name, COLUMNS, 1)
            hint = f"did you mean {close[0]}?" if close else f"expected {EXPECTED}"
            raise UserError(f"{where}: unknown column {name!r}; {hint}")
        if names.count(name) > 1:
            raise UserError(f"{where}: column {name} occurs twice; remove one")
    is_by_point = not set(names).isdisjoint((*POINT, POINT_Z, DISTANCE, *EYES))
    if is_by_point and not set(names).isdisjoint(GAZE):
        raise UserError(f"{where} has columns of angles and of points; expected {EXPECTED}")
    pairs = [pair for pair in (HEAD, EYES) if not set(names).isdisjoint(pair)]  # optional, but only together
    for name in (*(BY_POINT if is_by_point else BY_ANGLE), *(name for pair in pairs for name in pair)):
        if name not in names:
            raise UserError(f"{where}: column {name} is missing; found {','.join(names)}, expected {EXPECTED}")


def _label(line: int, cells: dict[str, str], where: str) -> FrameLabel:
    if not cells[FRAME]:
        raise UserError(f"{where}: {FRAME} is empty; expected a picture's name, or a time in seconds")

    def numbers(names: Sequence[str], limit: float, unit: str) -> np.ndarray:
        """The values of these columns; 0 for a column that is not there."""
        return np.array([_number(cells[name], name, limit, unit, where) if name in cells else 0.0 for name in names])

    head = np.radians(numbers(HEAD, MAX_ANGLE_DEG, "degrees")) if HEAD[0] in cells else None
    if GAZE[0] in cells:
        return FrameLabel(line, cells[FRAME], np.radians(numbers(GAZE, MAX_ANGLE_DEG, "degrees")), head)

    point, (x, y) = numbers((*POINT, POINT_Z), MAX_LENGTH_MM, "mm"), numbers(EYES, MAX_LENGTH_MM, "mm")
    (distance,) = numbers((DISTANCE,), MAX_LENGTH_MM, "mm")
    if distance <= math.hypot(x, y):
        least = f"more than the eyes are off the camera's axis, {math.hypot(x, y):g}" if x or y else "more than 0"
        raise UserError(f"{where}: {DISTANCE} is {distance:g}; expected {least}")
    eyes = np.array([x, y, math.sqrt(distance**2 - x**2 - y**2)])
    if (point - eyes) @ eyes >= 0:
        place = ", ".join(f"{value:g}" for value in point)
        raise UserError(f"{where}: the point ({place}) mm lies behind the eyes; expected one on the camera's side")
    return FrameLabel(line, cells[FRAME], gaze_at(point, eyes), head)


def read_number(text: str) -> float:
    """NaN for what is none in a table; Python would take 0_5 for 5."""
    try:
        return math.nan if "_" in text else float(text)
    except ValueError:
        return math.nan


def _number(text: str, name: str, limit: float, unit: str, where: str) -> float:
    number = read_number(text)
    if not abs(number) <= limit:  # nor NaN
        shown = text if len(text) <= 40 else f"{text[:39]}…"
        raise UserError(f"{where}: {name} is {shown or 'empty'}; expected {unit} from {-limit:g} to {limit:g}")
    return number
