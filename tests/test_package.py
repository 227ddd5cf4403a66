"""The package as it installs: shipped weights and settings are found from any folder."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from vaegaze.config.cohort import INSTALL_SCALE
from vaegaze.config.finetune import INSTALL_LANDMARKS, INSTALL_VISION
from vaegaze.files import shipped_path

ROOT = Path(__file__).parents[1]


def test_shipped_files_are_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = shipped_path("./checkpoints/pretrained_model.pth")
    assert found.is_file() and found.samefile(ROOT / "checkpoints" / "pretrained_model.pth")


def test_what_lies_here_wins_over_what_ships(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = Path("configs/finetune/finetune_photo.yaml")
    own.parent.mkdir(parents=True)
    own.write_text("")
    assert shipped_path(own) == own


@pytest.mark.parametrize(
    "path", ["missing.pth", "checkpoints/missing.pth", "../checkpoints/pretrained_model.pth", "README.md"]
)
def test_nothing_else_is_looked_for_elsewhere(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert shipped_path(path) == Path(path)


@pytest.mark.parametrize(
    ("file", "hint"),
    [
        ("requirements-vision.txt", INSTALL_VISION),
        ("requirements-landmarks.txt", INSTALL_LANDMARKS),
        ("requirements-scale.txt", INSTALL_SCALE),
    ],
)
def test_hints_name_what_the_extras_install(file, hint):
    lines = (re.split("[#;]", line)[0].strip() for line in (ROOT / file).read_text().splitlines())
    packages = [line for line in lines if line]
    assert packages and all(package in hint for package in packages)


@pytest.mark.slow
def test_the_wheel_works_in_another_folder(tmp_path):
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, ROOT]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("vaegaze-*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    elsewhere = tmp_path / "a folder"
    elsewhere.mkdir()
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "installed")}

    def vaegaze(*flags):
        command = [sys.executable, "-m", "vaegaze", *map(str, flags)]
        return subprocess.run(command, cwd=elsewhere, env=env, capture_output=True, text=True)

    done = vaegaze("train", "--config", "configs/finetune/finetune_photo.yaml", "--num_steps", 1)
    assert done.returncode == 0, done
    result = next(elsewhere.rglob("finetuned_model.pth"))
    photo = ("--image", ROOT / "docs/images/astronaut.png", "--mask", ROOT / "docs/images/astronaut_mask.png")
    done = vaegaze("redirect", "--checkpoint", result, *photo, "--gaze", 0, 0.3, "--output", "out.png")
    assert done.returncode == 0 and (elsewhere / "out.png").is_file(), done
