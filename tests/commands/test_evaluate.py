"""vaegaze evaluate: the numbers of `summary.json`, from a checkpoint and a file."""

import json

import h5py
import numpy as np
import pytest
import torch
from command_runs import NOBODY_ESTIMATES, command
from conftest import SIZE_PX, process_restored
from published_weights import Published

from vaegaze.commands import evaluate
from vaegaze.data import hdf5
from vaegaze.data.selection import rows_left
from vaegaze.evaluation.metrics import draw, measure
from vaegaze.geometry.camera import canvas_camera
from vaegaze.models.checkpoint import load_checkpoint, save_checkpoint
from vaegaze.models.estimator import GazeEstimator, save_estimator
from vaegaze.renderer.data_set import write_hdf5
from vaegaze.training.references import REFERENCE_POOL, choose_references, references_of
from vaegaze.training.tensors import prepare_frames

PERSON = "person_002"


@pytest.fixture(scope="module")
def finished(world, tmp_path_factory):
    """A fine-tuned model's folder."""
    save_dir = tmp_path_factory.mktemp("runs")
    flags = (*world.flags, "--person_id", PERSON, "--num_steps", 3, "--learning_rate", 1e-2, "--save_dir", save_dir)
    assert command(*flags).code == 0
    return save_dir / PERSON


def run(*flags):
    with process_restored():
        return evaluate.main([*map(str, flags), *NOBODY_ESTIMATES, "--device", "cpu"])


def flags_for(world, checkpoint, output, *more):
    data = ("--hdf_path", world.hdf_path, "--person_id", PERSON)
    return ("--checkpoint", checkpoint, *data, "--output", output, *more)


def test_the_same_numbers_as_the_run(world, finished, tmp_path, capsys):
    output = tmp_path / "numbers.json"
    assert run(*flags_for(world, finished / "finetuned_model.pth", output)) == 0
    numbers = json.loads(output.read_text())
    summary = json.loads((finished / "summary.json").read_text())
    info = json.loads((finished / "person_info.json").read_text())
    assert numbers["indices"] == info["held_out_indices"]
    for name, value in summary["after"].items():
        assert numbers[name] == (value if value is None else pytest.approx(value, rel=1e-6)), name
    out = capsys.readouterr().out
    assert f"{PERSON}: 4 frames (held_out)" in out and f"{numbers['eye_l1']:.4f}" in out
    assert f"{numbers['redirected_eye_psnr']:.2f}" in out


def test_a_run_that_held_out_only_some_of_the_rest(world, tmp_path):
    flags = ("--person_id", PERSON, "--num_samples", 4, "--num_eval_samples", 3, "--num_steps", 1, "--seed", 5)
    assert command(*world.flags, *flags, "--save_dir", tmp_path).code == 0
    folder, output = tmp_path / PERSON, tmp_path / "numbers.json"
    more = ("--num_eval_samples", 3, "--seed", 5)
    assert run(*flags_for(world, folder / "finetuned_model.pth", output, *more)) == 0
    numbers, summary = (json.loads(path.read_text()) for path in (output, folder / "summary.json"))
    assert numbers["indices"] == json.loads((folder / "person_info.json").read_text())["held_out_indices"]
    assert numbers["eye_l1"] == pytest.approx(summary["after"]["eye_l1"], rel=1e-6)


def test_the_estimators_own_error_stands_beside(world, tmp_path, capsys):
    save_estimator(tmp_path / "estimator.pth", GazeEstimator(), {"own_error_deg": {"all": 1.25, "without": 1.0}})
    flags = flags_for(world, world.base, tmp_path / "numbers.json", "--num_eval_samples", 2)
    with process_restored():
        assert evaluate.main([*map(str, flags), "--estimator", str(tmp_path / "estimator.pth")]) == 0
    out = capsys.readouterr().out
    assert out.count("gaze°") == 2 and "on test persons: all 1.25°, without 1.00°" in out
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    for prefix in ("", "redirected_"):
        second = f"lpips –  outside_mask 0  gaze_error_deg {numbers[prefix + 'gaze_error_deg']:.2f}"
        assert second in out.splitlines()
    assert max(map(len, out.splitlines())) <= 60


