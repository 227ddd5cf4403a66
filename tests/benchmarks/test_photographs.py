"""What pasting brings, on the committed photograph and on rendered faces; and what redirecting costs."""

import json
import shutil

import pytest
from command_runs import ROOT

from benchmarks import pasting, photographs, redirecting, video_irises


@pytest.mark.usefixtures("landmarks_installed")
def test_photographs(tmp_path, capsys):
    shutil.copy(ROOT / "docs" / "images" / "astronaut.png", tmp_path)
    (tmp_path / "notes.txt").write_text("no picture")
    checkpoint = str(ROOT / "checkpoints" / "pretrained_model.pth")
    assert photographs.main([str(tmp_path), "--checkpoint", checkpoint]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "astronaut.png: 1 faces, 0 with closed eyes"
    numbers = json.loads(lines[-1])
    assert (numbers["faces"], numbers["closed"], numbers["redrawn"]) == (1, 0, 1)
    assert numbers["sharpness"] > 0.4 and 0.8 < numbers["edge"] < 1.2
    assert numbers["own_irises"] == 1 and numbers["sharpness"] > numbers["sharpness_irises_as_drawn"] > 0.4


@pytest.mark.usefixtures("landmarks_installed")
def test_rendered_faces_with_known_true_pictures(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert pasting.main(["--persons", "1", "--gazes", "2", "--face_px", "384"]) == 0
    numbers = json.loads(capsys.readouterr().out.splitlines()[-1])
    alone, detail, irises = (numbers[name] for name in ("alone", "detail", "irises"))
    assert numbers["own_irises"] > 0 and irises["sharpness"] > detail["sharpness"] > alone["sharpness"]
    assert irises["eye_l1"] < alone["eye_l1"] and irises["eye_psnr"] > alone["eye_psnr"] - 0.5


def test_irises_in_a_rendered_video(landmarks_installed, capsys):
    pytest.importorskip("cv2")
    assert video_irises.main(["--persons", "5", "--seconds", "0.32"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])["means"]
    assert found["with"]["eye_psnr"] > found["without"]["eye_psnr"] + 0.5 and found["true"]["eye_l1"] == 0
    assert found["without"]["sharpness"] < found["with"]["sharpness"] < 1.1
    assert found["with"]["jitter_ratio"] < 1.5 and found["with"]["switches"] == 0


def test_speed_and_memory(landmarks_installed, capsys, monkeypatch):
    pytest.importorskip("cv2")
    monkeypatch.setattr(redirecting, "PHOTOS", 2)
    assert redirecting.main(["--sizes", "320x256", "--seconds", "0.4"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["photo"]["first_sec"] > 0 and found["photo"]["usual_sec"] > 0
    video = found["320x256, 0.4 s"]
    assert video["frames_per_sec"] > 0.05 and 200 < video["most_mb"] < 4000
