"""Sheets of pictures: the captioned grid in which every command shows them."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

CELL_PX = 192  # least longer side of a picture in a sheet, if none other is asked for
GAP_PX = 4
CAPTION_PX = 24


def picture_sheet(
    columns: Sequence[str], rows: Sequence[tuple[str, Sequence[np.ndarray]]], cell_px: int = CELL_PX
) -> np.ndarray:
    """Pictures (H, W, 3) uint8 of one size in a captioned grid: each row is its caption and one picture per column."""
    height, width = rows[0][1][0].shape[:2]
    factor = -(-cell_px // max(height, width))  # a whole multiple keeps pixels even
    cell_height, cell_width = height * factor, width * factor
    font = ImageFont.load_default(size=15)
    margin = max(int(font.getlength(line)) for caption, _ in rows for line in caption.splitlines()) + 2 * GAP_PX
    sheet_size = margin + len(columns) * (cell_width + GAP_PX), CAPTION_PX + len(rows) * (cell_height + GAP_PX)
    sheet = Image.new("RGB", sheet_size, "white")
    pen = ImageDraw.Draw(sheet)
    for column, caption in enumerate(columns):
        x = margin + column * (cell_width + GAP_PX) + cell_width / 2
        pen.text((x, CAPTION_PX / 2), caption, fill="black", font=font, anchor="mm")
    for row, (caption, pictures) in enumerate(rows):
        y = CAPTION_PX + row * (cell_height + GAP_PX)
        pen.text((GAP_PX, y + cell_height / 2), caption, fill="black", font=font, anchor="lm")
        for column, picture in enumerate(pictures):
            enlarged = Image.fromarray(picture).resize((cell_width, cell_height), Image.Resampling.LANCZOS)
            sheet.paste(enlarged, (margin + column * (cell_width + GAP_PX), y))
    return np.asarray(sheet)
