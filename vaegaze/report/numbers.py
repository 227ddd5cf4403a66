"""The report's numbers: before, after and the baselines in tables, and what they come to in words."""

from collections.abc import Iterator

from vaegaze.report.markup import Html, element, table, together

MEANINGS = {  # what each number is, and whether more of it (1) or less of it (−1) is better; 0 where neither is
    "l1": ("mean absolute difference over the picture; pictures in [−1, 1]", -1),
    "eye_l1": ("the same over the eye masks", -1),
    "eye_psnr": ("in dB over the eye masks", 1),
    "ssim": ("likeness over the whole picture, before pasting", 1),
    "lpips": ("with AlexNet's ImageNet weights, where PyTorch's cache has them", -1),
    "outside_mask": ("the largest difference that pasting made outside the eye masks, of 255: must be 0", 0),
    "gaze_error_deg": ("what an estimator reads off the pasted result, against the label", -1),
    "gaze_error_to_target_deg": ("the same against what it reads off the true frame", -1),
    "estimator_error_deg": ("what it reads off the true frame against the label: its own error", 0),
}
REDIRECTED = "redirected_"


def verdict(summary: dict) -> str:
    """What the run bought, in words: against the base model, and against what pasting reaches."""
    before, after = summary["before"]["eye_l1"], summary["after"]["eye_l1"]
    went = "fell" if after < before else "rose" if after > before else "stayed as it was,"
    share = f" ({100 * (after / before - 1):+.0f} %)".replace("-", "−") if before else ""
    words = [f"On {summary['evaluated_on']}, the L1 of the eyes {went} from {before:.4f} to {after:.4f}{share}."]
    baselines = [numbers["eye_l1"] for numbers in summary["baselines"].values() if numbers is not None]
    if baselines:
        better = "less than" if after < min(baselines) else "no better than"
        words.append(f"That is {better} the best that pasting the person's own eyes reaches, {min(baselines):.4f}.")
    if summary["held_out_but_seen_by_base"]:
        count = summary["held_out_but_seen_by_base"]
        words.append(f"The base model had been trained on {count} of these frames: the numbers flatter.")
    return " ".join(words)


def numbers(summary: dict) -> Iterator[Html]:
    yield element("p", f"Measured on {summary['evaluated_on']}.")
    columns = {"before": summary["before"], "after": summary["after"], **summary["baselines"]}
    if any(summary["baselines"].values()):
        words = "the mean of the person's eyes, or those of the reference frame, put into the true picture"
        yield element("p", f"Mean eye patch and reference eyes are what pasting reaches: {words}.")
    yield numbers_table(columns, [name for name in summary["after"] if not name.startswith(REDIRECTED)])
    redirected = [name for name in summary["after"] if name.startswith(REDIRECTED)]
    if redirected:
        yield element("h3", "Told to look elsewhere")
        yield element("p", f"Against {summary['redirected']} true pictures, which the renderer drew.")
        yield numbers_table({name: columns[name] for name in ("before", "after")}, redirected)
    if summary["estimator"]:
        own = [f"{name} {error:.2f}°" for name, error in summary["estimator"]["own_error_deg"].items()]
        path = summary["estimator"]["path"]
        yield element("p", f"The gaze estimator, {path}, is itself wrong on test persons: {', '.join(own)}.")


def numbers_table(columns: dict[str, dict | None], names: list[str]) -> Html:
    """A row per number; behind before and after, which come first, the change."""
    rows = []
    for name in names:
        bare = name.removeprefix(REDIRECTED)
        meaning, sign = MEANINGS.get(bare, ("", 0))
        cells = [shown(name, numbers or {}) for numbers in columns.values()]
        cells.insert(2, changed(name, columns["before"].get(name), columns["after"].get(name), sign))
        rows.append([together(bare, element("small", meaning)), *cells])
    before, after, *baselines = (name.replace("_", " ") for name in columns)
    return table(["number", before, after, "change", *baselines], rows, class_="numbers")


def shown(name: str, numbers: dict[str, float | None]) -> Html:
    """The number to be read, and in full for whatever reads the page."""
    value = numbers.get(name)
    return Html("–") if value is None else element("data", written(name, value), value=value)


def changed(name: str, before: float | None, after: float | None, sign: int) -> Html:
    """By how much, and in words whether to the better."""
    if before is None or after is None:
        return Html("–")
    if after == before:
        return Html("none")
    difference = written(name, after - before, "+")
    if not sign:
        return Html(difference)
    word = "better" if (after - before) * sign > 0 else "worse"
    return together(difference, element("small", word, class_=word))


def written(name: str, value: float, sign: str = "") -> str:
    form = "g" if name.endswith("outside_mask") else ".2f" if name.endswith(("psnr", "deg")) else ".4f"
    return f"{value:{sign}{form}}".replace("-", "−")
