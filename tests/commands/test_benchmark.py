"""vaegaze benchmark: its grid, an interrupted run that goes on, and the tables."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from conftest import SIZE_PX, make_tiny_model, process_restored
from PIL import Image

from vaegaze.commands import benchmark
from vaegaze.commands.benchmark import POOL, BenchmarkParams, Task, grid
from vaegaze.evaluation.metrics import measure
from vaegaze.models.checkpoint import save_checkpoint
from vaegaze.models.estimator import TrainedEstimator
from vaegaze.report.benchmark import AUTOENCODER, BASE, Cell, follows, help_rows, interval, strategy_rows, table
from vaegaze.training.strategies import STRATEGIES
from vaegaze.training.tensors import prepare_frames

VAL = [Task("val", "person_001", BASE, 32, 0), Task("val", "person_001", "selective", 32, 0, (("num_steps", 1),))]
TEST = [Task("test", "person_001", strategy, k, 0) for strategy in (BASE, "selective") for k in (1, 4, 32)]
CEILING = Task("test", "person_001", AUTOENCODER, 32, 0)
TASKS = [*VAL, *TEST, CEILING]


class Blind(torch.nn.Module):
    """Says that all look into the camera."""

    def forward(self, pictures):
        return torch.zeros(len(pictures), 2)


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """Runs the command on a tiny model, a grid of nine cells and four held-out frames."""
    monkeypatch.setattr(benchmark, "grid", lambda name: TASKS)
    monkeypatch.setattr(benchmark, "HELD_OUT", 4)
    info = {"own_error_deg": {"all": 1.5, "with glasses": 2.0}}
    monkeypatch.setattr(benchmark, "load_estimator", lambda path: TrainedEstimator(Blind(), info))
    (tmp_path / "estimator.pth").write_bytes(b"blind")
    write_hdf5 = benchmark.synthetic.write_hdf5
    monkeypatch.setattr(benchmark.synthetic, "write_hdf5", lambda *a, **k: write_hdf5(*a, size=SIZE_PX, **k))
    save_checkpoint(tmp_path / "base.pth", make_tiny_model(), {})

    def run(*flags, output=tmp_path / "docs/b.md"):
        paths = [f"--checkpoint_path={tmp_path / 'base.pth'}", f"--work_dir={tmp_path / 'work'}"]
        paths.append(f"--estimator={tmp_path / 'estimator.pth'}")
        more = ["--num_steps=2", "--vgg_loss=0", "--workers=1", "--device=cpu"]
        more += [] if output is None else [f"--output={output}"]
        with process_restored():
            return benchmark.main([*paths, *more, *flags])

    return run


def test_the_command_end_to_end(bench, tmp_path, monkeypatch, capsys):
    measure_cell, calls = benchmark.measure_cell, []

    def interrupted(task, *args):
        calls.append(task)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return measure_cell(task, *args)

    with monkeypatch.context() as patched:
        patched.setattr(benchmark, "measure_cell", interrupted)
        assert bench() == 130
    assert "run it again" in capsys.readouterr().err and not (tmp_path / "docs").exists()
    finished = json.loads((tmp_path / "work" / "cells.json").read_text())
    assert len(finished) == 3

    assert bench("--learning_rate=1e-3") == 2, "cells of other settings are not mixed in"
    assert "--overwrite" in capsys.readouterr().err
    assert bench() == 0
    content = json.loads((tmp_path / "docs" / "b.json").read_text())
    val, test, ceiling = content["cells"][:2], content["cells"][2:8], content["cells"][8]
    assert [cell["k"] for cell in test] == [1, 4, 32] * 2
    assert content["cells"][:3] == list(finished.values()), "what was measured is not measured again"
    assert test[3]["numbers"]["eye_l1"] != test[0]["numbers"]["eye_l1"]
    assert val[0]["numbers"]["eye_l1"] != test[2]["numbers"]["eye_l1"], "they are other persons"
    assert val[1]["changed"] == {"num_steps": 1} and val[1]["numbers"]["eye_l1"] != val[0]["numbers"]["eye_l1"]
    numbers = autoencoder_alone(tmp_path)
    assert ceiling["numbers"]["eye_l1"] == pytest.approx(numbers["eye_l1"]) and ceiling["seconds"] < 1
    assert ceiling["numbers"]["redirected_eye_psnr"] != test[0]["numbers"]["redirected_eye_psnr"]
    text = (tmp_path / "docs" / "b.md").read_text()
    assert f"| `autoencoder` | 32 | {numbers['eye_l1']:.4f} |" in text
    assert (
        f"{test[5]['numbers']['eye_l1']:.4f}" in text and f"| `num_steps` 1 | {val[1]['numbers']['eye_l1']:.4f}" in text
    )
    assert "1.50°\n(with glasses: 2.00°)" in text
    assert f"- **`num_steps`**: eye L1 {val[1]['numbers']['eye_l1']:.4f} with 1;\n" in text
    shift = ceiling["numbers"]["redirected_gaze_error_to_target_deg"]
    assert f"redirected pictures by {shift:.2f}°; at most 0.7° were aimed at." in text
    assert Image.open(tmp_path / "docs" / "b_first.jpg").height > 4 * 192
    assert 192 < Image.open(tmp_path / "docs" / "b_worst.jpg").height < 2 * 192
    assert max(map(len, text.splitlines()[:12])) <= 120


@torch.no_grad()
def autoencoder_alone(tmp_path):
    """What the tiny autoencoder makes of the true held-out frames."""
    params = BenchmarkParams(checkpoint_path=str(tmp_path / "base.pth"))
    file = tmp_path / "work" / "test_persons_1.h5"
    samples = benchmark.BenchmarkPerson(file, "test", "person_001", params, torch.device("cpu")).held_out
    model = make_tiny_model()
    frames = prepare_frames(model, samples, [], torch.device("cpu"))
    return measure(model.decode(model.encode(frames.target)).clamp(-1, 1), frames)


def test_cells_at_once_come_out_alike(bench, tmp_path):
    flags = ("--precision=bf16", "--vgg_loss=0.1")
    found = []
    for workers in (1, 3):
        assert bench(*flags, f"--workers={workers}", "--overwrite") == 0
        cells = json.loads((tmp_path / "work" / "cells.json").read_text())
        found.append({name: cell["numbers"] for name, cell in cells.items()})
    assert found[0] == found[1] and len(found[0]) == len(TASKS)


def test_a_larger_grid_goes_on_from_a_smaller(bench, tmp_path, monkeypatch):
    assert bench() == 0
    more = [Task("test", "person_002", task.strategy, task.k, 0) for task in TEST]
    monkeypatch.setattr(benchmark, "grid", lambda name: [*TASKS, *more])
    before = json.loads((tmp_path / "work" / "cells.json").read_text())
    assert bench() == 0
    after = json.loads((tmp_path / "work" / "cells.json").read_text())
    assert len(after) == 15 and {name: after[name] for name in before} == before


def test_only_the_default_grid_writes_the_page_by_itself(bench, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/benchmark.md").write_text("dear")
    assert bench("--grid=small", output=None) == 0
    assert (tmp_path / "docs/benchmark.md").read_text() == "dear"
    assert "--grid small` wrote this page" in (tmp_path / "work/benchmark.md").read_text()
    assert bench(output=None) == 0
    assert "--grid default` wrote this page" in (tmp_path / "docs/benchmark.md").read_text()


@pytest.mark.parametrize(("output", "words"), [("file/b.md", "cannot write to"), ("base.pth", "--checkpoint_path")])
def test_an_output_that_cannot_be_written_is_refused_at_once(output, words, bench, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    assert bench(output=tmp_path / output) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: --output: ") and words in err and err.count("\n") == 1
    assert not (tmp_path / "work").exists()


def test_cells_of_another_model_are_not_mixed_in(bench, tmp_path, capsys):
    assert bench() == 0
    save_checkpoint(tmp_path / "base.pth", make_tiny_model(seed=1), {})
    assert bench() == 2
    assert "other settings" in capsys.readouterr().err


def test_a_diverged_cell_is_one_line(bench, capsys):
    assert bench("--learning_rate=1", "--l1_loss=1e38", "--mask_l1_loss=1e38") == 2
    assert "lower --learning_rate" in capsys.readouterr().err


def test_damaged_cells_are_one_line(bench, tmp_path, capsys):
    assert bench() == 0
    (tmp_path / "work" / "cells.json").write_text("[1]")
    capsys.readouterr()
    assert bench() == 2
    assert "damaged cells" in capsys.readouterr().err
    assert bench("--overwrite") == 0


def test_every_strategy_and_seed_sees_the_same_held_out_frames(bench, tmp_path):
    assert bench() == 0
    params = BenchmarkParams(checkpoint_path=str(tmp_path / "base.pth"))
    file = tmp_path / "work" / "test_persons_1.h5"
    person = benchmark.BenchmarkPerson(file, "test", "person_001", params, torch.device("cpu"))
    assert len(person.held_out) == 4 and len(person.pool) == 32
    assert not set(person.held_out.indices) & set(person.pool.indices)
    for k in (1, 4, 32):
        first, other = person.train(k, 0).indices.tolist(), person.train(k, 1).indices.tolist()
        assert len(set(first)) == k and set(first) <= set(person.pool.indices.tolist())
        assert (first == other) == (k == 32)
    assert set(person.train(1, 0).indices) <= set(person.train(4, 0).indices), "more images hold the fewer"


def test_grids():
    for name, persons in (("small", 2), ("default", 6), ("full", 12)):
        tasks = grid(name)
        assert len({task.name for task in tasks}) == len(tasks)
        settings, tasks = ([task for task in tasks if task.split == split] for split in ("val", "test"))
        assert {task.changed for task in settings} == {(), *((change,) for change in benchmark.CHANGES)}
        assert len({task.person for task in tasks}) == persons
        assert {task.strategy for task in tasks} == {AUTOENCODER, BASE, *STRATEGIES}
        for task in tasks:
            base = Task("test", task.person, BASE, task.k, 0 if task.k == POOL else task.seed)
            assert base in tasks, "each is compared with its own base"
            assert task.strategy != BASE or task.k != POOL or task.seed == 0, "every seed would measure the same"
    default = [task for task in grid("default") if (task.split, task.person) == ("test", "person_003")]
    assert {task.k for task in default if task.strategy == "selective" and task.seed == 2} == {1, 2, 4, 8, 16, 32}
    assert {(task.k, task.seed) for task in default if task.strategy == "minimal"} == {(1, 0), (4, 0), (32, 0)}


def test_tables_by_hand():
    def cell(person, strategy, k, eye_l1):
        names = list(benchmark_columns())
        return Cell(
            "test", person, strategy, k, 0, {}, 1.0, {name: eye_l1 if name == "eye_l1" else 2.0 for name in names}
        )

    cells = [cell(p, s, k, v) for p, add in (("a", 0.0), ("b", 0.02)) for s, k, v in (
        ("base", 1, 0.2 + add), ("base", 32, 0.2 + add), ("minimal", 1, 0.18 + add), ("minimal", 32, 0.1 + add),
    )]  # fmt: skip
    rows = strategy_rows(cells, ["minimal"])
    assert [row[:3] for row in rows[1:]] == [
        ["`base`", "1", "0.2100"], ["`base`", "32", "0.2100"],
        ["`minimal`", "1", "0.1900"], ["`minimal`", "32", "0.1100"],
    ]  # fmt: skip
    assert rows[-1][-1] == "-48 %"
    assert help_rows(cells, ["minimal"])[1] == ["`minimal`", "-0.0800", "-0.0800 … -0.0800", "2 of 2"]
    assert table([["a", "b"], ["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"
    low, high = interval(np.random.default_rng(0).normal(3, 1, size=400), np.mean)
    assert low < 3 < high and 0.15 < high - low < 0.25
    assert asdict(cells[0])["k"] == 1


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


def benchmark_columns():
    from vaegaze.report.benchmark import COLUMNS

    return COLUMNS
