"""How commands end: exit codes, and one line about what went wrong."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from conftest import process_restored

from vaegaze.commands.progress import StopSignals
from vaegaze.commands.running import run_command
from vaegaze.errors import Interrupted, UserError

CPU_ALLOCATOR = "[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: …"


def ends(work) -> int:
    with process_restored():
        return run_command(work, hint="go on", less_memory="give less")


def raises(error):
    raise error


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UserError("seed: -1, but 0 or more is asked for"), 2, "error: seed: -1, but 0 or more is asked for"),
        (OSError(28, "No space left on device"), 2, "error: No space left on device"),
        (OSError(13, "Permission denied", "out.pth"), 2, "error: out.pth: Permission denied"),
        (OSError("unable to read\nTraceback: …"), 2, "error: unable to read"),
        (TimeoutError(), 2, "error: TimeoutError"),
        (BrokenPipeError(32, "Broken pipe", "out.fifo"), 2, "error: out.fifo: Broken pipe"),
        (MemoryError(), 2, "error: out of memory; give less"),
        (OSError(12, "Cannot allocate memory"), 2, "error: out of memory; give less"),
        (RuntimeError(CPU_ALLOCATOR), 2, "error: out of memory; give less"),
        (torch.OutOfMemoryError("CUDA, too.\nmore"), 2, "error: out of GPU memory (CUDA, too.); give less"),
        (KeyboardInterrupt(), 130, "stopped; go on"),
        (Interrupted(signal.SIGTERM), 143, "stopped by SIGTERM; go on"),
    ],
)
def test_one_line_and_a_code(capsys, error, code, line):
    assert ends(lambda: raises(error)) == code
    assert capsys.readouterr().err == f"{line}\n"


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.usefixtures("hangups_arrive")
def test_a_signal_ends_it_with_a_line(capsys, signum):
    def work():
        os.kill(os.getpid(), signum)
        time.sleep(10)

    assert ends(work) == 128 + signum
    assert capsys.readouterr().err == f"stopped by {signum.name}; go on\n"


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_python_tidies_up_is_not_lost(capsys, signum):
    """There Python prints what is raised, and goes on."""

    class Left:
        def __del__(self):
            signal.raise_signal(signum)

    def work():
        Left()
        time.sleep(10)

    before = sys.unraisablehook
    assert ends(work) == 128 + signum and sys.unraisablehook is before
    name = "" if signum == signal.SIGINT else f" by {signum.name}"
    assert capsys.readouterr().err == f"stopped{name}; go on\n"


def test_what_nohup_ignores_stays_ignored():
    with process_restored():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        assert run_command(lambda: os.kill(os.getpid(), signal.SIGHUP)) == 0
        StopSignals()
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def test_a_reader_who_has_seen_enough_is_no_error():
    script = (
        "import sys; from vaegaze.commands.running import run_command; "
        "sys.exit(run_command(lambda: print('x' * 10**7)))"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.read(1) == b"x"
    process.stdout.close()
    assert (process.stderr.read(), process.wait()) == (b"", 141)


def test_the_work_goes_on_when_nobody_reads(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(LOST_OUTPUT.replace("print('line')", "print('x' * 10**7)"))
    shell = '"$0" "$1" "$2" 2>&1 | head -c 1; exit ${PIPESTATUS[0]}'
    done = subprocess.run(
        ["bash", "-c", shell, sys.executable, script, tmp_path / "result"],
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (141, b"x", b"")
    assert (tmp_path / "result").read_text() == "complete"


LOST_OUTPUT = (
    "import sys; from pathlib import Path; from vaegaze.commands.running import run_command\n"
    "def work():\n"
    "    print('line')\n"
    "    print('progress', file=sys.stderr)\n"
    "    with open(sys.argv[1], 'w') as file:\n"
    "        print('more')\n"
    "        file.write('complete')\n"
    "        print('and more', file=sys.stderr)\n"
    "sys.exit(run_command(work))\n"
)


@pytest.mark.parametrize(
    ("redirected", "code", "err"),
    [
        (">&-", 0, "progress\nand more\n"),
        ("2>&-", 0, ""),
        ("<&- >&- 2>&-", 0, ""),
        ("> /dev/full", 2, "progress\nand more\nerror: stdout: No space left on device; the output is lost\n"),
        ("2> /dev/full", 2, ""),
        ("> /dev/full 2>&1", 2, ""),
    ],
)
def test_lost_output_ends_no_work(tmp_path, redirected, code, err):
    script, result = tmp_path / "script.py", tmp_path / "result"
    script.write_text(LOST_OUTPUT)
    shell = f'exec "$0" "$1" "$2" {redirected}'
    done = subprocess.run(
        ["sh", "-c", shell, sys.executable, script, result],
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (code, err)
    assert result.read_text() == "complete", "no file took the place of a closed stream"


def test_the_code_of_the_work_itself(capsys):
    assert ends(lambda: None) == 0 and ends(lambda: 1) == 1
    assert not any(capsys.readouterr())


def test_faults_of_the_program_are_not_hidden():
    with pytest.raises(RuntimeError, match="mat1"):
        ends(lambda: raises(RuntimeError("mat1 and mat2 shapes cannot be multiplied")))
