"""vaegaze benchmark: its grid, an interrupted run that goes on, and the tables."""

import json
import shutil
from dataclasses import asdict
from typing import ClassVar

import numpy as np
import pytest
import torch
from conftest import SIZE_PX, make_tiny_model, process_restored
from PIL import Image

from vaegaze.commands import benchmark
from vaegaze.config.benchmark import POOL, BenchmarkParams
from vaegaze.evaluation.benchmark import BenchmarkPerson
from vaegaze.evaluation.benchmark_grid import AUTOENCODER, BASE, CHANGES, FEW, TRUE, Task, chosen_persons, grid
from vaegaze.evaluation.metrics import measure
from vaegaze.evaluation.rendered_faces import joined
from vaegaze.files import SHIPPED
from vaegaze.geometry.camera import canvas_camera
from vaegaze.models.checkpoint import save_checkpoint
from vaegaze.models.estimator import TrainedEstimator, load_estimator
from vaegaze.renderer.data_set import person_from_seed
from vaegaze.report.benchmark_tables import Cell, canvas_rows, follows, full_rows, help_rows, interval, table
from vaegaze.runs import cells
from vaegaze.training.strategies import STRATEGIES
from vaegaze.training.tensors import prepare_frames

PERSON = "person_002"
VAL = [Task("val", "person_001", BASE, 0, 0), Task("val", "person_001", "selective", 32, 0, (("num_steps", 1),))]
CEILING = Task("test", PERSON, AUTOENCODER, 0, 0)
TEST = [Task("test", PERSON, TRUE, 0, 0), CEILING, Task("test", PERSON, BASE, 0, 0)]
TEST += [Task("test", PERSON, "selective", k, 0) for k in (1, 4, 32)]
TASKS = [*VAL, *TEST]


class Blind(torch.nn.Module):
    """Says that all look into the camera."""

    def forward(self, pictures):
        return torch.zeros(len(pictures), 2)


class RenderedOnce:
    """In place of `BenchmarkPerson`, for one run after another: to render the persons takes longer than all else."""

    persons: ClassVar[dict] = {}

    @classmethod
    def render(cls, split, number, params, canvas, check):
        key = split, number, params.seed, params.held_out, params.gazes, params.face_px, canvas
        if key not in cls.persons:
            cls.persons[key] = BenchmarkPerson.render(split, number, params, canvas, check)
        return cls.persons[key]


