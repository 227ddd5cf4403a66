"""Show what a gaze data set holds, in a few lines and on one sheet of pictures.

    vaegaze inspect FILE_OR_FOLDER [--output PNG]

The sheet shows frames, labels and eye masks as training gets them. Each column holds the frames whose labels look
farthest in one direction, so a wrong sign, wrong colours or a misplaced mask shows at a glance.
"""

import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vaegaze.commands.outputs import refuse_output
from vaegaze.commands.running import run_command
from vaegaze.config.flags import FlagParser
from vaegaze.data import hdf5
from vaegaze.data.facts import PersonFacts, describe_person
from vaegaze.data.hdf5 import PersonData
from vaegaze.data.samples import Samples, gaze_doubt, picture_doubts
from vaegaze.errors import UserError, plain
from vaegaze.files import atomic_path
from vaegaze.geometry.camera import EYE_CENTRES_MM, canvas_camera, gaze_vector
from vaegaze.images.sheets import picture_sheet

SHEETS_FOLDER = Path("./outputs/inspect")
PERSONS_LOOKED_AT, LABELS_LOOKED_AT, PERSONS_SHOWN, PROBLEMS_SHOWN = 24, 100, 6, 3
COLUMNS = ("looks up", "looks down", "looks left", "looks right", "looks ahead")

PICTURE_PX = 256
FINENESS = 2  # pictures are drawn this much larger, then shrunk
ARROW = 0.5  # length of an arrow seen from the side / side of the picture
ARROW_STARTS_MM = np.array([EYE_CENTRES_MM.mean(axis=0), (0, 35, -20)])  # between the eyes; about the tip of the nose
GAZE_COLOUR, HEAD_COLOUR = (255, 225, 0), (90, 200, 255)
MASK_COLOUR, POSE_MASK_COLOUR = (60, 255, 60), (255, 60, 220)  # from the file; from the head pose
ID_LENGTH = 20  # of an id in a caption


@dataclass(frozen=True)
class Findings:
    """What was found in a data set."""

    counts: dict[str, int]  # person id → samples, of every person
    facts: dict[str, PersonFacts]  # of some persons, evenly spread
    shown: dict[str, PersonData]  # frames of fewer persons, one per column of the sheet
    problems: list[str]  # why other persons could not be read


def main(argv: list[str] | None = None) -> int:
    parser = FlagParser(prog="vaegaze inspect", description=(__doc__ or "").partition("\n")[0])
    parser.usage = "%(prog)s FILE_OR_FOLDER [--output PNG] [--overwrite]"
    parser.add_argument("path", metavar="FILE_OR_FOLDER", help="the gaze data set")
    parser.add_argument("--output", metavar="PNG", help=f"the sheet of pictures (default: {SHEETS_FOLDER}/NAME.png)")
    parser.add_argument("--overwrite", action="store_true", help="replace the file of --output")
    return run_command(
        lambda: run(*_arguments(parser, argv)),
        hint="no sheet was written",
        advice={"data_set": "give the path of a gaze data set"},
    )


def _arguments(parser: FlagParser, argv: list[str] | None) -> tuple[str, Path]:
    given, unknown = parser.read(argv)
    if unknown:
        raise UserError("; ".join(unknown))
    if not given["path"]:  # a variable of the shell that is not set: a path would be the working folder
        raise UserError("FILE_OR_FOLDER is empty", about="data_set")
    path = Path(given["path"])
    name = path.resolve().name or "root" if path.is_dir() else path.stem
    output = Path(given["output"] or SHEETS_FOLDER / f"{name}.png")
    if output.suffix.lower() != ".png":
        raise UserError(f"--output: {output} is not a PNG file; give a name that ends in .png")
    if given["output"] is not None:  # what lies in the sheets' own folder is an earlier sheet
        refuse_output(output, "--output", overwrite=given["overwrite"])
    return given["path"], output


def run(path: str, output: Path) -> None:
    findings = look_at(path)
    print("\n".join([plain(path), *report(findings)]))
    sheet = contact_sheet(findings)
    with atomic_path(output) as temporary:
        Image.fromarray(sheet).save(temporary)
    print(f"{'sheet':<11}{plain(str(output))}")


def look_at(path: str) -> Findings:
    """UserError if the data set holds nobody, or if none of the inspected persons has readable labels or frames."""
    counts = hdf5.person_counts(path)
    facts, problems = {}, []
    for person_id in _spread(sorted(person_id for person_id, count in counts.items() if count), PERSONS_LOOKED_AT):
        try:
            facts[person_id] = describe_person(path, person_id, LABELS_LOOKED_AT)
        except UserError as error:
            problems.append(str(error))
    if not facts:
        raise UserError(problems[0])
    shown = {}
    for person_id in _spread(list(facts), PERSONS_SHOWN):
        try:
            shown[person_id] = hdf5.read_person(path, person_id, _farthest(facts[person_id]), canvas_camera(PICTURE_PX))
        except UserError as error:
            problems.append(str(error))
    if not shown:
        raise UserError(problems[-1])
    return Findings(counts, facts, shown, problems)


