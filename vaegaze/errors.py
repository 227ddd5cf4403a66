"""The two ways in which a command ends early that are no fault of the program."""

import signal


class UserError(Exception):
    """An error that a user can cause and mend. Its text is what the command prints on stderr; the exit code is 2."""

    def __str__(self) -> str:
        return "\n".join(map(plain, super().__str__().split("\n")))


class Interrupted(Exception):
    """A signal ended the work. `hint`, where it is known, says what is left or how to go on."""

    def __init__(self, signum: int, hint: str = ""):
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.exit_code = 128 + signum
        self.hint = hint


def plain(text: str) -> str:
    """Text from a foreign file as printable characters on one line, safe to show in a terminal."""
    return text if text.isprintable() else repr(text)[1:-1]
