"""vaegaze inspect: what it says, what its sheet shows, and how it refuses."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import process_restored
from PIL import Image
from published_layouts import CAMERAS, scene, write

from vaegaze.commands import inspect
from vaegaze.commands.inspect import (
    ARROW,
    COLUMNS,
    GAZE_COLOUR,
    HEAD_COLOUR,
    MASK_COLOUR,
    PICTURE_PX,
    POSE_MASK_COLOUR,
    marked,
)
from vaegaze.data.samples import Samples
from vaegaze.geometry.camera import canvas_camera
from vaegaze.renderer import data_set as synthetic

GAZES = [(0.3, 0.0), (-0.3, 0.0), (0.0, 0.3), (0.0, -0.3), (0.0, 0.0)]
SCENES = [scene(gaze) for gaze in GAZES]


def run(*flags) -> int:
    with process_restored():
        return inspect.main([str(flag) for flag in flags])


def count(picture: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((abs(picture.astype(int) - colour).max(axis=-1) < 12).sum())


@pytest.mark.parametrize("name", CAMERAS)
def test_what_it_says_and_shows(name, tmp_path, capsys):
    path = write(tmp_path / "00002.h5", name, SCENES)
    assert run(path, "--output", tmp_path / "sheet.png") == 0
    out = capsys.readouterr().out
    camera, is_opencv = CAMERAS[name], "GazeNeRF" in name or "XGaze" in name
    masks = {gaze_nerf: "left_eye_mask, right_eye_mask" for gaze_nerf in CAMERAS if "GazeNeRF" in gaze_nerf}
    masks["upstream"] = "face_parsing"
    for words in (
        str(path),
        f"layout     {name.removesuffix(' 224')}",
        "persons    1\n",
        "samples    5 / 5 / 5 per person (min / median / max), 5 in all",
        f"{camera.width_px} × {camera.height_px} px, uint8, {'BGR' if is_opencv else 'RGB'}",
        f"eye masks  {masks.get(name, 'none in the file: from the head pose')}",
        "chunks     of 1 sample: ",
        f"sheet      {tmp_path / 'sheet.png'}",
    ):
        assert words in out, out
    gaze = next(line for line in out.splitlines() if line.startswith("gaze"))
    low, high = (float(word.rstrip("°")) for word in gaze.rpartition("yaw ")[2].split(" … "))
    assert abs(low + 17.2) < 1 and abs(high - 17.2) < 1

    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape[0] < 300 and sheet.shape[1] < 1500
    assert count(sheet, GAZE_COLOUR) > 500 and count(sheet, HEAD_COLOUR) > 100
    used, unused = (MASK_COLOUR, POSE_MASK_COLOUR) if name in masks else (POSE_MASK_COLOUR, MASK_COLOUR)
    assert count(sheet, used) > 1000 and count(sheet, unused) == 0


def test_masks_that_the_head_pose_had_to_place_are_told_from_the_files(tmp_path, capsys):
    """A frame at a time: the writer leaves masks blank that it could not make."""
    path = write(tmp_path / "00002.h5", "GazeNeRF (GazeCapture)", SCENES)
    with h5py.File(path, "r+") as file:
        for key in ("left_eye_mask", "right_eye_mask"):
            file[key][:2] = 0
    assert run(path, "--output", tmp_path / "sheet.png") == 0
    words = "eye masks  left_eye_mask, right_eye_mask; for 2 of 5 frames shown, from the head pose (magenta)\n"
    assert words in capsys.readouterr().out
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    up_and_down, others = np.split(sheet, [sheet.shape[1] - 3 * (PICTURE_PX + 4)], axis=1)
    assert count(up_and_down, POSE_MASK_COLOUR) > 400 and count(up_and_down, MASK_COLOUR) == 0
    assert count(others, POSE_MASK_COLOUR) == 0 and count(others, MASK_COLOUR) > 400


def test_no_angle_is_minus_zero(tmp_path, capsys):
    path = write(tmp_path / "a.h5", "ST-ED", SCENES[:1])
    with h5py.File(path, "r+") as file:
        file["00002/labels"][:] = -0.0
        file["00002/labels"][:, 1] = -1e-5
    assert run(path, "--output", tmp_path / "sheet.png") == 0
    out = capsys.readouterr().out
    assert out.count("pitch +0.0 … +0.0°, yaw +0.0 … +0.0°") == 2, out


def blank_sample(gaze=(0.0, 0.0), head=(0.0, 0.0)) -> Samples:
    side = (1, PICTURE_PX, PICTURE_PX)
    masks = np.zeros(side, dtype=bool)
    masks[:, 60:90, 40:80] = True
    labels = (np.array([angles], dtype=np.float32) for angles in (gaze, head))
    return Samples(
        np.full((*side, 3), 128, np.uint8),
        masks,
        np.ones(side, bool),
        *labels,
        np.array([0]),
        canvas_camera(PICTURE_PX),
    )


@pytest.mark.parametrize(("what", "colour"), [("gaze", GAZE_COLOUR), ("head", HEAD_COLOUR)])
@pytest.mark.parametrize(
    ("angles", "towards"), [((0.6, 0), (0, -1)), ((-0.6, 0), (0, 1)), ((0, 0.6), (-1, 0)), ((0, -0.6), (1, 0))]
)
def test_arrows_point_where_the_angles_do(what, colour, angles, towards):
    """Pitch > 0 up, yaw > 0 to the picture's left."""
    picture = marked(blank_sample(**{what: angles}), 0)[: PICTURE_PX - 30]  # without the words below
    straight = marked(blank_sample(), 0)[: PICTURE_PX - 30]

    def extent(picture):
        ys, xs = np.nonzero(abs(picture.astype(int) - colour).max(axis=-1) < 60)
        return np.array([xs.min(), ys.min(), xs.max(), ys.max()])

    assert (np.ptp(extent(straight).reshape(2, 2), axis=0) <= 8).all(), "straight at the camera it is a dot"
    length = ARROW * PICTURE_PX * np.sin(0.6)
    moved = extent(picture) - extent(straight)  # left, top, right, bottom
    x, y = towards
    far = moved[2 if x > 0 else 0] if x else moved[3 if y > 0 else 1]
    assert 0.8 * length < far * (x + y) < 1.3 * length, "the nose turns with the head"


