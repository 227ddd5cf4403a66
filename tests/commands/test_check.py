"""The set-up check: what it exits with, and that it looks at the very data a run would train on."""

import h5py
import pytest
from published_layouts import scene, write

from vaegaze.commands import check
from vaegaze.config.finetune import Config
from vaegaze.config.tree import resolve
from vaegaze.geometry.camera import canvas_camera
from vaegaze.renderer import data_set as synthetic
from vaegaze.runs.person import load_person


@pytest.fixture(scope="module")
def two_persons(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "two.h5"
    synthetic.write_hdf5(path, 2, 32, samples={1: 60, 2: 8}.__getitem__)
    return path


def yaml_for(tmp_path, hdf_path, **gazecapture):
    path = tmp_path / "settings.yaml"
    settings = "".join(f"    {key}: {value}\n" for key, value in {"hdf_path": f'"{hdf_path}"', **gazecapture}.items())
    path.write_text(f"oneshot_params:\n  gazecapture_params:\n{settings}", encoding="utf-8")
    return str(path)


def test_a_sound_file_passes_all_four(two_persons, capsys):
    assert check.main(["--hdf_path", str(two_persons)]) == 0
    out = capsys.readouterr().out
    assert out.count("✅") == 4 and "4 of 4 checks passed" in out and "person_001" in out


def test_the_settings_of_a_config_are_followed(two_persons, tmp_path, capsys):
    config = yaml_for(tmp_path, two_persons, person_id='"person_002"', num_samples=5, num_eval_samples=2)
    assert check.main(["--config", config]) == 0
    assert "person_002: 8 samples, 5 to train on, 2 held out" in capsys.readouterr().out


def test_a_person_that_a_run_would_refuse_fails(two_persons, tmp_path, capsys):
    broken = tmp_path / "broken.h5"
    broken.write_bytes(two_persons.read_bytes())
    with h5py.File(broken, "r+") as file:
        file["person_001/labels"][:, 0] = float("nan")
    assert check.main(["--hdf_path", str(broken)]) == 1
    assert "❌ data consistency" in capsys.readouterr().out


def test_too_few_samples_fail(two_persons, tmp_path, capsys):
    config = ["--config", yaml_for(tmp_path, two_persons, num_samples=500)]
    assert check.main(config) == 1
    out = capsys.readouterr().out
    assert "❌ random person selection" in out and "the most is 60" in out and "give fewer --num_samples" in out
    assert check.main([*config, "--num_samples", "60"]) == 0, "the advice can be followed"


def test_the_person_can_be_named(two_persons, capsys):
    assert check.main(["--hdf_path", str(two_persons), "--person_id", "person_002", "--num_samples", "5"]) == 0
    assert "person_002: 8 samples, 5 to train on" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [["--hdf_path", "/nowhere.h5"], ["--hdf_pth", "x"], ["--config", "/nowhere.yaml"]]
)
def test_unusable_input_is_one_line(arguments, capsys):
    assert check.main(arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1


def test_a_folder_is_called_a_data_set(tmp_path, capsys):
    """Also by a run, which reads it the same way."""
    for number in range(2):
        write(tmp_path / f"subject{number:04d}.h5", "ETH-XGaze 224", [scene()])
    flags = ["--hdf_path", str(tmp_path), "--num_samples", "1"]
    assert check.main(flags) == 0
    words = f"📁 Data set: {tmp_path} (2 files)\n"
    assert words in capsys.readouterr().out
    load_person(
        resolve(Config, None, {"hdf_path": str(tmp_path), "num_samples": "1"}, []).config.oneshot_params,
        canvas_camera(128),
        print,
    )
    assert words in capsys.readouterr().out


def test_a_wrong_path_is_told_with_its_key(tmp_path, capsys):
    assert check.main(["--hdf_path", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert "give the path of a gaze data set with --hdf_path (oneshot_params.gazecapture_params.hdf_path)" in err
