"""Samples without usable labels are left out, counted and named; the others are those that a sound file would give."""

import json

import h5py
import numpy as np
import pytest
from command_runs import PERSON, assert_one_line, command, invoke, train_rows

from vaegaze.commands import check, evaluate, inspect
from vaegaze.data import hdf5
from vaegaze.data.facts import describe_person
from vaegaze.data.rows import choose_rows, left_out_line
from vaegaze.data.selection import choose_samples
from vaegaze.errors import UserError
from vaegaze.runs.worker import reason_of

STEPS = ("--num_steps", 4, "--checkpoint_every", 2, "--log_every", 1)


@pytest.fixture
def spoilt(world, tmp_path):
    """The rendered persons; two of PERSON's training labels and one of the held-out ones are no numbers."""
    path = tmp_path / "spoilt.h5"
    path.write_bytes(world.hdf_path.read_bytes())
    train, held_out = choose_samples(12, 8, 2, seed=0)
    rows = sorted(map(int, (train[1], train[4], held_out[0])))
    with h5py.File(path, "r+") as file:
        for row, value, column in zip(rows, (np.nan, np.inf, -np.inf), (0, 3, 1)):
            file[f"{PERSON}/labels"][row, column] = value
    return path, rows


def test_the_next_rows_drawn_take_their_place(spoilt):
    path, bad = spoilt
    rows = choose_rows(path, PERSON, 8, 1, seed=0)
    everything = choose_samples(12, 12, 0, seed=0)[0]
    assert rows.total == 12 and rows.left_out == bad
    assert sorted([*rows.train, *rows.held_out, *bad]) == everything.tolist() and len(rows.held_out) == 1
    few = choose_rows(path, PERSON, 2, 0, seed=0)
    assert set(few.train) <= set(rows.train) and set(few.left_out) <= set(bad)
    assert len(choose_rows(path, PERSON, 30, 5, seed=0).train) == 9


def test_a_row_that_is_not_drawn_changes_nothing(world, tmp_path):
    path = tmp_path / "spoilt.h5"
    path.write_bytes(world.hdf_path.read_bytes())
    train, held_out = choose_samples(60, 8, 2, seed=0)
    with h5py.File(path, "r+") as file:
        file["person_001/labels"][min(set(range(60)) - {*train, *held_out})] = np.nan
    rows = choose_rows(path, "person_001", 8, 2, seed=0)
    assert (rows.train == train).all() and (rows.held_out == held_out).all() and rows.left_out == []


def test_a_run_says_it_and_goes_on_where_it_stopped(world, spoilt, tmp_path, monkeypatch):
    path, bad = spoilt
    flags = (*world.flags, "--hdf_path", path, "--person_id", PERSON, "--num_eval_samples", 1, *STEPS)
    whole = command(*flags, "--save_dir", tmp_path / "whole")
    assert whole.code == 0 and left_out_line(bad, PERSON) in whole.out.splitlines(), whole
    info = json.loads((tmp_path / "whole" / PERSON / "person_info.json").read_text())
    assert info["left_out_indices"] == bad and not set(train_rows(tmp_path / "whole" / PERSON)) & set(bad)
    assert "Samples left out" in (tmp_path / "whole" / PERSON / "report.html").read_text()

    from command_runs import signal_at_step

    with monkeypatch.context() as patched:
        signal_at_step(patched, 3, 2)
        assert command(*flags, "--save_dir", tmp_path / "halves").code == 130
    with h5py.File(path, "r+") as file:  # mended meanwhile: other rows would be trained on
        kept = file[f"{PERSON}/labels"][bad[0]]
        file[f"{PERSON}/labels"][bad[0]] = 0.1
    assert_one_line(command(*flags, "--save_dir", tmp_path / "halves", "--resume"), "other data")
    with h5py.File(path, "r+") as file:
        file[f"{PERSON}/labels"][bad[0]] = kept
    assert command(*flags, "--save_dir", tmp_path / "halves", "--resume").code == 0
    models = [tmp_path / each / PERSON / "finetuned_model.pth" for each in ("whole", "halves")]
    assert models[0].read_bytes() == models[1].read_bytes()

    drawn = invoke(
        evaluate.main, "--checkpoint", models[0], "--hdf_path", path, "--person_id", PERSON, "--estimator", "none"
    )
    assert drawn.code == 0 and "Left out" in drawn.out, drawn


def test_the_other_commands_say_the_same(world, spoilt, tmp_path):
    path, bad = spoilt
    checked = invoke(check.main, "--hdf_path", path, "--person_id", PERSON, "--num_samples", 8)
    assert checked.code == 0 and left_out_line(bad, PERSON) in checked.out and "8 to train on" in checked.out, checked
    shown = invoke(inspect.main, path, "--output", tmp_path / "sheet.png")
    assert shown.code == 0 and f"3 of 81 labels read hold NaN or infinity, such as row {bad[0]} of" in shown.out, shown
    facts = describe_person(path, PERSON, 100)
    assert facts.left_out == bad and len(facts.rows) == 9 and np.isfinite(facts.gaze).all()


def test_degrees_are_no_reason_to_leave_a_sample_out(world, tmp_path):
    """Small angles in degrees would pass for radians: the person is refused."""
    path = tmp_path / "degrees.h5"
    path.write_bytes(world.hdf_path.read_bytes())
    with h5py.File(path, "r+") as file:
        file[f"{PERSON}/labels"][:6] = np.degrees(file[f"{PERSON}/labels"][:6]) + 4
    flags = (*world.flags, "--hdf_path", path, "--person_id", PERSON, "--save_dir", tmp_path)
    assert_one_line(command(*flags), "degrees")


def test_a_person_of_whom_nothing_is_left_is_refused(world, spoilt, monkeypatch):
    path, _ = spoilt
    with h5py.File(path, "r+") as file:
        file[f"{PERSON}/labels"][:] = np.nan
    with pytest.raises(UserError, match=f"'{PERSON}': none of its 12 samples has usable labels; row 0 ") as error:
        choose_rows(path, PERSON, 8, 2, seed=0)
    assert "\n" not in reason_of(error.value)
    monkeypatch.setattr(hdf5, "MOST_LEFT_OUT", 5)  # a file may claim millions
    with pytest.raises(UserError, match="more than 5 rows"):
        choose_rows(path, PERSON, 8, 2, seed=0)


def test_many_are_named_in_part():
    assert left_out_line([7], "a").endswith("row 7") and "1 sample of a" in left_out_line([7], "a")
    assert left_out_line(range(9), "a").endswith("rows 0, 1, 2, 3, 4 and 4 more")
