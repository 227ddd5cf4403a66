"""What became of each frame of a redirected video: a few lines to print, and a table beside the video."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from vaegaze.errors import UserError, plain
from vaegaze.redirecting.fading import Fate

REPORT_SUFFIX = ".frames.csv"
COLUMNS = ["time_sec", "strength", "why"]
BEGINS = ",".join(COLUMNS)
NAMED = 5  # stretches of time named for each reason; the table has all
TOGETHER_SEC = 0.5  # frames of one reason closer than this are one stretch


def reason_lines(fates: Sequence[Fate]) -> list[str]:
    """For each reason, how many frames it left alone or changed less, and when."""
    by_reason: dict[str, list[float]] = {}
    for fate in fates:
        if fate.why is not None:
            what = fate.why if fate.left_alone else f"{fate.why} (in part)"
            by_reason.setdefault(what, []).append(fate.time_sec)
    lines = []
    for what, times in sorted(by_reason.items(), key=lambda item: (-len(item[1]), item[0])):
        named = [f"{first:.2f}–{last:.2f} s" if last > first else f"{first:.2f} s" for first, last in stretches(times)]
        lines.append(f"{len(times):>5}  {what}: {', '.join(named[:NAMED])}{', …' if len(named) > NAMED else ''}")
    return lines


def stretches(times: Sequence[float]) -> list[tuple[float, float]]:
    """First and last of the rising times in each stretch."""
    found: list[tuple[float, float]] = []
    for time_sec in times:
        if found and time_sec - found[-1][1] < TOGETHER_SEC:
            found[-1] = found[-1][0], time_sec
        else:
            found.append((time_sec, time_sec))
    return found


def report_text(fates: Sequence[Fate]) -> str:
    """The table: a line for each frame."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for fate in fates:
        writer.writerow([f"{fate.time_sec:.3f}", f"{fate.strength:.3f}", fate.why or ""])
    return text.getvalue()


def read_report(path: Path) -> list[Fate]:
    """The fates in a table. UserError if it is damaged."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return [Fate(float(row["time_sec"]), float(row["strength"]), plain(row["why"]) or None) for row in rows]
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise UserError(f"{path} is a damaged table of a redirected video's frames ({error}); move it away") from error
