"""The command on data damaged in part, or as a whole: who is left out is counted and named; else exit code 2."""

import json
import shutil

import h5py
import numpy as np
import pytest
from command_runs import assert_one_line
from small_pretraining import run_in

from vaegaze.models.checkpoint import load_checkpoint
from vaegaze.renderer import data_set

SIZE_PX, FRAMES = 32, 4  # but person_001 has 60 frames
TRAIN, VAL = [f"person_{number:03d}" for number in range(1, 7)], "person_007"
ALL_AT_ONCE = {"vae_batch_size": 6, "frames_per_person": FRAMES}  # the first step reads everybody, and every frame


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("file") / "data.h5"
    data_set.write_hdf5(path, 8, size=SIZE_PX, samples=FRAMES, split="all")
    return path


@pytest.fixture
def file(whole, tmp_path):
    """A copy to damage."""
    return shutil.copy(whole, tmp_path / "data.h5")


def overwrite_chunk(path, name, row):
    with h5py.File(path, "r") as opened:
        chunk = opened[name].id.get_chunk_info(row)
    with open(path, "r+b") as raw:
        raw.seek(chunk.byte_offset)
        raw.write(b"\xff" * chunk.size)  # lzf: a copy of what lies before the beginning


def test_a_file_in_a_folder_that_is_away(whole, tmp_path):
    """A damaged one, or a link to a disk that is away, costs that person alone; in the plan, too."""
    (tmp_path / "persons").mkdir()
    with h5py.File(whole) as stored:
        for person in stored:
            with h5py.File(tmp_path / f"persons/{person}.h5", "w") as alone:
                for name, dataset in stored[person].items():
                    alone[name] = dataset[:FRAMES]
    for person in TRAIN[1:3]:
        (tmp_path / f"persons/{person}.h5").unlink()
    (tmp_path / "persons/person_002.h5").symlink_to("/away/person_002.h5")
    (tmp_path / "persons/person_003.h5").write_bytes(b"cut short")
    for flags in (["--dry_run"], []):
        done = run_in(tmp_path / "run", *flags, sources=[str(tmp_path / "persons")])
        assert "2 without readable images or labels (person_002, person_003)" in done.out


@pytest.mark.parametrize("workers", [0, 1])
def test_who_cannot_be_used_is_left_out_counted_and_named(workers, file, tmp_path):
    with h5py.File(file, "a") as opened:
        opened["person_002/labels"][:] = np.nan
        opened["person_003/labels"][1] = np.nan
        del opened["person_004/labels"]
        opened["person_006/labels"][1:] = 90.0  # degrees
    overwrite_chunk(file, "person_005/pixels", 2)

    run = tmp_path / "run"
    done = run_in(run, sources=[str(file)], workers=workers, **ALL_AT_ONCE)
    skipped = json.loads((run / "skipped.json").read_text())
    rows = {name: sorted(entry["rows"]) for name, entry in skipped.items() if entry["rows"]}
    assert rows == {
        f"{file}: person_002": [0, 1, 2, 3],
        f"{file}: person_003": [1],
        f"{file}: person_005": [2],
        f"{file}: person_006": [1, 2, 3],
    }
    left_out = {name for name, entry in skipped.items() if entry["left_out"]} - {f"{file}: person_004"}
    assert left_out == {f"{file}: person_002", f"{file}: person_006"}
    assert all(entry["why"] for entry in skipped.values())

    before, after = done.out.split('{"phase"', 1)
    assert "person_004" in before, "told before training"
    (line,) = [line for line in after.splitlines() if line.startswith("Skipped")]
    card = (run / "model.md").read_text(encoding="utf-8")
    for text in (line, card):
        assert "9 frames" in text and "person_002" in text and "person_006" in text
    assert "not stated" in card
    records = load_checkpoint(run / "model.pth").info["records"]
    assert len(records) == 3 and np.isfinite([record["loss"] for record in records]).all()


def without_labels_of(persons):
    def damage(path):
        with h5py.File(path, "a") as opened:
            for person in persons:
                opened[f"{person}/labels"][:] = np.nan

    return damage


def without_datasets(path):
    with h5py.File(path, "a") as opened:
        for person in opened.values():
            del person["pixels"]


def cut_short(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize(
    ("damage", "workers", "words"),
    [
        (without_labels_of(TRAIN), 0, "none of the 6 persons can be used"),
        (without_labels_of(TRAIN), 1, "none of the 6 persons can be used"),
        (without_labels_of([VAL]), 0, "none of the 1 persons can be used"),
        (without_datasets, 0, "none of its 8 persons has images and labels"),
        (cut_short, 0, "damaged or cut short"),
    ],
)
def test_a_data_set_without_anything_usable_ends_with_one_line(damage, workers, words, file, tmp_path):
    damage(file)
    ended = run_in(tmp_path / "run", sources=[str(file)], workers=workers, ok=False)
    assert_one_line(ended, str(file), words)
    assert '"phase"' not in ended.out and not (tmp_path / "run" / "model.pth").exists()


@pytest.mark.parametrize("damage", [without_labels_of(TRAIN), without_datasets])
def test_nor_does_it_do_so_beside_rendered_persons(damage, file, tmp_path):
    """Else a whole source would be missing from hours of training."""
    damage(file)
    ended = run_in(tmp_path / "run", sources=["rendered", str(file)], ok=False, **ALL_AT_ONCE)
    assert_one_line(ended, str(file))
