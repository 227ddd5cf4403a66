"""cohort.html: all persons of a cohort on one page, which needs no network and no other file."""

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import quote

from vaegaze.config.tree import Setting
from vaegaze.report.data_uris import data_uri
from vaegaze.report.figures import distribution_svg, in_dark
from vaegaze.report.numbers import GAZE, METRICS, REDIRECTED, Metric
from vaegaze.report.page import settings_by_section
from vaegaze.report.templating import TEMPLATES, render

EXTREMES = 10  # persons shown at either end
RANKED_BY = "eye_l1"
SHOWN = ("eye_l1", "eye_psnr", GAZE, REDIRECTED + GAZE, "ssim")  # in the table and as plots


@dataclass(frozen=True)
class CohortReport:
    """What the page shows. A record is a line of cohort.jsonl."""

    records: Sequence[Mapping[str, Any]]
    total: int  # persons of the cohort, ended or not
    folder_of: Callable[[str], Path]  # a person's run folder, beside the page
    settings: list[tuple[Setting, str, str]]  # each with its value and where that is from
    command: str


@dataclass(frozen=True)
class Distribution:
    """One number of all persons, before and after."""

    key: str
    metric: Metric
    title: str
    before: float  # medians
    after: float
    better: int | None  # persons for whom it became better
    light: str  # data URIs
    dark: str


@dataclass(frozen=True)
class Extreme:
    """A person at one end of the ranking."""

    record: Mapping[str, Any]
    link: str
    picture: str | None  # data URI: the frame, before, after


def page(report: CohortReport) -> str:
    finished = [record for record in report.records if record["status"] == "finished"]
    ranked = [record for record in finished if record["after"].get(RANKED_BY) is not None]
    ranked.sort(key=lambda record: record["after"][RANKED_BY])
    script = (TEMPLATES / "sort.js").read_text(encoding="utf-8")
    return render(
        "cohort.html.j2",
        report=report,
        finished=len(finished),
        failures=[record for record in report.records if record["status"] == "failed"],
        left=report.total - len(report.records),
        seconds=sum(record["seconds"] for record in finished),
        distributions=[each for key in SHOWN if (each := distribution(key, finished)) is not None],
        best=[extreme(record, report.folder_of) for record in ranked[:EXTREMES]],
        worst=[extreme(record, report.folder_of) for record in ranked[::-1][:EXTREMES]],
        ranked_by=METRICS[RANKED_BY].title,
        rows=[(record, link(report.folder_of(record["id"]))) for record in report.records],
        keys={key: title(key) for key in SHOWN if any(key in record["after"] for record in finished)},
        settings=settings_by_section(report.settings),
        script=script,
        script_checksum=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def distribution(key: str, finished: Sequence[Mapping[str, Any]]) -> Distribution | None:
    """None if no person has the number."""
    pairs = [(record["before"].get(key), record["after"].get(key)) for record in finished]
    pairs = [pair for pair in pairs if None not in pair]
    if not pairs:
        return None
    before, after = zip(*pairs)
    metric = METRICS[key.removeprefix(REDIRECTED)]
    sign = {"less": -1, "more": 1, None: 0}[metric.better]
    svg = distribution_svg(before, after)
    light, dark = (data_uri("image/svg+xml", each) for each in (svg, in_dark(svg)))
    better = sum(sign * (last - first) > 0 for first, last in pairs) if sign else None
    return Distribution(key, metric, title(key), median(before), median(after), better, light, dark)


def title(key: str) -> str:
    name = METRICS[key.removeprefix(REDIRECTED)].title
    return f"{name}, redirected" if key.startswith(REDIRECTED) else name


def extreme(record: Mapping[str, Any], folder_of: Callable[[str], Path]) -> Extreme:
    folder = folder_of(record["id"])
    picture = folder / "before_after.jpg"
    uri = data_uri("image/jpeg", picture.read_bytes()) if picture.is_file() else None
    return Extreme(record, link(folder), uri)


def link(folder: Path) -> str:
    """To the person's own report, from beside the folder."""
    return f"{quote(folder.name)}/report.html"
