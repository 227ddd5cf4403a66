"""oneshot_training.py where a run is there already: finished, interrupted, killed, and gone on with."""

import json
import shutil
import signal
import subprocess
import time

import h5py
import numpy as np
import pytest
import torch
from command_runs import (
    BASE_INFO,
    FILES,
    PERSON,
    RUN,
    STEPS,
    assert_one_line,
    assert_same_weights,
    command,
    contents_of,
    files_in,
    records_in,
    signal_at_step,
    start_process,
    train_rows,
)
from conftest import SIZE_PX, make_tiny_model, narrow_vgg
from PIL import Image

from vaegaze.commands import train_run
from vaegaze.commands.progress import STOPPING
from vaegaze.models.checkpoint import load_checkpoint, save_checkpoint
from vaegaze.models.estimator import GazeEstimator, save_estimator
from vaegaze.renderer.data_set import write_hdf5
from vaegaze.runs.recorder import Recorder
from vaegaze.training.losses import load_vgg

# --- A run that is there already --------------------------------------------------------------------------------------


def test_a_finished_run_is_never_overwritten_unasked(finished):
    flags, _, folder = finished
    before = contents_of(folder)
    assert_one_line(command(*flags), str(folder), "finished", "--overwrite", "--save_dir")
    outcome = command(*flags, "--resume")
    assert outcome.code == 0 and outcome.out.count("already finished") == 1 and outcome.err == ""
    outcome = command(*flags, "--resume", "--seed", 1, "--l1_loss", 3)
    assert_one_line(outcome, "oneshot_params.seed was 0, now 1", "loss_params.l1_loss was 1.0, now 3.0")
    assert_one_line(command(*flags, "--resume", "--overwrite"), "--overwrite", "--resume")
    assert contents_of(folder) == before


def test_a_finished_run_goes_on_from_its_own_config(finished):
    _, _, folder = finished
    assert command("--config", folder / "config.yaml", "--resume").code == 0


def test_a_run_finished_on_a_gpu_is_finished_on_a_machine_without_one(finished, tmp_path):
    flags, _, folder = finished
    shutil.copytree(folder, tmp_path / PERSON)
    config = tmp_path / PERSON / "config.yaml"
    config.write_text(config.read_text().replace('device: "cpu"', 'device: "cuda:7"'))
    outcome = command(*flags, "--save_dir", tmp_path, "--device", "auto", "--resume")
    assert outcome.code == 0 and "already finished" in outcome.out


def test_overwrite_leaves_nothing_of_the_earlier_run(finished, world, tmp_path):
    _, _, folder = finished
    shutil.copytree(folder, tmp_path / PERSON)
    (tmp_path / PERSON / "notes.txt").write_text("the user's own")
    flags = (*world.flags, *RUN, "--num_steps", 2, "--sample_every", 5, "--save_dir", tmp_path, "--overwrite")
    assert command(*flags).code == 0
    samples = {"samples/step_000000.png", "samples/step_000002.png"}
    assert files_in(tmp_path / PERSON) == FILES | samples | {"notes.txt"}
    assert json.loads((tmp_path / PERSON / "summary.json").read_text())["steps"] == 2


def test_overwrite_never_deletes_its_own_base_model(finished, world, tmp_path):
    _, _, folder = finished
    shutil.copytree(folder, tmp_path / PERSON)
    base = tmp_path / PERSON / "finetuned_model.pth"
    outcome = command(*world.flags, *RUN, "--checkpoint_path", base, "--save_dir", tmp_path, "--overwrite")
    assert_one_line(outcome, str(tmp_path / PERSON), "--save_dir")
    assert base.read_bytes() == (folder / "finetuned_model.pth").read_bytes()


def test_a_signal_during_set_up_leaves_the_earlier_run_alone(finished, world, tmp_path, monkeypatch):
    _, _, folder = finished
    shutil.copytree(folder, tmp_path / PERSON)
    load_person = train_run.load_person

    def interrupted(*args):
        signal.raise_signal(signal.SIGINT)
        return load_person(*args)

    monkeypatch.setattr(train_run, "load_person", interrupted)
    assert command(*world.flags, *RUN, "--save_dir", tmp_path, "--overwrite").code == 130
    assert contents_of(tmp_path / PERSON) == contents_of(folder)


