"""oneshot_training.py from end to end: what a run prints, writes and refuses."""

import json
import os
import shutil
import subprocess

import h5py
import numpy as np
import pytest
import torch
from command_runs import (
    BASE_INFO,
    FILES,
    PERSON,
    PHOTO,
    RUN,
    SAMPLES,
    STEPS,
    assert_in_order,
    assert_one_line,
    assert_same_weights,
    command,
    files_in,
    records_in,
    start_process,
    train_rows,
    weights_in,
)
from conftest import SIZE_PX, make_tiny_model, narrow_vgg
from PIL import Image

from vaegaze.config.finetune import Config, parse_command
from vaegaze.config.tree import resolve
from vaegaze.data import hdf5
from vaegaze.evaluation.metrics import METRICS
from vaegaze.geometry.camera import canvas_camera
from vaegaze.models.checkpoint import load_checkpoint, save_checkpoint
from vaegaze.models.device import find_precision
from vaegaze.models.estimator import GazeEstimator, save_estimator
from vaegaze.runs.folder import folder_name
from vaegaze.training.losses import Loss
from vaegaze.training.provenance import frame_checksums
from vaegaze.training.strategies import GAZE_MLP_LAYERS, STRATEGIES

# The users' own file, as it stands.
USERS_YAML = """\
oneshot_params:
  use_gazecapture: true
  gazecapture_params:
    hdf_path: "/path/to/GazeCapture.h5"
    person_id: null        # null for random selection
    num_samples: 30        # number of samples per person
    random_person: true    # enable random person selection
  num_steps: 500
  learning_rate: 5e-5
  batch_size: 1
  finetune_strategy: "selective"  # selective, encoder_only, cross_attention_only, minimal
  save_dir: "./outputs/gazecapture_oneshot"
  checkpoint_path: "./checkpoints/pretrained_model.pth"
loss_params:
  l1_loss: 1.0
  mask_l1_loss: 2.0
  vgg_loss: 0.1
"""

AUTO = find_precision("auto", "cpu")  # differs between processors


# --- What a finished run leaves ---------------------------------------------------------------------------------------


def test_the_folder_holds_exactly_these_files(finished):
    _, _, folder = finished
    samples = {f"samples/step_{step:06d}.png" for step in (0, 20, STEPS)}
    assert files_in(folder.parent) == {f"{PERSON}/{name}" for name in FILES | samples}


def test_the_lines_it_prints(finished, world):
    _, outcome, folder = finished
    lines = outcome.out.splitlines()
    assert lines[:8] == [
        "🎯 Starting VAE-GAZE One-Shot Training with GazeCapture Dataset",
        f"🧠 Base model: {world.base}, trained on nothing",
        f"📁 HDF5 file: {world.hdf_path}",
        f"👤 Person ID: {PERSON}",
        "📊 Number of samples: 8",
        f"📊 Found 12 total samples for person {PERSON}",
        "🎯 Randomly selected 8 samples from 12 available",
        f"✅ Successfully loaded 8 samples for person {PERSON}",
    ]
    assert f"💻 Device: cpu, precision: {AUTO}" in lines and "📏 Measuring the base model on 4 held-out frames" in lines
    assert lines[-1] == f"✅ {folder / 'finetuned_model.pth'}" and max(map(len, lines[-12:-1])) <= 60
    rows = ["before", "after", "2 SE of change", "mean eye patch", "reference eyes"]
    assert [line.split("  ")[0] for line in lines[-11:-6]] == rows
    assert lines[-6].startswith("told to look elsewhere")
    assert [line.split("  ")[0] for line in lines[-4:-1]] == rows[:3]


