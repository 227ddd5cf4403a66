"""What a benchmark will cost, told before it begins.

Each benchmark holds what its pieces cost: seconds of one core of a Zen 3 (AVX2), or of both by the clock where its work
shares them.
"""

import sys


def say_beforehand(what: str, seconds: float) -> None:
    """One line on stderr: what will be done, in counts, and about how long that takes."""
    minutes = max(1, round(seconds / 60))
    print(f"{what}: about {minutes} minute{'s' if minutes > 1 else ''} on two cores", file=sys.stderr, flush=True)
