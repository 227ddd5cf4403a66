"""The pictures of the benchmark's page: eyes as they were redrawn, beside the true ones."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from vaegaze.evaluation.benchmark_grid import BASE, TRUE, Task
from vaegaze.images.sheets import picture_sheet
from vaegaze.report.benchmark_tables import Cell

SHOWN = 4  # frames of one person
ENLARGED = 4


def sheets(cells: Sequence[Cell], pictures: Path, frames: int) -> dict[str, np.ndarray]:
    """Redirected eyes in columns: base, `selective` with the fewest and with the most images, true.

    Of each person `frames` frames are on file.

    first: frames of the first person; worst: of each person the frame that is drawn worst; worst_person: frames of the
    person whose eyes are drawn worst, enlarged.
    """
    tuned = [cell for cell in cells if cell.strategy == "selective" and cell.seed == 0 and not cell.changed]
    ks = sorted({cell.k for cell in tuned})
    columns = {"base": (BASE, 0)} | {f"k = {k}": ("selective", k) for k in dict.fromkeys(ks[:1] + ks[-1:])}
    columns["true"] = (TRUE, 0)
    judged = [cell for cell in cells if (cell.strategy, cell.k, cell.seed) == (*list(columns.values())[-2], 0)]
    persons = [cell.person for cell in judged]
    worst_person = min(judged, key=lambda cell: cell.numbers["full_eye_psnr"])

    def row(person: str, frame: int, factor: int = 1) -> tuple[str, list[np.ndarray]]:
        shown = []
        for strategy, k in columns.values():
            strip = Image.open(pictures / f"{Task('test', person, strategy, k, 0).name}.png")
            height = strip.height // frames
            eyes = strip.crop((0, frame * height, strip.width, (frame + 1) * height))
            shown.append(np.asarray(eyes.resize((factor * strip.width, factor * height), Image.Resampling.LANCZOS)))
        return f"{person}\nheld out {frame + 1}", shown

    several = range(min(SHOWN, frames))
    around = sorted({worst_person.worst_frame, *several}, key=lambda frame: frame != worst_person.worst_frame)
    return {
        "first": picture_sheet([*columns], [row(persons[0], frame) for frame in several]),
        "worst": picture_sheet([*columns], [row(cell.person, cell.worst_frame) for cell in judged]),
        "worst_person": picture_sheet(
            [*columns], [row(worst_person.person, frame, ENLARGED) for frame in around[:SHOWN]]
        ),
    }
