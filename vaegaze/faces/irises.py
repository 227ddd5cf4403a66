"""Irises and lids on a model's canvas, in the form in which `geometry.irises` puts them into a drawing."""

import numpy as np

from vaegaze.faces import networks
from vaegaze.faces.face import Face
from vaegaze.faces.landmarks import LID_POINTS, read_eyes
from vaegaze.geometry.camera import EYE_CENTRES_MM, Camera
from vaegaze.geometry.iris_search import matched
from vaegaze.geometry.irises import Iris
from vaegaze.geometry.transforms import move, scale_of

BEHIND_MM = (0.0, 0.0, 9.0)  # from between an eye's corners to its ball's middle


def matched_irises(
    picture: np.ndarray, drawn: np.ndarray, head: np.ndarray, gaze: np.ndarray, canvas: Camera,
    own_gaze: np.ndarray | None = None,
) -> list[tuple[Iris, Iris]]:  # fmt: skip
    """Both eyes' irises in a picture on the canvas (H, W, 3) uint8 and in a drawing that looks at `gaze` (2,).

    `own_gaze` (2,) is where the picture looks, if that is known.

    Nothing where landmarks are not installed, or the irises not clear to see: see `iris_search.matched`.
    """
    if not networks.installed():
        return []
    return matched(picture, drawn, *(irises_in(each, head, canvas) for each in (picture, drawn)), gaze, own_gaze)


def irises_in(picture: np.ndarray, head: np.ndarray, canvas: Camera, margin_px: int = 0) -> list[Iris]:
    """Both eyes' irises as landmarks, which must be installed, read them in a picture on the canvas; of a head (2,).

    With `margin_px` the picture's edge is repeated so far around it: what the network sees then lies within, which
    takes half the time.
    """
    margins = [(margin_px, margin_px)] * 2 + [(0, 0)]
    irises, lids, _ = read_eyes(np.pad(picture, margins, "edge"), canvas.project(EYE_CENTRES_MM, head) + margin_px)
    return _irises(irises - [margin_px, margin_px, 0], lids - margin_px, head, canvas)


def irises_of(face: Face, to_canvas: np.ndarray, head: np.ndarray, canvas: Camera) -> list[Iris]:
    """The same, as landmarks read them in a picture that `to_canvas` (2, 3) aligns; `head` (2,) as on the canvas."""
    centres, radii = move(to_canvas, face.irises[:, :2]), face.irises[:, 2:] * scale_of(to_canvas)
    return _irises(np.hstack([centres, radii]), move(to_canvas, face.lids), head, canvas)


def _irises(irises: np.ndarray, lids: np.ndarray, head: np.ndarray, canvas: Camera) -> list[Iris]:
    balls = canvas.project(EYE_CENTRES_MM + np.array(BEHIND_MM), head)
    around = [*range(LID_POINTS // 2 + 1), *range(LID_POINTS - 1, LID_POINTS // 2, -1)]  # below, then back above
    return [
        Iris(iris[:2], float(iris[2]), each[around], ball, canvas.focal_px / canvas.distance_mm)
        for iris, each, ball in zip(irises, lids, balls)
    ]