def test_held_out_frames_that_the_base_was_trained_on_are_told(finished, world, tmp_path):
    _, _, folder = finished
    base = folder / "finetuned_model.pth"
    flags = (
        *world.flags,
        *RUN,
        "--num_steps",
        1,
        "--checkpoint_path",
        base,
        "--num_samples",
        4,
        "--save_dir",
        tmp_path,
    )
    outcome = command(*flags)
    assert outcome.code == 0 and "⚠️ The base model was trained on" in outcome.out
    assert json.loads((tmp_path / PERSON / "summary.json").read_text())["held_out_but_seen_by_base"] > 0

    write_hdf5(tmp_path / "other.h5", 2, SIZE_PX, seed=1, samples=12)
    outcome = command(*flags, "--hdf_path", tmp_path / "other.h5", "--overwrite")
    assert outcome.code == 0 and f"⚠️ The model was fine-tuned on another {PERSON}" in outcome.out
    assert json.loads((tmp_path / PERSON / "summary.json").read_text())["held_out_but_seen_by_base"] == 0
    info = load_checkpoint(tmp_path / PERSON / "finetuned_model.pth").info
    assert info["trained_indices"] == train_rows(tmp_path / PERSON)


# --- Interrupted and resumed ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "signum", "code"),
    [(7, signal.SIGINT, 130), (20, signal.SIGTERM, 143), (STEPS, signal.SIGINT, 130)],
    ids=["between log steps", "at a log step", "at the last step"],
)
def test_resumed_equals_uninterrupted(number, signum, code, finished, tmp_path, monkeypatch):
    flags, _, folder = finished
    flags = (*flags, "--save_dir", tmp_path)
    with monkeypatch.context() as patched:
        signal_at_step(patched, number, signum)
        outcome = command(*flags)
    left = files_in(tmp_path / PERSON)
    assert outcome.code == code and "Traceback" not in outcome.err
    assert outcome.err.endswith(f"stopped by {signal.Signals(signum).name}; go on with --resume\n")
    assert "resume.pth" in left and not left & {"finetuned_model.pth", "summary.json"}
    assert_one_line(command(*flags), "interrupted", "--resume", "--overwrite")

    outcome = command(*flags, "--resume")
    assert outcome.code == 0 and f"▶️ Going on after step {number}" in outcome.out
    assert_same_weights(tmp_path / PERSON / "finetuned_model.pth", folder / "finetuned_model.pth")
    assert records_in(tmp_path / PERSON) == records_in(folder)
    assert files_in(tmp_path / PERSON) == files_in(folder)
    summary, other = (json.loads((path / "summary.json").read_text()) for path in (tmp_path / PERSON, folder))
    measured = {"seconds": 0, "sec_per_step": 0, "seconds_of": {}, "total_seconds": 0, "peak_memory_mb": 0}
    assert summary | measured == other | measured


def test_replayed_persons_are_chosen_by_the_base_and_kept_on_resume(world, tmp_path, monkeypatch):
    save_checkpoint(
        tmp_path / "base.pth", make_tiny_model(), {"trained_on": "rendered persons", "drops_reference": True}
    )
    flags = (*world.flags, *RUN, "--num_steps", 6, "--checkpoint_path", tmp_path / "base.pth")
    whole, parts = ((*flags, "--save_dir", tmp_path / name) for name in ("whole", "parts"))
    assert "🔁 50%" in command(*whole).out
    assert 'replay: "0.5"' in (tmp_path / "whole" / PERSON / "config.yaml").read_text()
    signal_at_step(monkeypatch, 3, signal.SIGINT)
    assert command(*parts).code == 130
    monkeypatch.undo()
    assert command(*parts, "--resume").code == 0
    assert_same_weights(*(tmp_path / run / PERSON / "finetuned_model.pth" for run in ("whole", "parts")))
    assert "🔁" not in command(*flags, "--replay", 0, "--save_dir", tmp_path / "none").out


