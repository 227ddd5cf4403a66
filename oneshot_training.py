#!/usr/bin/env python
"""Fine-tune a gaze-redirecting face model on one person; see README.md and --help."""

import logging
import signal
import sys

from vaegaze.config import UserError, parse_command


def main(argv: list[str] | None = None) -> int:
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # until the run has its own way to stop
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a notebook's has not
            # a terminal without emoji must not end the run, and a log file keeps the order of what was said
            stream.reconfigure(errors="replace", line_buffering=True)
    try:
        command = parse_command(argv)
        if command.debug:
            logging.basicConfig(level=logging.DEBUG, format="%(levelname)s %(name)s: %(message)s")
            logging.getLogger("matplotlib").setLevel(logging.INFO)  # it tells of every font

        from vaegaze import oneshot  # with torch, which --help and mistakes need not wait for

        return oneshot.main(command)
    except UserError as error:
        logging.getLogger(__name__).debug("what led to the error", exc_info=True)
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
