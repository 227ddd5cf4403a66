"""The number format of a pre-training: what `auto` comes to, where that is written, and that it stays."""

import os
import subprocess
import sys

import pytest
import torch
import yaml
from command_runs import ROOT
from conftest import TINY_CONFIG, process_restored
from small_pretraining import SMALL

from vaegaze.commands import pretrain
from vaegaze.config.pretrain import PretrainConfig, PretrainParams
from vaegaze.config.tree import resolve
from vaegaze.models import device

WEAK = {"min_vae_eye_psnr": 90}  # ends as soon as the autoencoder is trained, and leaves a run to resume


@pytest.fixture
def settings_file(tmp_path):
    def write(**settings):
        params = {"save_dir": str(tmp_path / "run"), "output": str(tmp_path / "run/model.pth"), **SMALL, **settings}
        path = tmp_path / "settings.yaml"
        path.write_text(yaml.safe_dump({"pretrain_params": params, "model_params": TINY_CONFIG}))
        return path

    return write


@pytest.fixture
def command(settings_file):
    def run(*flags, **settings):
        with process_restored():
            return pretrain.main(["--config", str(settings_file(**settings)), *flags])

    return run


@pytest.fixture
def native(monkeypatch):
    """Says whether this processor is to look as if it computed bf16."""

    def set_native(is_native):
        monkeypatch.setattr(device, "has_native_bf16", lambda name: is_native)

    return set_native


@pytest.fixture
def planned(monkeypatch):
    """What the plan is worked out from; counting takes long."""
    seen = []
    monkeypatch.setattr(pretrain, "plan", lambda config, *sources, **processes: seen.append(config) or "")
    return lambda: seen.pop().pretrain_params.precision


def written(folder):
    return yaml.safe_load((folder / "config.yaml").read_text())["pretrain_params"]["precision"]


def test_the_default_is_as_before_and_shipped_files_fit_any_processor():
    assert PretrainParams().precision == "fp32"
    chosen = {
        path.name: resolve(PretrainConfig, str(path)).config.pretrain_params.precision
        for path in (ROOT / "configs/pretrain").glob("*.yaml")
    }
    for_a_gpu = chosen.pop("gazecapture_256.yaml")
    assert for_a_gpu == "bf16" and set(chosen.values()) == {"auto"}


def test_auto_on_a_processor_that_emulates_bf16(settings_file, tmp_path):
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2", "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "vaegaze", "pretrain", f"--config={settings_file(precision='auto')}"]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "precision: fp32" in done.stdout and "emulates" not in done.stdout
    card = (tmp_path / "run/model.md").read_text()
    assert written(tmp_path / "run") == "fp32" and "CPU threads, fp32" in card and 'precision: "fp32"' in card
    stored = torch.load(tmp_path / "run/model.pth", weights_only=True)["info"]["config"]
    assert 'precision: "fp32"' in stored


@pytest.mark.parametrize("first", [True, False])
def test_what_auto_chose_is_not_chosen_anew_on_resume(first, command, planned, native, tmp_path, capsys):
    chosen = "bf16" if first else "fp32"
    native(first)
    assert command(precision="auto", **WEAK) == 2 and f"precision: {chosen}\n" in capsys.readouterr().out
    native(not first)
    assert command("--resume", precision="auto", **WEAK) == 2
    told = capsys.readouterr()
    assert f"precision: {chosen}\n" in told.out and "min_vae_eye_psnr" in told.err, "it goes on, and is as weak"
    assert written(tmp_path / "run") == chosen
    assert command("--resume", "--dry_run", precision="auto", **WEAK) == 0
    assert planned() == chosen
    assert command("--overwrite", precision="auto", **WEAK) == 2
    assert written(tmp_path / "run") != chosen, "a new run"


def test_a_run_that_was_asked_for_bf16_goes_on_with_auto(command, native, tmp_path, capsys):
    """As one that was begun with an earlier tiny.yaml, which named bf16."""
    native(True)
    assert command(precision="bf16", **WEAK) == 2
    native(False)
    assert command("--resume", precision="auto", **WEAK) == 2
    assert "min_vae_eye_psnr" in capsys.readouterr().err and written(tmp_path / "run") == "bf16"
    assert command("--resume", precision="fp32", **WEAK) == 2
    assert "exactly these settings" in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, "a: [", "pretrain_params: {precision: 5}\n"])
def test_without_the_runs_settings_nothing_is_resumed(content, command, native, tmp_path, capsys):
    native(True)
    assert command(precision="auto", **WEAK) == 2
    (tmp_path / "run/config.yaml").unlink()
    if content is not None:
        (tmp_path / "run/config.yaml").write_text(content)
    capsys.readouterr()
    assert command("--resume", precision="auto", **WEAK) == 2
    assert "no interrupted run with exactly these settings" in capsys.readouterr().err


@pytest.mark.parametrize(("is_native", "chosen"), [(True, "bf16"), (False, "fp32")])
def test_the_plan_counts_what_auto_comes_to(is_native, chosen, command, planned, native, capsys):
    native(is_native)
    assert command("--dry_run", precision="auto") == 0
    assert planned() == chosen and f"Precision: {chosen}, chosen by auto\n" in capsys.readouterr().out
    assert command("--dry_run", precision="bf16") == 0
    assert planned() == "bf16" and "Precision: bf16\n" in capsys.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_plan_for_a_gpu_that_is_elsewhere(command, planned, capsys):
    assert command("--dry_run", "--device=cuda", precision="auto") == 0
    assert planned() == "bf16" and "Precision: bf16, assumed of a GPU that is not here\n" in capsys.readouterr().out


@pytest.mark.parametrize(("others", "chosen"), [("bf16", "bf16"), ("fp32", "fp32")])
def test_all_processes_compute_alike(others, chosen, native):
    """Also on machines that differ."""

    class Two:
        device = torch.device("cpu")

        def gather(self, value):
            return [value, others]

    native(True)
    assert pretrain.common_precision("auto", Two()) == chosen