def test_the_summary(finished, world):
    _, _, folder = finished
    summary = json.loads((folder / "summary.json").read_text())
    baselines = summary["baselines"]
    assert baselines.keys() == {"mean_eye_patch", "reference_eyes"}
    assert set(METRICS) == {"l1", "eye_l1", "eye_psnr", "ssim"}
    for numbers in baselines.values():
        assert set(numbers) == set(METRICS) and np.isfinite(list(numbers.values())).all()
    names = {*METRICS, "lpips", "outside_mask"}
    for numbers in (summary["before"], summary["after"]):
        assert set(numbers) == names | {f"redirected_{name}" for name in names}
        for prefix in ("", "redirected_"):
            assert numbers.pop(f"{prefix}lpips") is None and numbers[f"{prefix}outside_mask"] == 0
        assert np.isfinite(list(numbers.values())).all()
    assert summary["redirected"] == 4 * 8 and summary["estimator"] is None
    errors = summary["two_standard_errors"]
    assert set(errors) == {*METRICS, *(f"redirected_{name}" for name in METRICS)} and min(errors.values()) > 0
    assert summary["after"]["eye_l1"] < 0.8 * summary["before"]["eye_l1"]
    assert summary["after"]["eye_psnr"] > summary["before"]["eye_psnr"] + 1
    assert summary["held_out"] == 4 and summary["steps"] == STEPS and summary["person"] == PERSON
    assert 0 < summary["sec_per_step"] < summary["seconds"]
    phases = {"loading", "preparing", "measuring_before", "precomputing", "training", "measuring_after", "writing"}
    assert summary["seconds_of"].keys() == phases and summary["seconds_of"]["training"] == summary["seconds"]
    assert all(seconds > 0 for seconds in summary["seconds_of"].values())
    assert summary["total_seconds"] == pytest.approx(sum(summary["seconds_of"].values()), abs=0.05)  # each is rounded
    assert 100 < summary["peak_memory_mb"] < 1e6 and summary["peak_memory_of"] == "the whole process"
    total = sum(parameter.numel() for parameter in load_checkpoint(world.base).model.parameters())
    assert summary["parameters"]["total"] == total > summary["parameters"]["trainable"] > 0
    assert (summary["device"], summary["precision"]) == ("cpu", AUTO)
    assert summary["versions"]["torch"] == torch.__version__.partition("+")[0] and "python" in summary["versions"]


def test_the_metrics(finished):
    _, _, folder = finished
    records = records_in(folder, without=())
    training = [record for record in records if "loss" in record]
    held_out = [record for record in records if "loss" not in record]
    assert [record["step"] for record in training] == [10, 20, 30]
    assert [record["step"] for record in held_out] == [0, 30]
    for record in training:
        assert set(record) == {"step", "loss", "l1", "mask_l1", "grad_norm", "seconds"}
        assert record["loss"] == pytest.approx(record["l1"] + 2 * record["mask_l1"], rel=1e-5)
    for record in held_out:
        assert set(record) == {"step", "held_out_loss", "held_out_l1", "held_out_mask_l1"}
    assert training[-1]["loss"] < training[0]["loss"] and held_out[-1]["held_out_loss"] < held_out[0]["held_out_loss"]
    assert training[0]["seconds"] < training[-1]["seconds"]


def test_the_config_reads_back(finished):
    flags, _, folder = finished
    config = resolve(Config, str(folder / "config.yaml")).config
    settled = ("--precision", AUTO, "--replay", "0")  # what auto came to
    assert config == parse_command([*map(str, flags), *settled]).config
    assert (config.oneshot_params.device, config.oneshot_params.precision) == ("cpu", AUTO)


def test_the_person(finished, world):
    _, _, folder = finished
    info = json.loads((folder / "person_info.json").read_text())
    train, held_out = info["train_indices"], info["held_out_indices"]
    assert len(train) == 8 and len(held_out) == 4 and sorted(train + held_out) == list(range(12))
    assert (info["person_id"], info["hdf_path"]) == (PERSON, str(world.hdf_path))
    assert (info["layout"], info["mask_source"]) == ("upstream", "face_parsing")
    assert (info["total_samples"], info["seed"]) == (12, 0)
    with h5py.File(world.hdf_path) as file:
        gaze = file[PERSON]["labels"][:][train, :2]
    for i, name in enumerate(("pitch", "yaw")):
        assert info["gaze_range_rad"][name] == pytest.approx([gaze[:, i].min(), gaze[:, i].max()])


