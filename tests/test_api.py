"""The Python API: README's lines run, and importing the package stays cheap."""

import re
import subprocess
import sys
from pathlib import Path

from PIL import Image

import vaegaze
from vaegaze.renderer import data_set

ROOT = Path(__file__).parents[1]


def readme_lines() -> str:
    return re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)[1]


def test_the_readme_shows_it_in_a_few_lines():
    assert 5 < len([line for line in readme_lines().splitlines() if line]) <= 15


def test_the_lines_of_the_readme_run(tmp_path, monkeypatch, capsys):
    """On a smaller file and with fewer steps."""
    monkeypatch.chdir(tmp_path)
    data_set.write_hdf5("outputs/demo/demo.h5", 1, samples=lambda number: 60)
    script = readme_lines().replace("num_samples=30", "num_samples=8, num_eval_samples=2").replace("150", "15")
    exec(script.replace("evaluate(model, person)", "evaluate(model, person, None)"), {})
    base_psnr, tuned_psnr = map(float, capsys.readouterr().out.split())
    assert tuned_psnr > base_psnr > 20
    assert Image.open("outputs/looking_left.png").size == (512, 512)
    assert vaegaze.load_model("outputs/person_001.pth").reference is not None


def test_importing_the_package_imports_no_torch():
    script = "import sys, vaegaze; assert 'finetune' in dir(vaegaze); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT).returncode == 0


def test_the_list_of_commands_is_quick():
    script = "import sys; from vaegaze.__main__ import main; main([]); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "fine-tune" in done.stdout
