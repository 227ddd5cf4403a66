"""The benchmark's page: tables and pictures from its measured cells."""

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from vaegaze.files import atomic_path, write_text

BOOTSTRAPS = 2000
BASE = "base"  # in place of a strategy: nothing is trained
AUTOENCODER = "autoencoder"  # the true pictures, only encoded and decoded: an upper bound
CLOSE = 0.05  # of the best: good enough
AIM_DEG = 0.7  # of the shift in what the estimator reads, caused by the autoencoder alone
FEW = (1, 4, 32)  # numbers of images that every strategy is tried with


@dataclass(frozen=True)
class Cell:
    """What was measured of one person, strategy (or BASE, or AUTOENCODER), number of images and seed."""

    split: str
    person: str
    strategy: str
    k: int
    seed: int
    changed: dict[str, float | bool]  # settings other than the report's
    seconds: float
    numbers: dict[str, float | None]
    worst_frame: int | None = None  # held-out frame whose eyes are drawn worst, if it was looked for


COLUMNS = {
    "eye_l1": ("eye L1", "{:.4f}"),
    "eye_psnr": ("eye PSNR", "{:.2f} dB"),
    "ssim": ("SSIM", "{:.4f}"),
    "gaze_error_deg": ("gaze to label", "{:.2f}°"),
    "redirected_eye_psnr": ("redirected: eye PSNR", "{:.2f} dB"),
    "redirected_gaze_error_deg": ("redirected: gaze to label", "{:.2f}°"),
    "redirected_gaze_error_to_target_deg": ("redirected: gaze to true picture's", "{:.2f}°"),
}


def write_report(
    path: Path, cells: Sequence[Cell], settings: dict, estimator_info: dict, sheets: dict[str, np.ndarray]
) -> None:
    """Write `path` in Markdown, and beside it the numbers as .json and the sheets of pictures as .jpg."""
    content = {"settings": settings, "estimator": estimator_info, "cells": [asdict(cell) for cell in cells]}
    write_text(path.with_suffix(".json"), json.dumps(content, indent=1, allow_nan=False) + "\n")
    for name, sheet in sheets.items():
        with atomic_path(path.with_name(f"{path.stem}_{name}.jpg")) as temporary:
            Image.fromarray(sheet).save(temporary, "JPEG", quality=90)

    val = [cell for cell in cells if cell.split == "val"]
    cells = [cell for cell in cells if cell.split == "test"]
    persons = sorted({cell.person for cell in cells})
    shared = [cell for cell in cells if cell.seed == 0]
    strategies = [name for name in dict.fromkeys(cell.strategy for cell in cells) if name not in (BASE, AUTOENCODER)]
    names = ("gaze_error_to_target_deg", "redirected_gaze_error_to_target_deg")
    shifts = [mean([cell for cell in cells if cell.strategy == AUTOENCODER], name) for name in names]
    own = estimator_info["own_error_deg"]
    weights = " / ".join(f"{settings[name]:g}" for name in ("l1_loss", "mask_l1_loss", "vgg_loss"))
    mirrored = "every image in a mirror, too" if settings["mirror"] else "no image in a mirror"
    seconds = [cell.seconds for cell in cells if cell.strategy in strategies]
    by_glasses = ", ".join(f"{name}: {value:.2f}°" for name, value in own.items() if name != "all")
    numbers_file = path.with_suffix(".json").name
    text = f"""# What k images of one person buy

`vaegaze benchmark --grid {settings["grid"]}` wrote this page: the base model fine-tuned on k images of each
of {len(persons)} rendered test persons, measured on 16 frames of that person that were held out of
everything, and on these frames told to look in eight other directions each, against the true pictures.
{settings["num_steps"]} steps in {settings["precision"]}, learning rate {settings["learning_rate"]:g},
{mirrored}; loss weights {weights} (L1, L1 in the eyes, VGG19 with {settings["vgg_weights"]} weights).
Every number is measured; all of them are in [{numbers_file}]({numbers_file}).

Gaze is read off the pasted pictures by an estimator whose own mean error on true pictures is {own["all"]:.2f}°
({by_glasses}); on the true redirected pictures here it is {mean(cells, "redirected_estimator_error_deg"):.2f}°.

## Strategies

{table(strategy_rows(shared, strategies))}

Means over persons, seed 0. *base* is the model before fine-tuning, with a reference frame out of the same k images.
*autoencoder* is no fine-tuning: it is shown the true pictures, and only encodes and decodes them. Nothing that draws
through it can be expected to come nearer. Already by it what the estimator reads shifts by {shifts[0]:.2f}°, in the
redirected pictures by {shifts[1]:.2f}°; at most {AIM_DEG}° were aimed at.

## More images

{table(curve_rows([cell for cell in cells if cell.strategy in (BASE, "selective")]))}

`selective`; means over persons and seeds, ± the standard deviation over them.

## Do more images help?

{table(help_rows(shared, strategies))}

Eye L1 with 32 images less eye L1 with one, per person, with a bootstrap interval of 95 % over persons.

## Settings

{table(settings_rows(val, settings))}

`selective` with 32 images of each of {len({cell.person for cell in val})} val persons, one setting changed at a time:
settings are not chosen by the persons above.

## What follows

Of each setting what was tried, the best first: samples and strategies on the test persons; the others, one changed at a
time, on the val persons. Gaze is that of the redirected pictures against the true ones'.

{follows(cells, strategies, val, settings)}

## Pictures

![Held-out frames of the first person, drawn whole]({path.stem}_first.jpg)

Held-out frames of the first person, drawn whole: true, base with its reference frame, and `selective` with k images.

![Of each person the frame that is drawn worst]({path.stem}_worst.jpg)

Of each person the held-out frame whose eyes `selective` with 32 images draws worst.

## Time

Fine-tuning took {statistics.median(seconds):.0f} s a cell (median), {sum(seconds) / 3600:.1f} h summed over cells, of
which several may have run at once; without the measuring.
"""
    write_text(path, text)