def test_the_model_loads_alone_and_carries_the_reference(finished, world, tmp_path):
    _, _, folder = finished
    shutil.copy(folder / "finetuned_model.pth", tmp_path / "alone.pth")
    tuned, base = load_checkpoint(tmp_path / "alone.pth"), load_checkpoint(world.base)
    samples = hdf5.read_person(world.hdf_path, PERSON, train_rows(folder), canvas_camera(SIZE_PX)).samples
    most_frontal = np.linalg.norm(samples.head, axis=1).argmin()
    added = {
        "fine_tuned_on": PERSON,
        "fine_tuned_steps": STEPS,
        "trained_indices": train_rows(folder),
        "trained_checksums": frame_checksums(samples),
        "reference_index": train_rows(folder)[most_frontal],
    }
    assert tuned.info == {**BASE_INFO, **added} and base.references == ()
    assert np.array_equal(tuned.references[0].image, samples.images[most_frontal])
    assert tuned.references[0].gaze == pytest.approx(samples.gaze[most_frontal])
    assert tuned.references[0].head == pytest.approx(samples.head[most_frontal])


def test_the_pictures(finished):
    _, _, folder = finished
    first, last = (np.asarray(Image.open(folder / f"samples/step_{step:06d}.png")) for step in (0, STEPS))
    assert first.shape == last.shape and min(first.shape[:2]) > 4 * 192
    half = first.shape[1] // 2
    assert np.array_equal(first[:, :half], last[:, :half]), "the same frames every time"
    assert not np.array_equal(first[:, half:], last[:, half:])
    for name in ("gazes.png", "loss_curve.png"):
        picture = Image.open(folder / name)
        picture.load()
        assert min(picture.size) > 300 and len(picture.convert("RGB").getcolors(10**6)) > 20


def test_the_result_serves_as_the_next_base(finished, world, tmp_path):
    _, _, folder = finished
    base = folder / "finetuned_model.pth"
    next_run = ("--checkpoint_path", base, "--person_id", "person_003", "--num_steps", 1, "--save_dir", tmp_path)
    outcome = command(*world.flags, *next_run, "--finetune_strategy", "minimal")
    assert outcome.code == 0, outcome
    assert f"🧠 Base model: {base}, trained on nothing, fine-tuned on {PERSON}\n" in outcome.out
    before, after = weights_in(base), weights_in(tmp_path / "person_003/finetuned_model.pth")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {f"unet.{layer}.{kind}" for layer in ("conv_norm_out", "conv_out") for kind in ("weight", "bias")}


def test_the_same_seed_gives_the_same_result(finished, world, tmp_path):
    """In a folder whose path has spaces, without pictures and with other files in between."""
    _, _, folder = finished
    save_dir = tmp_path / "a path with spaces"
    outcome = command(*world.flags, *RUN, "--save_dir", save_dir, "--checkpoint_every", 0)
    assert outcome.code == 0 and files_in(save_dir / PERSON) == FILES, "without pictures there is no samples folder"
    assert_same_weights(save_dir / PERSON / "finetuned_model.pth", folder / "finetuned_model.pth")
    assert records_in(save_dir / PERSON) == records_in(folder)


# --- Persons and samples ----------------------------------------------------------------------------------------------


def test_a_random_person(world, tmp_path):
    """The lines in their order; the person has enough samples, and the run's folder is theirs."""
    outcome = command(*world.flags, "--save_dir", tmp_path, "--num_samples", 5, "--num_eval_samples", 2, "--dry_run")
    chosen = next(line for line in outcome.out.splitlines() if line.startswith("🎲")).split()[-1]
    total = SAMPLES[int(chosen.removeprefix("person_"))]
    assert outcome.code == 0 and total >= 5
    assert_in_order(
        outcome.out,
        "🎯 Starting VAE-GAZE One-Shot Training with GazeCapture Dataset",
        f"📁 HDF5 file: {world.hdf_path}",
        "👤 Person ID: Random",
        "📊 Number of samples: 5",
        f"🎲 Randomly selected person: {chosen}",
        f"📊 Found {total} total samples for person {chosen}",
        f"🎯 Randomly selected 5 samples from {total} available",
        f"✅ Successfully loaded 5 samples for person {chosen}",
        f"✅ Dry run: 500 steps would go to {tmp_path / chosen}; nothing was trained",
    )
    assert f"held out: {min(total - 5, 2)} samples" in outcome.out


