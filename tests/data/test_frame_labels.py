"""The CSV of somebody's own frames: angles and points, their signs, and everything that a table can have wrong."""

import numpy as np
import pytest

from vaegaze.data import frame_labels
from vaegaze.data.frame_labels import COLUMNS, read_labels
from vaegaze.errors import UserError
from vaegaze.geometry.camera import gaze_at

ANGLES, POINTS = "file_or_time,pitch_deg,yaw_deg", "file_or_time,point_x_mm,point_y_mm,distance_mm"


@pytest.fixture
def read(tmp_path):
    """Reads labels from this text, or these bytes."""

    def read(text):
        path = tmp_path / "labels.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_labels(path)

    return read


@pytest.fixture
def refuse(read):
    """It is one line that says each of the words."""

    def refuse(text, *words):
        with pytest.raises(UserError) as error:
            read(text)
        assert "\n" not in str(error.value) and "labels.csv" in str(error.value)
        for word in words:
            assert word in str(error.value), str(error.value)

    return refuse


def test_angles(read):
    first, second = read(f"{ANGLES},head_pitch_deg,head_yaw_deg\na.png,10,-20,5,6.5\n\n b c.png , -1e1 ,+3,0,0\n")
    assert (first.line, first.frame, second.line, second.frame) == (2, "a.png", 4, "b c.png")
    np.testing.assert_allclose(np.degrees([first.gaze, first.head]), [[10, -20], [5, 6.5]])
    np.testing.assert_allclose(np.degrees([second.gaze, second.head]), [[-10, 3], [0, 0]], atol=1e-12)


def test_columns_in_any_order_with_spaces_quotes_and_a_bom(read):
    (label,) = read(b'\xef\xbb\xbfyaw_deg, "file_or_time",pitch_deg\r\n2 , "a, b.png",1\r\n')
    assert label.frame == "a, b.png" and label.line == 2 and label.head is None
    np.testing.assert_allclose(np.degrees(label.gaze), [1, 2])


@pytest.mark.parametrize(
    "point, expected",
    [
        ("0,0", (0, 0)),  # the camera itself
        ("-150,0", (0, 14.04)),  # to the picture's left of it: positive
        ("150,0", (0, -14.04)),
        ("0,-150", (14.04, 0)),  # above it: positive
        ("0,150", (-14.04, 0)),
    ],
)
def test_points_on_a_screen_around_the_camera(read, point, expected):
    (label,) = read(f"{POINTS}\na.png,{point},600\n")
    np.testing.assert_allclose(np.degrees(label.gaze), expected, atol=0.01)


def test_the_formula_of_the_docs(read):
    x, y, z, distance = -120.0, 80.0, 30.0, 550.0
    (label,) = read(f"{POINTS},point_z_mm\na.png,{x},{y},{distance},{z}\n")
    yaw, pitch = np.arctan2(-x, distance - z), np.arcsin(-y / np.sqrt(x**2 + y**2 + (distance - z) ** 2))
    np.testing.assert_allclose(label.gaze, (pitch, yaw))


@pytest.mark.parametrize("eyes", [(200, 0), (-200, 0), (0, 150), (0, -150), (170, -120)])
def test_wherever_the_eyes_are_0_0_looks_into_the_camera(read, eyes):
    (label,) = read(f"{POINTS},eyes_x_mm,eyes_y_mm\na.png,0,0,600,{eyes[0]},{eyes[1]}\n")
    np.testing.assert_allclose(label.gaze, 0, atol=1e-9)


def test_eyes_beside_the_axis(read):
    """Straight on, past the camera: by the angle under which the eyes see it."""
    (label,) = read(f"{POINTS},eyes_x_mm,eyes_y_mm\na.png,200,0,{np.hypot(600, 200)},200,0\n")
    np.testing.assert_allclose(label.gaze, (0, -np.arctan2(200, 600)), atol=1e-9)
    above = gaze_at((0, -150, 0), (0, -150, 600))  # the eyes above the camera look straight on: up, of it
    np.testing.assert_allclose(above, (np.arctan2(150, 600), 0), atol=1e-9)


