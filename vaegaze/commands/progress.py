"""Progress of long work, as a bar in a terminal and as lines elsewhere; and a clean stop on a signal."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from tqdm import tqdm

from vaegaze.errors import Interrupted, on_stop_signals

LINE_INTERVAL_SEC = 5.0
STOPPING = "stopping after the current step; press Ctrl-C again to stop at once without saving\n"


def progress_bar(description: str, total: int | None, initial: int = 0, unit: str = "it") -> tqdm:
    """A tqdm bar on stderr, with the time left if the total is known."""
    if sys.stderr.isatty():
        return tqdm(total=total, initial=initial, desc=description, unit=unit, dynamic_ncols=True)
    return tqdm(
        total=total,
        initial=initial,
        desc=description,
        unit=unit,
        mininterval=LINE_INTERVAL_SEC,
        maxinterval=LINE_INTERVAL_SEC,
        ncols=80,
        ascii=True,
        file=_Lines(),
    )


@contextmanager
def progress_callback(description: str, unit: str = "it") -> Iterator[Callable[[int, int], None]]:
    """A bar as a callable (done, total), for work that knows nothing of terminals. It appears with the first call."""
    bar = None

    def show(done: int, total: int) -> None:
        nonlocal bar
        bar = bar or progress_bar(description, total, unit=unit)
        bar.update(done - bar.n)

    try:
        yield show
    finally:
        if bar is not None:
            bar.close()


class _Lines:
    """A stream for tqdm that writes each state of the bar as a line of its own."""

    def write(self, text: str) -> None:
        if text.strip():
            print(text.strip(), file=sys.stderr)

    def flush(self) -> None:
        sys.stderr.flush()


class StopSignals:
    """Ctrl-C, SIGTERM and SIGHUP only set a flag, which every long loop checks. A second Ctrl-C ends the program."""

    def __init__(self):
        self.received: int | None = None
        on_stop_signals(self._receive)

    def _receive(self, signum: int, frame) -> None:
        if self.received is None:
            line = "\n" * sys.stderr.isatty() + STOPPING  # below the bar
            with suppress(OSError):  # stderr may be closed
                os.write(2, line.encode())  # print is not reentrant, and may be what was interrupted
        self.received = signum
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def check(self) -> None:
        """Raise Interrupted if a signal has come."""
        if self.received is not None:
            raise Interrupted(self.received)
