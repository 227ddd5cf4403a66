"""How every command starts and ends: its exit code, and one line about what went wrong."""

import errno
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from vaegaze.commands.output_streams import unbreakable_output
from vaegaze.config.flags import FlagParser, read_command
from vaegaze.errors import Interrupted, UserError, on_stop_signals

OUT_OF_MEMORY = ("DefaultCPUAllocator", "failed to map segment")  # as PyTorch says it, and as a library is not loaded
AGAIN_SEC = 0.01

log = logging.getLogger(__name__)


def run_command(
    work: Callable[[], int | None], *, hint: str = "", less_memory: str = "", advice: Mapping[str, str] | None = None
) -> int:
    """Do the work and return its exit code, or 0 if it returns none.

    2 after a user's mistake, 130, 143 or 129 after a signal. Work whose printed lines are lost goes on to its end; then
    the code is 141 if nothing read them, 2 if they could not be written. `hint` says what a signal left behind or how
    to go on, unless Interrupted says so itself; `less_memory` what to do when memory has run out; `advice`, by
    `UserError.about`, what to do about an error of a lower room, in this command's flags.
    """
    on_stop_signals(_stop, but=signal.SIGINT)  # until the work has its own way to stop
    with unbreakable_output() as output, _signals_come_again():
        code = _run(work, hint, less_memory, advice or {})
        return code or output.exit_code


class _Stopped(SystemExit):
    """A signal came before the work had its own way to stop."""


def _stop(signum: int, frame: Any) -> None:
    raise _Stopped(128 + signum)


@contextmanager
def _signals_come_again() -> Iterator[None]:
    """Within it a signal that comes while Python tidies up, where what its handler raises is ignored, comes again."""
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        error = unraisable.exc_value
        if isinstance(error, KeyboardInterrupt | _Stopped):
            signum = error.code - 128 if isinstance(error, _Stopped) else signal.SIGINT
            again = threading.Timer(AGAIN_SEC, _send_to_main_thread, (signum,))
            again.daemon = True
            again.start()
        else:
            before(unraisable)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


def _send_to_main_thread(signum: int) -> None:
    if hasattr(signal, "pthread_kill"):  # which also ends a call that waits
        signal.pthread_kill(threading.main_thread().ident, signum)
    else:
        signal.raise_signal(signum)


def _run(work: Callable[[], int | None], hint: str, less_memory: str, advice: Mapping[str, str]) -> int:
    try:
        _refuse_broken_bars()
        return work() or 0
    except Interrupted as stop:
        print(joined(str(stop), stop.hint or hint), file=sys.stderr)
        return stop.exit_code
    except KeyboardInterrupt:
        print(joined("stopped", hint), file=sys.stderr)
        return 130
    except _Stopped as stop:
        print(joined(f"stopped by {signal.Signals(stop.code - 128).name}", hint), file=sys.stderr)
        return stop.code
    except (UserError, OSError, MemoryError, RuntimeError, ImportError) as error:
        message = in_words(error, less_memory, advice)
        if message is None:
            raise
        log.debug("what led to the error", exc_info=True)
        print(f"error: {message}", file=sys.stderr)
        return 2


def _refuse_broken_bars() -> None:
    """UserError for TQDM_NCOLS=abc and the like in the environment: tqdm, and PyTorch, would not be imported."""
    names = sorted(name for name in os.environ if name.startswith("TQDM_"))
    if names:
        try:
            import tqdm  # noqa: F401
        except ValueError as error:
            raise UserError(f"the environment's {', '.join(names)}: {error}; correct or unset it") from error


def run_with_settings(
    tree: type,
    run: Callable[..., int | None],
    argv: Sequence[str] | None,
    *,
    prog: str,
    description: str,
    switches: Sequence[tuple[str, str]] = (),
    recipe: str | None = None,
    rewrite: Callable[[Sequence[str]], Sequence[str]] = list,
    **ending: Any,
) -> int:
    """The whole `main` of a command whose settings are a `tree`: `run(resolved, **switches)` on what was typed.

    `switches` are (flag, help) of flags without a value; `rewrite` replaces words of the command line before it is
    read; `recipe` is as in `read_command`, `ending` as in `run_command`.
    """
    parser = FlagParser(prog=prog, description=description)
    for flag, text in switches:
        parser.add_argument(flag, action="store_true", help=text)

    def work() -> int | None:
        words = rewrite(sys.argv[1:] if argv is None else argv)
        resolved, typed = read_command(parser, tree, words, recipe=recipe)
        return run(resolved, **typed)

    return run_command(work, **ending)


def joined(what: str, then: str) -> str:
    return f"{what}; {then}" if then else what


def advised(error: UserError, advice: Mapping[str, str]) -> str:
    """The error, followed by the command's advice about it, if there is any."""
    return joined(str(error), advice.get(error.about, ""))


def in_words(error: Exception, less_memory: str, advice: Mapping[str, str]) -> str | None:
    """What went wrong, for a user who can fix it; None for a bug."""
    if type(error).__name__ == "OutOfMemoryError":  # torch's, recognised by name: --help must not wait for torch
        return joined(f"out of GPU memory ({str(error).splitlines()[0]})", less_memory)
    out_of_memory = isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM
    if out_of_memory or any(words in str(error) for words in OUT_OF_MEMORY):
        return joined("out of memory", less_memory)
    if isinstance(error, UserError):
        return advised(error, advice)
    if isinstance(error, OSError):  # a full disk, for example
        what = (str(error.strerror or error) or type(error).__name__).splitlines()[0]
        return f"{error.filename}: {what}" if error.filename else what
    return None
