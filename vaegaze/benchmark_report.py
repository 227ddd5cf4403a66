"""The benchmark's tables and picture, out of its measured cells."""

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from vaegaze.files import atomic_path, write_text
from vaegaze.reporting import picture_sheet

BOOTSTRAPS = 2000


@dataclass(frozen=True)
class Cell:
    """What was measured of one person, strategy ("base": not fine-tuned), number of images and seed."""

    person: str
    strategy: str
    k: int
    seed: int
    seconds: float
    numbers: dict[str, float | None]


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
    path: Path, cells: Sequence[Cell], settings: dict, estimator_info: dict, pictures: dict[str, np.ndarray]
) -> None:
    """`path` in Markdown, beside it the same as .json and the picture as .png."""
    content = {"settings": settings, "estimator": estimator_info, "cells": [asdict(cell) for cell in cells]}
    write_text(path.with_suffix(".json"), json.dumps(content, indent=1, allow_nan=False) + "\n")
    side = next(iter(pictures.values())).shape[1]
    count = next(iter(pictures.values())).shape[0] // side
    rows = [
        (f"held out {i + 1}", [picture[i * side : (i + 1) * side] for picture in pictures.values()])
        for i in range(count)
    ]
    picture_path = path.with_suffix(".png")
    with atomic_path(picture_path) as temporary:
        Image.fromarray(picture_sheet(tuple(pictures), rows)).save(temporary)

    persons = sorted({cell.person for cell in cells})
    shared = [cell for cell in cells if cell.seed == 0]
    strategies = [name for name in dict.fromkeys(cell.strategy for cell in cells) if name != "base"]
    own = estimator_info["own_error_deg"]
    weights = " / ".join(f"{settings[name]:g}" for name in ("l1_loss", "mask_l1_loss", "vgg_loss"))
    by_glasses = ", ".join(f"{name}: {value:.2f}°" for name, value in own.items() if name != "all")
    numbers_file = path.with_suffix(".json").name
    text = f"""# What k images of one person buy

`python -m vaegaze.benchmark --grid {settings["grid"]}` wrote this page: the base model fine-tuned on k images of each
of {len(persons)} rendered {settings["split"]} persons, measured on 16 frames of that person that were held out of
everything, and on these frames told to look in eight other directions each, against the true pictures.
{settings["num_steps"]} steps, learning rate {settings["learning_rate"]:g}, loss weights {weights} (VGG19:
{settings["vgg_weights"]}). Every number is measured; all of them are in [{numbers_file}]({numbers_file}).

Gaze is read off the pasted pictures by an estimator whose own mean error on true pictures is {own["all"]:.2f}°
({by_glasses}); on the true redirected pictures here it is {mean(cells, "redirected_estimator_error_deg"):.2f}°.

## Strategies

{table(strategy_rows(shared, strategies))}

Means over persons, seed 0. *base* is the model before fine-tuning, with a reference frame out of the same k images.

## More images

{table(curve_rows([cell for cell in cells if cell.strategy in ("base", "selective")]))}

`selective`; means over persons and seeds, ± the standard deviation over them.

## Do more images help?

{table(help_rows(shared, strategies))}

Eye L1 with 32 images less eye L1 with one, per person, with a bootstrap interval of 95 % over persons.

![Held-out frames of the first person, drawn whole]({picture_path.name})

Held-out frames of the first person, drawn whole: true, base with its reference frame, and `selective` with k images.

## Time

Fine-tuning took {statistics.median([cell.seconds for cell in cells if cell.strategy != "base"]):.0f} s a cell (median),
{sum(cell.seconds for cell in cells) / 3600:.1f} h in all, without the measuring.
"""
    write_text(path, text)


def mean(cells: Sequence[Cell], name: str) -> float:
    return statistics.fmean(cell.numbers[name] for cell in cells)


def table(rows: list[list[str]]) -> str:
    """A Markdown table; the first row is its head."""
    head, *body = rows
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *body])


def strategy_rows(cells: Sequence[Cell], strategies: Sequence[str]) -> list[list[str]]:
    rows = [["", "k", *(title for title, _ in COLUMNS.values()), "eye L1 against base"]]
    for strategy in ("base", *strategies):
        for k in (1, 4, 32):
            chosen = [cell for cell in cells if (cell.strategy, cell.k) == (strategy, k)]
            if not chosen:
                continue
            base = mean([cell for cell in cells if (cell.strategy, cell.k) == ("base", k)], "eye_l1")
            change = f"{100 * (mean(chosen, 'eye_l1') / base - 1):+.0f} %" if strategy != "base" else ""
            values = [form.format(mean(chosen, name)) for name, (_, form) in COLUMNS.items()]
            rows.append([f"`{strategy}`", str(k), *values, change])
    return rows


def curve_rows(cells: Sequence[Cell]) -> list[list[str]]:
    rows = [["k", "", *(title for title, _ in COLUMNS.values())]]
    for k in sorted({cell.k for cell in cells}):
        for strategy in ("base", "selective"):
            chosen = [cell for cell in cells if (cell.strategy, cell.k) == (strategy, k)]
            values = []
            for name, (_, form) in COLUMNS.items():
                spread = statistics.pstdev(cell.numbers[name] for cell in chosen)
                values.append(f"{form.format(mean(chosen, name))} ± {form.format(spread)}")
            rows.append([str(k), f"`{strategy}`", *values])
    return rows


def help_rows(cells: Sequence[Cell], strategies: Sequence[str]) -> list[list[str]]:
    rows = [["", "mean difference", "95 % interval", "persons for whom 32 images are better"]]
    for strategy in strategies:
        by_key = {(cell.k, cell.person): cell.numbers["eye_l1"] for cell in cells if cell.strategy == strategy}
        persons = sorted({person for k, person in by_key if (32, person) in by_key and (1, person) in by_key})
        differences = np.array([by_key[32, person] - by_key[1, person] for person in persons])
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