def test_the_best_weights_outlive_an_interruption(world, tmp_path, monkeypatch):
    """The best step comes before the interruption: its weights are in the resume file."""
    flags = (*world.flags, *RUN, "--num_steps", 8, "--eval_every", 2, "--keep_best", "--learning_rate", 3e-2)
    assert command(*flags, "--save_dir", tmp_path / "whole").code == 0
    parts = (*flags, "--save_dir", tmp_path / "parts")
    signal_at_step(monkeypatch, 5, signal.SIGINT)
    assert command(*parts).code == 130
    monkeypatch.undo()
    assert command(*parts, "--resume").code == 0
    best = [
        json.loads((tmp_path / run / PERSON / "summary.json").read_text())["keep_best"] for run in ("whole", "parts")
    ]
    assert best[0] == best[1]
    whole, parts = (tmp_path / run / PERSON / "finetuned_model.pth" for run in ("whole", "parts"))
    assert_same_weights(whole, parts)


def test_resumed_with_another_number_of_threads(finished, tmp_path, monkeypatch):
    """The CPU rounds otherwise then: the run goes on with those that it began with."""
    flags, _, _ = finished
    flags = (*flags, "--save_dir", tmp_path)
    with monkeypatch.context() as patched:
        signal_at_step(patched, 5, signal.SIGTERM)
        assert command(*flags).code == 143
    begin, threads = Recorder.begin, []

    def counted(recorder):
        threads.append(torch.get_num_threads())
        begin(recorder)

    monkeypatch.setattr(Recorder, "begin", counted)
    command(*flags, "--resume", threads=2)
    assert threads == [1]


def test_two_interruptions_and_a_signal_while_pictures_are_drawn(finished, tmp_path, monkeypatch):
    """Nothing that was computed is lost, and no line is missing or twice."""
    flags, _, folder = finished
    flags = (*flags, "--save_dir", tmp_path, "--checkpoint_every", 0)
    draw_samples = Recorder.draw_samples

    def drawn(recorder):
        if recorder.progress.step == 20:
            signal.raise_signal(signal.SIGINT)
        draw_samples(recorder)

    monkeypatch.setattr(Recorder, "draw_samples", drawn)
    signal_at_step(monkeypatch, 3, signal.SIGTERM)
    assert command(*flags).code == 143
    outcome = command(*flags, "--resume")
    assert outcome.code == 130 and "after step 3" in outcome.out
    outcome = command(*flags, "--resume")
    assert outcome.code == 0 and "after step 20" in outcome.out
    assert_same_weights(tmp_path / PERSON / "finetuned_model.pth", folder / "finetuned_model.pth")
    assert records_in(tmp_path / PERSON) == records_in(folder)


def signal_while_measuring(monkeypatch, nth: int) -> None:
    measure, calls = Recorder.measure, []

    def measured(recorder, check):
        calls.append(recorder)
        if len(calls) == nth:
            signal.raise_signal(signal.SIGINT)
        return measure(recorder, check)

    monkeypatch.setattr(Recorder, "measure", measured)


def test_interrupted_before_the_first_step(finished, tmp_path, monkeypatch):
    flags, _, _ = finished
    flags = (*flags, "--save_dir", tmp_path, "--num_steps", 2)
    with monkeypatch.context() as patched:
        signal_while_measuring(patched, 1)
        outcome = command(*flags)
    assert outcome.code == 130 and "nothing was trained" in outcome.err and "--resume" not in outcome.err
    assert files_in(tmp_path / PERSON) == {"config.yaml", "person_info.json"}
    assert_one_line(command(*flags, "--resume"), "no interrupted run", "without --resume")
    assert command(*flags).code == 0


def test_interrupted_while_the_result_is_measured(finished, tmp_path, monkeypatch):
    flags, _, folder = finished
    flags = (*flags, "--save_dir", tmp_path)
    with monkeypatch.context() as patched:
        signal_while_measuring(patched, 2)
        outcome = command(*flags)
    assert outcome.code == 130 and outcome.err.endswith("go on with --resume\n")
    assert not (tmp_path / PERSON / "finetuned_model.pth").exists()
    assert command(*flags, "--resume").code == 0
    assert_same_weights(tmp_path / PERSON / "finetuned_model.pth", folder / "finetuned_model.pth")
    assert files_in(tmp_path / PERSON) == files_in(folder)


def test_a_second_ctrl_c_ends_it_at_once(finished, tmp_path, monkeypatch):
    flags, _, _ = finished

    def pressed_twice(recorder, check):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Recorder, "measure", pressed_twice)
    outcome = command(*flags, "--save_dir", tmp_path)
    assert outcome.code == 130 and "Traceback" not in outcome.err


