#!/usr/bin/env python
"""Fine-tune a gaze-redirecting face model on one person: the same as `vaegaze train`. See README.md and --help."""

import sys

from vaegaze.__main__ import run_named


def main(argv: list[str] | None = None) -> int:
    return run_named("train", argv, prog="oneshot_training.py")


if __name__ == "__main__":
    sys.exit(main())
