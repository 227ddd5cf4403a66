"""How sharp the eyes of a picture are."""

import numpy as np
from PIL import Image

from vaegaze.geometry.camera import Camera, eye_circles
from vaegaze.geometry.eye_regions import SQUARE_FACTOR

FACE_PX = 128  # `Camera.face_px` at which it is measured
# Of 60 rendered frames none is below; after a blur of 1.5 px (standard deviation) 45 % are, of 2 px 83 %, of 3 px all;
# see docs/prepare.md.
MIN_SHARPNESS = 0.025


def sharpness(image: np.ndarray, head: np.ndarray, canvas: Camera) -> float:
    """Variance of the Laplacian around an eye, divided by the variance of grey there; of the less sharp eye.

    `image` (H, W, 3) uint8 is a picture on the canvas of a head at (pitch, yaw). The variance of the Laplacian is the
    usual measure of focus (Pech-Pacheco et al., ICPR 2000); divided so, it does not depend on light and contrast. A
    slight smoothing comes first, or noise would pass for sharpness. 0 where all is of one grey.
    """
    scale = FACE_PX / canvas.face_px
    grey = Image.fromarray(image).convert("L")
    size = tuple(max(1, round(scale * side)) for side in grey.size)
    grey = grey if scale == 1 else grey.resize(size, Image.Resampling.BICUBIC)
    grey = np.asarray(grey, dtype=np.float32)
    shares = []
    for x, y, radius in scale * eye_circles(head, canvas):
        half = SQUARE_FACTOR * radius
        top, bottom = _within(y - half, y + half, grey.shape[0])
        left, right = _within(x - half, x + half, grey.shape[1])
        around = grey[top - 2 : bottom + 2, left - 2 : right + 2]
        rows = around[:-2] + 2 * around[1:-1] + around[2:]
        smooth = (rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]) / 16
        inner = smooth[1:-1, 1:-1]
        laplacian = smooth[:-2, 1:-1] + smooth[2:, 1:-1] + smooth[1:-1, :-2] + smooth[1:-1, 2:] - 4 * inner
        shares.append(laplacian.var() / inner.var() if inner.size and inner.var() > 0 else 0.0)
    return float(min(shares))


def laplacian_variance(picture: np.ndarray, where: np.ndarray) -> float:
    """Variance of the Laplacian of grey over the pixels `where` (H, W) bool of a picture (H, W, 3) uint8.

    As it is, noise included: to be compared between pictures of the same scene.
    """
    grey = np.pad(np.asarray(Image.fromarray(picture).convert("L"), dtype=np.float32), 1, mode="edge")
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return float((around - 4 * grey[1:-1, 1:-1])[where].var())


def _within(first: float, last: float, size: int) -> tuple[int, int]:
    """The nearest pixels that leave two on either side."""
    return tuple(int(np.clip(round(edge), 2, max(size - 2, 2))) for edge in (first, last))