@pytest.fixture(scope="module")
def stopped(finished, tmp_path_factory):
    """The folder of a run that was stopped at step 5. To be copied."""
    save_dir = tmp_path_factory.mktemp("stopped")
    with pytest.MonkeyPatch.context() as patched:
        signal_at_step(patched, 5, signal.SIGTERM)
        assert command(*finished[0], "--save_dir", save_dir).code == 143
    return save_dir / PERSON


@pytest.fixture
def interrupted(finished, stopped, tmp_path):
    """The flags of a run that was stopped at step 5."""
    shutil.copytree(stopped, tmp_path / PERSON)
    return (*finished[0], "--save_dir", tmp_path)


def test_resume_with_anything_changed_is_an_error(interrupted, world, tmp_path):
    folder = tmp_path / PERSON
    before = contents_of(folder)
    outcome = command(*interrupted, "--resume", "--learning_rate", 1e-3, "--finetune_strategy", "full")
    assert_one_line(outcome, "learning_rate was 0.01, now 0.001", "finetune_strategy was 'selective', now 'full'")
    outcome = command(*interrupted, "--resume", "--num_samples", 9)
    assert_one_line(outcome, "num_samples was 8, now 9")

    # the same paths, other contents
    stored = world.hdf_path.read_bytes(), world.base.read_bytes()
    try:
        with h5py.File(world.hdf_path, "r+") as file:
            pixels = file[PERSON]["pixels"][train_rows(folder)[0]]
            file[PERSON]["pixels"][train_rows(folder)[0]] = 255 - pixels
        assert_one_line(command(*interrupted, "--resume"), "other data", "--overwrite")
        world.hdf_path.write_bytes(stored[0])
        save_checkpoint(world.base, make_tiny_model(seed=1), BASE_INFO)
        assert_one_line(command(*interrupted, "--resume"), "another base model", "--overwrite")
    finally:
        world.hdf_path.write_bytes(stored[0])
        world.base.write_bytes(stored[1])
    assert contents_of(folder) == before


def test_other_eye_masks_are_other_data(world, tmp_path, monkeypatch):
    hdf_path, mask = tmp_path / "no_masks.h5", tmp_path / "mask.png"
    with h5py.File(world.hdf_path) as file, h5py.File(hdf_path, "w") as copy:
        for key in ("pixels", "labels"):
            copy[f"{PERSON}/{key}"] = file[PERSON][key][:]
    pixels = np.zeros((SIZE_PX, SIZE_PX), np.uint8)
    pixels[8:14, 4:14] = pixels[8:14, 18:28] = 255
    Image.fromarray(pixels).save(mask)
    flags = (*world.flags, *RUN, "--hdf_path", hdf_path, "--mask_path", mask, "--save_dir", tmp_path)
    with monkeypatch.context() as patched:
        signal_at_step(patched, 2, signal.SIGTERM)
        assert command(*flags).code == 143
    pixels[14, 4:14] = 255
    Image.fromarray(pixels).save(mask)
    assert_one_line(command(*flags, "--resume"), "other data", "--overwrite")


@narrow_vgg()
def test_another_estimator_or_vgg_is_refused(world, tmp_path, monkeypatch):
    estimator, vgg = tmp_path / "estimator.pth", tmp_path / "vgg.pth"

    def write(seed):
        torch.manual_seed(seed)
        save_estimator(estimator, GazeEstimator(), {"own_error_deg": {"all": 1.0}})

    write(0)
    state = load_vgg("random", seed=0).features.state_dict()
    torch.save({f"features.{name}": tensor for name, tensor in state.items()}, vgg)
    flags = (*world.flags, *RUN, "--estimator", estimator, "--vgg_loss", 0.1, "--vgg_weights", vgg)
    flags = (*flags, "--num_steps", 3, "--num_eval_samples", 1, "--save_dir", tmp_path)
    with monkeypatch.context() as patched:
        signal_at_step(patched, 1, signal.SIGTERM)
        assert command(*flags).code == 143
    stored = estimator.read_bytes()
    write(1)
    assert_one_line(command(*flags, "--resume"), "another file for the estimator", "--overwrite")
    estimator.write_bytes(stored)
    stored = vgg.read_bytes()
    torch.save({f"features.{name}": tensor + 0.001 for name, tensor in state.items()}, vgg)
    assert_one_line(command(*flags, "--resume"), "another file for the VGG19 loss", "--overwrite")
    vgg.write_bytes(stored)
    assert command(*flags, "--resume").code == 0


