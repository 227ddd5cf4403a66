"""Pre-training as a command: the tiny run, interrupted and resumed, and what it refuses."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout

import h5py
import pytest
import torch
import yaml
from command_runs import ROOT
from conftest import SIZE_PX, TINY_CONFIG, process_restored
from PIL import Image
from small_pretraining import PHASES, SMALL, assert_same_model, without_seconds

from vaegaze.commands import pretrain
from vaegaze.commands.progress import STOPPING
from vaegaze.config.pretrain import PretrainConfig
from vaegaze.config.tree import resolve
from vaegaze.errors import UserError
from vaegaze.files import write_text
from vaegaze.models.checkpoint import load_checkpoint
from vaegaze.pretraining import loop as pretraining
from vaegaze.pretraining.base_model import build_base_model
from vaegaze.pretraining.waiting import WaitingTime
from vaegaze.renderer import data_set as synthetic


@pytest.fixture
def command(tmp_path):
    return command_in(tmp_path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a run that nothing has disturbed, and what the command printed. To be looked at only."""
    folder, out, err = tmp_path_factory.mktemp("finished"), io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        assert command_in(folder)() == 0
    return folder / "run", out.getvalue(), err.getvalue()


def command_in(tmp_path):
    """Runs the command on the tiny model in a folder of its own; keywords are settings."""

    def run(*flags, folder="run", **settings):
        path = write_settings(tmp_path, folder, **settings)
        with process_restored():
            return pretrain.main(["--config", str(path), *flags])

    return run


def write_settings(tmp_path, folder="run", **settings):
    """The path of a run's settings; keywords are some of them."""
    params = {"save_dir": str(tmp_path / folder), "output": str(tmp_path / folder / "model.pth"), **SMALL, **settings}
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump({"pretrain_params": params, "model_params": TINY_CONFIG}))
    return path


# --- the command ------------------------------------------------------------------------------------------------------


def test_files_of_somebody_else_are_not_removed(command, tmp_path, capsys):
    """A folder is the run's own if its config.yaml is a pre-training's."""
    for number, name in enumerate(("metrics.jsonl", "best.pth", "samples/step_000100.png")):
        run = tmp_path / str(number)
        write_text(run / name, "theirs")
        write_text(run / "config.yaml", "oneshot_params: {}\n")
        assert command(folder=run.name) == 2
        assert (run / name).read_text() == "theirs" and (run / name).name in capsys.readouterr().err
    assert command("--overwrite", folder=run.name, vae_steps=1, latent_steps=1, pixel_steps=1) == 0


def test_the_command_end_to_end(finished):
    run_dir, out, err = finished
    settings = run_dir.parent / "tiny.yaml"
    assert sorted(path.relative_to(run_dir).as_posix() for path in run_dir.rglob("*") if path.is_file()) == [
        *("best.pth", "config.yaml", "curves.png", "metrics.jsonl", "model.md", "model.pth", "resume.pth"),
        *(f"samples/step_{step:06d}.png" for step in (2, 3, 5, 7)),
    ]
    for picture in run_dir.rglob("*.png"):
        assert min(Image.open(picture).size) > 300
    records = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert [record["phase"] for record in records] == [PHASES[0]] * 2 + [PHASES[1], PHASES[2]]

    loaded = load_checkpoint(run_dir / "model.pth")
    assert loaded.info["records"] == records and "rendered" in loaded.info["trained_on"]
    assert loaded.info["drops_reference"] is True and loaded.references == ()
    assert loaded.model.vae.scaling_factor != TINY_CONFIG["vae"]["scaling_factor"]
    stored = torch.load(run_dir / "model.pth", weights_only=True)["state_dict"]
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    card = (run_dir / "model.md").read_text()
    assert all(f"{record['held_out_eye_psnr']:.2f} dB" in card for record in records[1:])
    assert f"- **Made by** `vaegaze pretrain --config {settings}`" in card
    assert "docs/benchmark.md" in card

    resolved = yaml.safe_load((run_dir / "config.yaml").read_text())
    assert resolved["pretrain_params"]["pixel_steps"] == 2 and resolved["model_params"]["image_size"] == SIZE_PX
    parameters = sum(parameter.numel() for parameter in loaded.model.parameters())
    assert f"{parameters:,} parameters" in out and str(run_dir / "model.pth") in out
    assert f"Settings: {settings}," in out
    assert "Traceback" not in err and "\r" not in err, "plain lines where there is no terminal"


