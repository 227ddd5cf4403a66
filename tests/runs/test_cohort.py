"""A finished run as a line of its cohort."""

import json
import os
import shutil

import pytest
from command_runs import PERSON

from vaegaze.config import tree
from vaegaze.config.finetune import Config
from vaegaze.config.tree import resolve
from vaegaze.files import occupied
from vaegaze.runs.cohort import FAILED, FINISHED, as_csv, finished_record


@pytest.fixture
def run(finished, tmp_path):
    """A finished run's folder, and its settings."""
    folder = tmp_path / PERSON
    shutil.copytree(finished[2], folder)
    flags = {"save_dir": str(tmp_path)}
    return folder, resolve(Config, str(folder.joinpath("config.yaml")), flags).config


def test_the_settings_of_a_run_are_read_once(run, monkeypatch):
    folder, config = run
    read, read_yaml = [], tree.read_yaml
    monkeypatch.setattr(tree, "read_yaml", lambda path: read.append(path) or read_yaml(path))
    assert finished_record(config, PERSON).status == FINISHED
    assert read == [str(folder / "config.yaml")]


@pytest.mark.parametrize(
    "damage",
    [
        {"before": "none"},
        {"after": [1.0]},
        {"after": {"l1": "small"}},
        {"held_out": {}},
        {"seconds_of": {"training": float("nan")}},
        {"seconds_of": {"training": 1e400}},
    ],
)
def test_a_summary_that_somebody_has_changed_is_told(damage, run):
    folder, config = run
    summary = json.loads((folder / "summary.json").read_text()) | damage
    (folder / "summary.json").write_text(json.dumps(summary).replace("Infinity", "1e400"))
    record = finished_record(config, PERSON)
    assert record.status == FAILED and "damaged summary" in record.reason
    assert PERSON in as_csv([record])


def test_the_mark_of_a_process_killed_at_the_end_of_a_run_is_removed(run):
    folder, config = run
    with occupied(folder):
        (mark,) = folder.glob(".vaegaze-*")
    dead = mark.with_name(mark.name.replace(f"-{os.getpid()}-", "-4194999-"))  # above the largest process id there is
    dead.touch()
    assert finished_record(config, PERSON).status == FINISHED
    assert not dead.exists()
    dead.touch()
    with occupied(folder):
        assert not dead.exists() and mark.exists()


def test_a_folder_is_no_result(run):
    folder, config = run
    (folder / "finetuned_model.pth").unlink(missing_ok=True)
    (folder / "finetuned_model.pth").mkdir()
    record = finished_record(config, PERSON)
    assert record.status == FAILED and "is a folder" in record.reason


def test_a_summary_nested_without_end_is_told(run):
    folder, config = run
    (folder / "summary.json").write_text("[" * 100_000)
    assert "damaged summary" in finished_record(config, PERSON).reason