@pytest.mark.parametrize(
    "text, words",
    [
        ("", ["is empty", ANGLES, POINTS]),
        ("\n\n", ["is empty"]),
        (f"{ANGLES}\n", ["no lines below"]),
        ("file_or_time;pitch_deg;yaw_deg\na;1;2\n", ["line 1", "semicolons", "commas"]),
        ("file_or_time\tpitch_deg\tyaw_deg\na\t1\t2\n", ["line 1", "tabs", "commas"]),
        (f"{ANGLES},yaw_deg\n", ["line 1", "yaw_deg", "occurs twice"]),
        ("file_or_time,pitch_deg,jaw_deg\na,1,2\n", ["line 1", "'jaw_deg'", "did you mean yaw_deg"]),
        ("file_or_time,pitch_deg,colour\na,1,2\n", ["line 1", "'colour'", ANGLES]),
        ("a.png,1,2\n", ["line 1", "unknown column 'a.png'"]),
        ("file_or_time,pitch_deg\na,1\n", ["line 1", "yaw_deg is missing"]),
        ("pitch_deg,yaw_deg\n1,2\n", ["line 1", "file_or_time is missing"]),
        (f"{ANGLES},head_yaw_deg\na,1,2,3\n", ["line 1", "head_pitch_deg is missing"]),
        (f"{POINTS},eyes_x_mm\na,1,2,3,4\n", ["line 1", "eyes_y_mm is missing"]),
        ("file_or_time,point_x_mm,point_y_mm\na,1,2\n", ["line 1", "distance_mm is missing"]),
        (f"{ANGLES},distance_mm\na,1,2,600\n", ["line 1", "angles and of points"]),
        (f"{ANGLES}\na,1,2\nb,1,2,3\n", ["line 3", "has 4 values; expected 3"]),
        (f"{ANGLES}\na,1\n", ["line 2", "has 2 values; expected 3"]),
        (f"{ANGLES}\na,1,5\nb,up,5\n", ["line 3", "pitch_deg is up", "-90 to 90"]),
        (f"{ANGLES}\na,1,\n", ["line 2", "yaw_deg is empty"]),
        (f"{ANGLES}\na,nan,1\n", ["line 2", "pitch_deg is nan"]),
        (f"{ANGLES}\na,0_5,1\n", ["line 2", "pitch_deg is 0_5"]),
        (f"{ANGLES}\na,1,-inf\n", ["line 2", "yaw_deg is -inf"]),
        (f"{ANGLES}\na,90.1,1\n", ["line 2", "pitch_deg is 90.1", "degrees from -90 to 90"]),
        (f"{ANGLES},head_pitch_deg,head_yaw_deg\na,1,1,0,-91\n", ["line 2", "head_yaw_deg is -91"]),
        (f"{ANGLES}\n,1,2\n", ["line 2", "file_or_time is empty"]),
        (f"{POINTS}\na,1,2,0\n", ["line 2", "distance_mm is 0", "more than 0"]),
        (f"{POINTS}\na,1,2,-600\n", ["line 2", "distance_mm is -600"]),
        (f"{POINTS}\na,1,1e9,600\n", ["line 2", "point_y_mm is 1e9", "mm"]),
        (f"{POINTS},eyes_x_mm,eyes_y_mm\na,0,0,100,60,80\n", ["line 2", "distance_mm is 100", "off the camera's axis"]),
        (f"{POINTS},point_z_mm\na,0,0,600,700\n", ["line 2", "behind the eyes"]),
        (f'{ANGLES}\n"a,1,2\n', ["line 2", "no line of a CSV file"]),
        (f"{ANGLES}\na,{'1' * 300},2\n", ["line 2", "pitch_deg is 1111", "…"]),
        (f"{ANGLES}\n{'a' * 200_000},1,2\n", ["line 2", "no line of a CSV file"]),
        (f"{ANGLES}\na,\x1b[2J,2\n", ["line 2", r"\x1b"]),
        (f"{ANGLES}\nä.png,1,2\n".encode("latin-1"), ["line 2", "not UTF-8", "save"]),
        (f"{ANGLES}\na.png,1,2\n".encode("utf-16"), ["line 1", "not UTF-8"]),
    ],
)
def test_what_a_table_can_have_wrong(refuse, text, words):
    refuse(text, *words)


def test_a_nul_is_no_text(refuse):
    refuse(f"{ANGLES}\na,x\0,2\n", "line 2")


def test_files_that_are_too_large_are_not_read(refuse, monkeypatch):
    monkeypatch.setattr(frame_labels, "MAX_SAMPLES", 2)
    refuse(f"{ANGLES}\na,1,2\nb,1,2\nc,1,2\n", "line 4", "at most 2 frames")
    monkeypatch.setattr(frame_labels, "MAX_BYTES", 2 << 20)
    refuse(b"a" * ((2 << 20) + 1), "larger than 2 MB")


def test_what_is_no_file(tmp_path):
    for path, words in ((tmp_path / "none.csv", "does not exist"), (tmp_path, "is no plain file")):
        with pytest.raises(UserError, match=f"labels: .* {words}; give a CSV file with the columns"):
            read_labels(path)


def test_the_columns_are_in_the_docs():
    from command_runs import ROOT

    text = (ROOT / "docs" / "prepare.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in text for name in COLUMNS)
