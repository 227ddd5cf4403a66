"""Where a run's seconds go, held against the clock."""

import json
import signal
import subprocess
import time

import pytest
from command_runs import PERSON, RUN, command, signal_at_step, start_process

SCRIPT = """
import sys, time
from vaegaze.commands.train import main

began = time.perf_counter()
code = main()
print(time.perf_counter() - began)
sys.exit(code)
"""


def assert_adds_up(save_dir, clock_sec: float, left_out: float) -> None:
    """The phases make up the total, and that is the clock's, but for what is printed in the end."""
    summary = json.loads((save_dir / PERSON / "summary.json").read_text())
    assert summary["total_seconds"] == pytest.approx(sum(summary["seconds_of"].values()), rel=0.01)
    assert summary["total_seconds"] == pytest.approx(clock_sec, rel=left_out, abs=0.2), summary["seconds_of"]


def test_the_whole_command_is_counted(world, tmp_path):
    """PyTorch's import, the networks' checksums, the judgement before the first step, page and model included."""
    flags = (*world.flags, *RUN, "--keep_best", "--save_dir", tmp_path)
    process = start_process(*flags, script=SCRIPT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = (each.decode() for each in process.communicate(timeout=300))
    assert process.returncode == 0, err
    assert_adds_up(tmp_path, float(out.splitlines()[-1]), 0.05)


def test_a_resumed_run_adds_up_its_parts(world, tmp_path, monkeypatch):
    flags = (*world.flags, *RUN, "--keep_best", "--save_dir", tmp_path)
    began = time.perf_counter()
    with monkeypatch.context() as patched:
        signal_at_step(patched, 7, signal.SIGTERM)
        assert command(*flags).code == 143
    first_sec, began = time.perf_counter() - began, time.perf_counter()
    assert command(*flags, "--resume").code == 0
    clock_sec = first_sec + time.perf_counter() - began
    assert_adds_up(tmp_path, clock_sec, 0.05)  # no file knows how long it took to write itself
