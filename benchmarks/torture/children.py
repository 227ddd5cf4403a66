"""Commands in forked children. All is imported before the fork, so a case takes milliseconds instead of seconds."""

import ctypes
import gc
import math
import os
import resource
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

OPEN, CREATE, READ, WRITE, NAME, SYNC, CLOSE, STAT, REMOVE = (
    1 << bit for bit in range(9)
)  # kinds of calls, as in faults.c
CHANGES = CREATE | WRITE | NAME | SYNC | CLOSE | REMOVE
GLANCE_SEC = 0.5
SOURCE = Path(__file__).with_name("faults.c")


@dataclass(frozen=True)
class Trap:
    """The `at`-th call of these `kinds` under the watched folder fails; 0 only counts. Error 0 kills the process."""

    kinds: int
    at: int = 0
    error: int = 0
    stays: bool = False  # all later calls fail as well


@dataclass(frozen=True)
class Ending:
    """How a child ended."""

    code: int | None  # None after a signal
    signal: int | None
    late: bool  # it was killed at the time limit
    text: str  # stdout and stderr
    seconds: float
    calls: int  # that its trap counted, if it lived to say so

    @property
    def killed(self) -> bool:
        """As asked for, by a trap or at a moment."""
        return self.signal == signal.SIGKILL and not self.late

    @property
    def fault(self) -> str | None:
        """What no command may do, whatever it is given."""
        if self.late:
            return "hang"
        if self.signal is not None:
            return f"ended by signal {self.signal}"
        for words in ("Traceback", "Exception ignored", "Fatal Python error"):
            if words in self.text:
                return "traceback"
        errors = sum(line.startswith("error: ") for line in self.text.splitlines())
        if self.code == 2 and errors != 1:
            return "exit code 2 without one error" if not errors else "several errors"
        return None if self.code in (0, 2, 3) else f"exit code {self.code}"


def preloaded(library: Path) -> None:
    """Compile faults.c and start this program anew with it, unless it runs with it already."""
    if os.environ.get("LD_PRELOAD") == str(library):
        return
    library.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cc", "-O1", "-w", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"], check=True)
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, "LD_PRELOAD": str(library)})


def run(
    work: Callable[[], int],
    folder: Path,
    *,
    trap: Trap | None = None,
    kill_after_sec: float | None = None,
    limit_sec: float = 60.0,
    memory_bytes: int | None = None,
) -> Ending:
    """Do `work` in a child whose trap watches `folder`. Its output goes to a file beside that folder."""
    log = folder.with_suffix(".log")
    gc.freeze()  # or the first collection in each child copies all of this process's memory
    sys.stdout.flush(), sys.stderr.flush()
    ours, theirs = os.pipe()
    started = time.monotonic()
    pid = os.fork()
    if pid == 0:
        os.close(ours)
        _child(work, folder, log, theirs, trap, memory_bytes)
    os.close(theirs)
    status, late = _wait(pid, started, kill_after_sec, limit_sec)
    with open(ours, "rb") as pipe:
        calls = int(pipe.read() or 0)
    text = log.read_text(encoding="utf-8", errors="replace")
    code, ended_by = (None, os.WTERMSIG(status)) if os.WIFSIGNALED(status) else (os.WEXITSTATUS(status), None)
    return Ending(code, ended_by, late, text, time.monotonic() - started, calls)


class Worker:
    """A child that does one numbered case after another, and a new one after each that ended it."""

    def __init__(self, work: Callable[[int], int], folder: Path, *, limit_sec: float, memory_bytes: int):
        self._work, self._log = work, folder.with_suffix(".log")
        self._limit_sec, self._memory_bytes, self._pid = limit_sec, memory_bytes, 0

    def do(self, number: int) -> Ending:
        if not self._pid:
            self._start()
        started = time.monotonic()
        os.write(self._asks, b"%d\n" % number)
        for _ in range(math.ceil(self._limit_sec / GLANCE_SEC)):  # a stop of both processes counts as one glance
            ready, _, _ = select.select([self._answers], [], [], GLANCE_SEC)
            if ready:
                break
        answer = os.read(self._answers, 100) if ready else b""
        code, ended_by = (int(answer), None) if answer else (None, self.stop())
        text = self._log.read_text(encoding="utf-8", errors="replace")
        return Ending(code, ended_by, not ready, text, time.monotonic() - started, 0)

    def stop(self) -> int:
        """End the child; returns the signal that it died of."""
        os.kill(self._pid, signal.SIGKILL)  # in vain if it is dead
        _, status = os.waitpid(self._pid, 0)
        os.close(self._asks), os.close(self._answers)
        self._pid = 0
        return os.WTERMSIG(status)

    def _start(self) -> None:
        (asked, self._asks), (self._answers, answered) = os.pipe(), os.pipe()
        sys.stdout.flush(), sys.stderr.flush()
        self._pid = os.fork()
        if self._pid:
            os.close(asked), os.close(answered)
            return
        try:
            os.close(self._asks), os.close(self._answers)
            _to_log(self._log)
            _limit_memory(self._memory_bytes)
            with open(asked, "rb", buffering=0) as numbers:
                while number := numbers.readline():
                    os.ftruncate(1, 0)
                    code = 70
                    try:
                        code = self._work(int(number))
                    except BaseException:
                        traceback.print_exc()
                    sys.stdout.flush(), sys.stderr.flush()
                    os.write(answered, b"%d" % code)
        finally:
            os._exit(0)


def _to_log(log: Path) -> None:
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    os.dup2(handle, 1), os.dup2(handle, 2)
    sys.stdout, sys.stderr = (open(number, "w", buffering=1, closefd=False) for number in (1, 2))  # noqa: SIM115


def _limit_memory(more_bytes: int) -> None:
    """So much more than this process has at present."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + more_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _wait(pid: int, started: float, kill_after_sec: float | None, limit_sec: float) -> tuple[int, bool]:
    late = False
    until = started + (limit_sec if kill_after_sec is None else kill_after_sec)
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            break
        if time.monotonic() > until:
            os.kill(pid, signal.SIGKILL)
            late = kill_after_sec is None
            _, status = os.waitpid(pid, 0)
            break
        time.sleep(0.001)
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)  # what it had started itself
    return status, late


def _child(
    work: Callable[[], int], folder: Path, log: Path, pipe: int, trap: Trap | None, memory_bytes: int | None
) -> None:
    code, library = 70, ctypes.CDLL(None)
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _to_log(log)
        if memory_bytes is not None:
            _limit_memory(memory_bytes)
        if trap is not None:
            library.torture_arm(os.fsencode(f"{folder}/"), ctypes.c_long(trap.at), trap.error, trap.stays, trap.kinds)
        code = work()
    except SystemExit as ending:
        code = ending.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush(), sys.stderr.flush()
        if trap is not None:
            library.torture_count.restype = ctypes.c_long
            os.write(pipe, str(library.torture_count()).encode())
        os._exit(code)
