"""Pictures drawn or read side by side, in threads: NumPy and Pillow compute outside of Python's lock."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item, Result = TypeVar("Item"), TypeVar("Result")

THREADS = min(4, os.cpu_count() or 1)
AT_ONCE = 4 * THREADS  # begun before the first of them is asked for: results wait in memory


def side_by_side(draw: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """`draw` of each item, in their order."""
    with ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, len(items), AT_ONCE):
            yield from pool.map(draw, items[start : start + AT_ONCE])
