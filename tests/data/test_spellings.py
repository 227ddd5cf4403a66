"""Ids that Unicode spells in two ways, and ids that differ only in letter case."""

import json
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from command_runs import PERSON, RUN, assert_one_line, command, invoke

from vaegaze import files
from vaegaze.commands import train_all
from vaegaze.config.cohort import CohortParams
from vaegaze.data import hdf5
from vaegaze.data.frame_labels import FrameLabel
from vaegaze.data.labelled_frames import labelled_frames, unlabelled_pictures
from vaegaze.errors import UserError
from vaegaze.files import as_spelt, ignores_case
from vaegaze.geometry.camera import canvas_camera
from vaegaze.pretraining.splits import read_split
from vaegaze.runs import person_list
from vaegaze.runs.person_list import persons_to_run

COMPOSED, DECOMPOSED = "Zo\u00eb", "Zoe\u0308"


def renamed(world, path: Path, *names: str) -> Path:
    with h5py.File(world.hdf_path) as source, h5py.File(path, "w") as copy:
        for name in names:
            source.copy(PERSON, copy, name)
    return path


def test_thousands_of_names_spelt_otherwise(tmp_path):
    """Each folder is listed once, and each name is looked at once."""
    labels = []
    for number in range(1500):
        (tmp_path / f"{DECOMPOSED}{number}.jpg").touch()
        labels.append(FrameLabel(number + 2, f"{COMPOSED}{number}.jpg", np.zeros(2), None))
    begin_sec = time.process_time()
    with labelled_frames(tmp_path, labels, "labels.csv"):
        assert unlabelled_pictures(tmp_path, labels, "labels.csv") == 0
    assert time.process_time() - begin_sec < 1.5


def test_as_spelt():
    assert as_spelt(COMPOSED, [DECOMPOSED, "a"]) == DECOMPOSED and as_spelt(DECOMPOSED, [COMPOSED]) == COMPOSED
    assert as_spelt(COMPOSED, [DECOMPOSED, COMPOSED]) == COMPOSED, "the very name comes first"
    assert as_spelt("Zoe", [COMPOSED]) == "Zoe" and as_spelt("ZO\u00cb", [COMPOSED]) == "ZO\u00cb"


@pytest.mark.parametrize(("typed", "stored"), [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)], ids=["typed", "stored"])
def test_an_id_in_another_unicode_form(typed, stored, world, tmp_path):
    path = renamed(world, tmp_path / "gaze.h5", stored, "other")
    assert hdf5.sample_count(path, typed) == 12
    assert len(hdf5.read_person(path, typed, [0, 1], canvas_camera(32)).samples.images) == 2
    assert persons_to_run(str(path), CohortParams(persons=f"{typed},other")) == [stored, "other"]
    (tmp_path / "split.json").write_text(json.dumps({"train": [typed], "val": ["other"]}))
    assert read_split(path, str(tmp_path / "split.json"), val_share=0.1, seed=0).train == (stored,)
    with pytest.raises(UserError, match="under train and val"):
        (tmp_path / "split.json").write_text(json.dumps({"train": [typed], "val": [stored]}))
        read_split(path, str(tmp_path / "split.json"), val_share=0.1, seed=0)


@pytest.mark.skipif(sys.platform == "darwin", reason="its file systems take both spellings for one")
def test_a_folder_of_files_from_a_mac(world, tmp_path):
    folder = tmp_path / "persons"
    folder.mkdir()
    with h5py.File(world.hdf_path) as source, h5py.File(folder / f"{DECOMPOSED}.h5", "w") as copy:
        for key in source[PERSON]:
            source.copy(f"{PERSON}/{key}", copy, key)
    assert hdf5.sample_count(folder, COMPOSED) == 12
    outcome = command(*world.flags, *RUN, "--num_steps", 1, "--hdf_path", folder, "--person_id", COMPOSED,
                      "--save_dir", tmp_path / "out")  # fmt: skip
    assert outcome.code == 0, outcome


def test_ids_that_would_share_a_folder(world, tmp_path, monkeypatch):
    path = renamed(world, tmp_path / "gaze.h5", "Ann", "ann")
    flags = (*world.flags, "--hdf_path", path, "--num_steps", 1, "--num_eval_samples", 1, "--engine", "none")
    flags = (*flags, "--save_dir", tmp_path / "out")
    monkeypatch.setattr(person_list, "ignores_case", lambda folder: True)
    assert_one_line(invoke(train_all.main, *flags), "'Ann' and 'ann'", "letter case", "--save_dir")
    assert not (tmp_path / "out").exists()
    monkeypatch.undo()
    if not ignores_case(tmp_path):
        assert invoke(train_all.main, *flags).code == 0
        assert {each.name for each in (tmp_path / "out").iterdir() if each.is_dir()} == {"Ann", "ann"}


def test_whether_a_disk_ignores_case(tmp_path, monkeypatch):
    (tmp_path / "probe").touch()
    assert ignores_case(tmp_path / "not there") is (tmp_path / "PROBE").exists()
    assert [each.name for each in tmp_path.iterdir()] == ["probe"]
    monkeypatch.setattr(files.Path, "exists", lambda path: True)
    assert ignores_case(tmp_path)
