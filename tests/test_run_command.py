"""How commands end: exit codes, and one line about what went wrong."""

import signal

import pytest
import torch

from vaegaze.command import run_command
from vaegaze.config_tree import UserError
from vaegaze.progress import Interrupted

CPU_ALLOCATOR = "[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: …"


def fails_with(error):
    def work():
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UserError("seed: -1, but 0 or more is asked for"), 2, "error: seed: -1, but 0 or more is asked for"),
        (OSError(28, "No space left on device"), 2, "error: writing: No space left on device"),
        (OSError(13, "Permission denied", "out.pth"), 2, "error: out.pth: Permission denied"),
        (MemoryError(), 2, "error: out of memory; give less"),
        (RuntimeError(CPU_ALLOCATOR), 2, "error: out of memory; give less"),
        (
            torch.OutOfMemoryError("CUDA out of memory.\nmore"),
            2,
            "error: out of GPU memory (CUDA out of memory.); give less",
        ),
        (KeyboardInterrupt(), 130, "stopped; go on"),
        (Interrupted(signal.SIGTERM), 143, "stopped by SIGTERM; go on"),
    ],
)
def test_one_line_and_a_code(capsys, error, code, line):
    assert run_command(fails_with(error), way_on="go on", less_memory="give less") == code
    assert capsys.readouterr().err == f"{line}\n"


def test_the_code_of_the_work_itself(capsys):
    assert run_command(lambda: None) == 0 and run_command(lambda: 1) == 1
    assert not any(capsys.readouterr())


def test_faults_of_the_program_are_not_hidden():
    with pytest.raises(RuntimeError, match="mat1"):
        run_command(fails_with(RuntimeError("mat1 and mat2 shapes cannot be multiplied")))
