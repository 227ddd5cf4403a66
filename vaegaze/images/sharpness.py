"""How sharp the eyes of a picture are."""

import numpy as np
from PIL import Image

from vaegaze.geometry.eye_regions import SQUARE_FACTOR

SIZE_PX = 128  # side of the canvas on which it is measured
# Of 60 rendered frames none is below, of the same after a blur of 1.5 px (standard deviation) 45 %, of 2 px 83 %, of
# 3 px all; see docs/prepare.md.
MIN_SHARPNESS = 0.025


def sharpness(image: np.ndarray, circles: np.ndarray) -> float:
    """Variance of the Laplacian around an eye, as a share of the variance of grey there; of the less sharp eye.

    `image` (S, S, 3) uint8 is a picture on the canvas, `circles` (2, 3) are those of `geometry.eye_circles`. The
    variance of the Laplacian is the usual measure of focus (Pech-Pacheco et al., ICPR 2000); as a share, it does not
    depend on light and contrast. It is taken after a slight smoothing, without which noise passes for sharpness.
    0 where all is of one grey.
    """
    scale = SIZE_PX / len(image)
    grey = Image.fromarray(image).convert("L")
    grey = grey if scale == 1 else grey.resize((SIZE_PX, SIZE_PX), Image.Resampling.BICUBIC)
    grey = np.asarray(grey, dtype=np.float32)
    shares = []
    for x, y, radius in scale * circles:
        half, last = SQUARE_FACTOR * radius, len(grey) - 2
        top, bottom, left, right = (int(np.clip(round(e), 2, last)) for e in (y - half, y + half, x - half, x + half))
        around = grey[top - 2 : bottom + 2, left - 2 : right + 2]
        rows = around[:-2] + 2 * around[1:-1] + around[2:]
        smooth = (rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]) / 16
        inner = smooth[1:-1, 1:-1]
        laplacian = smooth[:-2, 1:-1] + smooth[2:, 1:-1] + smooth[1:-1, :-2] + smooth[1:-1, 2:] - 4 * inner
        shares.append(laplacian.var() / inner.var() if inner.size and inner.var() > 0 else 0.0)
    return float(min(shares))
