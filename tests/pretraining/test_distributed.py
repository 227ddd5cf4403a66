"""Several processes, as torchrun starts them: the same as one with a larger batch, or one clear line."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch
import yaml
from command_runs import ROOT, assert_one_line, invoke
from conftest import TINY_CONFIG, process_restored

from vaegaze.commands import pretrain
from vaegaze.models.checkpoint import load_checkpoint
from vaegaze.pretraining.distributed import planned_processes
from vaegaze.renderer import data_set

SETTINGS = {
    "vae_steps": 4, "vae_band_steps": 2, "latent_steps": 4, "pixel_steps": 4, "held_out": 8, "eval_every": 4,
    "min_vae_eye_psnr": 0, "threads": 1, "vae_batch_size": 2, "latent_batch_size": 2, "pixel_batch_size": 2,
    "estimator": "none",
}  # fmt: skip


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("file") / "data.h5"
    data_set.write_hdf5(path, 10, size=32, samples=4, split="all")
    return path


@pytest.fixture
def config(file, tmp_path):
    def write(name, **settings):
        folder = tmp_path / name
        params = {"save_dir": str(folder), "output": str(folder / "model.pth"), "sources": [str(file), "rendered"]}
        path = tmp_path / f"{name}.yaml"
        content = {"pretrain_params": {**params, **SETTINGS, **settings}, "model_params": TINY_CONFIG}
        path.write_text(yaml.safe_dump(content))
        return path

    return write


ALONE = {"LOCAL_RANK": "1", "RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE '0'"),
        ({"WORLD_SIZE": "abc"}, "WORLD_SIZE 'abc'"),
        ({"RANK": "2"}, "RANK is '2'"),
        ({"RANK": "-1"}, "RANK is '-1'"),
        ({"RANK": None}, "RANK is ''"),
        ({"MASTER_PORT": None}, "MASTER_PORT"),
    ],
)
def test_torchruns_variables_that_cannot_be_meant(config, given, words, monkeypatch):
    for name, value in (ALONE | given).items():
        monkeypatch.setenv(name, value) if value is not None else monkeypatch.delenv(name, raising=False)
    assert_one_line(invoke(pretrain.main, "--config", config("run"), ok=False), words, "unset LOCAL_RANK")


def test_a_stray_variable_of_others_is_no_sign_of_torchrun(monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setenv("WORLD_SIZE", "abc")
    assert planned_processes() == 1


def test_who_waits_for_other_processes_can_be_ended():
    """Joining waits outside Python, whose own handler, as commands have one, would be called too late."""
    code = (
        "import signal, torch; from vaegaze.pretraining.distributed import Processes\n"
        "signal.signal(signal.SIGTERM, lambda *_: None); print(1, flush=True); Processes(torch.device('cpu'))"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, **ALONE}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        try:
            process.stdout.readline()
            time.sleep(2)
            process.terminate()
            assert process.wait(20) == -signal.SIGTERM
        finally:
            process.kill()


def torchrun(count, path, *flags):
    script = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}", "-m", "vaegaze", "pretrain"]
    return subprocess.Popen(
        [sys.executable, *script, f"--config={path}", *flags],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


@pytest.mark.slow
def test_two_processes_equal_one_with_twice_the_persons(config, tmp_path):
    """Gradient accumulation, an average of the weights and two sources are in it, too."""
    both = {"gradient_accumulation": 2, "ema": 0.9, "latent_learning_rate": 1e-4, "vae_learning_rate": 1e-4}
    two = torchrun(2, config("two", **both))
    doubled = {name: 2 * SETTINGS[name] for name in SETTINGS if name.endswith("batch_size")}
    with process_restored():
        assert pretrain.main(["--config", str(config("one", **both, **doubled))]) == 0
    out, err = two.communicate(timeout=200)
    assert two.returncode == 0, err
    assert out.count("Pre-training") == 1 and out.count("✅") == 1, "one process prints"

    states = [torch.load(tmp_path / name / "best.pth", weights_only=True) for name in ("one", "two")]
    for name, tensor in states[0].items():
        assert torch.allclose(tensor, states[1][name], rtol=0, atol=1e-5), name
    records = [load_checkpoint(tmp_path / name / "model.pth").info["records"] for name in ("one", "two")]
    for one, other in zip(*records):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)

    cards = [(tmp_path / name / "model.md").read_text(encoding="utf-8").splitlines() for name in ("one", "two")]
    seen = [
        [line for line in card if line.startswith(("- **Frames seen", "- **Trained on", "| UNet on"))] for card in cards
    ]
    assert seen[0] == seen[1] and len(seen[0]) == 4, "the half of each process, added up"
    assert [any(", 2 processes." in line for line in card) for card in cards] == [False, True]


@pytest.mark.slow
def test_a_lost_process_ends_all_with_one_line(config, tmp_path):
    run = torchrun(2, config("lost", vae_steps=100_000, vae_band_steps=0))
    try:
        while run.poll() is None and not (tmp_path / "lost" / "resume.pth").exists():
            time.sleep(0.05)
        children = subprocess.run(["pgrep", "-P", str(run.pid)], capture_output=True, text=True).stdout.split()
        os.kill(int(children[-1]), signal.SIGKILL)
        out, err = run.communicate(timeout=120)
    finally:
        run.kill()
    own = [line for line in err.splitlines() if line.startswith("error: ")]
    assert run.returncode != 0 and "✅" not in out
    assert len(own) == 1 and "lost contact" in own[0], err

    path = tmp_path / "lost.yaml"
    with process_restored():
        assert pretrain.main(["--config", str(path), "--resume"]) == 2, "another number of processes"
    again = torchrun(2, path, "--resume")
    try:
        time.sleep(1)
        resumed = torch.load(tmp_path / "lost" / "resume.pth", weights_only=True)["progress"]["step"]
        while again.poll() is None:
            time.sleep(0.2)
            if torch.load(tmp_path / "lost" / "resume.pth", weights_only=True)["progress"]["step"] > resumed:
                break
        assert again.poll() is None
        again.send_signal(signal.SIGTERM)
        _, err = again.communicate(timeout=120)
    finally:
        again.kill()
    assert "stopped by SIGTERM; go on with --resume" in err


def test_another_number_of_processes_is_refused_with_the_reason(config, tmp_path, capsys):
    path = config("one", vae_steps=1, vae_band_steps=0, latent_steps=1, pixel_steps=1)
    with process_restored():
        assert pretrain.main(["--config", str(path)]) == 0
    state = torch.load(tmp_path / "one" / "resume.pth", weights_only=True)
    state["progress"]["processes"] = 2
    torch.save(state, tmp_path / "one" / "resume.pth")
    capsys.readouterr()
    with process_restored():
        assert pretrain.main(["--config", str(path), "--resume"]) == 2
    err = capsys.readouterr().err
    assert "2 processes, not 1" in err and "depends on their number" in err
