"""What a run shows: the loss curve, sheets of pictures, the table of numbers."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vaegaze.evaluation import METRICS
from vaegaze.files import atomic_path

CELL_PX = 192  # least side of a picture in a sheet
GAP_PX = 4
CAPTION_PX = 24


def picture_sheet(columns: Sequence[str], rows: Sequence[tuple[str, Sequence[np.ndarray]]]) -> np.ndarray:
    """Pictures (S, S, 3) uint8 in a captioned grid: each row is its caption and one picture per column."""
    side = rows[0][1][0].shape[0]
    cell = side * -(-CELL_PX // side)  # the least whole multiple
    font = ImageFont.load_default(size=15)
    margin = max(int(font.getlength(line)) for caption, _ in rows for line in caption.splitlines()) + 2 * GAP_PX
    width, height = margin + len(columns) * (cell + GAP_PX), CAPTION_PX + len(rows) * (cell + GAP_PX)
    sheet = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(sheet)
    for column, caption in enumerate(columns):
        x = margin + column * (cell + GAP_PX) + cell / 2
        pen.text((x, CAPTION_PX / 2), caption, fill="black", font=font, anchor="mm")
    for row, (caption, pictures) in enumerate(rows):
        y = CAPTION_PX + row * (cell + GAP_PX)
        pen.text((GAP_PX, y + cell / 2), caption, fill="black", font=font, anchor="lm")
        for column, picture in enumerate(pictures):
            enlarged = Image.fromarray(picture).resize((cell, cell), Image.Resampling.LANCZOS)
            sheet.paste(enlarged, (margin + column * (cell + GAP_PX), y))
    return np.asarray(sheet)


def write_loss_curve(
    path: Path, history: list[dict], title: str, names: Sequence[str] = ("loss", "l1", "mask_l1", "vgg")
) -> None:
    """Those of the names that the history has over its steps, for training frames and for held-out ones."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # works without a display; pyplot may not
    from matplotlib.figure import Figure

    names = [name for name in names if any({name, f"held_out_{name}"} & record.keys() for record in history)]
    figure = Figure(figsize=(4.2 * len(names), 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    for axis, name in zip(np.atleast_1d(figure.subplots(1, len(names))), names):
        for key, label, style in ((name, "training", "-"), (f"held_out_{name}", "held out", "o--")):
            points = [(record["step"], record[key]) for record in history if key in record]
            if points:
                axis.plot(*zip(*points), style, label=label, markersize=4)
        axis.set(title=name, xlabel="step", ylim=(0, None))
        axis.grid(alpha=0.3)
        axis.legend()
    figure.suptitle(title, parse_math=False)  # an id may hold a $
    with atomic_path(path) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a title may have letters that the font lacks
        figure.savefig(temporary, dpi=110)


def summary_table(summary: dict) -> str:
    """Before, after and the baselines in columns; at most 60 wide."""
    rows = {"before": summary["before"], "after": summary["after"], **summary["baselines"]}
    lines = [f"{'':<16}" + "".join(f"{name:>10}" for name in METRICS)]
    for name, numbers in rows.items():
        if numbers is not None:
            values = "".join(f"{numbers[m]:>10.2f}" if m == "eye_psnr" else f"{numbers[m]:>10.4f}" for m in METRICS)
            lines.append(f"{name.replace('_', ' '):<16}{values}")
    return "\n".join(lines)