def _spread(items: Sequence, at_most: int) -> list:
    """At most so many of the items, evenly spread, including the first and the last."""
    return [items[i] for i in hdf5.evenly_spread(len(items), at_most)]


# --- Words ------------------------------------------------------------------------------------------------------------


def report(findings: Findings) -> list[str]:
    """Lines of facts, each preceded by its name."""
    counts = np.array([count for count in findings.counts.values() if count])
    facts = list(findings.facts.values())
    empty = [name for name, count in findings.counts.items() if not count]
    labels = sum(len(fact.rows) for fact in facts)
    gaze, head = (np.concatenate([getattr(fact, name) for fact in facts]) for name in ("gaze", "head"))
    lines = {
        "layout": _each(fact.layout.name for fact in facts),
        "persons": f"{len(counts)}"
        + (f", and {len(empty)} without samples or unreadable: {_some(empty)}" if empty else ""),
        "samples": f"{counts.min()} / {np.median(counts):g} / {counts.max()} per person (min / median / max), "
        f"{counts.sum()} in all",
        "frames": _each(_frame_text(fact) for fact in facts),
        "eye masks": _each(", ".join(fact.mask_keys) or "none in the file: from the head pose" for fact in facts)
        + _pose_text([data for person_id, data in findings.shown.items() if findings.facts[person_id].mask_keys]),
        "gaze": _range_text(gaze),
        "head": _range_text(head),
        "": f"({labels} labels read, persons inspected: {len(facts)}; up and to the picture's left are positive)",
        "chunks": _each(_chunk_text(fact) for fact in facts),
    }
    left_out = [f"row {row} of {name}" for name, fact in findings.facts.items() for row in fact.left_out]
    if left_out:
        lines["⚠️ labels"] = (
            f"{len(left_out)} of {labels + len(left_out)} labels read hold NaN or infinity, such as {left_out[0]}; "
            "training leaves such samples out"
        )
    if doubt := gaze_doubt(gaze, head):
        lines["⚠️ gaze"] = doubt
    doubtful = defaultdict(list)  # the persons by what is doubtful
    for name, data in findings.shown.items():
        for doubt in picture_doubts(data.samples):
            doubtful[doubt].append(plain(name))
    if doubtful:
        lines["⚠️ pictures"] = "; ".join(f"{', '.join(names)}: {doubt}" for doubt, names in doubtful.items())
    problems = findings.problems[:PROBLEMS_SHOWN]
    if len(findings.problems) > len(problems):
        problems.append(f"{len(findings.problems) - len(problems)} more persons cannot be read")
    return [f"{name:<11}{text}" for name, text in lines.items()] + [f"{'problem':<11}{text}" for text in problems]


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(plain, names[:PROBLEMS_SHOWN])) + " …" * (len(names) > PROBLEMS_SHOWN)


def _each(texts) -> str:
    """The text that all persons share, or each text with its number of persons."""
    times = Counter(texts)
    return next(iter(times)) if len(times) == 1 else "; ".join(f"{text} ({n} persons)" for text, n in times.items())


def _frame_text(fact: PersonFacts) -> str:
    height, width = fact.frame_hw
    return f"{width} × {height} px, {fact.pixel_type}, {fact.layout.colour_order}"


def _pose_text(shown: list[PersonData]) -> str:
    """For how many frames on the sheet the file's own masks could not be used; "" if for none."""
    by_pose = np.concatenate([data.mask_by_pose for data in shown]) if shown else np.array([])
    return (
        f"; for {by_pose.sum()} of {len(by_pose)} frames shown, from the head pose (magenta)" if by_pose.any() else ""
    )


def _range_text(angles: np.ndarray) -> str:
    low, high = (np.degrees(edge).round(1) + 0.0 for edge in (angles.min(axis=0), angles.max(axis=0)))  # −0 + 0 is 0
    return f"pitch {low[0]:+.1f} … {high[0]:+.1f}°, yaw {low[1]:+.1f} … {high[1]:+.1f}°"


