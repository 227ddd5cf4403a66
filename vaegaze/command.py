"""How every command ends: its exit code, and one line about what went wrong."""

import logging
import sys
from collections.abc import Callable

from vaegaze.config_tree import UserError
from vaegaze.progress import Interrupted

log = logging.getLogger(__name__)


def run_command(work: Callable[[], int | None], way_on: str = "", less_memory: str = "") -> int:
    """Do the work, and return its exit code or 0; 2 after a mistake of the user's, 130 or 143 after a signal.

    `way_on` is what to do after a signal, where Interrupted does not say it itself, and `less_memory` what to do when
    memory has run out.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a notebook's has not
            # No terminal without emoji ends the run, and a log file keeps the order of what was said.
            stream.reconfigure(errors="replace", line_buffering=True)
    try:
        return work() or 0
    except Interrupted as stop:
        print(joined(str(stop), stop.way_on or way_on), file=sys.stderr)
        return stop.exit_code
    except KeyboardInterrupt:
        print(joined("stopped", way_on), file=sys.stderr)
        return 130
    except (UserError, OSError, MemoryError, RuntimeError) as error:
        message = in_words(error)
        if message is None:
            raise
        log.debug("what led to the error", exc_info=True)
        print(f"error: {joined(message, less_memory if is_out_of_memory(error) else '')}", file=sys.stderr)
        return 2


def joined(what: str, then: str) -> str:
    return f"{what}; {then}" if then else what


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory has run out, Python's, the CPU's or a GPU's; torch, slow to import, is known by its words."""
    cpu = "DefaultCPUAllocator" in str(error)
    return isinstance(error, MemoryError) or cpu or type(error).__name__ == "OutOfMemoryError"


def in_words(error: Exception) -> str | None:
    """What went wrong, for whoever can mend it; None for a fault of the program's own."""
    if is_out_of_memory(error):
        gpu = type(error).__name__ == "OutOfMemoryError"
        return f"out of GPU memory ({str(error).splitlines()[0]})" if gpu else "out of memory"
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError):  # a full disk, say
        return f"{error.filename or 'writing'}: {error.strerror or error}"
    return None
