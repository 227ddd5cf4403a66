"""The tables of the benchmark's page."""

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from vaegaze.evaluation.benchmark_grid import AUTOENCODER, BASE, FEW, TRUE, UNTRAINED
from vaegaze.report.formatting import MISSING

BOOTSTRAPS = 2000
CLOSE = 0.05  # of the best: good enough
GAZE = "full_gaze_error_to_target_deg"


@dataclass(frozen=True)
class Cell:
    """What was measured of one person, strategy (or one of UNTRAINED), number of images and seed."""

    split: str
    person: str
    strategy: str
    k: int
    seed: int
    changed: dict[str, float | bool]  # settings other than the report's
    seconds: float
    numbers: dict[str, float | None]
    worst_frame: int | None = None  # held-out frame whose eyes are redrawn worst
    glasses: bool = False


FULL_COLUMNS = {
    "full_eye_psnr": ("eye PSNR", "{:.2f} dB"),
    "full_eye_l1": ("eye L1", "{:.4f}"),
    "full_sharpness": ("sharpness", "{:.2f}"),
    GAZE: ("gaze to true picture's", "{:.2f}°"),
    "full_gaze_error_unbiased_deg": ("gaze to label, unbiased", "{:.2f}°"),
    "full_travel_pitch": ("iris travel, pitch", "{:.3f}"),
    "full_travel_yaw": ("yaw", "{:.3f}"),
    "full_iris_offset": ("iris offset", "{:.2f} %"),
    "full_sclera_shift": ("white ΔE", "{:.1f}"),
    "full_skin_shift": ("skin ΔE", "{:.1f}"),
    "full_edge": ("edge", "{:.2f}"),
}
COLUMNS = {
    "eye_l1": ("eye L1", "{:.4f}"),
    "eye_psnr": ("eye PSNR", "{:.2f} dB"),
    "ssim": ("SSIM", "{:.4f}"),
    "gaze_error_to_target_deg": ("gaze to true picture's", "{:.2f}°"),
    "redirected_eye_psnr": ("redirected: eye PSNR", "{:.2f} dB"),
    "redirected_gaze_error_to_target_deg": ("redirected: gaze to true picture's", "{:.2f}°"),
    "redirected_gaze_error_unbiased_deg": ("redirected: gaze to label, unbiased", "{:.2f}°"),
}
GROUP_COLUMNS = {name: FULL_COLUMNS[name] for name in ("full_eye_psnr", "full_sharpness", GAZE)}


def shown(cells: Sequence[Cell], name: str, form: str) -> str:
    """The mean of a number, or a dash where a cell has none."""
    values = [cell.numbers.get(name) for cell in cells]
    return MISSING if None in values or not values else form.format(statistics.fmean(values))


def groups_of(cells: Sequence[Cell]) -> dict[tuple[str, int], list[Cell]]:
    """The cells by strategy and number of images: the untrained first, then by strategy, fewer images first."""
    order = [*UNTRAINED, *dict.fromkeys(cell.strategy for cell in cells if cell.strategy not in UNTRAINED)]
    keys = sorted({(order.index(cell.strategy), cell.k) for cell in cells})
    return {
        (order[place], k): [cell for cell in cells if (cell.strategy, cell.k) == (order[place], k)] for place, k in keys
    }


def name_of(strategy: str, k: int) -> str:
    return f"`{strategy}`, k = {k}" if k else f"`{strategy}`"


