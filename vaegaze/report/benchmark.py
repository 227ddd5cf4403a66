"""The benchmark's page: tables and pictures from its measured cells."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from PIL import Image

from vaegaze.evaluation.benchmark_grid import AUTOENCODER, FEW, TRUE, UNTRAINED
from vaegaze.files import atomic_path, write_text
from vaegaze.report.benchmark_pictures import ENLARGED, sheets
from vaegaze.report.benchmark_tables import (
    GAZE,
    Cell,
    canvas_rows,
    curve_rows,
    follows,
    full_rows,
    glasses_rows,
    help_rows,
    mean,
    person_rows,
    settings_rows,
    table,
)

SHEETS = ("first", "worst", "worst_person")
HEADING = "# What k images of one person buy"
PEERS = "benchmark_peers.md"  # what `benchmarks.peers` writes


def written(path: Path) -> list[tuple[Path, str]]:
    """The texts that `write_report` writes, and how each begins."""
    return [(path, HEADING), (path.with_suffix(".json"), '{\n "settings": ')]


def pictures_beside(path: Path) -> list[Path]:
    """The sheets that it writes as well."""
    return [path.with_name(f"{path.stem}_{name}.jpg") for name in SHEETS]


def write_report(path: Path, cells: Sequence[Cell], settings: dict, estimator_info: dict, pictures: Path) -> None:
    """Write `path` in Markdown, and beside it the numbers as .json and sheets of the cells' pictures."""
    content = {"settings": settings, "estimator": estimator_info, "cells": [asdict(cell) for cell in cells]}
    write_text(path.with_suffix(".json"), json.dumps(content, indent=1, allow_nan=False) + "\n")
    tested = [cell for cell in cells if cell.split == "test"]
    drawn = sheets(tested, pictures, settings["held_out"])
    for name, picture in zip(SHEETS, pictures_beside(path)):
        sheet = drawn[name]
        with atomic_path(picture) as temporary:
            Image.fromarray(sheet).save(temporary, "JPEG", quality=90)

    val = [cell for cell in cells if cell.split == "val"]
    parts = [introduction(tested, settings, path), full_size(tested, estimator_info), on_the_canvas(tested)]
    if path.with_name(PEERS).is_file():
        parts.append(f"\nSimpler ways of redirecting, on the same persons and frames: [{PEERS}]({PEERS}).")
    parts += [*more_images(tested), *one_setting_at_a_time(tested, val, settings)]
    write_text(path, "\n".join([*parts, shown(path), time_taken(tested)]))


def introduction(cells: Sequence[Cell], settings: dict, path: Path) -> str:
    persons = {cell.person: cell.glasses for cell in cells}
    weights = " / ".join(f"{settings[name]:g}" for name in ("l1_loss", "mask_l1_loss", "vgg_loss"))
    mirrored = "every image in a mirror, too" if settings["mirror"] else "no image in a mirror"
    numbers_file = path.with_suffix(".json").name
    face_px = settings["face_px"]
    return f"""{HEADING}

`vaegaze benchmark --grid {settings["grid"]}` wrote this page: the base model fine-tuned on k images of each
of {len(persons)} rendered test persons ({sum(persons.values())} with glasses), on whom nothing was trained or chosen.
Measured are {settings["held_out"]} other frames of each, made to look in {settings["gazes"]} other directions, against
the true pictures. {settings["num_steps"]} steps in {settings["precision"]}, learning rate
{settings["learning_rate"]:g}, {mirrored}; loss weights {weights} (L1, L1 in the eyes, VGG19 with
{settings["vgg_weights"]} weights). Every number is measured; all of them are in [{numbers_file}]({numbers_file}).

## In the picture that a user gets

The frames are {face_px} × {face_px} px. The model draws on its own canvas, the code that pastes into a user's picture
puts the result into the frame, and there it is judged, in the part of the picture that depends on the gaze."""


