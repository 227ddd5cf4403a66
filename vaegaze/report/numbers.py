"""The metrics of a run: what each is called, what it means, and how it changed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from vaegaze.evaluation.blend_choice import WORST_ESTIMATOR_DEG
from vaegaze.report.formatting import MISSING, number, percent

REDIRECTED = "redirected_"
UNCHANGED = "no change"
GAZE, UNBIASED, GAZE_TO_LABEL = "gaze_error_to_target_deg", "gaze_error_unbiased_deg", "gaze_error_deg"


@dataclass(frozen=True)
class Metric:
    """One number of summary.json."""

    title: str
    meaning: str
    better: str | None = None  # "less", "more", or None where neither is
    unit: str = ""


METRICS = {  # in the order of the page
    "eye_l1": Metric("Eye L1", "mean absolute difference over the eye masks; pictures in [−1, 1]", "less"),
    "eye_psnr": Metric("Eye PSNR", "in dB, over the eye masks", "more", " dB"),
    GAZE: Metric(
        "Gaze error", "an estimator's reading of the result against its reading of the true picture", "less", "°"
    ),
    UNBIASED: Metric(
        "Gaze error to label, unbiased",
        "its reading of the result against the label, less what it misreads this person's true pictures by on average",
        "less",
        "°",
    ),
    GAZE_TO_LABEL: Metric("Gaze error to label", "its reading of the result against the label", "less", "°"),
    "estimator_error_deg": Metric("Estimator's error", "its reading of the true picture against the label", None, "°"),
    "l1": Metric("L1", "mean absolute difference over the whole picture, before pasting", "less"),
    "ssim": Metric("SSIM", "structural similarity over the whole picture, before pasting", "more"),
    "lpips": Metric("LPIPS", "perceptual distance by AlexNet; needs its weights in PyTorch's cache", "less"),
    "outside_mask": Metric("Outside the mask", "largest difference that pasting made there, of 255; must be 0"),
}


@dataclass(frozen=True)
class Row:
    """One metric of several models or methods."""

    key: str  # in summary.json
    metric: Metric
    values: list[float | None]  # a column each
    change: str  # from the first column to the second, with its sign and two standard errors
    share: str  # the same in percent
    verdict: str  # "better", "worse", "unclear", or empty


def withheld_gaze(summary: dict) -> str | None:
    """Why the gaze numbers of a photo are not shown; None where they are.

    One picture has no other to average over, so an estimator that misreads the true one says nothing of the drawn ones.
    """
    error_deg = summary["after"].get("estimator_error_deg")
    if summary["held_out"] or error_deg is None or error_deg <= WORST_ESTIMATOR_DEG:
        return None
    return (
        f"Gaze numbers are withheld: the estimator misreads the true picture by {error_deg:.1f}°, more than "
        f"{WORST_ESTIMATOR_DEG:g}°, so it cannot tell how well the eyes are turned"
    )


def legible(summary: dict) -> dict:
    """The summary without gaze numbers, if they are withheld."""
    if withheld_gaze(summary) is None:
        return summary
    columns = {name: summary[name] for name in ("before", "after")} | summary["baselines"]
    kept = {
        name: numbers and {key: value for key, value in numbers.items() if not key.endswith("_deg")}
        for name, numbers in columns.items()
    }
    baselines = {name: kept[name] for name in summary["baselines"]}
    return summary | {"before": kept["before"], "after": kept["after"], "baselines": baselines}


def rows(
    columns: Iterable[dict[str, float | None] | None], prefix: str = "", errors: Mapping[str, float] = {}
) -> list[Row]:
    """The metrics of the first two columns, before and after, whose key has the prefix (or is not redirected).

    Other columns are baselines; `errors` are two standard errors of the change. A metric without any value is left out.
    """
    before, after, *others = (column or {} for column in columns)
    keys = [key for key in after if key.startswith(REDIRECTED) == bool(prefix)]
    order = [prefix + name for name in METRICS]
    keys.sort(key=lambda key: order.index(key) if key in order else len(order))
    made = []
    for key in keys:
        name = key.removeprefix(prefix)
        metric = METRICS.get(name, Metric(name.replace("_", " "), ""))
        values = [column.get(key) for column in (before, after, *others)]
        if all(value is None for value in values):
            continue
        made.append(Row(key, metric, values, *changed(key, *values[:2], metric.better, errors.get(key))))
    return made


def changed(
    key: str, before: float | None, after: float | None, better: str | None, error: float | None = None
) -> tuple[str, str, str]:
    """The difference, the same in percent, and whether it is "better" or "worse", or "unclear": within `error`."""
    if before is None or after is None:
        return MISSING, MISSING, ""
    if after == before:
        return UNCHANGED, UNCHANGED, ""
    verdict = "" if better is None else "better" if (after < before) == (better == "less") else "worse"
    if verdict and error is not None and abs(after - before) <= error:
        verdict = "unclear"
    change = number(after - before, key, signed=True) + (f" ± {number(error, key)}" if error is not None else "")
    return change, percent(after / before - 1) if before else MISSING, verdict


def headlines(summary: dict) -> list[tuple[Row, Row | None]]:
    """What heads the page: likeness, gaze, gaze of redirected frames; each with the number beside it."""
    before_after = summary["before"], summary["after"]
    errors = summary["two_standard_errors"]
    found = {row.key: row for prefix in ("", REDIRECTED) for row in rows(before_after, prefix, errors)}
    pairs = (
        ("eye_l1", "eye_psnr"),
        (GAZE, UNBIASED if UNBIASED in found else GAZE_TO_LABEL),
        (REDIRECTED + GAZE, REDIRECTED + (UNBIASED if REDIRECTED + UNBIASED in found else GAZE_TO_LABEL)),
    )
    return [(found[key], found.get(beside)) for key, beside in pairs if key in found]


def verdict(summary: dict, *, of_a_photo: bool = False) -> list[str]:
    """What fine-tuning did for likeness and gaze, a sentence each."""
    after, held_out = summary["after"], summary["held_out"]
    plural = "" if held_out == 1 else "s"
    trained = "On the photo itself" if of_a_photo else "On the training frames themselves"
    where = f"On {held_out} held-out frame{plural}" if held_out else trained
    sentences = [f"{where}, eye L1 {_went(summary, 'eye_l1')}."]
    baselines = [numbers["eye_l1"] for numbers in summary["baselines"].values() if numbers is not None]
    if baselines:
        better = "better than" if after["eye_l1"] < min(baselines) else "no better than"
        best = number(min(baselines), "eye_l1")
        sentences.append(f"That is {better} pasting the person's own eyes from other frames ({best}).")
    for key, what in (
        (REDIRECTED + GAZE, "redirected frames"),
        (GAZE, "the photo" if of_a_photo else "the same frames"),
    ):
        if key in after:
            sentences.append(f"The gaze error of {what} {_went(summary, key, '°')}.")
            break
    if summary["held_out_but_seen_by_base"]:
        count = summary["held_out_but_seen_by_base"]
        sentences.append(f"The base model was trained on {count} of these frames, so the numbers are too good.")
    return sentences


def _went(summary: dict, key: str, unit: str = "") -> str:
    before, after = (summary[column][key] for column in ("before", "after"))
    first, last = number(before, key) + unit, number(after, key) + unit
    if first == last:
        return f"stayed at {first}"
    unclear = (
        ", no more than chance explains" if abs(after - before) <= summary["two_standard_errors"].get(key, 0) else ""
    )
    return f"{'fell' if after < before else 'rose'} from {first} to {last}{unclear}"
