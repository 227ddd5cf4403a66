"""A user's error, and an interrupt by signal.

A package below `commands/` reports errors in its own terms and never names a flag or a YAML key:

    raise UserError(f"mask: {path} has no white pixel; paint both eyes white on black")
    raise UserError(f"{path} is not a gaze estimator", about="estimator")

Only a command may know the remedy for the second error. It gives that once, in `run_command`:

    run_command(work, advice={"estimator": "give another file with --estimator"})

which prints "x.pth is not a gaze estimator; give another file with --estimator". A command without advice for an
error's `about` prints the error alone, so no command recommends a flag that it lacks.
"""

import signal
from collections.abc import Callable
from typing import Any

# Ctrl-C, what `kill` and `timeout` send, and what a terminal sends that is closed; `nohup` has that one ignored.
STOP_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


def on_stop_signals(handler: Callable[[int, Any], None], but: int | None = None) -> None:
    """Have these signals, `but` one, handled."""
    for signum in STOP_SIGNALS:
        hung_up_on = signum == getattr(signal, "SIGHUP", None)
        if signum != but and not (hung_up_on and signal.getsignal(signum) == signal.SIG_IGN):
            signal.signal(signum, handler)


class UserError(Exception):
    """An error that a user can cause and fix. Commands print its text on stderr and exit with code 2.

    `about` names the faulty input, so that a command can add its advice; see the module.
    """

    def __init__(self, text: str = "", *, about: str = ""):
        super().__init__(text)
        self.about = about

    def __str__(self) -> str:
        return "\n".join(map(plain, super().__str__().split("\n")))


class Interrupted(Exception):
    """A signal ended the work. `hint`, if any, says what was saved or how to continue."""

    def __init__(self, signum: int, hint: str = ""):
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.exit_code = 128 + signum
        self.hint = hint


def plain(text: str) -> str:
    """Text from an untrusted file as printable characters on one line, safe to show in a terminal."""
    return text if text.isprintable() else repr(text)[1:-1]


def inert(text: str) -> str:
    """Foreign text as the cell of a table: on one line, and no formula, which a spreadsheet would run."""
    return f"'{plain(text)}" if text.startswith(tuple("=+-@\t\r")) else plain(text)
