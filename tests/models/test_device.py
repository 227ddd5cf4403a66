"""Where a run computes, and the memory that it takes. See also test_gpu.py."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vaegaze.commands.precision import warn_if_emulated
from vaegaze.models import device
from vaegaze.models.device import bf16_slowdown, find_precision, peak_memory_mb, peak_memory_of

ROOT = Path(__file__).parents[2]

CPU = torch.device("cpu")


PEAKS = """
import numpy as np, torch
from vaegaze.models.device import MB, peak_memory_mb, reset_peak_memory
cpu = torch.device("cpu")
before = peak_memory_mb(cpu)
taken = np.ones(int(before * MB / 8) + 8_000_000)  # 64 MB more than there ever were, each page written
after, taken_mb = peak_memory_mb(cpu), taken.nbytes / MB
del taken
reset_peak_memory(cpu)
print(before, taken_mb, after, peak_memory_mb(cpu))
"""


def test_the_peak_of_a_process_holds_what_was_allocated():
    # A child of a shell: on Linux our own child begins with our peak, which may be that of a full-size model.
    command = ["sh", "-c", '"$0" -c "$1"; exit $?', sys.executable, PEAKS]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    before, taken, after, at_the_end = map(float, told.split())
    assert after >= taken > before > 50
    assert at_the_end >= after, "it never falls"
    assert peak_memory_of(CPU) == "the whole process"


@pytest.mark.parametrize("native", [True, False])
def test_auto_is_bf16_where_the_processor_computes_it(native, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    assert find_precision("auto", "cpu") == ("bf16" if native else "fp32")
    assert [find_precision(name, "cpu") for name in ("fp32", "bf16")] == ["fp32", "bf16"]


def test_where_the_system_does_not_say_there_is_no_peak(monkeypatch):
    monkeypatch.setitem(sys.modules, "resource", None)  # as on Windows
    assert peak_memory_mb(CPU) is None


@pytest.mark.parametrize("isa", ["AVX2", "ALL"])
def test_emulated_bf16_is_never_chosen_and_its_slowdown_is_measured(isa):
    """oneDNN, which computes convolutions, may be kept from instructions that the processor has."""
    code = "from vaegaze.models.device import *; print(find_precision('auto', 'cpu'), bf16_slowdown('cpu'))"
    code += "; from vaegaze.commands.precision import *; [warn_if_emulated(p, 'cpu') for p in ('fp32', 'bf16')]"
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": isa}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    numbers, *warnings = done.stdout.splitlines()
    precision, slowdown = numbers.split()
    assert len(warnings) == (slowdown != "None")
    if isa == "AVX2":
        assert precision == "fp32"
    assert slowdown == "None" if precision == "bf16" else slowdown == "None" or float(slowdown) > 1


@pytest.mark.parametrize(
    ("bf16_sec", "words"), [(0.4, None), (1.02, None), (1.27, "1.3 times"), (9.96, "10 times"), (89.4, "89 times")]
)
def test_only_a_measured_slowdown_is_warned_of(bf16_sec, words, monkeypatch, capsys):
    """An ARM processor may have instructions for bf16 that are not those of AVX-512."""
    monkeypatch.setattr(device, "has_native_bf16", lambda name: False)
    monkeypatch.setattr(device, "_convolution_sec", lambda name, dtype: bf16_sec if dtype == torch.bfloat16 else 1.0)
    warn_if_emulated("bf16", "cpu")
    out = capsys.readouterr().out
    assert (bf16_slowdown("cpu") is None) == (words is None) == (out == "")
    assert words is None or f"take {words} as long as in fp32; give --precision fp32" in out
    warn_if_emulated("fp32", "cpu")
    assert not capsys.readouterr().out