@pytest.fixture
def bench(tmp_path, monkeypatch):
    return bench_in(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """The work folder of a finished run. To be copied."""
    folder = tmp_path_factory.mktemp("bench")
    with pytest.MonkeyPatch.context() as patched:
        assert bench_in(folder, patched)() == 0
    return folder / "work"


def bench_in(folder, patched):
    """Runs the command on a tiny model, a grid of eight cells and two held-out frames of 128 px."""
    patched.setattr(benchmark, "grid", lambda *asked: TASKS)
    patched.setattr(cells, "BenchmarkPerson", RenderedOnce)
    info = {"own_error_deg": {"all": 1.5, "with glasses": 2.0}}
    for module in (benchmark, cells):
        patched.setattr(module, "load_estimator", lambda path: TrainedEstimator(Blind(), info))
    (folder / "estimator.pth").write_bytes(b"blind")
    save_checkpoint(folder / "base.pth", make_tiny_model(), {})

    def run(*flags, output=folder / "docs/b.md"):
        paths = [f"--checkpoint_path={folder / 'base.pth'}", f"--work_dir={folder / 'work'}"]
        paths.append(f"--estimator={folder / 'estimator.pth'}")
        more = ["--num_steps=2", "--vgg_loss=0", "--engine=none", "--device=cpu", *SMALL]
        more += [] if output is None else [f"--output={output}"]
        with process_restored():
            return benchmark.main([*paths, *more, *flags])

    return run


DEAR = "# What k images of one person buy\n\nlong ago"
SMALL = ("--held_out=2", "--gazes=2", "--face_px=128")


def small_params(tmp_path):
    return BenchmarkParams(checkpoint_path=str(tmp_path / "base.pth"), held_out=2, gazes=2, face_px=128)


def small_person(tmp_path):
    return BenchmarkPerson.render("test", 2, small_params(tmp_path), canvas_camera(SIZE_PX), lambda: None)


def test_the_command_end_to_end(bench, tmp_path, monkeypatch, capsys):
    measure_cell, calls = cells.measure, []

    def interrupted(task, *args):
        calls.append(task)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return measure_cell(task, *args)

    with monkeypatch.context() as patched:
        patched.setattr(cells, "measure", interrupted)
        assert bench() == 130
    error = capsys.readouterr().err
    assert error.startswith("⏳ 8 of 8 cells: 2 persons, 7 steps, 48 pictures to judge: about 1 min on a CPU")
    assert "run it again" in error and not (tmp_path / "docs").exists()
    finished = json.loads((tmp_path / "work" / "cells.json").read_text())
    assert len(finished) == 3

    assert bench("--learning_rate=1e-3") == 2, "cells of other settings are not mixed in"
    assert "--overwrite" in capsys.readouterr().err
    assert bench() == 0
    assert capsys.readouterr().err.startswith("⏳ 5 of 8 cells: 1 persons, 6 steps, 30 pictures to judge"), (
        "what is left"
    )
    content = json.loads((tmp_path / "docs" / "b.json").read_text())
    val, true, ceiling, base, tuned = (content["cells"][part] for part in (slice(2), 2, 3, 4, slice(5, None)))
    assert [cell["k"] for cell in tuned] == [1, 4, 32]
    assert content["cells"][:3] == list(finished.values()), "what was measured is not measured again"
    assert tuned[0]["numbers"]["full_eye_l1"] != base["numbers"]["full_eye_l1"]
    assert val[0]["numbers"]["eye_l1"] != base["numbers"]["eye_l1"], "they are other persons"
    assert val[1]["changed"] == {"num_steps": 1} and val[1]["numbers"]["eye_l1"] != val[0]["numbers"]["eye_l1"]
    assert true["numbers"]["full_eye_psnr"] == 100 and true["numbers"]["full_edge"] == 1
    numbers = autoencoder_alone(tmp_path)
    assert ceiling["numbers"]["eye_l1"] == pytest.approx(numbers["eye_l1"]) and ceiling["seconds"] < 1
    assert ceiling["numbers"]["redirected_eye_psnr"] != base["numbers"]["redirected_eye_psnr"]
    text = (tmp_path / "docs" / "b.md").read_text()
    assert f"| `autoencoder` | {numbers['eye_l1']:.4f} |" in text
    for cell in tuned:
        assert f"| `selective`, k = {cell['k']} | {cell['numbers']['full_eye_psnr']:.2f} dB |" in text
    assert f"| `num_steps` 1 | {val[1]['numbers']['eye_l1']:.4f}" in text and "with glasses: 2.00°" in text
    assert f"- **`num_steps`**: eye L1 {val[1]['numbers']['eye_l1']:.4f} with 1;\n" in text
    eyes_px = round(0.2 * 128)
    assert Image.open(tmp_path / "docs" / "b_first.jpg").height > 2 * eyes_px
    assert Image.open(tmp_path / "docs" / "b_worst_person.jpg").height > 2 * 4 * eyes_px
    assert max(map(len, text.splitlines()[:14])) <= 120


@torch.no_grad()
def autoencoder_alone(tmp_path):
    """What the tiny autoencoder makes of the true held-out frames."""
    samples = joined([face.photo.samples for face in small_person(tmp_path).held_out])
    model = make_tiny_model()
    frames = prepare_frames(model, samples, [], torch.device("cpu"))
    return measure(model.decode(model.encode(frames.target)).clamp(-1, 1), frames)


def test_a_work_dir_with_files_of_others(bench, tmp_path, capsys):
    """Neither cells of unknown settings nor pictures that only share the folder are removed."""
    (tmp_path / "work/pictures").mkdir(parents=True)
    (tmp_path / "work/pictures/holiday.png").write_bytes(b"somebody's picture")
    (tmp_path / "work/cells.json").write_text("{}")
    assert bench() == 2 and "--overwrite" in capsys.readouterr().err
    assert (tmp_path / "work/cells.json").read_text() == "{}"
    assert bench("--overwrite") == 0
    assert (tmp_path / "work/pictures/holiday.png").read_bytes() == b"somebody's picture"


@pytest.mark.slow
def test_cells_on_ray_come_out_alike(bench, tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setattr(benchmark, "load_estimator", load_estimator)
    monkeypatch.setattr(cells, "load_estimator", load_estimator)
    flags = (f"--estimator={SHIPPED / 'checkpoints/gaze_estimator/gaze_estimator.pth'}", "--vgg_loss=0.1")
    found = []
    for engine in ("none", "ray"):
        assert bench(*flags, f"--engine={engine}", "--overwrite") == 0
        measured = json.loads((tmp_path / "work" / "cells.json").read_text())
        found.append({name: cell["numbers"] for name, cell in measured.items()})
    assert found[0] == found[1] and len(found[0]) == len(TASKS)


def test_a_larger_grid_goes_on_from_a_smaller(bench, work, tmp_path, monkeypatch):
    shutil.copytree(work, tmp_path / "work")
    more = [Task("test", "person_001", task.strategy, task.k, 0) for task in TEST]
    monkeypatch.setattr(benchmark, "grid", lambda *asked: [*TASKS, *more])
    before = json.loads((tmp_path / "work" / "cells.json").read_text())
    assert bench() == 0
    after = json.loads((tmp_path / "work" / "cells.json").read_text())
    assert len(after) == 14 and {name: after[name] for name in before} == before


def test_only_the_default_grid_writes_the_page_by_itself(bench, work, tmp_path, monkeypatch):
    shutil.copytree(work, tmp_path / "work")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/benchmark.md").write_text(DEAR)
    assert bench("--grid=small", output=None) == 0
    assert (tmp_path / "docs/benchmark.md").read_text() == DEAR
    assert "--grid small` wrote this page" in (tmp_path / "work/benchmark.md").read_text()
    assert bench(output=None) == 0
    assert "--grid default` wrote this page" in (tmp_path / "docs/benchmark.md").read_text()


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("file/b.md", "cannot write to"),
        ("base.pth", "--checkpoint_path"),
        ("notes.md", "not an earlier result"),
        ("numbers.JSON", "ends in .md"),
        ("trip.md", "trip_first.jpg exists"),
        ("numbers.md", "numbers.json exists and is not an earlier result"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused_at_once(output, words, bench, tmp_path, capsys):
    for name in ("file", "notes.md", "numbers.json", "trip_first.jpg"):
        (tmp_path / name).write_text("in the way")
    assert bench(output=tmp_path / output) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: --output: ") and words in err and err.count("\n") == 1
    assert not (tmp_path / "work").exists()


def test_a_work_dir_that_cannot_be_written_to(bench, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    assert bench(f"--work_dir={tmp_path / 'file/work'}") == 2
    assert capsys.readouterr().err == (
        f"error: cannot write to {tmp_path / 'file/work'} (Not a directory); give another --work_dir\n"
    )


def test_cells_of_another_model_are_not_mixed_in(bench, work, tmp_path, capsys):
    shutil.copytree(work, tmp_path / "work")
    assert bench() == 0
    save_checkpoint(tmp_path / "base.pth", make_tiny_model(seed=1), {})
    assert bench() == 2
    assert "other settings" in capsys.readouterr().err


def test_files_that_ship_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert benchmark.finished_cells(tmp_path / "work", BenchmarkParams(), overwrite=False) == {}


def test_a_diverged_cell_is_one_line(bench, capsys):
    assert bench("--learning_rate=1", "--l1_loss=1e38", "--mask_l1_loss=1e38") == 2
    assert "lower --learning_rate" in capsys.readouterr().err


def test_damaged_cells_are_one_line(bench, work, tmp_path, capsys):
    shutil.copytree(work, tmp_path / "work")
    (tmp_path / "work" / "cells.json").write_text("[1]")
    capsys.readouterr()
    assert bench() == 2
    assert "damaged cells" in capsys.readouterr().err
    assert bench("--overwrite") == 0


def test_every_strategy_and_seed_sees_the_same_held_out_frames(tmp_path):
    person, again = small_person(tmp_path), small_person(tmp_path)
    assert [int(face.photo.samples.indices[0]) for face in person.held_out] == [
        int(face.photo.samples.indices[0]) for face in again.held_out
    ]
    assert len(person.held_out) == 2 and len(person.pool) == POOL
    assert not {int(face.photo.samples.indices[0]) for face in person.held_out} & set(person.pool.indices)
    for k in (1, 4, 32):
        first, other = (person.train(k, seed, 1).indices.tolist() for seed in (0, 1))
        assert len(set(first)) == k and set(first) <= set(person.pool.indices.tolist())
        assert (first == other) == (k == 32)
    assert set(person.train(1, 0, 1).indices) <= set(person.train(4, 0, 1).indices), "more images hold the fewer"


def test_half_of_the_test_persons_wear_glasses():
    numbers = chosen_persons(seed=1, count=12)
    assert len(set(numbers)) == 12 and numbers[:4] == chosen_persons(seed=1, count=4)
    assert [person_from_seed(1, number, "test").glasses for number in numbers] == [False, True] * 6


def test_grids():
    for name, persons in (("small", 2), ("default", 12), ("full", 12)):
        tasks = grid(name, seed=1)
        assert len({task.name for task in tasks}) == len(tasks)
        settings, tasks = ([task for task in tasks if task.split == split] for split in ("val", "test"))
        assert {task.changed for task in settings} == ({(), *((c,) for c in CHANGES)} if name == "full" else set())
        assert len({task.person for task in tasks}) == persons
        trained = set(STRATEGIES) if name == "full" else {"selective"}
        assert {task.strategy for task in tasks} == {TRUE, AUTOENCODER, BASE, *trained}
        assert {task.k for task in tasks} >= {0, *FEW}
        for task in tasks:
            assert Task("test", task.person, BASE, 0, 0) in tasks, "each is compared with its own base"
    asked = grid("default", seed=1, persons=3, ks=(2,))
    assert {(task.strategy, task.k) for task in asked} == {(TRUE, 0), (AUTOENCODER, 0), (BASE, 0), ("selective", 2)}
    assert len({task.person for task in asked}) == 3


def test_tables_by_hand():
    def cell(person, strategy, k, eye_l1, gaze=2.0):
        numbers = {"eye_l1": eye_l1, "full_eye_l1": eye_l1, "full_gaze_error_to_target_deg": gaze}
        return Cell("test", person, strategy, k, 0, {}, 1.0, numbers)

    cells = [cell(p, s, k, v + add, gaze) for p, add in (("a", 0.0), ("b", 0.02)) for s, k, v, gaze in (
        ("base", 0, 0.2, 2.0), ("minimal", 1, 0.18, 1.5 + 50 * add), ("minimal", 32, 0.1, 1.5),
    )]  # fmt: skip
    rows = canvas_rows(cells)
    assert [row[:2] for row in rows[1:]] == [
        ["`base`", "0.2100"],
        ["`minimal`, k = 1", "0.1900"],
        ["`minimal`, k = 32", "0.1100"],
    ]
    assert [row[-2:] for row in full_rows(cells)[1:]] == [["", ""], ["-10 %", "+0.50°"], ["-48 %", "-0.50°"]]
    assert help_rows(cells, ["minimal"])[1] == ["`minimal`", "-0.0800", "-0.0800 … -0.0800", "2 of 2"]
    assert table([["a", "b"], ["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"
    low, high = interval(np.random.default_rng(0).normal(3, 1, size=400), np.mean)
    assert low < 3 < high and 0.15 < high - low < 0.25
    assert asdict(cells[1])["k"] == 1


def test_advice_by_hand():
    def cell(split, strategy, k, eye_l1, gaze, seconds, **changed):
        numbers = {"eye_l1": eye_l1, "redirected_gaze_error_to_target_deg": gaze}
        return Cell(split, "a", strategy, k, 0, changed, seconds, numbers)

    test = [cell("test", "selective", k, l1, 3 - k / 32, 10) for k, l1 in ((1, 0.2), (8, 0.102), (32, 0.1))]
    test += [cell("test", "full", 32, 0.09, 1, 14), cell("test", "base", 32, 0.3, 2.5, 0)]
    val = [cell("val", "base", 32, 0.3, 2.5, 0), cell("val", "selective", 32, 0.12, 2, 10)]
    val += [cell("val", "selective", 32, l1, 1, 10, learning_rate=rate) for rate, l1 in ((2e-4, 0.11), (1e-3, 0.2))]
    assert (
        follows(test, ["selective", "full"], val, {"learning_rate": 5e-5})
        == """\
- **Samples**, with `selective`: eye L1 0.1000 with k = 32, 0.1020 with k = 8, 0.2000 with k = 1;
  gaze 2.00° with k = 32, 2.75° with k = 8, 2.97° with k = 1;
  from k = 8 on, eye L1 is within 5 % of the best.
- **Strategy**, with k = 32: eye L1 0.0900 with `full`, 0.1000 with `selective`;
  gaze 1.00° with `full`, 2.00° with `selective`;
  seconds 10 with `selective`, 14 with `full`.
- **`learning_rate`**: eye L1 0.1100 with 0.0002, 0.1200 with 5e-05, 0.2000 with 0.001;
  gaze 1.00° with 0.0002, 1.00° with 0.001, 2.00° with 5e-05."""
    )