def mean(cells: Sequence[Cell], name: str) -> float:
    return statistics.fmean(cell.numbers[name] for cell in cells)


def table(rows: list[list[str]]) -> str:
    """A Markdown table; the first row is the head."""
    head, *body = rows
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *body])


def strategy_rows(cells: Sequence[Cell], strategies: Sequence[str]) -> list[list[str]]:
    rows = [["", "k", *(title for title, _ in COLUMNS.values()), "eye L1 against base"]]
    for strategy in (AUTOENCODER, BASE, *strategies):
        for k in FEW:
            chosen = [cell for cell in cells if (cell.strategy, cell.k) == (strategy, k)]
            if not chosen:
                continue
            base = mean([cell for cell in cells if (cell.strategy, cell.k) == (BASE, k)], "eye_l1")
            change = f"{100 * (mean(chosen, 'eye_l1') / base - 1):+.0f} %" if strategy != BASE else ""
            values = [form.format(mean(chosen, name)) for name, (_, form) in COLUMNS.items()]
            rows.append([f"`{strategy}`", str(k), *values, change])
    return rows


def curve_rows(cells: Sequence[Cell]) -> list[list[str]]:
    rows = [["k", "", *(title for title, _ in COLUMNS.values())]]
    for k in sorted({cell.k for cell in cells}):
        for strategy in (BASE, "selective"):
            chosen = [cell for cell in cells if (cell.strategy, cell.k) == (strategy, k)]
            values = []
            for name, (_, form) in COLUMNS.items():
                spread = statistics.pstdev(cell.numbers[name] for cell in chosen)
                values.append(f"{form.format(mean(chosen, name))} ± {form.format(spread)}")
            rows.append([str(k), f"`{strategy}`", *values])
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