def test_a_named_person_wins_over_random_person(world, tmp_path):
    flags = (*world.flags, "--save_dir", tmp_path, "--random_person", "--person_id", "person_004", "--dry_run")
    outcome = command(*flags)
    assert outcome.code == 0 and "👤 Person ID: person_004" in outcome.out and "🎲" not in outcome.out


def test_nothing_left_to_hold_out(world, tmp_path):
    """Fewer samples than asked for: all train, the numbers come from the training frames, and it says so."""
    flags = (*world.flags, "--save_dir", tmp_path, "--person_id", "person_004", "--num_steps", 2, "--sample_every", 1)
    outcome = command(*flags)
    assert outcome.code == 0, outcome
    assert "🎯 Using all 3 samples, fewer than the 8 asked for" in outcome.out
    assert "📏 Measuring the base model on the training frames themselves (3): nothing is left" in outcome.out
    summary = json.loads((tmp_path / "person_004/summary.json").read_text())
    assert summary["held_out"] == 0 and "training frames themselves" in summary["evaluated_on"]
    assert summary["baselines"] == {"mean_eye_patch": None, "reference_eyes": None}
    assert train_rows(tmp_path / "person_004") == [0, 1, 2]


def test_a_single_image_has_no_reference(world, tmp_path):
    flags = (*world.flags, "--save_dir", tmp_path, "--person_id", "person_003", "--num_samples", 1, "--num_steps", 1)
    upstream = tmp_path / "upstream.pth"
    save_checkpoint(upstream, make_tiny_model(), {})
    outcome = command(*flags, "--checkpoint_path", upstream)
    assert outcome.code == 0 and "⚠️ The base model never saw a dropped reference frame" in outcome.out
    assert "trained on unnamed data" in outcome.out
    assert load_checkpoint(tmp_path / "person_003/finetuned_model.pth").references == ()
    baselines = json.loads((tmp_path / "person_003/summary.json").read_text())["baselines"]
    assert baselines["reference_eyes"] is None and set(baselines["mean_eye_patch"]) == set(METRICS)


@pytest.mark.parametrize(
    ("person_id", "folder"),
    [
        ("person_001", "person_001"),
        ("a.b-c_D", "a.b-c_D"),
        ("..", "%2E%2E"),
        (".", "%2E"),
        (".hidden", "%2Ehidden"),
        ("a/../../b", "a%2F..%2F..%2Fb"),
        ("CON:1", "CON%3A1"),
        ("CON", "%43ON"),
        ("nul.txt", "%6Eul.txt"),
        ("back\\slash", "back%5Cslash"),
        ("dot.", "dot%2E"),
        ("space ", "space%20"),
        ("Zoë", "Zo%C3%AB"),
        ("\udcff", "%FF"),
    ],
)
def test_folder_names_are_safe(person_id, folder):
    assert folder_name(person_id) == folder


def test_long_ids_stay_apart_from_each_other():
    names = {folder_name("漢" * 100 + end) for end in ("", "a", "b")}
    assert len(names) == 3 and max(map(len, names)) < 200