def full_rows(cells: Sequence[Cell]) -> list[list[str]]:
    """Means over persons of the numbers at the frames' own size."""
    groups = groups_of(cells)
    base = {cell.person: cell.numbers for cell in groups.get((BASE, 0), [])}
    rows = [["", *(title for title, _ in FULL_COLUMNS.values()), "eye L1 against base", "gaze above base, at most"]]
    for (strategy, k), chosen in groups.items():
        values = [shown(chosen, name, form) for name, (_, form) in FULL_COLUMNS.items()]
        if strategy == TRUE:
            values[0] = MISSING  # no number: nothing differs
        against = ["", ""]
        if base and strategy not in UNTRAINED:
            base_l1 = statistics.fmean(numbers["full_eye_l1"] for numbers in base.values())
            worse = max(cell.numbers[GAZE] - base[cell.person][GAZE] for cell in chosen)
            against = [f"{100 * (mean(chosen, 'full_eye_l1') / base_l1 - 1):+.0f} %", f"{worse:+.2f}°"]
        rows.append([name_of(strategy, k), *values, *against])
    return rows


def glasses_rows(cells: Sequence[Cell]) -> list[list[str]]:
    """The persons without and with glasses, each by themselves."""
    groups = groups_of(cells)
    kinds = {"without": False, "with glasses": True}
    rows = [["", *(f"{title}, {kind}" for title, _ in GROUP_COLUMNS.values() for kind in kinds)]]
    for (strategy, k), chosen in groups.items():
        if strategy in (TRUE, AUTOENCODER):
            continue
        values = [
            shown([cell for cell in chosen if cell.glasses == glasses], name, form)
            for name, (_, form) in GROUP_COLUMNS.items()
            for glasses in kinds.values()
        ]
        rows.append([name_of(strategy, k), *values])
    return rows


def person_rows(cells: Sequence[Cell]) -> list[list[str]]:
    """Each person by itself: base, and `selective` with the most images."""
    groups = groups_of(cells)
    chosen = {(BASE, 0): groups[BASE, 0]}
    ks = [k for strategy, k in groups if strategy == "selective"]
    if ks:
        chosen["selective", max(ks)] = groups["selective", max(ks)]
    names = ("full_eye_psnr", "full_sharpness", GAZE, "full_travel_pitch", "full_travel_yaw")
    rows = [["", *(f"{FULL_COLUMNS[name][0]}: {name_of(*key)}" for name in names for key in chosen)]]
    for person in dict.fromkeys(cell.person for cell in cells):
        row = [person]
        for name in names:
            for group in chosen.values():
                row.append(shown([cell for cell in group if cell.person == person], name, FULL_COLUMNS[name][1]))
        rows.append(row)
    return rows


def mean(cells: Sequence[Cell], name: str) -> float:
    return statistics.fmean(cell.numbers[name] for cell in cells)


def table(rows: list[list[str]]) -> str:
    """A Markdown table; the first row is the head."""
    head, *body = rows
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *body])


def canvas_rows(cells: Sequence[Cell]) -> list[list[str]]:
    """Means over persons of the numbers on the model's canvas."""
    groups = groups_of(cells)
    rows = [["", *(title for title, _ in COLUMNS.values())]]
    for (strategy, k), chosen in groups.items():
        if strategy == TRUE:
            continue
        rows.append([name_of(strategy, k), *(shown(chosen, name, form) for name, (_, form) in COLUMNS.items())])
    return rows


def curve_rows(cells: Sequence[Cell]) -> list[list[str]]:
    """`selective` by the number of images, over persons and seeds."""
    names = FULL_COLUMNS | COLUMNS
    rows = [["k", *(title for title, _ in names.values())]]
    for k in sorted({cell.k for cell in cells}):
        chosen = [cell for cell in cells if cell.k == k]
        values = []
        for name, (_, form) in names.items():
            spread = form.format(statistics.pstdev(cell.numbers[name] for cell in chosen))
            values.append(f"{shown(chosen, name, form)} ± {spread}")
        rows.append([str(k), *values])
    return rows


def settings_rows(cells: Sequence[Cell], settings: dict) -> list[list[str]]:
    rows = [["", *(title for title, _ in COLUMNS.values())]]
    for name, chosen in by_setting(cells, settings).items():
        rows.append([name, *(form.format(mean(chosen, key)) for key, (_, form) in COLUMNS.items())])
    return rows