def test_the_best_weights_of_the_last_phase_are_shipped(command, tmp_path, monkeypatch):
    """Here those of step 2, since step 4 is made to look worse."""
    errors = iter([(20.0, 0.1)] * 4 + [(25.0, 0.05), (24.0, 0.06)])  # two of the VAE and one when it is settled, …
    states = []

    def measured(model, redraw, batches):
        states.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return next(errors)

    monkeypatch.setattr(pretraining, "eye_errors", measured)
    assert command(pixel_steps=4) == 0
    shipped = load_checkpoint(tmp_path / "run" / "model.pth").model.state_dict()
    for name, tensor in shipped.items():
        assert torch.equal(tensor, states[4][name].half().float()), name
    assert not torch.equal(states[4]["unet.conv_out.weight"], states[5]["unet.conv_out.weight"])
    assert "| 4 × 1 persons × 2 gazes | 25.00 dB | 0.0500 |" in (tmp_path / "run" / "model.md").read_text()


def test_a_signal_to_the_whole_group_saves(tmp_path):
    """As `timeout` sends it: the processes that render ahead must not die of it before the state is saved."""
    flags = [f"--config={write_settings(tmp_path, workers=2, vae_steps=4000)}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "vaegaze", "pretrain", *flags],
        **{"cwd": ROOT, "stderr": subprocess.PIPE, "stdout": subprocess.DEVNULL, "start_new_session": True},
    )
    while process.poll() is None and not (tmp_path / "run" / "metrics.jsonl").exists():
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 143 and b"Traceback" not in err and err.count(STOPPING.encode()) == 1, err
    assert (tmp_path / "run" / "resume.pth").exists()


