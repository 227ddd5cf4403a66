"""Pre-training: batches by number, the tiny run as a command, interrupted and resumed, and what it refuses."""

import io
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import fields, replace

import h5py
import numpy as np
import pytest
import torch
import yaml
from command_runs import ROOT
from conftest import SIZE_PX, TINY_CONFIG, make_tiny_model, process_restored
from PIL import Image

from vaegaze.commands import pretrain
from vaegaze.commands.progress import STOPPING
from vaegaze.config.pretrain import ModelParams, PretrainConfig, PretrainParams
from vaegaze.config.tree import resolve
from vaegaze.errors import UserError
from vaegaze.files import write_text
from vaegaze.geometry.camera import camera_from_config, canvas_camera
from vaegaze.models.checkpoint import load_checkpoint
from vaegaze.pretraining import loop as pretraining
from vaegaze.pretraining.base_model import build_base_model
from vaegaze.pretraining.batches import Batches
from vaegaze.pretraining.distributed import Processes
from vaegaze.pretraining.loop import Progress, learning_rate_factor, pretraining_steps
from vaegaze.pretraining.losses import Objective, encode_batch
from vaegaze.pretraining.phases import phases
from vaegaze.pretraining.rendered import RenderedSource
from vaegaze.pretraining.sources import held_out_frames, open_sources
from vaegaze.renderer import data_set as synthetic
from vaegaze.runs.pretraining_folder import PretrainFolder

STEPS = {"vae_steps": 3, "vae_band_steps": 2, "latent_steps": 2, "pixel_steps": 2}
PHASES = ["autoencoder", "UNet on latents", "UNet on pixels"]
BATCHES = {"vae_batch_size": 1, "latent_batch_size": 1, "pixel_batch_size": 1, "held_out": 8}
SMALL = {**STEPS, **BATCHES, "eval_every": 2, "min_vae_eye_psnr": 0, "threads": 1, "persons": 50, "estimator": "none"}
CPU = torch.device("cpu")
CANVAS = canvas_camera(SIZE_PX)
PARAMS = PretrainParams(**SMALL)
CONFIG = PretrainConfig(PARAMS, ModelParams(**TINY_CONFIG))


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


def steps_of(model, progress, params=PARAMS):
    """Trains on, step by step."""
    config, sources = replace(CONFIG, pretrain_params=params), open_sources(params)
    held_out, _ = held_out_frames(sources, params, CANVAS, CPU)
    return pretraining_steps(model, config, sources, held_out, progress, Processes(CPU))


def losses_of(steps):
    return [(step.phase.name, step.loss.item()) for step in steps]


@pytest.fixture(scope="module")
def uninterrupted():
    model, progress = make_tiny_model(), Progress()
    steps = losses_of(steps_of(model, progress))
    return model, progress, steps


def render_batch(split, entropy, size, persons, params=PARAMS, gazes=1, photographic=0.0):
    *entropy, step = entropy
    source = RenderedSource(
        canvas_camera(size), params.seed, params.persons, params.samples_per_person, split, photographic
    )
    batches = Batches((source,), (1.0,), tuple(entropy), persons, gazes, drop_reference=params.drop_reference)
    return batches.batch(step).to(CPU)


def assert_same_model(model, other):
    assert model.config == other.config and model.vae.scaling_factor == other.vae.scaling_factor
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


def without_seconds(records):
    return [
        {key: value for key, value in record.items() if key not in ("seconds", "waiting_share")} for record in records
    ]


# --- batches ----------------------------------------------------------------------------------------------------------


def assert_same_batch(first, second):
    for field in fields(first):
        one, other = getattr(first, field.name), getattr(second, field.name)
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other, field.name


def test_batches_are_a_function_of_their_numbers():
    first, again, other = (render_batch("train", [0, 1, step], SIZE_PX, 3) for step in (5, 5, 6))
    assert_same_batch(first, again)
    assert not torch.equal(first.target, other.target)


def test_batches_hold_two_frames_of_each_person():
    batch = render_batch("train", [0, 1, 2], SIZE_PX, 6)
    for pictures in (batch.target, batch.reference):
        assert pictures.shape == (6, 3, SIZE_PX, SIZE_PX) and pictures.abs().max() <= 1
        assert pictures.std(dim=(1, 2, 3)).min() > 0.1
    for eye_masks in (batch.eye_masks, batch.reference_eye_masks):
        assert eye_masks.shape == (6, 1, SIZE_PX, SIZE_PX) and set(eye_masks.unique().tolist()) == {0.0, 1.0}
        assert eye_masks.sum(dim=(1, 2, 3)).min() > 30
    assert all(not torch.equal(a, b) for a, b in zip(batch.target, batch.reference))
    for angles in (batch.gaze, batch.head):
        assert angles.shape == (6, 2) and angles.dtype == torch.float32 and 0 < angles.abs().max() < 1.5

    # the target's gaze is the label of the picture: the frame can be found again by it
    number = int(np.random.default_rng([0, 1, 12]).integers(PARAMS.persons))
    scenes = [synthetic.scene_from_seed(0, number, i, "train") for i in range(PARAMS.samples_per_person)]
    (scene,) = [scene for scene in scenes if np.allclose(scene.gaze, batch.gaze[0], atol=1e-6)]
    image = synthetic.render(synthetic.person_from_seed(0, number, "train"), scene, CANVAS).image
    assert np.array_equal(np.rint((batch.target[0].permute(1, 2, 0).numpy() + 1) * 127.5), image)


