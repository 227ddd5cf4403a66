"""Kills, failing system calls and hostile files: see `python -m benchmarks.torture --help`."""
