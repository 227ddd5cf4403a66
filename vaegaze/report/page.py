"""report.html: a run on one page, which needs no network, no script and no other file."""

import math
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vaegaze.config.tree import Setting, show
from vaegaze.report.chart import line_chart
from vaegaze.report.markup import Html, element, table, together
from vaegaze.report.numbers import numbers, shown, verdict, written
from vaegaze.report.pictures import COLUMNS, PictureRow, Sweep
from vaegaze.report.style import CSS

SCRIPT = Path(__file__).parents[2] / "oneshot_training.py"
CURVES = {
    "loss": "the loss: the weighted sum of the others",
    "l1": "L1 over the picture",
    "mask_l1": "L1 over the eye masks",
    "vgg": "difference as VGG19 sees it",
}
HAS_ITS_PLACE = {"person", "before", "after", "baselines", "held_out", "held_out_but_seen_by_base", "evaluated_on",
                 "redirected", "estimator", "parameters", "versions"}  # fmt: skip


@dataclass(frozen=True)
class Report:
    """All that the page tells, as plain data; pictures are data URIs."""

    summary: dict  # as in summary.json
    person: dict  # as in person_info.json
    history: list[dict]  # as in metrics.jsonl
    settings: list[tuple[Setting, str, str]]  # each with its value and where that is from
    settings_file: str | None
    blocks: dict[str, tuple[int, int]]  # trained and all parameters
    first: list[PictureRow]
    worst: list[PictureRow]
    sweep: Sweep
    thumbnails: str  # of the frames that were trained on
    reference: str | None
    photos: list[str]  # before and after, of a photo
    command: str  # that does the run again


def page(report: Report) -> str:
    sections = {
        "Pictures": pictures(report),
        "Worst frames": worst_frames(report),
        "Gaze sweep": gaze_sweep(report.sweep),
        "Numbers": numbers(report.summary),
        "Curves": curves(report.history),
        "Person": person(report),
        "What was trained": trained(report),
        "Settings": settings(report),
        "Run": run(report.summary),
        "Run it again": again(report),
    }
    ids = {title: title.lower().replace(" ", "-") for title in sections}
    links = [element("a", title, href=f"#{ids[title]}") for title in sections]
    parts = [element("section", element("h2", title), *content, id=ids[title]) for title, content in sections.items()]
    body = element(
        "body", header(report.summary), element("nav", *links, aria_label="Sections"), element("main", *parts)
    )
    return f"<!DOCTYPE html>\n{element('html', head(report.summary['person']), body, lang='en')}\n"


def head(name: str) -> Html:
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", f"{name}: vaegaze run"),
        element("link", rel="icon", href="data:,"),  # else a browser asks the server for one
        element("style", Html(CSS)),
    )


# ------------------------------------------------------------------------------------------------------ the sections


def header(summary: dict) -> Html:
    before, after = summary["before"], summary["after"]
    own_error = written("estimator_error_deg", after["estimator_error_deg"]) if summary["estimator"] else ""
    tiles = {
        title: [shown(name, before), " → ", shown(name, after), element("small", better)]
        for name, title, better in (
            ("eye_l1", "Eye L1", "less is better"),
            ("eye_psnr", "Eye PSNR, dB", "more is better"),
            ("gaze_error_deg", "Gaze error, degrees", f"its estimator's own: {own_error}"),
        )
        if name in after
    }
    tiles["Training"] = [f"{summary['steps']:,} steps", element("small", duration(summary["seconds"]))]
    listed = [element("div", element("dt", title), element("dd", *content)) for title, content in tiles.items()]
    return element(
        "header",
        element("p", "vaegaze, one fine-tuning run", class_="faint"),
        element("h1", summary["person"]),
        element("p", verdict(summary)),
        element("dl", *listed, class_="tiles"),
    )


def pictures(report: Report) -> Iterator[Html]:
    yield element("p", f"{which_frames(report.summary)}; below each face its eyes, enlarged.")
    yield from map(picture_row, report.first)
    captions = ("the photo as it was", "with the eyes drawn in")
    yield element("div", *map(figure, report.photos, captions), class_="side")


def which_frames(summary: dict) -> str:
    if summary["held_out"]:
        return "Frames that the training never saw"
    return "Nothing was left to hold out: these are the training frames themselves"


def picture_row(row: PictureRow) -> Html:
    columns = [
        element(
            "div",
            element("b", name),
            element("img", src=face, alt=f"{name}, sample {row.index}"),
            element("img", src=eyes, alt=f"its eyes: {name}"),
        )
        for name, face, eyes in zip(COLUMNS, row.faces, row.eyes)
    ]
    before, after = row.eye_l1
    caption = f"sample {row.index} · gaze {direction(row.gaze_rad)} · eye L1 {before:.4f} → {after:.4f}"
    return element("figure", element("div", *columns, class_="row"), element("figcaption", caption))


def worst_frames(report: Report) -> Iterator[Html]:
    if report.worst:
        yield element("p", f"{which_frames(report.summary)}: the {len(report.worst)} with the largest L1 of the eyes.")
        yield from map(picture_row, report.worst)
    else:
        where = "All frames stand above" if len(report.first) > 1 else "The only frame stands above"
        worst = max(report.first, key=lambda row: row.eye_l1[1])
        yield element("p", f"{where}. The worst is sample {worst.index}: eye L1 {worst.eye_l1[1]:.4f}.")


def gaze_sweep(sweep: Sweep) -> Iterator[Html]:
    words = "One frame told to look around in a circle, pasted"
    words += "; on the right what the renderer draws of the same person." if sweep.with_truth else "."
    still = element("source", media="(prefers-reduced-motion: reduce)", srcset=sweep.still)
    moving = element(
        "img", src=sweep.moving, alt="A face whose eyes look around", width=640 if sweep.with_truth else 320
    )
    yield element("figure", element("picture", still, moving), element("figcaption", words))


