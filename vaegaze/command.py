"""How every command that is run as a module ends: its exit code, and one line about what went wrong."""

import sys
from collections.abc import Callable

from vaegaze.config_tree import UserError
from vaegaze.progress import Interrupted


def run_command(work: Callable[[], None], way_on: str = "nothing was written") -> int:
    """Do the work; 0, 2 after a mistake of the user's, 130 or 143 after a signal. `way_on` is what to do after one."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a notebook's has not
            stream.reconfigure(errors="replace", line_buffering=True)  # no terminal without emoji ends the run
    try:
        work()
    except (UserError, OSError) as error:  # OSError: a full disk, say
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"stopped; {way_on}", file=sys.stderr)
        return 130
    except Interrupted as stop:
        print(f"{stop}; {way_on}", file=sys.stderr)
        return stop.exit_code
    return 0