def by_setting(cells: Sequence[Cell], settings: dict) -> dict[str, list[Cell]]:
    as_above = f"as above ({settings['num_steps']} steps, learning rate {settings['learning_rate']:g})"
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        changed = ", ".join(f"`{name}` {json.dumps(value)}" for name, value in cell.changed.items())
        groups.setdefault("`base`" if cell.strategy == BASE else changed or as_above, []).append(cell)
    return groups


def follows(cells: Sequence[Cell], strategies: Sequence[str], val: Sequence[Cell], settings: dict) -> str:
    """What the numbers say about each setting, as a Markdown list; strategies are compared at seed 0."""
    ks = sorted({cell.k for cell in cells if cell.strategy == "selective"})
    by_k = {k: [cell for cell in cells if (cell.strategy, cell.k) == ("selective", k)] for k in ks}
    eye_l1 = {k: mean(chosen, "eye_l1") for k, chosen in by_k.items()}
    enough = next(k for k in eye_l1 if eye_l1[k] <= (1 + CLOSE) * min(eye_l1.values()))
    by_strategy = {
        f"`{name}`": [cell for cell in cells if (cell.strategy, cell.k, cell.seed) == (name, FEW[-1], 0)]
        for name in strategies
    }
    seconds = sorted((statistics.median(cell.seconds for cell in group), name) for name, group in by_strategy.items())
    lines = [
        f"- **Samples**, with `selective`: {best_first({f'k = {k}': chosen for k, chosen in by_k.items()})};",
        f"  from k = {enough} on, eye L1 is within {100 * CLOSE:.0f} % of the best.",
        f"- **Strategy**, with k = {FEW[-1]}: {best_first(by_strategy)};",
        f"  seconds {', '.join(f'{each:.0f} with {name}' for each, name in seconds)}.",
    ]
    tuned = [cell for cell in val if cell.strategy == "selective"]
    for name in dict.fromkeys(name for cell in tuned for name in cell.changed):
        groups = {json.dumps(settings[name]): [cell for cell in tuned if not cell.changed]}
        for cell in tuned:
            if name in cell.changed:
                groups.setdefault(json.dumps(cell.changed[name]), []).append(cell)
        lines.append(f"- **`{name}`**: {best_first({value: group for value, group in groups.items() if group})}.")
    return "\n".join(lines)


def best_first(groups: dict[str, list[Cell]]) -> str:
    """Each group's means of eyes and gaze, the best first, in two lines."""
    lists = []
    for name, title in (("eye_l1", "eye L1"), ("redirected_gaze_error_to_target_deg", "gaze")):
        means = sorted((mean(group, name), what) for what, group in groups.items())
        lists.append(f"{title} " + ", ".join(f"{COLUMNS[name][1].format(value)} with {what}" for value, what in means))
    return ";\n  ".join(lists)


def help_rows(cells: Sequence[Cell], strategies: Sequence[str]) -> list[list[str]]:
    one, many = FEW[0], FEW[-1]
    rows = [["", "mean difference", "95 % interval", f"persons for whom {many} images are better"]]
    for strategy in strategies:
        by_key = {(cell.k, cell.person): cell.numbers["eye_l1"] for cell in cells if cell.strategy == strategy}
        persons = sorted({person for _, person in by_key if {(one, person), (many, person)} <= by_key.keys()})
        differences = np.array([by_key[many, person] - by_key[one, person] for person in persons])
        low, high = interval(differences, np.mean)
        better = f"{int((differences < 0).sum())} of {len(differences)}"
        rows.append([f"`{strategy}`", f"{differences.mean():+.4f}", f"{low:+.4f} … {high:+.4f}", better])
    return rows


def interval(values: np.ndarray, statistic: Callable[[np.ndarray], float]) -> tuple[float, float]:
    """The 95 % bootstrap interval of a statistic of independent values."""
    rng = np.random.default_rng(0)
    drawn = [statistic(values[rng.integers(len(values), size=len(values))]) for _ in range(BOOTSTRAPS)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(low), float(high)
