"""The smallest circle around points."""

import math
from collections.abc import Sequence
from itertools import combinations
from operator import itemgetter


def enclosing_circle(points: Sequence[tuple[float, float]]) -> tuple[float, float, float]:
    """The smallest circle (x, y, radius) around points (x, y), at least one, exactly.

    Starts from one point and adds the farthest one outside until none is left. Each time, the smallest circle around
    the (at most four) points at hand passes through that point and one or two others, and it grows: so the loop ends.
    """
    # Plain numbers, since arrays of four would take ten times as long.
    across = min(points, key=itemgetter(0)), max(points, key=itemgetter(0))  # most often an eye's corners, and enough
    circle = _circle_through(*across)
    if max(_distances(points, circle)) <= circle[2] + 1e-9:
        return circle
    support = points[:1]
    circle = (*support[0], 0.0)
    while True:
        distances, radius = _distances(points, circle), circle[2]
        largest = max(distances)
        if largest <= radius + 1e-9:
            return circle
        farthest = points[distances.index(largest)]
        at_hand = [*support, farthest]
        chosen_ones = [(*others, farthest) for count in (1, 2) for others in combinations(support, count)]
        candidates = [(_circle_through(*chosen), chosen) for chosen in chosen_ones]
        enclosing = [
            (circle, chosen) for circle, chosen in candidates if max(_distances(at_hand, circle)) <= circle[2] + 1e-9
        ]
        circle, support = min(enclosing, key=lambda candidate: candidate[0][2])


def _distances(points: Sequence[tuple[float, float]], circle: tuple[float, float, float]) -> list[float]:
    """From the circle's centre."""
    x, y, _ = circle
    return [math.sqrt((u - x) * (u - x) + (v - y) * (v - y)) for u, v in points]


def _circle_through(
    a: tuple[float, float], b: tuple[float, float], c: tuple[float, float] | None = None
) -> tuple[float, float, float]:
    """The smallest circle through two or three points; infinite for three in a line."""
    bx, by = b[0] - a[0], b[1] - a[1]
    if c is None:
        x, y = bx / 2, by / 2
    else:
        cx, cy = c[0] - a[0], c[1] - a[1]
        determinant = 2 * (bx * cy - by * cx)
        if determinant == 0:
            return *a, math.inf
        b_squared, c_squared = bx * bx + by * by, cx * cx + cy * cy
        x = (cy * b_squared - by * c_squared) / determinant
        y = (bx * c_squared - cx * b_squared) / determinant
    return a[0] + x, a[1] + y, math.hypot(x, y)