def test_masks_are_outlined_and_what_is_not_seen_is_darkened():
    sample = blank_sample()
    sample.valid[0, :, 200:] = False
    picture = marked(sample, 0)
    assert count(picture[58:92, 38:82], MASK_COLOUR) > 100 and count(picture[64:86, 44:76], MASK_COLOUR) == 0
    assert abs(int(picture[20, 230, 0]) - 128 // 3) <= 1 and abs(int(picture[20, 20, 0]) - 128) <= 1


def test_every_column_holds_what_its_name_says(tmp_path):
    path = write(tmp_path / "a.h5", "ST-ED", [SCENES[i] for i in (4, 2, 0, 3, 1)])
    rows = inspect._farthest(inspect.look_at(str(path)).facts["00002"])
    assert dict(zip(COLUMNS, rows.tolist())) == {
        "looks up": 2,
        "looks down": 4,
        "looks left": 1,
        "looks right": 3,
        "looks ahead": 0,
    }


def test_a_file_of_many_persons(tmp_path, capsys, monkeypatch):
    """Some are looked at, all are counted; the sheet lands in ./outputs/inspect."""
    monkeypatch.chdir(tmp_path)
    pixels = write(tmp_path / "one.h5", "ST-ED", SCENES[:1])
    with h5py.File(pixels) as file, h5py.File("GazeCapture.h5", "w") as many:
        for number in range(60):
            group = many.create_group(f"{number:05d}")
            group["pixels"] = np.repeat(file["00002/pixels"][:], 1 + number % 3, axis=0)
            group["labels"] = np.repeat(file["00002/labels"][:], 1 + number % 3, axis=0)
        many.create_group("empty")
        del many["00000/labels"]
    assert run("GazeCapture.h5") == 0
    out = capsys.readouterr().out
    assert "persons    59, and 2 without samples or unreadable: 00000, empty\n" in out and "1 / 2 / 3 per person" in out
    assert "119 in all" in out and "persons inspected: 24" in out and "in one piece: pixels, labels" in out
    assert Image.open("outputs/inspect/GazeCapture.png").size[1] > 6 * PICTURE_PX


def test_a_folder(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("xgaze").mkdir()
    for number in range(2):
        write(Path("xgaze") / f"subject{number:04d}.h5", "ETH-XGaze 224", SCENES[: 2 + number])
    Path("xgaze/subject0009.h5").write_text("damaged")
    monkeypatch.chdir("xgaze")
    assert run(".") == 0
    out = capsys.readouterr().out
    assert "persons    2, and 1 without samples or unreadable: subject0009\n" in out and "2 / 2.5 / 3 per person" in out
    assert Path("outputs/inspect/xgaze.png").is_file()


def test_who_cannot_be_read_is_told_and_the_others_are_shown(tmp_path, capsys):
    path = write(tmp_path / "a.h5", "ST-ED", SCENES)
    with h5py.File(path, "r+") as file:
        for number in range(5):
            file.copy("00002", f"degrees{number}")
            file[f"degrees{number}/labels"][:] = 20
        file.copy("00002", "x" * 5000)
        file.copy("00002", "\x1b[2J")
    assert run(path, "--output", tmp_path / "sheet.png") == 0
    out = capsys.readouterr().out
    assert out.count("are they degrees? Radians are expected") == 3 and "2 more persons cannot be read" in out
    assert "persons    7, and 1 without samples" in out and "persons inspected: 2" in out and "\x1b" not in out
    assert Image.open(tmp_path / "sheet.png").size[0] < 1700, "a long id does not make a wide sheet"


def test_large_chunks_are_called_slow(tmp_path, capsys):
    path = write(tmp_path / "a.h5", "ST-ED", SCENES)
    with h5py.File(path, "r+") as file:
        pixels = file["00002/pixels"][:]
        del file["00002/pixels"]
        file["00002"].create_dataset("pixels", data=pixels, chunks=(4, 128, 128, 3))
    assert run(path, "--output", tmp_path / "sheet.png") == 0
    assert "of 4 samples (slow): pixels; of 1 sample: labels" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["none.h5"], ["none.h5", "does not exist"]),
        (["text.h5"], ["text.h5", "not an HDF5 file"]),
        (["nobody"], ["nobody", "without .h5 or .hdf5 files"]),
        (["degrees.h5"], ["are they degrees"]),
        ([], ["FILE_OR_FOLDER"]),
        (["good.h5", "other.h5"], ["unexpected argument 'other.h5'"]),
        (["good.h5", "--out", "x.png"], ["--out: unknown flag", "--output"]),
        (["good.h5", "--output", "x.jpg"], ["--output", "x.jpg", "ends in .png"]),
        (["good.h5", "--output", "text.h5/x.png"], ["text.h5"]),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(flags, words, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("text.h5").write_text("no HDF5 file")
    Path("nobody").mkdir()
    write(Path("good.h5"), "ST-ED", SCENES[:1])
    with h5py.File(write(Path("degrees.h5"), "ST-ED", SCENES[:1]), "r+") as file:
        file["00002/labels"][:] = 20
    before = sorted(tmp_path.rglob("*"))
    assert run(*flags) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1 and all(word in err for word in words), err
    assert "hdf_path" not in err, "it has no such flag"
    assert sorted(tmp_path.rglob("*")) == before


def test_the_demo_file_and_a_second_time(tmp_path, capsys):
    """Also the renderer's own files; a file that is there is replaced only where asked to."""
    synthetic.write_hdf5(tmp_path / "demo.h5", 2, size=32, samples=3)
    (tmp_path / "sheet.png").write_bytes(b"somebody's picture")
    assert run(tmp_path / "demo.h5", "--output", tmp_path / "sheet.png") == 2
    captured = capsys.readouterr()
    assert "--overwrite" in captured.err and captured.out == "", "before anything is read"
    assert (tmp_path / "sheet.png").read_bytes() == b"somebody's picture"
    assert run(tmp_path / "demo.h5", "--output", tmp_path / "sheet.png", "--overwrite") == 0
    assert "layout     upstream" in capsys.readouterr().out
    assert Image.open(tmp_path / "sheet.png").format == "PNG"
    assert {path.name for path in tmp_path.iterdir()} == {"demo.h5", "sheet.png"}


def test_the_sheet_without_a_name_is_replaced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    synthetic.write_hdf5(tmp_path / "demo.h5", 2, size=32, samples=3)
    assert [run("demo.h5") for _ in range(2)] == [0, 0]
    assert [path.name for path in Path("outputs/inspect").iterdir()] == ["demo.png"]
