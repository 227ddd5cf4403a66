"""The campaign's own parts: a child's end is told for what it is, and the same number is the same case."""

import faulthandler
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from benchmarks.torture import children
from benchmarks.torture.children import Worker, run
from benchmarks.torture.hostile import mutated


def crash() -> int:
    faulthandler.disable()  # pytest's would print the stack into the tests' own output
    os.kill(os.getpid(), signal.SIGSEGV)
    return 0


def fail() -> int:
    raise ValueError("not in words")


def refuse() -> int:
    print("error: one line")
    return 2


CASES = [lambda: 0, refuse, fail, crash, lambda: time.sleep(60), lambda: 2, lambda: 0]
FAULTS = [None, None, "traceback", "ended by signal 11", "hang", "exit code 2 without one error", None]


def test_how_a_child_ended(tmp_path):
    assert [run(case, tmp_path / "a", limit_sec=0.5).fault for case in CASES] == FAULTS


def test_a_worker_outlives_none_of_its_faults(tmp_path):
    worker = Worker(lambda number: CASES[number](), tmp_path / "a", limit_sec=0.5, memory_bytes=2**30)
    assert [worker.do(number).fault for number in range(len(CASES))] == FAULTS
    worker.stop()


def test_a_case_depends_on_its_number():
    content = bytes(range(256)) * 20
    first, again, other = (mutated(content, np.random.default_rng([0, number])) for number in (3, 3, 4))
    assert first == again != other and first != content


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_the_chosen_call_fails(tmp_path, monkeypatch):
    """In a program of its own, which has the library preloaded."""
    library = tmp_path / "faults.so"
    monkeypatch.setattr(children.os, "execve", lambda path, argv, environment: None)
    children.preloaded(library)
    script = tmp_path / "script.py"
    script.write_text(
        "import errno, sys\n"
        "from pathlib import Path\n"
        "from benchmarks.torture.children import CHANGES, Trap, run\n"
        "folder = Path(sys.argv[1])\n"
        "def work():\n"
        "    try:\n"
        "        (folder / 'a').write_text('content')\n"
        "    except OSError as error:\n"
        "        print(errno.errorcode[error.errno])\n"
        "    return 0\n"
        "calls = run(work, folder, trap=Trap(CHANGES)).calls\n"
        "ends = [run(work, folder, trap=Trap(CHANGES, n, errno.ENOSPC)).text for n in range(1, calls + 2)]\n"
        "killed = run(work, folder, trap=Trap(CHANGES, 1)).signal\n"
        "print(calls, [each.strip() for each in ends], killed)\n"
    )
    (tmp_path / "case").mkdir()
    environment = {**os.environ, "LD_PRELOAD": str(library), "PYTHONPATH": str(children.SOURCE.parents[2])}
    command = [sys.executable, script, tmp_path / "case"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.stdout == "3 ['ENOSPC', 'ENOSPC', 'ENOSPC', ''] 9\n", ended.stderr