def _chunk_text(fact: PersonFacts) -> str:
    """The datasets by samples per chunk: reading one sample unpacks its whole chunk."""
    by_size: dict[str, list[str]] = {}
    for key, chunk in fact.chunks.items():
        size = "in one piece" if chunk is None else f"of {chunk[0]} samples (slow)" if chunk[0] > 1 else "of 1 sample"
        by_size.setdefault(size, []).append(key)
    return "; ".join(f"{size}: {', '.join(keys)}" for size, keys in by_size.items())


# --- Pictures ---------------------------------------------------------------------------------------------------------


def contact_sheet(findings: Findings) -> np.ndarray:
    """(H, W, 3) uint8: a row per person, a column per direction of gaze, with gaze, head and eye masks drawn."""
    rows = []
    for person_id, data in findings.shown.items():
        name = person_id if len(person_id) <= ID_LENGTH else f"{person_id[: ID_LENGTH - 1]}…"
        colours = [POSE_MASK_COLOUR if by_pose else MASK_COLOUR for by_pose in data.mask_by_pose]
        pictures = [marked(data.samples, position, colour) for position, colour in enumerate(colours)]
        rows.append((f"{name}\n{findings.counts[person_id]} samples", pictures))
    return picture_sheet(COLUMNS, rows)


def _farthest(facts: PersonFacts) -> np.ndarray:
    """(5,) rows: those that look farthest up, down, left and right, and the one nearest to straight ahead."""
    pitch, yaw = facts.gaze.T
    found = [pitch.argmax(), pitch.argmin(), yaw.argmax(), yaw.argmin(), np.hypot(pitch, yaw).argmin()]
    return facts.rows[found]


def marked(samples: Samples, position: int, mask_colour: tuple[int, int, int] = MASK_COLOUR) -> np.ndarray:
    """One frame (S, S, 3) uint8 with its labels drawn in.

    The gaze is an arrow from between the eyes, the head's direction an arrow from the nose, the eye masks are outlines.
    Pixels that the source does not cover are darkened.
    """
    size_px = PICTURE_PX * FINENESS
    picture, gaze, head = samples.images[position].copy(), samples.gaze[position], samples.head[position]
    picture[~samples.valid[position]] //= 3
    large = Image.fromarray(picture).resize((size_px, size_px), Image.Resampling.BICUBIC)
    outline = Image.fromarray(_outline(samples.eye_masks[position])).resize(large.size, Image.Resampling.NEAREST)
    large.paste(mask_colour, mask=outline)
    pen = ImageDraw.Draw(large)

    between_eyes, nose = canvas_camera(size_px).project(ARROW_STARTS_MM, head)
    _arrow(pen, nose, head, HEAD_COLOUR, size_px)
    _arrow(pen, between_eyes, gaze, GAZE_COLOUR, size_px)

    font = ImageFont.load_default(size=13 * FINENESS)
    strip_px = 20 * FINENESS
    pen.rectangle((0, size_px - strip_px, size_px, size_px), fill="black")
    middle = size_px - strip_px / 2
    for x, anchor, name, angles, colour in (
        (5 * FINENESS, "lm", "gaze", gaze, GAZE_COLOUR),
        (size_px - 5 * FINENESS, "rm", "head", head, HEAD_COLOUR),
    ):
        pitch, yaw = np.degrees(angles).round().astype(int)
        pen.text((x, middle), f"{name} {pitch:+d}° {yaw:+d}°", fill=colour, font=font, anchor=anchor)
    return np.asarray(large.reduce(FINENESS))


def _outline(mask: np.ndarray) -> np.ndarray:
    """(S, S) bool: the pixels of a mask that have a neighbour outside it."""
    padded = np.pad(mask, 1)
    return mask & ~(padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:])


def _arrow(
    pen: ImageDraw.ImageDraw, start: np.ndarray, direction: np.ndarray, colour: tuple[int, int, int], size_px: int
) -> None:
    """Draws a direction (pitch, yaw) from a point, as the camera sees it; straight at the camera it is a dot."""
    along = ARROW * size_px * gaze_vector(direction)[:2]
    length, width = float(np.hypot(*along)), 3 * FINENESS
    pen.ellipse((*(start - width), *(start + width)), fill=colour, outline="black", width=FINENESS)
    if length < 2 * width:
        return
    unit = along / length
    across = np.array([-unit[1], unit[0]])
    end, head_px = start + along, min(5 * width, 0.7 * length)
    shaft = [tuple(start), tuple(end - 0.8 * head_px * unit)]
    tip = [tuple(end), *(tuple(end - head_px * unit + side * 0.45 * head_px * across) for side in (1, -1))]
    pen.line(shaft, fill="black", width=width + 2 * FINENESS)
    pen.polygon(tip, fill=colour, outline="black", width=FINENESS)
    pen.line(shaft, fill=colour, width=width)


if __name__ == "__main__":
    sys.exit(main())
