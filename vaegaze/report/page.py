"""report.html: one run on one page that needs no network, no script and no other file."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vaegaze.config.tree import Setting, show
from vaegaze.report.data_uris import data_uri
from vaegaze.report.figures import in_dark, loss_curve_svg, points, recorded
from vaegaze.report.formatting import degrees, direction
from vaegaze.report.numbers import REDIRECTED, headlines, legible, rows, verdict, withheld_gaze
from vaegaze.report.pictures import COLUMNS, PictureRow, Sweep
from vaegaze.report.templating import render

SCRIPT = Path(__file__).parents[2] / "oneshot_training.py"  # missing where the package is installed
CURVES = {
    "loss": "Loss: the weighted sum of its terms",
    "l1": "L1 over the picture",
    "mask_l1": "L1 over the eye masks",
    "vgg": "Perceptual difference (VGG19)",
}
SHOWN_ELSEWHERE = {"person", "before", "after", "baselines", "held_out", "held_out_but_seen_by_base", "evaluated_on",
                   "redirected", "estimator", "parameters", "versions", "two_standard_errors"}  # fmt: skip


@dataclass(frozen=True)
class Report:
    """What the page shows, as plain data; pictures are data URIs."""

    summary: dict  # as in summary.json
    person: dict  # as in person_info.json
    history: list[dict]  # as in metrics.jsonl
    settings: list[tuple[Setting, str, str]]  # each with its value and where that is from
    settings_file: str | None
    blocks: dict[str, tuple[int, int]]  # trained parameters and all parameters
    first: list[PictureRow]
    worst: list[PictureRow]
    sweep: Sweep
    thumbnails: str  # of the frames that were trained on
    references: str | None
    photos: list[str]  # before and after, of a photo
    command: str  # repeats the run


@dataclass(frozen=True)
class Curve:
    title: str
    words: str  # first and last values, for a reader who cannot see the picture
    has_held_out: bool
    light: str  # data URIs
    dark: str


def page(report: Report) -> str:
    withheld, summary = withheld_gaze(report.summary), legible(report.summary)
    before_after = {name: summary[name] for name in ("before", "after")}
    columns, errors = {**before_after, **summary["baselines"]}, summary["two_standard_errors"]
    return render(
        "report.html.j2",
        report=report,
        summary=summary,
        verdict=verdict(summary, of_a_photo=bool(report.photos)) + ([f"{withheld}."] if withheld else []),
        headlines=headlines(summary),
        picture_columns=COLUMNS,
        columns=list(columns),
        numbers=rows(columns.values(), errors=errors),
        redirected_numbers=rows(before_after.values(), REDIRECTED, errors),
        curves=[curve(report.history, name) for name in recorded(report.history)],
        person=photo_facts(report.person) if report.photos else person_facts(report),
        settings=settings_by_section(report.settings),
        run=run_facts(summary),
        blend=summary.get("blend", {}),
        best=summary.get("keep_best"),
    )


def curve(history: list[dict], name: str) -> Curve:
    series = {label: points(history, key) for label, key in (("training", name), ("held out", f"held_out_{name}"))}
    words = ", ".join(f"{label} from {each[0][1]:.4g} to {each[-1][1]:.4g}" for label, each in series.items() if each)
    svg = loss_curve_svg(history, name)
    light, dark = (data_uri("image/svg+xml", each) for each in (svg, in_dark(svg)))
    return Curve(CURVES[name], words, bool(series["held out"]), light, dark)


def person_facts(report: Report) -> dict[str, Any]:
    info = report.person
    drawn = next(value == "null" for setting, value, _ in report.settings if setting.name == "person_id")
    held_out = len(info["held_out_indices"])
    return {
        "person": info["person_id"],
        "chosen": f"at random, seed {info['seed']}" if drawn else "by person_id",
        "data set": info["hdf_path"],
        "layout": f"{info['layout']}; eye masks: {info['mask_source']}",
        "trained on": f"{len(info['train_indices']):,} of {info['total_samples']:,} samples (seed {info['seed']})",
        "held out": f"{held_out:,} of the others" if held_out else "none; measured on the training frames",
        **{f"gaze, {name}": " … ".join(map(degrees, ends)) for name, ends in info["gaze_range_rad"].items()},
    }


def photo_facts(info: dict) -> dict[str, Any]:
    return {
        "photo": info["image"],
        "eye mask": info["mask"],
        "gaze": direction(info["gaze_rad"]),
        "head": direction(info["head_rad"]),
        "turned by": degrees(info["roll_rad"]),
        "held out": "nothing; measured on the photo itself, so the numbers say how well it was learnt",
    }


def settings_by_section(settings: list[tuple[Setting, str, str]]) -> dict[str, list[dict]]:
    sections: dict[str, list] = {}
    for setting, value, origin in settings:
        row = {"name": setting.name, "value": value, "changed": value != show(setting.default), "origin": origin}
        sections.setdefault(setting.section, []).append(row | {"help": setting.rules["help"]})
    return sections


def run_facts(summary: dict) -> dict[str, Any]:
    """What summary.json holds beside the numbers, and the versions; a nested mapping gives a fact for each entry."""
    facts: dict[str, Any] = {}
    for key, value in summary.items():
        name = key.replace("_", " ")
        if key in SHOWN_ELSEWHERE:
            continue
        if isinstance(value, dict):
            facts |= {f"{name} {each.replace('_', ' ')}": what for each, what in value.items() if each != "curve"}
        else:
            facts[name] = value
    return {**facts, **{f"{name} version": version for name, version in summary["versions"].items()}}


def command_again(config: Path, threads: int | None) -> str:
    """The command that repeats a run from its config.yaml. On the CPU, equal rounding needs as many threads."""
    here = Path.cwd()
    script = SCRIPT.relative_to(here) if SCRIPT.is_relative_to(here) else SCRIPT
    program = ["python", str(script)] if SCRIPT.is_file() else ["vaegaze", "train"]
    words = shlex.join([*program, "--config", str(config), "--overwrite"])
    return f"OMP_NUM_THREADS={threads} {words}" if threads else words