def test_a_resume_file_that_outlived_its_run_is_removed(interrupted, tmp_path):
    resume = tmp_path / PERSON / "resume.pth"
    stored = resume.read_bytes()
    assert command(*interrupted, "--resume").code == 0
    resume.write_bytes(stored)  # as if the run had been killed before it removed the file
    outcome = command(*interrupted, "--resume", "--dry_run")
    assert outcome.code == 0 and "already finished" in outcome.out and resume.read_bytes() == stored
    outcome = command(*interrupted, "--resume")
    assert outcome.code == 0 and "already finished" in outcome.out and not resume.exists()


def test_more_steps_for_a_finished_run_names_the_way(finished, tmp_path):
    flags, _, folder = finished
    outcome = command(*flags, "--num_steps", STEPS + 10, "--resume")
    assert_one_line(outcome, f"finished after {STEPS} steps", f"--checkpoint_path {folder}/finetuned_model.pth")


@pytest.mark.slow
def test_a_killed_runs_temporary_files_are_gone_when_it_is_finished(finished, tmp_path):
    flags = (*finished[0], "--save_dir", tmp_path)
    script = """
import os, signal, sys
import torch
import oneshot_training
save = torch.save
def killed(content, file):
    save(content, file)
    os.kill(os.getpid(), signal.SIGKILL)
torch.save = killed
sys.exit(oneshot_training.main())
"""
    process = start_process(*flags, script=script, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert process.wait(timeout=300) == -signal.SIGKILL
    folder = tmp_path / PERSON
    assert [path for path in folder.iterdir() if path.name.startswith(".")]
    assert command(*flags, "--overwrite").code == 0
    assert files_in(folder) == files_in(finished[2])


def test_a_finished_run_notices_other_data(finished, world):
    flags, _, _ = finished
    stored = world.base.read_bytes()
    try:
        save_checkpoint(world.base, make_tiny_model(seed=1), BASE_INFO)
        assert_one_line(command(*flags, "--resume"), "another base model", "--overwrite")
    finally:
        world.base.write_bytes(stored)
    outcome = command(*flags, "--resume")
    assert outcome.code == 0 and "already finished" in outcome.out


def test_the_precision_that_auto_came_to_is_kept(finished, tmp_path, monkeypatch):
    """As if auto had come to bf16 on the machine of the first part, which a processor without it emulates."""
    flags = (*finished[0], "--save_dir", tmp_path)
    with monkeypatch.context() as patched:
        signal_at_step(patched, 5, signal.SIGTERM)
        assert command(*flags, "--precision", "bf16").code == 143
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    outcome = command(*flags, "--precision", "auto", "--resume")
    assert outcome.code == 0 and "precision: bf16" in outcome.out, outcome
    assert json.loads((tmp_path / PERSON / "summary.json").read_text())["precision"] == "bf16"


def test_a_run_that_was_out_of_memory_may_go_on_with_gradient_checkpointing(interrupted, finished, tmp_path):
    assert command(*interrupted, "--resume", "--gradient_checkpointing").code == 0
    assert_same_weights(tmp_path / PERSON / "finetuned_model.pth", finished[2] / "finetuned_model.pth")


def test_a_resume_file_of_an_older_version(interrupted, tmp_path):
    path = tmp_path / PERSON / "resume.pth"
    content = torch.load(path, weights_only=True)
    torch.save(content | {"format": "vaegaze-resume-1"}, path)
    assert_one_line(command(*interrupted, "--resume"), "resume.pth", "--overwrite")


@pytest.mark.parametrize("content", [b"", b"nonsense", "cut", "foreign"])
def test_a_damaged_resume_file(content, interrupted, tmp_path):
    path = tmp_path / PERSON / "resume.pth"
    if content == "foreign":
        torch.save({"format": "something else"}, path)
    else:
        path.write_bytes(path.read_bytes()[:-1000] if content == "cut" else content)
    assert_one_line(command(*interrupted, "--resume"), "resume.pth", "--overwrite")


def test_files_of_somebody_else_in_a_folder_of_the_persons_name(world, tmp_path):
    """With `--save_dir .` it may be anybody's."""
    flags, mine = [*world.flags, *RUN, "--num_steps", 1, "--save_dir", tmp_path], tmp_path / PERSON
    mine.mkdir()
    (mine / "thesis.txt").write_text("in no one's way")
    assert command(*flags, "--dry_run").code == 0
    for name in ("config.yaml", "report.html", "tensorboard/events", "samples/step_1.png"):
        (mine / name).parent.mkdir(exist_ok=True)
        (mine / name).write_text("dear")
        assert_one_line(command(*flags), f"holds {name.removesuffix('/events')}, which no run wrote", "--overwrite")
        assert (mine / name).read_text() == "dear"
        (mine / name).unlink()
        shutil.rmtree(mine / "tensorboard", ignore_errors=True)
    (mine / "report.html").write_text("old")
    assert command(*flags, "--overwrite").code == 0
    assert (mine / "thesis.txt").exists() and (mine / "report.html").read_text() != "old"


@pytest.mark.parametrize("name", ["loss_curve.png", "config.yaml", "samples/step_000020.png", "finetuned_model.pth"])
def test_a_folder_in_the_place_of_a_runs_file_is_refused_before_anything_is_removed(name, finished, tmp_path):
    flags, _, folder = finished
    copy = tmp_path / PERSON
    shutil.copytree(folder, copy)
    (copy / name).unlink()
    (copy / name).mkdir()
    (copy / name / "thesis.txt").write_text("dear")
    before = contents_of(copy)
    for more in ("--overwrite", "--resume"):
        assert_one_line(command(*flags, "--save_dir", tmp_path, more), f"{name} is a folder", "--save_dir")
    assert contents_of(copy) == before


def test_settings_of_ones_own_are_not_replaced_by_the_runs(world, tmp_path):
    """A run's may be: to repeat it is what they are for."""
    flags, config = [*world.flags, *RUN, "--num_steps", 1, "--save_dir", tmp_path], tmp_path / PERSON / "config.yaml"
    config.parent.mkdir()
    text = "# what I tried\noneshot_params:\n  batch_size: 2\n"
    config.write_text(text)
    for switch in ((), ("--overwrite",)):
        assert_one_line(command(*flags, "--config", config, *switch), "--config", "another name")
    assert config.read_text() == text
    (tmp_path / "mine.yaml").write_text(text)
    assert command(*flags, "--config", tmp_path / "mine.yaml", "--overwrite").code == 0
    assert command(*flags, "--config", config, "--overwrite").code == 0
    assert "batch_size: 2" in config.read_text()


def test_an_interrupted_run_whose_settings_are_gone(interrupted, tmp_path):
    (tmp_path / PERSON / "config.yaml").unlink()
    assert_one_line(command(*interrupted, "--resume"), "config.yaml is gone", "--overwrite")


def test_overwrite_starts_an_interrupted_run_anew(interrupted, tmp_path):
    assert command(*interrupted, "--num_steps", 1, "--overwrite").code == 0
    assert files_in(tmp_path / PERSON) == FILES | {"samples/step_000000.png", "samples/step_000001.png"}


LONG = ("--person_id", "person_003", "--num_samples", 4, "--num_steps", 80, "--log_every", 7)


@pytest.fixture(scope="module")
def long_run(world, tmp_path_factory):
    """The folder of a run of so many steps that a signal comes before its end. To be looked at only."""
    save_dir = tmp_path_factory.mktemp("long")
    assert command(*world.flags, *LONG, "--save_dir", save_dir).code == 0
    return save_dir / "person_003"


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGHUP, 129)], ids=["SIGINT", "SIGHUP"])
@pytest.mark.usefixtures("hangups_arrive")
def test_a_process_is_interrupted_and_resumed(signum, code, world, long_run, tmp_path):
    flags = (*world.flags, *LONG, "--save_dir", tmp_path)
    process = start_process(*flags, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    folder = tmp_path / "person_003"
    while process.poll() is None and not (folder / "metrics.jsonl").exists():  # the base model has been measured
        time.sleep(0.02)
    process.send_signal(signum)
    _, err = process.communicate(timeout=300)
    assert process.returncode == code and b"Traceback" not in err, err
    assert err.count(STOPPING.encode()) == 1
    assert (folder / "resume.pth").exists() and not (folder / "finetuned_model.pth").exists()

    assert command(*flags, "--resume").code == 0
    assert_same_weights(folder / "finetuned_model.pth", long_run / "finetuned_model.pth")
    assert records_in(folder) == records_in(long_run)


def test_two_runs_at_once_in_one_folder(world, tmp_path):
    """The second is refused: their files would be mixed."""
    flags = (*world.flags, "--person_id", PERSON, "--save_dir", tmp_path, "--num_samples", 4)
    process = start_process(*flags, "--num_steps", 100_000, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        while process.poll() is None and not (tmp_path / PERSON / "metrics.jsonl").exists():
            time.sleep(0.02)
        for more in ((), ("--overwrite",), ("--resume",)):
            assert_one_line(command(*flags, "--num_steps", 2, *more), f"process {process.pid} is writing to")
    finally:
        process.kill()
        process.communicate()
    assert command(*flags, "--num_steps", 2, "--overwrite").code == 0
    assert not [name for name in files_in(tmp_path / PERSON) if name.startswith(".")]


@pytest.mark.slow
def test_a_process_killed_while_it_writes(finished, tmp_path):
    """Its second resume file is half written when it dies: the first one is whole, and the run goes on from it."""
    flags, _, folder = finished
    script = """
import os, signal, sys
import torch
import oneshot_training
save, calls = torch.save, []
def half(content, file):
    save(content, file)
    calls.append(file)
    if len(calls) == 2:
        file.truncate(file.tell() // 2)
        os.kill(os.getpid(), signal.SIGKILL)
torch.save = half
sys.exit(oneshot_training.main())
"""
    flags = (*flags, "--save_dir", tmp_path)
    process = start_process(*flags, script=script, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert process.wait(timeout=300) == -signal.SIGKILL
    assert not (tmp_path / PERSON / "finetuned_model.pth").exists()
    outcome = command(*flags, "--resume")
    assert outcome.code == 0 and "after step 12" in outcome.out
    assert_same_weights(tmp_path / PERSON / "finetuned_model.pth", folder / "finetuned_model.pth")
    assert records_in(tmp_path / PERSON) == records_in(folder)


def test_data_and_base_model_may_have_moved(interrupted, finished, world, tmp_path):
    """They are told by their contents; what else is given anew is refused, and how to go on is said."""
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    flags = [*interrupted, "--resume"]
    for flag, path in (("--hdf_path", world.hdf_path), ("--checkpoint_path", world.base)):
        shutil.copy(path, moved)
        flags += [flag, moved / path.name]
    assert_one_line(command(*flags, "--l1_loss", 3), "loss_params.l1_loss was 1.0, now 3.0", "--overwrite")
    save_checkpoint(moved / world.base.name, make_tiny_model(seed=1), BASE_INFO)
    assert_one_line(command(*flags), "another base model", "--overwrite")
    shutil.copy(world.base, moved)
    outcome = command(*flags)
    assert outcome.code == 0, outcome
    assert_same_weights(tmp_path / PERSON / "finetuned_model.pth", finished[2] / "finetuned_model.pth")


def test_an_adapter_that_was_trained_anew_is_another_base_model(world, tmp_path, monkeypatch):
    """Its own base is the same."""

    def train_adapter(seed):
        flags = (*RUN, "--num_steps", 2, "--save", "adapter", "--save_dir", tmp_path / "first", "--seed", seed)
        assert command(*world.flags, *flags, "--finetune_strategy", "encoder_only", "--overwrite").code == 0

    train_adapter(0)
    flags = (*world.flags, *RUN, "--checkpoint_path", tmp_path / "first" / PERSON, "--save_dir", tmp_path / "second")
    with monkeypatch.context() as patched:
        signal_at_step(patched, 2, signal.SIGTERM)
        assert command(*flags).code == 143
    train_adapter(1)
    assert_one_line(command(*flags, "--resume"), "another base model", "--overwrite")
