"""Printing that never ends the work, whatever became of stdout and stderr."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

BROKEN_PIPE_CODE = 128 + 13  # SIGPIPE


class UnbreakableStream:
    """A stream whose first failure to write silences it."""

    def __init__(self, stream: TextIO, name: str):
        self._stream, self.name, self.error = stream, name, None

    def write(self, text: str) -> int:
        self._try(self._stream.write, text)
        return len(text)

    def flush(self) -> None:
        self._try(self._stream.flush)

    def _try(self, call: Callable, *args) -> None:
        if self.error is not None:
            return
        try:
            call(*args)
        except OSError as error:
            self._silence(error)
        except ValueError as error:
            if not self._stream.closed:
                raise
            self._silence(error)

    def _silence(self, error: Exception) -> None:
        self.error = error
        with suppress(OSError, ValueError):  # the buffer must not fail again at exit
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)

    def __getattr__(self, name: str):
        return getattr(self._stream, name)


class Outputs:
    """stdout and stderr while a command runs."""

    def __init__(self, out: UnbreakableStream, err: UnbreakableStream):
        self.out, self.err = out, err

    @property
    def exit_code(self) -> int:
        """The exit code of a finished command: not 0 if its output was lost."""
        errors = [stream.error for stream in (self.out, self.err) if stream.error is not None]
        if any(isinstance(error, BrokenPipeError) for error in errors):
            return BROKEN_PIPE_CODE  # the reader, such as `head`, has seen enough: not an error
        return 2 if errors else 0


@contextmanager
def unbreakable_output() -> Iterator[Outputs]:
    """Replace sys.stdout and sys.stderr by streams that cannot fail."""
    _occupy_standard_handles()
    before = sys.stdout, sys.stderr
    with open(os.devnull, "w") as null:
        streams = [
            UnbreakableStream(null if stream is None else stream, name)
            for stream, name in zip(before, ("stdout", "stderr"))
        ]
        for stream in streams:
            if hasattr(stream, "reconfigure"):  # a notebook's streams cannot
                # A terminal without emoji must not end the run, and a log file must keep the order of the lines.
                stream.reconfigure(errors="replace", line_buffering=True)
        outputs = Outputs(*streams)
        sys.stdout, sys.stderr = streams
        try:
            yield outputs
        finally:
            for stream in streams:
                stream.flush()
            if outputs.out.error is not None and not isinstance(outputs.out.error, BrokenPipeError):
                reason = getattr(outputs.out.error, "strerror", None) or outputs.out.error
                print(f"error: stdout: {reason}; the output is lost", file=outputs.err)
            sys.stdout, sys.stderr = before


def _occupy_standard_handles() -> None:
    """A handle that the shell closed (`>&-`) would go to the next file, which then gets what a terminal should."""
    for handle in (0, 1, 2):
        try:
            os.fstat(handle)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
