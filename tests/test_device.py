"""Where a run computes, and the memory that it takes. See also test_gpu.py."""

import sys

import numpy as np
import torch

from vaegaze.device import MB, peak_memory_mb, peak_memory_of, reset_peak_memory

CPU = torch.device("cpu")


def test_the_peak_of_a_process_holds_what_was_allocated():
    before = peak_memory_mb(CPU)
    taken = np.ones(int(before * MB / 8) + 8_000_000)  # 64 MB more than there ever were, each page written
    after = peak_memory_mb(CPU)
    assert after >= taken.nbytes / MB > before > 50
    del taken
    reset_peak_memory(CPU)
    assert peak_memory_mb(CPU) >= after, "it never falls"
    assert peak_memory_of(CPU) == "the whole process"


def test_where_the_system_does_not_say_there_is_no_peak(monkeypatch):
    monkeypatch.setitem(sys.modules, "resource", None)  # as on Windows
    assert peak_memory_mb(CPU) is None
