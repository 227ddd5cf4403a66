"""How every command ends: its exit code, and one line about what went wrong."""

import logging
import os
import signal
import sys
from collections.abc import Callable

from vaegaze.errors import Interrupted, UserError

SIGTERM_CODE = 128 + signal.SIGTERM
BROKEN_PIPE_CODE = 128 + 13  # SIGPIPE

log = logging.getLogger(__name__)


def run_command(work: Callable[[], int | None], hint: str = "", less_memory: str = "") -> int:
    """Do the work, and return its exit code or 0.

    2 after a mistake of the user's, 130 or 143 after a signal, 141 when nobody reads its output any more. `hint` says
    what a signal has left or how to go on, where Interrupted does not say it itself; `less_memory` what to do when
    memory has run out.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(SIGTERM_CODE))  # until the work has its own way to stop
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a notebook's has not
            # No terminal without emoji ends the run, and a log file keeps the order of what was said.
            stream.reconfigure(errors="replace", line_buffering=True)
    try:
        return work() or 0
    except Interrupted as stop:
        print(joined(str(stop), stop.hint or hint), file=sys.stderr)
        return stop.exit_code
    except KeyboardInterrupt:
        print(joined("stopped", hint), file=sys.stderr)
        return 130
    except SystemExit as ending:
        if ending.code != SIGTERM_CODE:
            raise
        print(joined("stopped by SIGTERM", hint), file=sys.stderr)
        return SIGTERM_CODE
    except (UserError, OSError, MemoryError, RuntimeError) as error:
        if isinstance(error, BrokenPipeError) and error.filename is None:
            # Whoever read the output, head say, has seen enough: no fault, and nobody to tell.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is still to be flushed
            return BROKEN_PIPE_CODE
        message = in_words(error, less_memory)
        if message is None:
            raise
        log.debug("what led to the error", exc_info=True)
        print(f"error: {message}", file=sys.stderr)
        return 2


def joined(what: str, then: str) -> str:
    return f"{what}; {then}" if then else what


def in_words(error: Exception, less_memory: str) -> str | None:
    """What went wrong, for whoever can mend it; None for a fault of the program's own."""
    if type(error).__name__ == "OutOfMemoryError":  # torch's, known by its name: --help need not wait for torch
        return joined(f"out of GPU memory ({str(error).splitlines()[0]})", less_memory)
    if isinstance(error, MemoryError) or "DefaultCPUAllocator" in str(error):
        return joined("out of memory", less_memory)
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError):  # a full disk, say
        what = (str(error.strerror or error) or type(error).__name__).splitlines()[0]
        return f"{error.filename}: {what}" if error.filename else what
    return None