def test_a_plain_terminal(tmp_path):
    flags = [f"--config={write_settings(tmp_path)}"]
    env = {**os.environ, "PYTHONIOENCODING": "ascii", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-m", "vaegaze", "pretrain", *flags], cwd=ROOT, capture_output=True, env=env)
    assert done.returncode == 0 and b"Traceback" not in done.stderr, done.stderr


class Trigger(io.StringIO):
    """A stream that sends the process a signal when a text is written to it for the first time."""

    def __init__(self, text, signum):
        super().__init__()
        self.text, self.signum = text, signum

    def write(self, text):
        if self.text is not None and self.text in text:
            self.text = None
            signal.raise_signal(self.signum)
        return super().write(text)


@pytest.mark.parametrize(
    ("signum", "exit_code", "stream", "text"),
    [
        (signal.SIGINT, 130, "stderr", "autoencoder:"),
        (signal.SIGTERM, 143, "stderr", "UNet on pixels:"),
        (signal.SIGINT, 130, "stdout", '"phase": "UNet on latents"'),
    ],
)
def test_signals_and_resume(signum, exit_code, stream, text, command, tmp_path, monkeypatch, finished):
    with monkeypatch.context() as patched:
        trigger = Trigger(text, signum)
        patched.setattr(sys, stream, trigger)
        assert command(folder="cut") == exit_code
        assert trigger.text is None
    assert not (tmp_path / "cut" / "model.pth").exists() and (tmp_path / "cut" / "resume.pth").exists()

    assert command("--resume", folder="cut") == 0
    resumed, whole = (load_checkpoint(run / "model.pth") for run in (tmp_path / "cut", finished[0]))
    assert_same_model(resumed.model, whole.model)
    assert without_seconds(resumed.info["records"]) == without_seconds(whole.info["records"])


def test_a_signal_saves_the_seconds_without_data(command, tmp_path, monkeypatch):
    monkeypatch.setattr(WaitingTime, "seconds", lambda self: 1000.0)
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", Trigger("autoencoder:", signal.SIGTERM))
        assert command(eval_every=3) == 143
    progress = torch.load(tmp_path / "run" / "resume.pth", weights_only=True)["progress"]
    assert progress["step"] == 2 and not progress["records"] and progress["waited"] == 1000


def test_all_that_is_left_out_is_printed_and_listed(command, tmp_path, capsys):
    """Whatever held-out frames lack, and each new row of a person known already; persons without a dataset by name."""
    data, split = tmp_path / "data.h5", tmp_path / "split.json"
    synthetic.write_hdf5(data, 8, size=SIZE_PX, samples=6)
    ids = [f"person_{number:03d}" for number in range(1, 9)]
    split.write_text(json.dumps({"train": ids[6:7], "val": ids[7:]}))
    with h5py.File(data, "a") as file:
        for person in ids[:5]:
            del file[person]["labels"]
        file["person_008/labels"][1] = file["person_007/labels"][0] = file["person_007/labels"][4] = float("nan")
    settings = {"sources": [str(data)], "split": [str(split)], "vae_steps": 6, "frames_per_person": 2, "held_out": 16}
    assert command("--eval_every=1", **settings) == 0
    listed = json.loads((tmp_path / "run" / "skipped.json").read_text())
    assert {name.removeprefix(f"{data}: ") for name in listed} == {*ids[:5], *ids[6:]}
    for person in ids[:5]:
        assert listed[f"{data}: {person}"] == {"rows": [], "left_out": True, "why": "without readable images or labels"}
    assert listed[f"{data}: person_008"]["rows"] == [1] and sorted(listed[f"{data}: person_007"]["rows"]) == [0, 4]
    counts = [
        int(line.split()[3]) for line in capsys.readouterr().err.splitlines() if line.startswith("Skipped so far")
    ]
    assert 1 <= counts[0] < counts[-1] == 3 and counts == sorted(set(counts)), "each time that there are more"


def test_another_seed_gives_another_model(command, tmp_path, finished):
    assert command("--seed=1") == 0
    other, model = (load_checkpoint(run / "model.pth").model for run in (tmp_path / "run", finished[0]))
    assert not torch.equal(other.unet.conv_in.weight, model.unet.conv_in.weight)


# --- what it refuses --------------------------------------------------------------------------------------------------


def error_line(capsys):
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


def test_a_weak_autoencoder_ends_the_run(command, tmp_path, capsys):
    assert command(min_vae_eye_psnr=90) == 2
    text = error_line(capsys)
    assert "90" in text and "min_vae_eye_psnr" in text and "vae_steps (3)" in text
    assert not (tmp_path / "run" / "model.pth").exists()
    assert command("--resume", min_vae_eye_psnr=90) == 2, "resuming does not get around it"
    assert "min_vae_eye_psnr" in error_line(capsys)


def test_an_existing_output_is_kept(command, tmp_path, capsys):
    output = tmp_path / "run" / "model.pth"
    output.parent.mkdir()
    output.write_text("dear")
    assert command() == 2
    assert "--overwrite" in error_line(capsys) and output.read_text() == "dear"
    assert [file.name for file in output.parent.iterdir()] == ["model.pth"]
    assert command("--overwrite") == 0
    load_checkpoint(output)


def test_resuming_an_overwriting_run_needs_no_second_overwrite(command, tmp_path, monkeypatch):
    output = tmp_path / "run" / "model.pth"
    output.parent.mkdir()
    output.write_text("old")
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", Trigger("autoencoder:", signal.SIGINT))
        assert command("--overwrite") == 130
    assert output.read_text() == "old"
    assert command("--resume") == 0
    load_checkpoint(output)


def test_resuming_towards_another_output(command, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", Trigger("autoencoder:", signal.SIGINT))
        assert command() == 130
    (tmp_path / "other.pth").write_text("dear")
    assert command("--resume", f"--output={tmp_path / 'other.pth'}") == 2, "no part of what was agreed"
    assert "--overwrite" in error_line(capsys) and (tmp_path / "other.pth").read_text() == "dear"
    assert command("--resume", f"--output={tmp_path / 'new' / 'model.pth'}") == 0
    load_checkpoint(tmp_path / "new" / "model.pth")
    assert not (tmp_path / "run" / "model.pth").exists()


@pytest.mark.parametrize(("place", "words"), [("file/model.pth", "cannot write to"), ("folder", "is a folder")])
def test_an_output_that_cannot_be_written_is_refused_at_once(place, words, command, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "folder").mkdir()
    assert command(output=str(tmp_path / place)) == 2
    assert words in error_line(capsys) and not (tmp_path / "run").exists()


def test_a_save_dir_that_cannot_be_written_to(command, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    assert command(f"--save_dir={tmp_path / 'file/run'}", output=str(tmp_path / "model.pth")) == 2
    words = f"error: cannot write to {tmp_path / 'file/run'} (Not a directory); give another --save_dir"
    assert error_line(capsys).strip() == words


def test_overwriting_leaves_no_state_of_the_earlier_run(command, finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "run")
    assert (tmp_path / "run" / "resume.pth").exists()

    def killed(*args, **kwargs):
        assert not (tmp_path / "run" / "resume.pth").exists()
        raise UserError("killed")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pretrain, "pretraining_steps", killed)
        assert command("--overwrite", "--seed=1") == 2


def test_overwriting_leaves_no_curves_of_the_earlier_run(command, tmp_path, capsys):
    """Nor removes those of somebody else unasked."""
    curves = tmp_path / "run" / "tensorboard" / "events"
    curves.parent.mkdir(parents=True)
    curves.write_text("dear")
    assert command(min_vae_eye_psnr=90) == 2
    assert "holds tensorboard, which no pre-training wrote" in error_line(capsys) and curves.exists()
    assert command("--overwrite", min_vae_eye_psnr=90) == 2
    assert not curves.exists()


@pytest.mark.parametrize("flag", ["--overwrite", "--resume", "--dry_run"])
def test_a_folder_in_the_place_of_a_runs_file_is_never_removed(flag, command, finished, tmp_path, capsys):
    shutil.copytree(finished[0], tmp_path / "run")
    before = sorted(tmp_path.joinpath("run").iterdir())
    own = tmp_path / "run/best.pth/thesis.txt"
    own.parent.unlink(missing_ok=True)
    own.parent.mkdir()
    own.write_text("dear")
    assert command(flag, min_vae_eye_psnr=90) == 2
    assert "best.pth is a folder, where a run writes a file; move it away" in error_line(capsys)
    assert own.read_text() == "dear" and sorted(tmp_path.joinpath("run").iterdir()) == sorted({*before, own.parent})


@pytest.mark.parametrize("text", ["trainer: mine\n", "# my notes\npretrain_params: {vae_steps: 1}\n"])
def test_settings_of_ones_own_in_the_runs_folder(text, tmp_path, capsys):
    """A run writes all of its settings, without comments, to config.yaml."""
    config = tmp_path / "run" / "config.yaml"
    config.parent.mkdir()
    config.write_text(text)
    path = config if "pretrain_params" in text else write_settings(tmp_path)
    flags = [f"--config={path}", f"--save_dir={config.parent}", f"--output={tmp_path / 'model.pth'}"]
    with process_restored():
        assert pretrain.main(flags) == 2
    assert re.search("config.yaml(, which no pre-training wrote| is where the run writes)", error_line(capsys))
    assert config.read_text() == text


def test_other_persons_are_another_run(command, tmp_path, capsys):
    """Who was held out would be trained on."""
    data, split = tmp_path / "data.h5", tmp_path / "split.json"
    synthetic.write_hdf5(data, 4, size=SIZE_PX, samples=4)
    ids = [f"person_{number:03d}" for number in range(1, 5)]
    settings = {"sources": [str(data)], "split": [str(split)], "min_vae_eye_psnr": 90}
    split.write_text(json.dumps({"train": ids[:2], "val": ids[2:]}))
    assert command(**settings) == 2  # leaves its state
    split.write_text(json.dumps({"train": ids[1:3], "val": ids[3:]}))
    capsys.readouterr()
    assert command("--resume", **settings) == 2
    assert "other persons" in error_line(capsys)
    split.write_text(json.dumps({"train": ids[:2], "val": ids[2:]}))
    assert command("--resume", **settings) == 2
    assert "min_vae_eye_psnr" in error_line(capsys), "it goes on, and is as weak as before"


@pytest.mark.parametrize("key", ["pixels", "labels"])
def test_other_content_is_another_run(key, command, tmp_path, capsys):
    """Of the same persons, as many frames. Put back, the run goes on."""
    data = tmp_path / "data.h5"
    synthetic.write_hdf5(data, 4, size=SIZE_PX, samples=4)
    settings = {"sources": [str(data)], "min_vae_eye_psnr": 90}
    assert command(**settings) == 2  # leaves its state
    before = data.read_bytes()
    with h5py.File(data, "r+") as file:
        for person in file.values():
            if key in person:
                person[key][...] = person[key][...] // 2 if key == "pixels" else person[key][...] / 2
    assert data.read_bytes() != before
    capsys.readouterr()
    assert command("--resume", **settings) == 2
    assert "other pixels, masks, labels" in error_line(capsys)
    data.write_bytes(before)
    assert command("--resume", **settings) == 2
    assert "min_vae_eye_psnr" in error_line(capsys), "it goes on, and is as weak as before"


def test_an_interrupted_run_is_neither_lost_nor_mixed_up(command, tmp_path, capsys):
    assert command("--resume") == 2
    assert "no interrupted run" in error_line(capsys)
    assert command(min_vae_eye_psnr=90) == 2  # leaves its state
    state = (tmp_path / "run" / "resume.pth").read_bytes()
    capsys.readouterr()
    assert command() == 2
    assert "--resume" in error_line(capsys)
    assert command("--resume", min_vae_eye_psnr=0) == 2, "another config"
    assert "exactly these settings" in error_line(capsys)
    assert (tmp_path / "run" / "resume.pth").read_bytes() == state


@pytest.mark.parametrize("content", [{"a": 1}, 5])
def test_a_damaged_resume_file(content, command, tmp_path, capsys):
    assert command(min_vae_eye_psnr=90) == 2  # leaves its state
    torch.save(content, tmp_path / "run" / "resume.pth")
    capsys.readouterr()
    assert command("--resume", min_vae_eye_psnr=90) == 2
    assert re.search("resume.pth is (damaged|not a resume file)", error_line(capsys))


def test_every_shipped_file_describes_a_model():
    paths = sorted((ROOT / "configs" / "pretrain").rglob("*.yaml"))
    assert paths
    for path in paths:
        config = resolve(PretrainConfig, str(path)).config
        params = config.pretrain_params
        assert params.pixel_steps > 0 or params.photographs, "a UNet, or an autoencoder alone"


def test_without_a_file_it_is_the_shipped_one(monkeypatch, capsys):
    """Also in --help: no default of the classes is shown that would not hold."""
    monkeypatch.chdir(ROOT)
    seen = []
    monkeypatch.setattr(pretrain, "run", lambda config, path, **switches: seen.append((config, path)))
    with process_restored():
        assert pretrain.main(["--seed", "7"]) == 0
    recipe = "./configs/pretrain/tiny.yaml"
    assert seen == [(resolve(PretrainConfig, recipe, {"seed": "7"}).config, recipe)]
    with process_restored(), pytest.raises(SystemExit):
        pretrain.main(["--help"])
    words = " ".join(capsys.readouterr().out.split())
    assert f"(default: {recipe})" in words and "default: 17800)" in words and "default: 1000)" not in words


def test_the_shipped_model_is_of_the_shipped_file():
    model = load_checkpoint(ROOT / "checkpoints" / "pretrained_model.pth").model
    settings = resolve(PretrainConfig, str(ROOT / "configs" / "pretrain" / "tiny.yaml")).config
    config = build_base_model(settings.model_params).model.config
    config["vae"]["scaling_factor"] = model.vae.scaling_factor  # measured
    for part in ("unet", "gaze_mlp"):  # going on from weights writes out defaults, too
        config[part] = {**model.config[part], **config[part]}
    assert model.config == config


def test_model_params_that_describe_no_model(tmp_path, capsys):
    path = tmp_path / "wrong.yaml"
    params = {"save_dir": str(tmp_path / "run"), "output": str(tmp_path / "model.pth")}
    model = {**TINY_CONFIG, "unet": {"block_out_chanels": [8]}}
    path.write_text(yaml.safe_dump({"pretrain_params": params, "model_params": model}))
    with process_restored():
        assert pretrain.main(["--config", str(path)]) == 2
    assert "block_out_chanels" in error_line(capsys)


def test_neither_a_page_of_ones_own_nor_the_data_is_replaced(command, tmp_path, capsys):
    page, data = tmp_path / "run" / "model.md", tmp_path / "data.h5"
    page.parent.mkdir()
    page.write_text("# My notes\n")
    data.write_bytes(b"dear")
    assert command("--overwrite") == 2
    assert "model.md exists and is not an earlier result" in error_line(capsys)
    assert command("--overwrite", f"--output={data}", sources=[str(data)]) == 2
    assert "data.h5 is also the input" in error_line(capsys)
    assert page.read_text() == "# My notes\n" and data.read_bytes() == b"dear"