def test_some_persons_look_like_photographs():
    """All pictures of a person alike: what the reference says of the skin still holds for the target."""
    always = replace(PARAMS, drop_reference=0)
    plain, other = (render_batch("train", [0, 1, 2], SIZE_PX, 1, always, 2, photographic=share) for share in (0.0, 1.0))
    for name in ("eye_masks", "gaze", "head", "reference_eye_masks", "keep_reference"):
        assert torch.equal(getattr(plain, name), getattr(other, name)), name
    assert not torch.equal(plain.target, other.target) and not torch.equal(plain.reference, other.reference)
    means = [batch.mean(dim=(2, 3)) for batch in (plain.target, other.target, plain.reference, other.reference)]
    assert torch.allclose(means[1][0] - means[0][0], means[3][0] - means[2][0], atol=0.1)


def test_the_band_holds_the_eyes():
    for step in range(5):
        batch = render_batch("train", [0, 1, step], 128, 2)
        band = batch.eye_band()
        assert band.target.shape == (2, 3, 64, 128)
        assert band.eye_masks.sum() == batch.eye_masks.sum() and torch.equal(band.gaze, batch.gaze)


def test_workers_render_the_same(uninterrupted):
    assert losses_of(steps_of(make_tiny_model(), Progress(), replace(PARAMS, workers=2))) == uninterrupted[2]


def test_the_reference_is_dropped_as_often_as_asked():
    keep = render_batch("train", [0, 0, 0], 16, 100).keep_reference
    assert keep.shape == (100, 1, 1, 1) and 0.55 < keep.mean() < 0.85
    for share, kept in ((0.0, 1.0), (1.0, 0.0)):
        params = PretrainParams(drop_reference=share)
        assert render_batch("train", [0, 0, 0], 16, 4, params).keep_reference.unique().tolist() == [kept]


def test_splits_show_different_persons():
    persons = {repr(synthetic.person_from_seed(0, i, split)) for split in synthetic.SPLITS for i in range(40)}
    assert len(synthetic.SPLITS) == 4 and len(persons) == 160
    train, val = (render_batch(split, [0, 0, 0], SIZE_PX, 2) for split in ("train", "val"))
    assert not torch.equal(train.target, val.target)


def test_two_processes_see_what_one_with_twice_the_persons_sees():
    source = RenderedSource(CANVAS, 0, 50, 8)
    whole = Batches((source,), (1.0,), (0, 1), 4, 2, drop_reference=0.5).batch(7).to(CPU)
    halves = [
        Batches((source,), (1.0,), (0, 1), 2, 2, drop_reference=0.5, process=i, processes=2).batch(7).to(CPU)
        for i in range(2)
    ]
    for name in ("target", "gaze", "reference", "keep_reference"):
        assert torch.equal(getattr(whole, name), torch.cat([getattr(half, name) for half in halves])), name
    assert whole.noise_seeds == halves[0].noise_seeds + halves[1].noise_seeds


# --- the loop ---------------------------------------------------------------------------------------------------------


def test_learning_rate_warms_up_and_falls():
    factors = [learning_rate_factor(step, 100) for step in range(100)]
    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0]) and max(factors) == pytest.approx(1.0)
    assert (np.diff(factors[5:]) < 0).all() and 0.009 < factors[-1] < 0.02
    assert 0 < learning_rate_factor(0, 1) <= 1


def test_each_phase_trains_its_own_parts():
    model, progress = make_tiny_model(), Progress()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    seen = []
    for step in steps_of(model, progress):
        phase, loss = step.phase, step.loss.item()
        seen.append(phase.name)
        assert math.isfinite(loss) and loss > 0
        now = model.state_dict()
        moved = {name.split(".")[0] for name, tensor in now.items() if not torch.equal(tensor, before[name])}
        assert moved == ({"vae"} if phase.name == "autoencoder" else {"unet", "gaze_mlp"})
        before = {name: tensor.clone() for name, tensor in now.items()}
    assert seen == [PHASES[0]] * 3 + [PHASES[1]] * 2 + [PHASES[2]] * 2
    assert [(record["phase"], record["step"]) for record in progress.records] == [
        (PHASES[0], 2), (PHASES[0], 3), (PHASES[1], 2), (PHASES[2], 2),
    ]  # fmt: skip
    assert all(5 < record["held_out_eye_psnr"] < 40 for record in progress.records)