def curves(history: list[dict]) -> Iterator[Html]:
    key = [element("span", class_="key line0"), " training: the mean since the point before"]
    if any("held_out_loss" in record for record in history):
        key += [element("br"), element("span", class_="key line1"), " held out: a few frames, at this step"]
    yield element("p", *key)
    charts = []
    for name, words in CURVES.items():
        series = {
            label: [(record["step"], record[key]) for record in history if key in record]
            for label, key in (("training", name), ("held out", f"held_out_{name}"))
        }
        if any(series.values()):
            charts.append(element("figure", line_chart(words, "step", series), element("figcaption", words)))
    yield element("div", *charts, class_="charts")


def person(report: Report) -> Iterator[Html]:
    yield facts(photo_facts(report.person) if report.photos else person_facts(report))
    figures = [figure(report.thumbnails, "frames that were trained on")]
    if report.reference:
        figures.append(figure(report.reference, "the reference frame: from it the model takes the person's looks"))
    yield element("div", *figures, class_="side")
    if not report.reference:
        yield element("p", "No reference frame: with one training image, copying from it would teach nothing.")
    for key, title in (("train_indices", "Samples that were trained on"), ("held_out_indices", "Samples held out")):
        if report.person.get(key):
            listed = ", ".join(map(str, report.person[key]))
            yield element("details", element("summary", title), element("p", listed))


def person_facts(report: Report) -> dict[str, Any]:
    info = report.person
    drawn = next(value == "null" for setting, value, _ in report.settings if setting.name == "person_id")
    held_out = len(info["held_out_indices"])
    return {
        "person": f"{info['person_id']}, {'drawn by the seed' if drawn else 'as asked for'}",
        "data set": info["hdf_path"],
        "layout": f"{info['layout']}; eye masks: {info['mask_source']}",
        "trained on": f"{len(info['train_indices']):,} of {info['total_samples']:,} samples; seed {info['seed']}",
        "held out": f"{held_out:,} of the others" if held_out else "none: the training frames stand for them",
        **{f"gaze, {name}": " … ".join(map(degrees, ends)) for name, ends in info["gaze_range_rad"].items()},
    }


def photo_facts(info: dict) -> dict[str, Any]:
    return {
        "photo": info["image"],
        "eye mask": info["mask"],
        "gaze": direction(info["gaze_rad"]),
        "head": direction(info["head_rad"]),
        "turned by": degrees(info["roll_rad"]),
        "held out": "nothing: the photo stands for it, so the numbers say how well it was learnt",
    }


def trained(report: Report) -> Iterator[Html]:
    some, total = report.summary["parameters"]["trainable"], report.summary["parameters"]["total"]
    words = (
        f"{report.summary['strategy']}: {some:,} of {total:,} parameters. All others are the base model's, bit for bit."
    )
    yield element("p", words)
    rows = [block(name, *counts) for name, counts in {**report.blocks, "all": (some, total)}.items()]
    yield table(["block", "trained", "of", "share"], rows, class_="counts")


def block(name: str, some: int, total: int) -> list[Any]:
    share = 100 * some / total
    bar = element("span", element("i", style=f"width:{share:.1f}%"), class_="bar", aria_hidden="true")
    return [name, f"{some:,}", f"{total:,}", together(f"{share:.1f} %", bar)]


def settings(report: Report) -> Iterator[Html]:
    source = f"The file is {report.settings_file}. " if report.settings_file else ""
    yield element("p", f"{source}Marked is what differs from the defaults.")
    sections: dict[str, list] = {}
    for setting, value, origin in report.settings:
        cell = value if value == show(setting.default) else element("mark", value)
        row = [setting.name, cell, origin, element("small", setting.rules["help"])]
        sections.setdefault(setting.section, []).append(row)
    for section, rows in sections.items():
        yield element("h3", section)
        yield table(["key", "value", "from", "what it is"], rows, class_="settings")


def run(summary: dict) -> Iterator[Html]:
    """Whatever of summary.json has no place of its own, and the versions."""
    rest = {name.replace("_", " "): value for name, value in summary.items() if name not in HAS_ITS_PLACE}
    yield facts({**rest, **{f"{name} version": number for name, number in summary["versions"].items()}})


def again(report: Report) -> Iterator[Html]:
    yield element("pre", element("code", report.command), tabindex=0)
    words = "Type it where this run was started, since paths are as they were typed. It replaces this run; to keep it, "
    yield element("p", f"{words}give another --save_dir in place of --overwrite.")
    if report.summary["device"] == "cpu":
        yield element("p", "On the same machine the result is the same bit for bit.")


# ------------------------------------------------------------------------------------------------------------ pieces


def facts(named: dict[str, Any]) -> Html:
    return table([], [[name, value] for name, value in named.items()], class_="facts")


def figure(uri: str, caption: str) -> Html:
    return element("figure", element("img", src=uri, alt=caption), element("figcaption", caption))


def direction(angles_rad: tuple[float, float]) -> str:
    pitch, yaw = map(degrees, angles_rad)
    return f"pitch {pitch}, yaw {yaw}"


def degrees(angle_rad: float) -> str:
    return f"{math.degrees(angle_rad):+.1f}°".replace("-", "−")


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def command_again(config: Path, threads: int | None) -> str:
    """The command that does a run again by its config.yaml; on the CPU it rounds alike only with as many threads."""
    here = Path.cwd()
    script = SCRIPT.relative_to(here) if SCRIPT.is_relative_to(here) else SCRIPT
    words = ["python", str(script), "--config", str(config), "--overwrite"]
    return (f"OMP_NUM_THREADS={threads} " if threads else "") + shlex.join(words)
