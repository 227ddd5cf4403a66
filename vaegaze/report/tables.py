"""Tables of numbers for the terminal."""

from vaegaze.evaluation.metrics import METRICS
from vaegaze.report.numbers import legible, withheld_gaze

ESTIMATOR_ERRORS = ("estimator_error_deg", "redirected_estimator_error_deg")
SECOND_LINE = ("lpips", "outside_mask", "gaze_error_deg")
COLUMNS = {**{metric: metric for metric in METRICS}, "gaze_error_to_target_deg": "gaze°"}


def summary_table(summary: dict) -> str:
    """Before, after and the baselines, a row each; then the same for redirected frames. At most 60 characters wide."""
    withheld, summary = withheld_gaze(summary), legible(summary)
    rows = {name: summary[name] for name in ("before", "after")}
    if summary["two_standard_errors"]:
        rows["2 SE of change"] = summary["two_standard_errors"]
    lines = numbers_table(rows | summary["baselines"], "")
    redirected = numbers_table(rows, "redirected_")
    if redirected:
        lines += ["told to look elsewhere, against the true pictures:", *redirected]
    about_gaze = [withheld] if withheld else estimator_lines(summary["after"], summary["estimator"])
    return "\n".join([*lines, *about_gaze])


def estimator_lines(numbers: dict, info: dict | None) -> list[str]:
    """The gaze estimator's own error: on these true pictures, and on test persons."""
    if info is None:
        return []
    here = [f"{numbers[key]:.2f}°" for key in ESTIMATOR_ERRORS if key in numbers]
    own = [f"{name} {error:.2f}°" for name, error in info["own_error_deg"].items()]
    return [f"the estimator's own error on these: {', '.join(here)}", f"  on test persons: {', '.join(own)}"]


def numbers_table(rows: dict[str, dict | None], prefix: str) -> list[str]:
    """A head and the rows that have numbers, whose names begin with the prefix; empty if no row has any."""
    columns = [name for name in COLUMNS if any(numbers and prefix + name in numbers for numbers in rows.values())]
    if not columns:
        return []
    lines = [f"{'':<15}" + "".join(f"{COLUMNS[name]:>9}" for name in columns)]
    for name, numbers in rows.items():
        if numbers is not None:
            cells = [_cell(numbers.get(prefix + column), column) for column in columns]
            lines.append(f"{name.replace('_', ' '):<15}" + "".join(f"{cell:>9}" for cell in cells))
    return lines


def second_line(numbers: dict, prefix: str) -> list[str]:
    """The numbers for which the table has no room, in one line with their names."""
    names = [name for name in SECOND_LINE if prefix + name in numbers]
    return ["  ".join(f"{name} {_cell(numbers[prefix + name], name)}" for name in names)] if names else []


def _cell(value: float | None, column: str) -> str:
    if value is None:
        return "–"
    digits = 0 if column == "outside_mask" else 2 if column.endswith(("psnr", "deg")) else 4
    return f"{value:.{digits}f}"
