"""No file that is read runs code, and nothing that a file says reaches a place where it would be run or written."""

import os
import shutil
import subprocess
import sys

import h5py
import pytest
import torch
from command_runs import PERSON, ROOT, RUN, assert_one_line, command, contents_of, files_in
from conftest import Bomb, process_restored

from vaegaze.commands import evaluate
from vaegaze.errors import inert
from vaegaze.models.checkpoint import load_checkpoint
from vaegaze.models.tensor_files import load_tensors
from vaegaze.runs.cohort import Record, as_csv
from vaegaze.runs.folder import folder_name


@pytest.mark.parametrize("name", ["a.pth", "a.bin", "a.ckpt", "a.safetensors", "pytorch_model.bin"])
def test_a_pickle_under_any_name_runs_nothing(name, tmp_path):
    torch.save({"state_dict": Bomb(tmp_path / "executed")}, tmp_path / name)
    with pytest.raises(Exception, match=r"was not opened|is not a"):
        load_tensors(tmp_path / name)
    assert not (tmp_path / "executed").exists()


def with_bomb(path, mark) -> None:
    content = torch.load(path, weights_only=True)
    torch.save({**content, "extra": Bomb(mark)}, path)


@pytest.mark.parametrize("flag", ["--checkpoint_path", "--estimator", "--vgg_weights", "--base"])
def test_a_pickle_behind_a_flag_runs_nothing(flag, world, tmp_path):
    bomb = tmp_path / "bomb.pth"
    torch.save(Bomb(tmp_path / "executed"), bomb)
    flags = [*world.flags, *RUN, "--save_dir", tmp_path / "out", "--num_steps", 1, flag, bomb]
    if flag == "--vgg_weights":
        flags += ["--vgg_loss", 0.1]
    outcome = command(*flags)
    assert_one_line(outcome, "is not an adapter" if flag == "--base" else "was not opened")
    assert not (tmp_path / "executed").exists()


def test_a_pickle_in_an_adapter_or_its_base_runs_nothing(world, tmp_path):
    base = tmp_path / "base.pth"
    base.write_bytes(world.base.read_bytes())
    flags = [*world.flags, *RUN, "--checkpoint_path", base, "--num_steps", 1, "--num_eval_samples", 1]
    assert command(*flags, "--save", "adapter", "--save_dir", tmp_path).code == 0
    adapter, executed = tmp_path / PERSON / "adapter.pth", tmp_path / "executed"
    with_bomb(base, executed)
    with pytest.raises(Exception, match="was not opened"):
        load_checkpoint(adapter)
    with_bomb(adapter, executed)
    with pytest.raises(Exception, match="was not opened"):
        load_checkpoint(adapter)
    assert not executed.exists()


def test_links_planted_in_the_runs_folder_are_replaced_not_followed(world, tmp_path):
    outside, folder = tmp_path / "outside", tmp_path / "out" / PERSON
    outside.mkdir()
    folder.mkdir(parents=True)
    for name in ("config.yaml", "report.html", "finetuned_model.pth", "summary.json", "metrics.jsonl"):
        (outside / name).write_text("not the run's")
        (folder / name).symlink_to(outside / name)
    before = contents_of(outside)
    flags = [*world.flags, *RUN, "--num_steps", 1, "--num_eval_samples", 1, "--save_dir", tmp_path / "out"]
    assert command(*flags, "--overwrite").code == 0
    assert contents_of(outside) == before
    assert not any((folder / name).is_symlink() for name in files_in(folder))


@pytest.mark.parametrize("person_id", ["../../x", "/etc/x", "a\0b", "a\nb", "x" * 300, "..", ".", "", "a/b", "C:\\x"])
def test_an_id_never_leaves_its_folder(person_id, tmp_path):
    name = folder_name(person_id)
    assert os.sep not in name and "\0" not in name and "\n" not in name and ":" not in name and "\\" not in name
    assert name not in (".", "..") and len(name) <= 160
    assert (tmp_path / name).resolve().is_relative_to(tmp_path.resolve())


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_cell_of_a_table_is_a_formula(text):
    assert inert(text).startswith("'") and "\n" not in inert(text)
    assert inert("frame.png") == "frame.png" and inert("") == ""
    assert as_csv([Record(text, "failed", text)]).count(inert(text)) == 2


def test_evaluate_runs_no_pickle(world, tmp_path, capsys):
    bomb = tmp_path / "bomb.pth"
    torch.save(Bomb(tmp_path / "executed"), bomb)
    flags = ["--checkpoint", bomb, "--hdf_path", world.hdf_path, "--person_id", PERSON, "--estimator", "none"]
    with process_restored():
        assert evaluate.main([str(flag) for flag in flags]) == 2
    assert "was not opened" in capsys.readouterr().err and not (tmp_path / "executed").exists()


def test_no_code_beside_a_data_file_is_run(world, tmp_path):
    """Not even where a text attribute makes another process read it."""
    with h5py.File(tmp_path / "d.h5", "w") as file, h5py.File(world.hdf_path) as source:
        source.copy("person_002", file)
        file["person_002"].attrs["split"] = "demo"  # of variable length
    (tmp_path / "json.py").write_text("open('executed', 'w')")
    process = subprocess.run(
        [sys.executable, ROOT / "test_gazecapture_oneshot.py", "--hdf_path", "d.h5", "--num_samples", "5"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    assert not (tmp_path / "executed").exists()


def test_a_base_given_as_the_runs_own_folder_is_never_cleared(world, finished, tmp_path):
    shutil.copytree(finished[2], tmp_path / PERSON)
    outcome = command(
        *(*world.flags, "--person_id", PERSON, "--save_dir", tmp_path),
        *("--checkpoint_path", tmp_path / PERSON, "--overwrite"),
    )
    assert outcome.code == 2 and (tmp_path / PERSON / "finetuned_model.pth").exists()
