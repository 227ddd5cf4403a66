"""The pictures of a run: what is where in them."""

import numpy as np
import pytest

from vaegaze.images.sheets import CAPTION_PX, GAP_PX
from vaegaze.runs.pictures import BEFORE_AFTER, before_after


@pytest.mark.parametrize("frames", [1, BEFORE_AFTER, BEFORE_AFTER + 2])
def test_eyes_as_they_are_before_and_after(frames, rendered_samples):
    """A row of each, a column for each of the first few frames; and the eyes alone, which lie beside each other."""
    some, columns = rendered_samples.take(slice(frames)), min(frames, BEFORE_AFTER)
    sheet = before_after(some, np.zeros_like(some.images), np.full_like(some.images, 255))
    height = (sheet.shape[0] - CAPTION_PX) // 3 - GAP_PX
    tops = [CAPTION_PX + row * (height + GAP_PX) for row in range(3)]
    own, before, after = (sheet[top : top + height, -height * columns :].mean() for top in tops)
    assert before < own - 20 and after > own + 20
    shown = sheet[tops[1] : tops[1] + height]
    captioned = int((shown == 255).all(axis=(0, 2)).sum())  # gaps, and beside the captions
    assert (sheet.shape[1] - captioned) / columns > 1.5 * height