def test_all_frames(world, finished, tmp_path):
    """Also the one that is the reference itself: it is drawn with another."""
    output = tmp_path / "numbers.json"
    assert run(*flags_for(world, finished / "finetuned_model.pth", output, "--frames", "all")) == 0
    assert json.loads(output.read_text())["indices"] == list(range(12))
    assert run(*flags_for(world, finished / "finetuned_model.pth", output, "--num_eval_samples", 2)) == 0
    assert len(json.loads(output.read_text())["indices"]) == 2


def test_a_base_model(world, tmp_path):
    assert run(*flags_for(world, world.base, tmp_path / "numbers.json")) == 0
    assert json.loads((tmp_path / "numbers.json").read_text())["indices"] == list(range(12))


def test_a_base_models_reference_does_not_depend_on_which_frames_are_drawn(world, tmp_path):
    assert run(*flags_for(world, world.base, tmp_path / "numbers.json", "--num_eval_samples", 2)) == 0
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    model = load_checkpoint(world.base).model
    samples = hdf5.read_person(world.hdf_path, PERSON, range(12), model.canvas).samples
    drawn = samples.take(numbers["indices"])
    frames = prepare_frames(model, drawn, choose_references(samples), torch.device("cpu"))
    by_hand = measure(draw(model, frames), frames)
    assert numbers["eye_l1"] == pytest.approx(by_hand["eye_l1"], rel=1e-5)
    frames = prepare_frames(model, drawn, choose_references(drawn), torch.device("cpu"))
    assert numbers["eye_l1"] != pytest.approx(measure(draw(model, frames), frames)["eye_l1"], rel=1e-5)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_base_models_reference_does_not_depend_on_the_seed(world, seed, tmp_path):
    output = tmp_path / "numbers.json"
    data = ("--hdf_path", world.hdf_path, "--person_id", "person_001")
    assert run("--checkpoint", world.base, *data, "--num_eval_samples", 2, "--seed", seed, "--output", output) == 0
    numbers = json.loads(output.read_text())
    model = load_checkpoint(world.base).model
    drawn = hdf5.read_person(world.hdf_path, "person_001", numbers["indices"], canvas_camera(SIZE_PX)).samples
    frames = prepare_frames(
        model, drawn, references_of(world.hdf_path, "person_001", canvas_camera(SIZE_PX)), torch.device("cpu")
    )
    assert numbers["eye_l1"] == pytest.approx(measure(draw(model, frames), frames)["eye_l1"], rel=1e-6)


def test_another_person_of_the_same_name(world, finished, tmp_path, capsys):
    """None of their frames was trained on, and the model's reference frame is not theirs."""
    other, output = tmp_path / "other.h5", tmp_path / "numbers.json"
    write_hdf5(other, 2, SIZE_PX, seed=1, samples=12)
    model = finished / "finetuned_model.pth"
    data = ("--hdf_path", other, "--person_id", PERSON)
    assert run("--checkpoint", model, *data, "--output", output) == 0
    assert f"⚠️ The model was fine-tuned on another {PERSON} than that of {other}\n" in capsys.readouterr().out
    numbers = json.loads(output.read_text())
    assert numbers["indices"] == list(range(12))
    samples, model = (
        hdf5.read_person(other, PERSON, range(12), canvas_camera(SIZE_PX)).samples,
        load_checkpoint(model).model,
    )
    frames = prepare_frames(model, samples, choose_references(samples), torch.device("cpu"))
    assert numbers["eye_l1"] == pytest.approx(measure(draw(model, frames), frames)["eye_l1"], rel=1e-6)

    assert run(*flags_for(world, finished / "finetuned_model.pth", output)) == 0
    assert "⚠️" not in capsys.readouterr().out


