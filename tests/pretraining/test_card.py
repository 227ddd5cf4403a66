"""The model card against what was done, worked out by hand; and how long training waited for data."""

import hashlib
import io
from contextlib import redirect_stdout
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from conftest import SIZE_PX, TINY_CONFIG, make_tiny_model
from small_pretraining import SMALL, run_in

from vaegaze.commands import pretrain
from vaegaze.config.pretrain import ModelParams, PretrainConfig, PretrainParams
from vaegaze.config.tree import resolve
from vaegaze.geometry.camera import canvas_camera
from vaegaze.models.checkpoint import load_checkpoint
from vaegaze.pretraining import loop, waiting
from vaegaze.pretraining.distributed import Processes
from vaegaze.pretraining.loop import Progress, pretraining_steps
from vaegaze.pretraining.losses import Objective
from vaegaze.pretraining.rendered import RenderedSource
from vaegaze.pretraining.sources import held_out_frames, open_sources
from vaegaze.renderer import data_set
from vaegaze.runs.pretraining_folder import PretrainFolder

CPU = torch.device("cpu")
LICENCE = "CC BY-NC 4.0, asked for in May"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run from a file and from rendering. To be looked at only."""
    folder = tmp_path_factory.mktemp("card")
    data_set.write_hdf5(folder / "data.h5", 8, size=SIZE_PX, samples=2, split="all")
    settings = {"vae_steps": 2, "gradient_accumulation": 2, "vae_batch_size": 3, "gazes_per_person": 2, "seed": 5}
    settings |= {"precision": "bf16", "data_licence": LICENCE, "sources": [str(folder / "data.h5"), "rendered"]}
    run_in(folder / "run", **settings)
    return folder / "run"


def lines_of(card):
    return {line.split("**")[1]: line for line in card.splitlines() if line.startswith("- **")}


def records_of(run):
    return load_checkpoint(run / "model.pth").info["records"]


def rows_of(card):
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in card.splitlines() if line[:2] == "| "]
    return {row[0]: row[1:] for row in rows}


def test_the_data_s_row_says_who_was_trained_on_and_who_was_held_out(run):
    ids = [f"person_{number:03d}" for number in range(1, 9)]
    sums = [hashlib.sha256("\n".join(each).encode()).hexdigest()[:16] for each in (ids[:6], ids[6:7])]
    rows = rows_of((run / "model.md").read_text())
    assert rows["data.h5"] == ["the file", "6", "1", "1", " · ".join(sums)]
    assert rows["rendered"][0] == "by seed" and rows["rendered"][-1] == "seed 5"


def test_frames_seen_precision_and_licence(run):
    """Steps × batches a step × persons × frames of each: two in the autoencoder's phase, then two targets and one."""
    lines = lines_of((run / "model.md").read_text())
    frames = 2 * 2 * 3 * 2 + 2 * (1 * 2 * 1 * 3)
    assert f"** {frames}, targets and references" in lines["Frames seen"]
    draws = 2 * 2 * 3 + 1 * 2 * 1 + 1 * 2 * 1
    assert f"({draws} draws from 6 persons of data.h5 and 50 rendered persons)" in lines["Trained on"]
    assert "bf16" in lines["Time"] and "processes" not in lines["Time"]
    assert lines["Licence of the data"].endswith(f": {LICENCE}.")


def test_the_phases_rows_are_the_records(run):
    rows, records = rows_of((run / "model.md").read_text()), records_of(run)
    steps = ["2 × 6 persons", "1 × 2 persons × 2 gazes", "1 × 2 persons × 2 gazes"]
    for record, words in zip(records, steps):
        row = [words, f"{record['held_out_eye_psnr']:.2f} dB", f"{record['held_out_eye_l1']:.4f}"]
        assert rows[record["phase"]] == row
        assert set(record["held_out_eye_psnr_by_source"]) == {str(run.parent / "data.h5"), "rendered"}
        assert 0 < record["waiting_share"] < 1


def test_processes_multiply_what_was_seen(run, tmp_path):
    """As the first of two would end the same run."""
    config, records = resolve(PretrainConfig, str(run.with_suffix(".yaml"))).config, records_of(run)
    params = replace(config.pretrain_params, output=str(tmp_path / "two.pth"))
    config, model, sources = replace(config, pretrain_params=params), make_tiny_model(), open_sources(params)
    held_out, _ = held_out_frames(sources, params, model.canvas, CPU)
    progress = Progress(processes=2, records=records)
    with redirect_stdout(io.StringIO()):
        pretrain.finish(config, "c.yaml", PretrainFolder(run), model, sources, held_out, progress, "")
    card = (tmp_path / "two.md").read_text()
    lines = lines_of(card)
    assert "bf16, 2 processes" in lines["Time"] and "** 72, targets" in lines["Frames seen"]
    assert "(32 draws from" in lines["Trained on"]
    assert rows_of(card)["autoencoder"][0] == "2 × 12 persons"


def test_the_share_of_waiting_is_of_the_steps_since_the_last_record(monkeypatch):
    """By a clock that only the source and the steps move on: examples take three seconds, then one; steps take one."""
    seconds = [0.0]
    example_of, forward = RenderedSource.example, Objective.forward
    for module in (loop, waiting):
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: seconds[0]))

    def slow_example(*about):
        seconds[0] += 3 if progress.step < 2 else 1
        return example_of(*about)

    def slow_step(*about):
        seconds[0] += 1
        return forward(*about)

    params, progress = PretrainParams(**{**SMALL, "latent_steps": 6}), Progress(phase=1)
    config, sources = PretrainConfig(params, ModelParams(**TINY_CONFIG)), open_sources(params)
    held_out, _ = held_out_frames(sources, params, canvas_camera(SIZE_PX), CPU)
    monkeypatch.setattr(RenderedSource, "example", slow_example)
    monkeypatch.setattr(Objective, "forward", slow_step)
    steps = pretraining_steps(make_tiny_model(), config, sources, held_out, progress, Processes(CPU))
    for _, _ in zip(range(4), steps):
        seconds[0] += 100  # what the caller does between steps is neither
    assert [record["waiting_share"] for record in progress.records] == [0.75, 0.5]
    assert progress.seconds == 2 * 4 + 2 * 2
