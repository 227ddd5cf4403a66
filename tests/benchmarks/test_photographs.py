"""The benchmark of one's own photographs, on the committed one."""

import json
import shutil

import pytest
from command_runs import ROOT

from benchmarks import photographs


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