def test_the_same_person_rendered_on_another_machine(world, finished, tmp_path, capsys):
    """A level off here and there, as rendering and reading may be."""
    (tmp_path / "gaze.h5").write_bytes(world.hdf_path.read_bytes())
    with h5py.File(tmp_path / "gaze.h5", "a") as file:
        file[PERSON]["pixels"][:] = np.clip(file[PERSON]["pixels"][:], 0, 254) + 1
    data = ("--hdf_path", tmp_path / "gaze.h5", "--person_id", PERSON)
    assert run("--checkpoint", finished / "finetuned_model.pth", *data) == 0
    out = capsys.readouterr().out
    assert f"{PERSON}: 4 frames (held_out)" in out and "fine-tuned on another" not in out


def test_only_an_earlier_result_is_replaced(world, tmp_path, capsys, monkeypatch):
    own = tmp_path / "base.pth"
    own.write_bytes(world.base.read_bytes())
    (tmp_path / "other.json").write_text('{"dear": 1}')
    (tmp_path / "folder").mkdir()
    for output, words in (
        (own, "the input --checkpoint"),
        (world.hdf_path, "the input --hdf_path"),
        (tmp_path / "other.json", "is not an earlier result"),
        (tmp_path / "folder", "is a folder"),
        (own / "numbers.json", "cannot write to"),
    ):
        before = output.read_bytes() if output.is_file() else None
        with monkeypatch.context() as patched:
            patched.setattr(evaluate, "load_checkpoint", None)  # it is refused before anything is read
            assert run(*flags_for(world, own, output)) == 2
        err = capsys.readouterr().err
        assert err.startswith("error: --output: ") and err.count("\n") == 1 and words in err, err
        assert before is None or output.read_bytes() == before

    output = tmp_path / "numbers.json"
    for count in (1, 2):
        assert run(*flags_for(world, own, output, "--num_eval_samples", count)) == 0
    assert len(json.loads(output.read_text())["indices"]) == 2


def test_nothing_held_out(world, tmp_path, capsys):
    flags = ("--person_id", "person_004", "--num_steps", 1, "--save_dir", tmp_path)
    assert command(*world.flags, *flags).code == 0
    model = tmp_path / "person_004" / "finetuned_model.pth"
    assert run("--checkpoint", model, "--hdf_path", world.hdf_path, "--person_id", "person_004") == 2
    assert "--frames all" in capsys.readouterr().err


def test_a_person_with_a_damaged_label_elsewhere_is_still_evaluated(tmp_path, tiny_model):
    """A frame that is neither drawn nor looked at for a reference spoils nothing."""
    write_hdf5(tmp_path / "large.h5", 1, SIZE_PX, samples=64, split="demo")
    seen = {*hdf5.evenly_spread(64, REFERENCE_POOL).tolist(), *rows_left(64, (), 2, 0).tolist()}
    with h5py.File(tmp_path / "large.h5", "a") as file:
        file["person_001/labels"][min(set(range(64)) - seen)] = np.nan
    save_checkpoint(tmp_path / "base.pth", tiny_model, {})
    data = ("--hdf_path", tmp_path / "large.h5", "--person_id", "person_001", "--num_eval_samples", 2)
    assert run("--checkpoint", tmp_path / "base.pth", *data) == 0


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ((), ["3 mistakes", "--checkpoint", "--hdf_path", "--person_id"]),
        (("--checkpoint", "/none.pth", "--hdf_path", "x", "--person_id", "y"), ["there is no file /none.pth"]),
    ],
)
def test_what_is_missing_is_told(flags, words, capsys):
    assert run(*flags) == 2
    err = capsys.readouterr().err
    assert all(word in err for word in words) and err.startswith("error: ")


def test_an_upstream_file_and_what_lies_beside_it(world, tmp_path, capsys):
    torch.save(Published(seed=1).states(), tmp_path / "upstream.pth")
    (tmp_path / "vaegaze.json").write_text('{"image_size": 32}')
    assert run(*flags_for(world, tmp_path / "upstream.pth", tmp_path / "n.json", "--num_eval_samples", 1)) == 0
    out = capsys.readouterr().out
    assert "image_size from vaegaze.json; config inferred from the tensors' shapes; as published: residual false" in out

    assert run(*flags_for(world, tmp_path / "none.pth", tmp_path / "n.json")) == 2
    assert capsys.readouterr().err.endswith("give a VAE-GAZE checkpoint with --checkpoint\n")
