"""HDF5 files as others leave them: compressed in other ways, never closed, arranged differently, damaged."""

import subprocess
import sys
import time
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest
from conftest import process_restored

from vaegaze.data import hdf5, heap_texts
from vaegaze.data.safe_hdf5 import plain_attributes, text_list
from vaegaze.errors import UserError
from vaegaze.geometry.camera import canvas_camera

ROOT = Path(__file__).parents[2]
HANGS = ROOT / "tests/cases/hangs.h5"  # a mutated file: looking up its texts does not end
CANVAS = canvas_camera(32)


def frames(count: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def write(path: Path, persons: dict[str, dict[str, np.ndarray]], **options) -> Path:
    with h5py.File(path, "w") as file:
        for name, datasets in persons.items():
            for key, array in datasets.items():
                file.create_dataset(f"{name}/{key}", data=array, **options)
    return path


def person(count: int = 3) -> dict[str, np.ndarray]:
    return {"pixels": frames(count), "labels": np.full((count, 8), 0.1, dtype=np.float32)}


def test_reading_ends_where_looking_up_a_text_does_not():
    began = time.monotonic()
    with pytest.raises(UserError, match="does not end; copy or download it again"):
        hdf5.read_person(HANGS, "person_000", [0], CANVAS)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("form", ["attribute", "dataset"])
@pytest.mark.parametrize("dtype", [h5py.string_dtype(), h5py.string_dtype(length=3)], ids=["variable", "fixed"])
def test_a_list_of_texts(form, dtype, tmp_path):
    path = write(tmp_path / "a.h5", {"é": person(), "b": person()})
    ids = np.array(["é".encode(), b"b"], dtype=dtype)
    with h5py.File(path, "r+") as file:
        file.attrs["other"] = 3
        if form == "attribute":
            file.attrs.create("train", ids, dtype=dtype)
        else:
            file.create_dataset("train", data=ids, dtype=dtype)
    with h5py.File(path) as file:
        assert text_list(file, "train") == ["é", "b"]
        assert text_list(file, "other") is text_list(file, "none") is text_list(file, "b") is None


@pytest.mark.parametrize("dtype", [np.int64, h5py.vlen_dtype(np.uint8), h5py.ref_dtype, np.dtype([("a", "i4")])])
def test_no_list_of_texts(dtype, tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("train", (2,), dtype)
        file.create_dataset("val", (2, 2), h5py.string_dtype())
        assert text_list(file, "train") is text_list(file, "val") is None


def test_a_list_in_a_damaged_heap_is_read_by_another_process(tmp_path, monkeypatch):
    path = write(tmp_path / "a.h5", {"a": person()})
    with h5py.File(path, "r+") as file:
        file["train"] = ["a"]
    monkeypatch.setattr(heap_texts, "_READ", "import time; print(flush=True); time.sleep(60)")
    monkeypatch.setattr(heap_texts, "MAX_SEC", 0.1)
    with h5py.File(path) as file, pytest.raises(UserError, match="does not end"):
        text_list(file, "train")


def test_the_texts_of_files_leave_a_damaged_one_out(tmp_path, monkeypatch):
    """Whether reading it does not end, ends the reader, or is refused at once."""
    files = [tmp_path / f"{name}.h5" for name in ("a", "hangs", "b", "crashes", "c", "no")]
    for file in (files[0], files[2], files[4]):
        write(file, {"p": person()})
        with h5py.File(file, "r+") as opened:
            opened.attrs["split"] = file.stem
    files[1].write_bytes(HANGS.read_bytes())
    files[3].write_bytes(b"")
    files[5].write_bytes(b"no HDF5 file")
    stuck = "open_file = h5py.File\ndef file_or_worse(path, mode):\n    import os, time\n"
    stuck += "    time.sleep(60) if 'hangs' in path else os._exit(1) if 'crashes' in path else None\n"
    stuck += "    return open_file(path, mode)\nh5py.File = file_or_worse\nFIRST = 8"
    monkeypatch.setattr(heap_texts, "_READ", heap_texts._READ.replace("FIRST = 8", stuck))
    monkeypatch.setattr(heap_texts, "MAX_SEC", 2.0)
    assert heap_texts.of_files(files, "split") == {files[0]: "a", files[2]: "b", files[4]: "c"}


def test_texts_of_variable_length_are_read_whatever_is_beside_them(tmp_path):
    path = write(tmp_path / "a.h5", {"a": person(), "b": person(), "c": person()})
    with h5py.File(path, "r+") as file:
        file["a"].attrs["split"] = "val"
        file["b"].attrs["split"] = "é" * 3000
        file["d"] = h5py.SoftLink("/a")
        file["c"].attrs["split"] = np.bytes_("train")
        file["c"].attrs["seed"] = 7
    with h5py.File(path) as file:
        found = [plain_attributes(file[name], ("split", "seed")) for name in "abc"]
    assert found == [{"split": "val"}, {}, {"split": "train", "seed": 7}]


COMPRESSIONS = {
    "blosc": hdf5plugin.Blosc(),
    "lz4": hdf5plugin.LZ4(),
    "zstd": hdf5plugin.Zstd(),
    "bitshuffle": hdf5plugin.Bitshuffle(),
}


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_other_compressions_are_read_with_hdf5plugin_and_named_without(tmp_path, name):
    path = write(tmp_path / "a.h5", {"p": person()}, chunks=True, compression=COMPRESSIONS[name])
    assert len(hdf5.read_person(path, "p", [0, 1, 2], CANVAS).samples) == 3
    script = (
        "import sys; sys.modules['hdf5plugin'] = None\n"
        "from vaegaze.data import hdf5\n"
        "from vaegaze.errors import UserError\n"
        "try:\n"
        "    hdf5.sample_count(sys.argv[1], 'p')\n"
        "except UserError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, path], cwd=ROOT, capture_output=True, text=True, check=True)
    assert f"the HDF5 filter {name} " in done.stdout and "pip install hdf5plugin" in done.stdout


def test_a_filter_that_nobody_has_is_named(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("p")
        group["labels"] = person()["labels"]
        creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        creation.set_chunk((1, 32, 32, 3))
        creation.set_filter(32999, h5py.h5z.FLAG_OPTIONAL)
        space = h5py.h5s.create_simple((3, 32, 32, 3))
        h5py.h5d.create(group.id, b"pixels", h5py.h5t.STD_U8LE, space, creation)
    with pytest.raises(UserError, match="number 32999"):
        hdf5.sample_count(path, "p")


def test_a_file_that_its_writer_did_not_close(tmp_path):
    script = (
        "import h5py, os, sys\n"
        "file = h5py.File(sys.argv[1], 'w', libver='latest')\n"
        "file['p/pixels'] = 1\n"
        "file.flush()\n"
        "os._exit(0)\n"
    )
    subprocess.run([sys.executable, "-c", script, tmp_path / "a.h5"], check=True)
    with pytest.raises(UserError, match=r"was not closed: .*h5clear -s") as error:
        hdf5.person_counts(tmp_path / "a.h5")
    assert "download" not in str(error.value)


def test_persons_one_level_deeper(tmp_path):
    path = write(tmp_path / "a.h5", {"train/a": person(2), "train/b": person(3), "c": person(1), "notes/d": {"x": [1]}})
    assert hdf5.person_counts(path) == {"train/a": 2, "train/b": 3, "c": 1, "notes": 0}
    data = hdf5.read_person(path, "train/b", [2], CANVAS)
    assert (data.person_id, data.layout) == ("train/b", "upstream")
    with pytest.raises(UserError, match="'train/a'"):
        hdf5.sample_count(path, "train/aa")


def test_links_one_level_deeper_are_not_followed(tmp_path):
    path = write(tmp_path / "a.h5", {"a": person(2), "train/b": person(1)})
    with h5py.File(path, "r+") as file:
        file["linked"] = h5py.SoftLink("/train")
        file["train/c"] = h5py.SoftLink("/a")
        file["train/d"] = h5py.ExternalLink("elsewhere.h5", "/a")
    assert {name: count for name, count in hdf5.person_counts(path).items() if count} == {"a": 2, "train/b": 1}
    for name in ("linked/b", "train/c", "train/d"):
        with pytest.raises(UserError, match="is not among"):
            hdf5.sample_count(path, name)


@pytest.mark.parametrize(
    ("persons", "found"),
    [
        ({"p0": {"images": frames(), "labels": np.zeros((3, 8))}}, ["p0/", "images (3, 32, 32, 3)", "labels (3, 8)"]),
        ({".": {"images": frames(), "gazes": np.zeros((3, 2))}}, ["images (3, 32, 32, 3)", "gazes (3, 2)"]),
        ({"a/b/c": {"pixels": frames()}}, ["a/", "b/"]),
        ({"p": {"pixels": frames(), "gaze_deg": np.zeros((3, 2))}}, ["pixels (3, 32, 32, 3)", "gaze_deg (3, 2)"]),
        ({"p": {"pixels": frames()[..., 0]}}, ["pixels (3, 32, 32)"]),
    ],
)
def test_what_was_found_stands_beside_what_is_needed(tmp_path, persons, found):
    path = write(tmp_path / "a.h5", persons)
    with pytest.raises(UserError) as error:
        hdf5.person_counts(path)
    for words in (*found, "expected", "labels"):
        assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_the_check_says_what_training_would(tmp_path, capsys):
    from vaegaze.commands import check, train

    path = write(tmp_path / "a.h5", {"p0": {"images": frames(), "labels": np.zeros((3, 8))}})
    said = []
    for main in (check.main, train.main):
        with process_restored():
            assert main(["--hdf_path", str(path)]) == 2
        said.append(capsys.readouterr().err)
    assert said[0] == said[1] and "images (3, 32, 32, 3)" in said[0]