@pytest.mark.parametrize("person_id", ["..", "$x_{$ Zoë 漢"], ids=["dots", "odd characters"])
def test_odd_ids(person_id, world, tmp_path):
    """HDF5 takes nearly anything for a group's name."""
    with h5py.File(world.hdf_path) as source, h5py.File(tmp_path / "odd.h5", "w") as file:
        source.copy("person_003", file, name=person_id)
    flags = ("--hdf_path", tmp_path / "odd.h5", "--num_samples", 2, "--num_steps", 1, "--save_dir", tmp_path / "runs")
    outcome = command(*world.flags, *flags)
    assert outcome.code == 0, outcome
    (folder,) = (tmp_path / "runs").iterdir()
    assert files_in(folder) == FILES and folder.name.isascii()
    assert json.loads((folder / "person_info.json").read_text())["person_id"] == person_id
    assert command(*world.flags, *flags, "--resume").code == 0


# --- What can be chosen -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_runs(strategy, world, tmp_path):
    mlp = ("--finetune_gaze_mlp", "--gaze_mlp_layers", "last") if strategy == "minimal" else ()
    flags = ("--save_dir", tmp_path, "--person_id", "person_003", "--num_samples", 4, "--num_steps", 2)
    outcome = command(*world.flags, *flags, "--learning_rate", 1e-2, "--finetune_strategy", strategy, *mlp)
    assert outcome.code == 0 and f"🔧 Strategy: {strategy}\n" in outcome.out, outcome
    patterns = (*STRATEGIES[strategy], *([GAZE_MLP_LAYERS["last"]] if mlp else []))
    matched = [line for line in outcome.out.splitlines() if line.startswith("  ") and line.split()[-1].endswith(".*")]
    assert len(matched) == len(patterns)
    before, after = weights_in(world.base), weights_in(tmp_path / "person_003/finetuned_model.pth")
    changed = {name.partition(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == ({"unet", "gaze_mlp"} if mlp else {"unet"})


def test_images_in_a_mirror_train_too_and_count_for_nothing_else(world, tmp_path):
    flags = (*world.flags, "--person_id", "person_004", "--num_steps", 4, "--sample_every", 4, "--save_dir")
    plain, mirrored = (command(*flags, tmp_path / name, *more) for name, more in (("a", ()), ("b", ("--mirror",))))
    assert plain.code == mirrored.code == 0, mirrored
    assert "the training frames themselves (3)" in mirrored.out
    first, second = (json.loads((tmp_path / name / "person_004/summary.json").read_text()) for name in "ab")
    assert first["before"] == second["before"] and first["after"] != second["after"]
    pictures = [Image.open(tmp_path / name / "person_004/samples/step_000000.png") for name in "ab"]
    assert pictures[0].size == pictures[1].size


def test_a_dry_run_looks_at_the_resume_file(finished, tmp_path):
    flags, _, folder = finished
    (tmp_path / PERSON).mkdir()
    shutil.copy(folder / "config.yaml", tmp_path / PERSON)
    (tmp_path / PERSON / "resume.pth").write_bytes(b"nonsense")
    assert_one_line(command(*flags, "--save_dir", tmp_path, "--resume", "--dry_run"), "resume.pth")


def test_a_dry_run_checks_everything_and_writes_nothing(world, tmp_path):
    save_dir = tmp_path / "not" / "there yet"
    path = tmp_path / "settings.yaml"
    path.write_text("oneshot_params: {num_steps: 7}")
    outcome = command(*world.flags, *RUN[:2], "--config", path, "--save_dir", save_dir, "--dry_run")
    assert outcome.code == 0 and outcome.err == ""
    lines = [line.split() for line in outcome.out.splitlines()]
    assert ["num_steps", "7", "file"] in lines and ["batch_size", "1", "default"] in lines
    assert ["person_id", "'person_002'", "--person_id"] in lines
    assert any("trainable" in words for words in lines)
    assert outcome.out.endswith(f"✅ Dry run: 7 steps would go to {save_dir / PERSON}; nothing was trained\n")
    assert not (tmp_path / "not").exists()


@narrow_vgg()
def test_the_users_own_file(world, tmp_path):
    """As it stands, with its paths filled in by flags, and with VGG's weights where there is no network."""
    path = tmp_path / "users.yaml"
    path.write_text(USERS_YAML)
    paths = ("--hdf_path", world.hdf_path, "--checkpoint_path", world.base, "--save_dir", tmp_path / "runs")
    outcome = command("--config", path, "--use_gazecapture", *paths, "--vgg_weights", "random", "--num_steps", 2)
    assert outcome.code == 0, outcome
    folder = tmp_path / "runs" / "person_001"  # nobody else has 30 samples
    assert files_in(folder) == FILES | {"samples/step_000000.png", "samples/step_000002.png"}
    records = records_in(folder)
    assert "vgg" in records[1] and records[1]["loss"] == pytest.approx(
        records[1]["l1"] + 2 * records[1]["mask_l1"] + 0.1 * records[1]["vgg"], rel=1e-5
    )
    config = resolve(Config, str(folder / "config.yaml")).config
    assert config.oneshot_params.learning_rate == 5e-5 and config.oneshot_params.gazecapture_params.num_samples == 30


def test_one_photo(world, tmp_path):
    flags = (*world.photo_flags, *PHOTO, "--num_steps", STEPS, "--learning_rate", 1e-2, "--save_dir", tmp_path)
    outcome = command(*flags)
    assert outcome.code == 0, outcome
    folder = tmp_path / "astronaut"
    assert files_in(folder) == FILES | {"photo_result.png"}
    assert "🎯 Starting VAE-GAZE One-Shot Training with one photo" in outcome.out
    assert "training frames themselves (1): nothing is left to hold out" in outcome.out
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["after"]["eye_l1"] < 0.8 * summary["before"]["eye_l1"]

    photo, mask, result = (
        np.asarray(Image.open(path).convert(mode))
        for path, mode in ((PHOTO[2], "RGB"), (PHOTO[4], "L"), (folder / "photo_result.png", "RGB"))
    )
    changed = (photo != result).any(axis=2)
    assert result.shape == photo.shape and not changed[mask < 128].any() and changed[mask >= 128].mean() > 0.5
    assert load_checkpoint(folder / "finetuned_model.pth").references == ()
    assert command(*flags, "--resume").code == 0


def test_an_estimator_reads_the_gaze(world, tmp_path):
    """Off the results, the baselines and the redirected frames; its own errors are told beside."""
    torch.manual_seed(0)
    estimator = tmp_path / "estimator.pth"
    save_estimator(estimator, GazeEstimator(), {"own_error_deg": {"all": 1.25}})
    flags = ("--person_id", "person_003", "--num_samples", 4, "--num_steps", 1, "--save_dir", tmp_path)
    outcome = command(*world.flags, *flags, "--estimator", estimator)
    assert outcome.code == 0, outcome
    summary = json.loads((tmp_path / "person_003" / "summary.json").read_text())
    names = {"gaze_error_deg", "gaze_error_to_target_deg", "estimator_error_deg"}
    for numbers in (summary["before"], summary["after"]):
        assert names | {f"redirected_{name}" for name in names} <= set(numbers)
    assert names <= set(summary["baselines"]["mean_eye_patch"])
    assert summary["before"]["estimator_error_deg"] == summary["after"]["estimator_error_deg"] > 0
    assert summary["estimator"] == {"path": str(estimator), "own_error_deg": {"all": 1.25}}
    assert outcome.out.count("gaze°") == 2 and "the estimator's own error on these: " in outcome.out
    assert "  on test persons: all 1.25°" in outcome.out
    assert max(map(len, outcome.out.splitlines()[-12:-1])) <= 60


# --- Things go wrong on the way ---------------------------------------------------------------------------------------


def test_nan_stops_the_run_and_keeps_the_last_good_state(finished, tmp_path, monkeypatch):
    flags, _, _ = finished
    flags = (*flags, "--save_dir", tmp_path)
    total, calls = Loss.total, []

    def nan_at_step_14(loss, terms):
        if torch.is_grad_enabled():
            calls.append(loss)
        return total(loss, terms) * (float("nan") if len(calls) == 14 else 1)

    monkeypatch.setattr(Loss, "total", nan_at_step_14)
    outcome = command(*flags)
    assert outcome.code == 2 and "Traceback" not in outcome.err
    error = outcome.err.splitlines()[-1]
    for words in ("error: the loss", "NaN at step 14", "--learning_rate", "0.01", "resume.pth", "--overwrite"):
        assert words in error
    left = files_in(tmp_path / PERSON)
    assert "resume.pth" in left and not left & {"finetuned_model.pth", "summary.json"}
    outcome = command(*flags, "--resume")  # the patched loss counts on and lets all pass
    assert outcome.code == 0 and "after step 12" in outcome.out


def test_a_base_model_with_absurd_weights(world, tmp_path):
    model = make_tiny_model()
    with torch.no_grad():
        for parameter in model.unet.parameters():
            parameter.mul_(1e18)
    base = tmp_path / "huge.pth"
    save_checkpoint(base, model, BASE_INFO)
    outcome = command(*world.flags, *RUN, "--checkpoint_path", base, "--save_dir", tmp_path)
    assert_one_line(outcome, "checkpoint_path", str(base), "infinite or NaN")
    assert not files_in(tmp_path / PERSON) & {"finetuned_model.pth", "resume.pth"}


def test_out_of_memory(finished, tmp_path, monkeypatch):
    def fails(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr("vaegaze.evaluation.eval_set.prepare_frames", fails)
    outcome = command(*finished[0], "--save_dir", tmp_path)
    assert_one_line(outcome, "out of memory", "--batch_size", "--num_samples")


@pytest.mark.slow
def test_a_full_disk(finished, world, tmp_path):
    """No file of the run may be larger than 100 kB, which the model is: one line, and nothing half written."""
    script = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
import oneshot_training
sys.exit(oneshot_training.main())
"""
    flags = (*world.flags, *RUN, "--num_steps", 1, "--save_dir", tmp_path, "--finetune_strategy", "minimal")
    process = start_process(*flags, script=script, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 2 and b"Traceback" not in err, err.decode()
    assert err.decode().splitlines()[-1].startswith("error: ")
    assert not {name for name in files_in(tmp_path / PERSON) if name.startswith((".", "finetuned"))}


def test_a_plain_terminal(world, tmp_path):
    """No emoji, no display, no home, output into a file: it runs, says all in order, and redraws nothing."""
    log = tmp_path / "log.txt"
    env = {"PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii", "LC_ALL": "C", "COLUMNS": "60"}
    flags = (*world.flags, *RUN, "--num_steps", 3, "--sample_every", 2, "--save_dir", tmp_path)
    with log.open("wb") as file:
        process = start_process(*flags, env=env, stdout=file, stderr=subprocess.STDOUT)
        assert process.wait(timeout=300) == 0, log.read_bytes()
    text = log.read_bytes().decode("ascii")
    assert "\r" not in text and "? Starting VAE-GAZE One-Shot Training" in text
    places = [text.index(word) for word in ("Starting", "Measuring", "training:", "before  ", "finetuned_model.pth")]
    assert places == sorted(places)
    assert text.count("training:") <= 4 and "Warning" not in text
    assert files_in(tmp_path / PERSON) > FILES and os.path.exists(tmp_path / PERSON / "samples/step_000003.png")


# --- How much of the fine-tuning is kept ------------------------------------------------------------------------------


def test_some_held_out_frames_choose_the_blend_and_the_others_are_measured(world, tmp_path):
    outcome = command(*world.flags, *RUN, "--save_dir", tmp_path, "--blend", "auto", "--num_samples", 6)
    summary = json.loads((tmp_path / PERSON / "summary.json").read_text())
    blend = summary["blend"]
    assert outcome.code == 0 and f"Kept {blend['alpha']:.0%}".replace("%", " %") in outcome.out
    assert blend["held_out"] and blend["frames"] == 2 and summary["held_out"] == 4, "six are held out"
    info = load_checkpoint(tmp_path / PERSON / "finetuned_model.pth").info
    person = json.loads((tmp_path / PERSON / "person_info.json").read_text())
    assert len(info["blend_indices"]) == 2 and not {*info["blend_indices"]} & {*person["held_out_indices"]}
    assert len(blend["curve"]) == 6 and blend["alpha"] in [point["alpha"] for point in blend["curve"]]


def test_spoilt_weights_are_not_the_best(world, finished, tmp_path):
    """A learning rate that ruins a tuned model: the weights of step 0 are kept."""
    base = finished[2] / "finetuned_model.pth"
    flags = (*world.flags, *RUN, "--num_steps", 4, "--eval_every", 3, "--num_samples", 6, "--checkpoint_path", base)
    outcome = command(*flags, "--learning_rate", 1, "--keep_best", "--save_dir", tmp_path)
    assert outcome.code == 0 and "Kept the base model's weights, of 4 steps" in outcome.out
    best = json.loads((tmp_path / PERSON / "summary.json").read_text())["keep_best"]
    assert [point["step"] for point in best["curve"]] == [0, 3, 4] and best["step"] == 0
    assert best["held_out"] and best["frames"] == 2
    kept = load_checkpoint(tmp_path / PERSON / "finetuned_model.pth")
    assert kept.info["kept_step"] == 0 and len(kept.info["blend_indices"]) == 2
    base = load_checkpoint(base).model.state_dict()
    assert all(torch.equal(tensor, base[name]) for name, tensor in kept.model.state_dict().items())


def test_the_best_weights_are_blended_with_the_base(world, tmp_path):
    flags = (*world.flags, *RUN, "--num_steps", 6, "--eval_every", 3, "--num_samples", 6, "--keep_best")
    assert command(*flags, "--learning_rate", 1e-3, "--blend", 0.5, "--save_dir", tmp_path / "half").code == 0
    assert command(*flags, "--learning_rate", 1e-3, "--save_dir", tmp_path / "whole").code == 0
    models = [
        load_checkpoint(tmp_path / run / PERSON / "finetuned_model.pth").model.state_dict() for run in ("half", "whole")
    ]
    for name, tensor in load_checkpoint(world.base).model.state_dict().items():
        torch.testing.assert_close(models[0][name], torch.lerp(tensor, models[1][name], 0.5), rtol=0, atol=1e-7)


def test_one_photos_best_step_is_chosen_on_the_photo_itself(world, tmp_path):
    flags = (*world.photo_flags, *PHOTO, "--num_steps", 2, "--eval_every", 1, "--keep_best", "--save_dir", tmp_path)
    outcome = command(*flags)
    assert outcome.code == 0 and "chosen on 1 training frame" in outcome.out


def test_a_given_blend(world, finished, tmp_path):
    base = load_checkpoint(world.base).model.state_dict()
    tuned = load_checkpoint(finished[2] / "finetuned_model.pth").model.state_dict()
    for blend in (0, 0.5):
        assert command(*finished[0], "--save_dir", tmp_path, "--blend", blend, "--overwrite").code == 0
        model = load_checkpoint(tmp_path / PERSON / "finetuned_model.pth").model.state_dict()
        for name, tensor in model.items():
            torch.testing.assert_close(tensor, torch.lerp(base[name], tuned[name], blend), rtol=0, atol=1e-7)


@pytest.mark.parametrize("blend", ["1.5", "-0.1", "some"])
def test_a_blend_that_is_none(world, blend):
    assert_one_line(command(*world.flags, *RUN, "--blend", blend), "--blend", "auto | 0..1")


def test_a_trackers_files_are_closed_and_go_with_an_overwritten_run(world, tmp_path):
    flags = (*world.flags, *RUN, "--num_steps", 2, "--save_dir", tmp_path, "--tracker", "tensorboard")
    assert command(*flags).code == 0
    (first,) = (tmp_path / PERSON / "tensorboard").iterdir()
    assert command(*flags, "--overwrite").code == 0
    assert first not in (tmp_path / PERSON / "tensorboard").iterdir()
