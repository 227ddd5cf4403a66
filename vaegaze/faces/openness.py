"""How open eyes are, by the upright edges of the iris, which shut lids lack."""

import numpy as np
from PIL import Image, ImageFilter

from vaegaze.faces.face import around
from vaegaze.geometry.transforms import similarity, warp

EYE_DISTANCE_PX = 100  # in the view that is measured; an eye is 42 px wide there
WIDTH_PX, HEIGHT_PX = 34, 20  # of the window around an eye's centre: within its corners, little higher than the iris
MARGIN_PX = 3  # around the windows, for the blur
BLUR_PX = 0.7
CLOSED_BELOW = 0.48  # 94 % of rendered open eyes lie above, 95 % of shut ones below


def eye_openness(picture: np.ndarray, eyes: np.ndarray) -> np.ndarray:
    """How open the eyes at (2, 2) = x, y are in a picture (H, W, 3) uint8: (2,), about 0.9 if open, 0.35 if shut.

    The contrast along the line through both eyes, divided by the contrast across it: an iris has edges on all sides,
    shut lids only above and below their line. Light and colours cancel out; the person and a look far down have some
    influence.
    """
    height, width = HEIGHT_PX + 2 * MARGIN_PX, WIDTH_PX + 2 * MARGIN_PX
    first = np.array([width, height]) / 2
    corner, near = around(picture, eyes, reach=0.5)
    to_view = similarity(eyes - corner, first + np.array([[0, 0], [EYE_DISTANCE_PX, 0]]))
    view, _ = warp(np.asarray(Image.fromarray(near).convert("L")), to_view, height, width + EYE_DISTANCE_PX)
    down, along = np.gradient(np.asarray(Image.fromarray(view).filter(ImageFilter.GaussianBlur(BLUR_PX)), np.float32))
    rows = slice(MARGIN_PX, MARGIN_PX + HEIGHT_PX)
    windows = [(rows, slice(x, x + WIDTH_PX)) for x in (MARGIN_PX, MARGIN_PX + EYE_DISTANCE_PX)]
    return np.array([np.sqrt((along[each] ** 2).mean() / max((down[each] ** 2).mean(), 1e-6)) for each in windows])
