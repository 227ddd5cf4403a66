"""The benchmarks of speed, at a small size: that they measure what they say. Times themselves are in no test."""

import json
import re
import time

import numpy as np
import pytest
import torch
from conftest import make_tiny_model, process_restored
from torch.nn import functional as F

from benchmarks import person_loading, rendering, step_time, video_roundtrip
from benchmarks.step_meter import flop_counter
from vaegaze.models.checkpoint import save_checkpoint
from vaegaze.models.cpu.layers import plain_products


def test_person_loading(capsys):
    assert person_loading.main(["--persons", "5", "--samples", "40", "--num_samples", "6", "--rounds", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "5 persons; 6 of 40 samples of 256 px"
    numbers = json.loads(lines[-1])
    assert set(numbers) == {"choose_sec", "count_sec", "read_sec", "rows_sec", "fancy_indexing_sec"}
    assert all(seconds > 0 for seconds in numbers.values())


def test_rendering(capsys):
    assert rendering.main(["--pictures", "4", "--size", "32", "--rounds", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "4 pictures of 32 px, per second"
    numbers = json.loads(lines[-1])
    assert set(numbers) == {"per_sec_1", "per_sec_2"} and all(rate > 0 for rate in numbers.values())


def test_fused_attention_counts_like_plain_products():
    """Else the faster form, which a precision may choose, would look like more work."""
    counted = []
    for attend in (plain_products, F.scaled_dot_product_attention):
        query, key, value = (torch.rand(2, 3, tokens, 8, requires_grad=True) for tokens in (40, 50, 50))
        with flop_counter() as counter:
            attend(query, key, value).sum().backward()
        counted.append(counter.get_total_flops())
    assert counted[0] == counted[1] == 3 * 2 * 2 * (2 * 3) * 40 * 50 * 8


class Forecast(Exception):
    """What comes next would be measured."""


@pytest.fixture
def minutes(monkeypatch, capsys):
    """The forecast of a step's benchmark, which then goes no further."""

    def stop(*_):
        raise Forecast

    monkeypatch.setattr(step_time, "write_inputs", stop)

    def read(*flags) -> int:
        with process_restored(), pytest.raises(Forecast):
            step_time.main(["--device", "cpu", "--precision", "fp32", *flags])
        (line,) = capsys.readouterr().err.splitlines()
        return int(re.fullmatch(r"This takes about (\d+) minutes: .+", line)[1])

    return read


def test_the_forecast_holds_on_a_busy_machine(minutes, monkeypatch):
    """A thread of whatever processor reaches 0.01 to 0.3 TFLOP/s."""
    assert 1 <= minutes("--threads", "1") <= 15
    assert 15 <= minutes("--preset", "base", "--threads", "1") <= 450
    whole, calls = F.conv2d, []

    def disturbed(*given, **named):
        calls.append(torch.get_num_threads())
        if len(calls) % 5:  # four tries of five have to wait
            time.sleep(0.02)
        return whole(*given, **named)

    quiet = minutes("--preset", "base", "--threads", "2")
    monkeypatch.setattr(F, "conv2d", disturbed)
    assert minutes("--preset", "base", "--threads", "2") < 3 * quiet
    assert set(calls) == {1, 2}, "the threads that were asked for, too"


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["selective", "minimal"])
def test_a_step_beside_the_peers(strategy, tmp_path, capsys):
    """It ends with an error unless the first losses of both loops agree."""
    save_checkpoint(tmp_path / "base.pth", make_tiny_model(), {})
    flags = ["--checkpoint_path", tmp_path / "base.pth", "--strategy", strategy, "--device", "cpu", "--threads", 1]
    assert step_time.main([*map(str, flags), "--rounds", "1", "--steps", "2"]) == 0
    numbers = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert numbers["ratio"] == pytest.approx(numbers["peer_sec_per_step"] / numbers["ours_sec_per_step"])
    assert 0 < numbers["ours_tflop"] < numbers["peer_tflop"], "what is computed once is not counted again"
    assert numbers["ours_peak_memory_mb"] > 0 and numbers["optimizer_mb"] > 0 and numbers["sec_to_first_step"] > 0


@pytest.mark.slow
def test_a_video_and_back(tmp_path, capsys):
    """Prepared, fine-tuned for a few steps, and redirected: the eyes look at the camera, as far as one can tell."""
    assert video_roundtrip.main(["--seconds", "1.2", "--num_steps", "30", "--folder", str(tmp_path)]) == 0
    numbers = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert numbers["closed_left_out"] == numbers["closed"] > 0
    assert numbers["open_left_out"] <= 0.1 * numbers["open"]
    assert numbers["after_deg"] < numbers["before_deg"] / 2
    assert numbers["base_shut_changed"] == numbers["after_shut_changed"] == 0 < numbers["shut"]


def test_truly_shut_eyes_that_were_redrawn_are_counted(talking):
    result = talking.frames.copy()
    for number in (*np.flatnonzero(talking.openness == 0)[:2], 0):
        for x, y in talking.eyes[number].round().astype(int):
            result[number, y - 12 : y + 12, x - 20 : x + 20] = 0
    found = video_roundtrip.shut_eyes("base", talking.frames, result, talking)
    assert found == {"shut": 6, "base_shut_changed": 2}