def full_size(cells: Sequence[Cell], estimator_info: dict) -> str:
    own = estimator_info["own_error_deg"]
    by_glasses = ", ".join(f"{name}: {value:.2f}°" for name, value in own.items() if name != "all")
    shift = mean([cell for cell in cells if cell.strategy == AUTOENCODER], GAZE)
    true = [cell for cell in cells if cell.strategy == TRUE]
    travels = ("full_travel_pitch", "full_travel_yaw")
    pitch, yaw = (mean(true, name) for name in travels)
    true_error = mean(true, "full_estimator_error_deg")
    pitch_spread, yaw_spread = (statistics.pstdev(cell.numbers[name] for cell in true) for name in travels)
    return f"""
{table(full_rows([cell for cell in cells if cell.seed == 0]))}

Means over persons. *true* is the true pictures themselves: what the measures read off these is their own error.
*autoencoder* is shown the true pictures, and only encodes and decodes them: nothing that draws through it can be
expected to come nearer. *base* is the model before fine-tuning, each frame its own reference.

- **Gaze** is an estimator's reading of the result against its reading of the true picture; beside it, against the
  label, with the mean error by which it misreads this person's true pictures taken off. Its own mean error is
  {own["all"]:.2f}° on test persons ({by_glasses}), and {true_error:.2f}° on the true pictures
  here. Already the autoencoder shifts its reading by {shift:.2f}°. *Above base, at most*: of the person for whom it is
  worst.
- **Iris travel** needs no estimator: how far the irises move per told degree, as a share of the true way. An iris is
  found by the outline along which the picture changes most from dark to bright. On the true pictures this reads
  {pitch:.3f} ± {pitch_spread:.3f} (pitch) and {yaw:.3f} ± {yaw_spread:.3f} (yaw; standard deviation over persons).
  *Offset* is the mean distance of an iris from its true place, in hundredths of the distance between the eyes.
- **Sharpness** is the variance of the Laplacian, result / true (median over eyes). **ΔE** (CIE 1976) is between the
  median colours of the white of the eye, and of the skin around it; 2.3 is just noticeable. **Edge** is the mean
  gradient across the mask's border, result / true: above 1 the border shows.
- How far the lids are open is not measured.

{table(glasses_rows([cell for cell in cells if cell.seed == 0]))}

Person by person:

{table(person_rows([cell for cell in cells if cell.seed == 0]))}"""


def on_the_canvas(cells: Sequence[Cell]) -> str:
    return f"""
## On the model's canvas

{table(canvas_rows([cell for cell in cells if cell.seed == 0]))}

The same frames as the model sees and draws them, in the model's own mask; gaze is read off the drawings pasted there.
The first four columns are of the frames as they are, which *base* copies, since each is its own reference there; the
others are of the redirected ones."""


def more_images(cells: Sequence[Cell]) -> list[str]:
    """Sections on the number of images, if there are several seeds, and on whether more help."""
    tuned = [cell for cell in cells if cell.strategy not in UNTRAINED]
    selective = [cell for cell in tuned if cell.strategy == "selective"]
    sections = []
    if len({cell.seed for cell in selective}) > 1:
        sections.append(f"""
## More images

{table(curve_rows(selective))}

`selective`; means over persons and seeds, ± the standard deviation over them.""")
    if {FEW[0], FEW[-1]} <= {cell.k for cell in selective}:
        strategies = list(dict.fromkeys(cell.strategy for cell in tuned))
        sections.append(f"""
## Do more images help?

{table(help_rows([cell for cell in cells if cell.seed == 0], strategies))}

Eye L1 on the canvas with {FEW[-1]} images less eye L1 with one, per person, with a bootstrap interval of 95 % over
persons.""")
    return sections


def one_setting_at_a_time(cells: Sequence[Cell], val: Sequence[Cell], settings: dict) -> list[str]:
    """Sections on the settings tried on val persons, if any were."""
    if not val:
        return []
    strategies = list(dict.fromkeys(cell.strategy for cell in cells if cell.strategy not in UNTRAINED))
    return [
        f"""
## Settings

{table(settings_rows(val, settings))}

`selective` with 32 images of each of {len({cell.person for cell in val})} val persons, one setting changed at a time:
settings are not chosen by the persons above.

## What follows

Of each setting what was tried, the best first: samples and strategies on the test persons; the others, one changed at a
time, on the val persons. Gaze is that of the redirected pictures against the true ones'.

{follows(cells, strategies, val, settings)}"""
    ]


def shown(path: Path) -> str:
    first, worst, person = (f"{path.stem}_{name}.jpg" for name in SHEETS)
    return f"""
## Pictures

Eyes of held-out frames told to look elsewhere, as pasted: base, `selective` with the fewest and with the most images,
and the true picture.

![Frames of the first person]({first})

Of each person the frame that `selective` with the most images draws worst:

![Of each person the frame that is drawn worst]({worst})

The person who is drawn worst, enlarged {ENLARGED} times: [{person}]({person})."""


def time_taken(cells: Sequence[Cell]) -> str:
    seconds = [cell.seconds for cell in cells if cell.strategy not in UNTRAINED]
    if not seconds:
        return ""
    return f"""
## Time

Fine-tuning took {statistics.median(seconds):.0f} s a cell (median), {sum(seconds) / 3600:.1f} h summed over cells, of
which several may have run at once; without the measuring.
"""
