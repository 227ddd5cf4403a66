#!/usr/bin/env python
"""Fine-tune a gaze-redirecting face model on one person: the same as `vaegaze train`. See README.md and --help."""

import sys

from vaegaze.commands.train import main

if __name__ == "__main__":
    sys.exit(main(prog="oneshot_training.py"))
