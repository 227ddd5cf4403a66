"""The Python API: README's lines run, and importing the package stays cheap."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

import vaegaze
from vaegaze import api
from vaegaze.errors import UserError
from vaegaze.models.checkpoint import Checkpoint
from vaegaze.renderer import data_set
from vaegaze.runs.person import Person

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
    assert vaegaze.load_model("outputs/person_001.pth").references


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"num_step": 3}, "did you mean num_steps"),
        ({"num_steps": 0}, "num_steps: got 0"),
        ({"blend": "auto"}, "vaegaze train"),
    ],
)
def test_wrong_settings_are_said_in_python_terms(settings, words):
    with pytest.raises(UserError) as error:
        vaegaze.finetune(None, None, **settings)
    assert words in str(error.value) and "--" not in str(error.value)


def test_settings_without_a_flag_count(tmp_path, rendered_samples, tiny_model):
    """A large weight decay leaves other weights; and tuned twice, the frames of both times count as trained."""
    person = Person("me", rendered_samples.take([0, 1, 2]), rendered_samples.take([3]), {})
    base = Checkpoint(tiny_model, {}, ())
    settings = {"num_steps": 2, "vgg_loss": 0, "precision": "fp32", "learning_rate": 1e-2, "replay": 0}
    tuned, decayed = (vaegaze.finetune(base, person, **settings, weight_decay=decay) for decay in (0, 50))
    name = "unet.conv_out.weight"
    assert not torch.equal(tuned.model.state_dict()[name], decayed.model.state_dict()[name])
    again = vaegaze.finetune(tuned, replace(person, train=rendered_samples.take([3, 4])), **settings)
    assert again.info["trained_indices"] == [0, 1, 2, 3, 4]
    assert vaegaze.evaluate(again, person, None)["eye_psnr"] > 0


def test_persons_are_read_for_the_model_that_ships():
    assert vaegaze.load_model().model.canvas == api.SHIPPED_CANVAS


def test_importing_the_package_imports_no_torch():
    script = "import sys, vaegaze; assert 'finetune' in dir(vaegaze); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT).returncode == 0


def test_the_list_of_commands_is_quick():
    script = "import sys; from vaegaze.__main__ import main; main([]); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "fine-tune" in done.stdout