def test_targets_are_encoded_only_where_latents_are_compared(monkeypatch):
    batch, model, encoded = render_batch("train", [0, 1, 0], SIZE_PX, 2, gazes=2), make_tiny_model(), {}
    encode = model.encode

    def counted(images):
        encoded[phase.name].append(len(images))
        return encode(images)

    monkeypatch.setattr(model, "encode", counted)
    for phase in phases(CONFIG)[1:]:
        encoded[phase.name] = []
        Objective(model, phase.loss, phase.weights, None, encode_batch)(batch)
    assert encoded == {PHASES[1]: [4, 2, 4], PHASES[2]: [4, 2]}, "masked targets, references, targets"


@torch.no_grad()
def test_latents_have_unit_spread_after_the_autoencoder(uninterrupted):
    model, _, _ = uninterrupted
    held_out = render_batch("val", [0, 99, 0], SIZE_PX, 8)
    assert model.encode(held_out.target).std().item() == pytest.approx(1.0, rel=1e-4)
    assert model.config["vae"]["scaling_factor"] == model.vae.scaling_factor != TINY_CONFIG["vae"]["scaling_factor"]


@pytest.mark.parametrize("stop_after", [1, 3, 4, 5, 7])
def test_interrupted_anywhere_and_resumed_equals_uninterrupted(stop_after, uninterrupted, tmp_path):
    """Also where one phase ends and the next has not begun."""
    model, progress = make_tiny_model(), Progress()
    seen = losses_of(step for _, step in zip(range(stop_after), steps_of(model, progress)))
    folder = PretrainFolder(str(tmp_path))
    config = resolve(PretrainConfig, None, SMALL).config
    folder.config.write_text(pretrain.to_yaml(config), encoding="utf-8")
    folder.save(model, progress)

    model = make_tiny_model(seed=5)
    progress = folder.load(config, model, Progress())
    seen += losses_of(steps_of(model, progress))

    assert seen == uninterrupted[2]
    assert_same_model(model, uninterrupted[0])
    assert without_seconds(progress.records) == without_seconds(uninterrupted[1].records)


def test_a_reference_of_the_same_frame_differs_in_the_eyes_alone():
    source = RenderedSource(CANVAS, 0, 50, 8, same_frame=1.0)
    for seed in range(3):
        example = source.example(0, 0, np.random.default_rng(seed), 1)
        difference = np.abs(example.target[0].astype(float) - example.reference).mean(axis=-1)
        eyes = example.eye_masks[0]
        assert difference[eyes].mean() > 4 * difference[~eyes].mean() and difference[~eyes].mean() < 4  # noise, JPEG


@pytest.mark.parametrize("same_frame", [0.0, 1.0])
def test_gazes_painted_together_are_those_painted_alone(same_frame):
    source = RenderedSource(CANVAS, 0, 50, 1000, same_frame=same_frame)
    for seed in range(3):
        alone, together = (source.example(0, 0, np.random.default_rng(seed), gazes) for gazes in (1, 3))
        assert np.array_equal(together.target[0], alone.target[0])
        assert np.array_equal(together.reference, alone.reference)
        assert len({picture.tobytes() for picture in together.target}) == 3


def test_a_canvas_that_is_a_band():
    band = {"width_px": 64, "height_px": 32, "focal_px": 333, "looks_at": "eyes"}
    parts = {name: TINY_CONFIG[name] for name in ("vae", "unet", "gaze_mlp")}
    config = PretrainConfig(PARAMS, ModelParams(canvas=band, **parts))
    model, sources = build_base_model(config.model_params).model, open_sources(PARAMS)
    assert model.canvas == camera_from_config(band)
    held_out, _ = held_out_frames(sources, PARAMS, model.canvas, CPU)
    first = held_out[0].batches[0]
    assert first.target.shape[1:] == (3, 32, 64) and first.eye_masks.amax(dim=(1, 2, 3)).eq(1).all()
    losses = losses_of(pretraining_steps(model, config, sources, held_out, Progress(), Processes(CPU)))
    assert len(losses) == 7 and np.isfinite([loss for _, loss in losses]).all()


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
    assert "other pixels, masks or labels" in error_line(capsys)
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
    assert f"(default: {recipe})" in words and "default: 8000)" in words and "default: 1000)" not in words


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
