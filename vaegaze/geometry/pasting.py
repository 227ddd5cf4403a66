"""The soft paste: drawn eyes put back over the true ones, on the canvas, in a photo or in a video's frame.

Alpha is 0 outside the eyes' mask and rises inside it, so that pixels outside stay exactly as they were.
"""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from vaegaze.geometry.camera import LIDS, Camera
from vaegaze.geometry.detail import Moves, with_detail
from vaegaze.geometry.eye_regions import depth_within, regions_in_photo
from vaegaze.geometry.irises import Iris, opening, with_irises
from vaegaze.geometry.transforms import inverse, scale_of, to_crop, warp

FEATHER_OF_FACE = 1 / 64  # width of the soft edge / `Camera.face_px`: 2.4 mm of the face
LEAST_GRAIN = 0.3  # levels; less is not worth adding
MEDIAN_OF_NORMAL = 0.6745  # of |x|, for x of standard deviation 1
# Around a mask in the shape of an eye, in halves of the distance between a frontal eye's corners:
FEATHER_OF_EYE = 0.25  # width of the soft edge
RING_OF_EYE, SPREAD_OF_EYE = 0.4, 0.6  # width of the ring of skin; sigma with which its difference spreads inwards


def feather_px(canvas: Camera) -> float:
    """How wide the soft edge is on the canvas."""
    return FEATHER_OF_EYE * canvas.eye_radius_px if canvas.eye_masks == LIDS else FEATHER_OF_FACE * canvas.face_px


def match_surroundings(
    drawn: np.ndarray, pictures: np.ndarray, masks: np.ndarray, valid: np.ndarray, canvas: Camera
) -> np.ndarray:
    """Drawings (N, H, W, 3) uint8 whose broad colours agree with the pictures around the masks; squares' stay as drawn.

    See `surroundings_correction`.
    """
    correction = surroundings_correction(drawn, pictures, masks, valid, canvas)
    return drawn if correction is None else corrected(drawn, correction)


def surroundings_correction(
    drawn: np.ndarray, pictures: np.ndarray, masks: np.ndarray, valid: np.ndarray, canvas: Camera
) -> np.ndarray | None:
    """What to add to drawings (N, H, W, 3) uint8 so that their broad colours agree with the pictures around the masks.

    A drawing covers the skin around the mask, too. Its difference from the picture there, on a ring of `valid` pixels
    (N, H, W), spreads into the mask (N, H, W) by normalised convolution (Knutsson and Westin 1993). None for squares.
    """
    if canvas.eye_masks != LIDS:
        return None
    radius = canvas.eye_radius_px
    ring = (~masks & valid & (inward_alpha(~masks, RING_OF_EYE * radius) < 1))[..., None].astype(np.float32)
    difference = (pictures.astype(np.float32) - drawn) * ring
    rows, columns = (_gaussian_matrix(side, SPREAD_OF_EYE * radius) for side in canvas.shape)
    parts = np.concatenate([difference, ring], axis=-1).transpose(1, 0, 3, 2)  # (H, N, 4, W): two products do for all
    down = np.tensordot(rows, parts, 1)
    spread = (down.reshape(-1, canvas.width_px) @ columns).reshape(parts.shape).transpose(1, 0, 3, 2)
    total, weight = spread[..., :3], spread[..., 3:]
    return np.divide(total, weight, out=np.zeros_like(total), where=weight > 1e-9)


def corrected(drawn: np.ndarray, correction: np.ndarray) -> np.ndarray:
    """uint8 drawings with what is to be added."""
    return np.rint((drawn + correction).clip(0, 255)).astype(np.uint8)


def _gaussian_matrix(side: int, sigma: float) -> np.ndarray:
    """(side, side) float32: row i weighs all pixels by their distance from pixel i."""
    distance = np.subtract.outer(np.arange(side), np.arange(side))
    return np.exp(-0.5 * (distance / sigma) ** 2).astype(np.float32)


def paste_on_canvas(
    drawn: np.ndarray, pictures: np.ndarray, masks: np.ndarray, canvas: Camera, valid: np.ndarray | None = None
) -> np.ndarray:
    """Drawings (N, H, W, 3) uint8 over pictures of the same shape, inside masks (N, H, W) bool.

    `valid` (N, H, W) bool: where the pictures show something; None means everywhere.
    """
    drawn = match_surroundings(drawn, pictures, masks, np.ones_like(masks) if valid is None else valid, canvas)
    alpha = inward_alpha(masks, feather_px(canvas))
    return _blend(pictures, drawn, alpha[..., None])


def paste_in_mask(
    picture: np.ndarray,
    mask: np.ndarray,
    drawn: np.ndarray,
    to_canvas: np.ndarray,
    canvas: Camera,
    moves: Sequence[Moves] = (),
    irises: Sequence[tuple[Iris, Iris]] = (),
) -> np.ndarray:
    """A drawing on the canvas over a picture (H, W, C) uint8, inside its mask (H, W) bool; an alpha channel stays.

    `to_canvas` (2, 3) aligns the picture. The drawing becomes grey where the picture is. `moves` say where each part of
    the drawing has its detail from (see `detail.find_moves`), `irises` where the picture's own go (see `iris_search`).
    """
    pasted = picture.copy()
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    top, left = max(rows[0] - 1, 0), max(columns[0] - 1, 0)  # one pixel of margin, so that the mask's edge is seen
    window = (slice(top, rows[-1] + 2), slice(left, columns[-1] + 2))
    mask, colours = mask[window], 3 if picture.shape[-1] >= 3 else 1

    to_window = to_crop(inverse(to_canvas), left, top)
    above, covered = warp(drawn, to_window, *mask.shape)
    photo = np.ascontiguousarray(np.broadcast_to(picture[window][..., :colours], above.shape))
    above = with_irises(above, photo, to_window, irises, with_detail(above, photo, to_window, moves))
    if colours == 1:
        above = np.asarray(Image.fromarray(above).convert("L"))[..., None]
    alpha = inward_alpha(mask, feather_px(canvas) * scale_of(to_window)) * covered
    pasted[window][..., :colours] = _blend(picture[window][..., :colours], above, alpha[..., None])
    return pasted


def paste_in_regions(
    picture: np.ndarray,
    head: np.ndarray,
    drawn: np.ndarray,
    to_canvas: np.ndarray,
    canvas: Camera,
    strength: float | np.ndarray = 1.0,
    grain: np.random.Generator | None = None,
    irises: Sequence[tuple[Iris, Iris]] = (),
    own: float = 1.0,
    lids: Sequence[Iris] = (),
    between: float | np.ndarray = 1.0,
    outline: np.ndarray | None = None,
) -> np.ndarray:
    """A drawing on the canvas over a picture (H, W, 3) uint8, inside the eyes' regions as the head pose has them.

    The regions' edges lie between pixels, for a mask of whole pixels would jump from frame to frame of a video. `head`
    (2,) is the pose on the canvas; a `strength` below 1, one or (2,) for the eyes, lets the picture's show through.
    `grain` draws the noise that the picture has and the drawing lacks. `irises` say where the picture's own go (see
    `iris_search`), both or none, as opaque as `own`. `lids` are those of the picture, on the canvas, both or none; what
    they leave open has the strength `between` instead, one or (2,). What lies beyond the face's convex `outline` (K, 2)
    in the picture stays: of a head turned far, one eye's region reaches there.
    """
    pasted, strengths, between = picture.copy(), np.broadcast_to(strength, 2), np.broadcast_to(between, 2)
    for eye, window, depth in regions_in_photo(picture.shape[:2], to_canvas, head, canvas):
        to_window, alpha = to_crop(inverse(to_canvas), window[1].start, window[0].start), strengths[eye]
        if lids and between[eye] != alpha:
            alpha = alpha + (between[eye] - alpha) * opening(lids[eye].on(to_window), depth.shape)
        soft = np.clip(depth / feather_px(canvas), 0, 1)
        if outline is not None:
            edge_px = feather_px(canvas) * scale_of(to_window)
            soft = np.minimum(soft, np.maximum(depth_within(outline, window, edge_px), 0) / edge_px)
        alpha = alpha * soft
        above, _ = warp(drawn, to_window, *depth.shape)
        if grain is not None:
            above = with_grain(above, picture[window], grain)
        if irises:
            laid = with_irises(above, picture[window], to_window, irises[eye : eye + 1])
            above = laid if own == 1 else _blend(above, laid, np.float32(own))
        pasted[window] = _blend(picture[window], above, alpha[..., None])
    return pasted


def with_grain(drawn: np.ndarray, picture: np.ndarray, noise: np.random.Generator) -> np.ndarray:
    """A drawing (H, W, 3) uint8 with as much grain, the same in all colours, as the picture of the same place."""
    missing = math.sqrt(max(0.0, noise_level(picture) ** 2 - noise_level(drawn) ** 2))
    if missing < LEAST_GRAIN:
        return drawn
    return np.rint((drawn + noise.normal(0, missing, drawn.shape[:2])[..., None]).clip(0, 255)).astype(np.uint8)


def noise_level(picture: np.ndarray) -> float:
    """The noise's standard deviation, in levels of brightness, of a picture (H, W, 3) uint8.

    From second differences across and down, which slopes and straight edges leave small (Immerkær 1996); their median,
    since lashes are not noise.
    """
    levels = picture[..., 0].astype(np.int16) + picture[..., 1] + picture[..., 2]
    if min(levels.shape) < 3:
        return 0.0
    across = levels[:, :-2] - 2 * levels[:, 1:-1] + levels[:, 2:]
    both = across[:-2] - 2 * across[1:-1] + across[2:]  # of white noise 6 times as strong
    return float(np.median(abs(both))) / (3 * MEDIAN_OF_NORMAL * 6)


def _blend(below: np.ndarray, above: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """uint8 pictures (..., C), `above` as opaque as `alpha` (..., 1) says."""
    return np.rint(below + alpha * (above.astype(np.float32) - below)).astype(np.uint8)


def inward_alpha(mask: np.ndarray, feather_px: float) -> np.ndarray:
    """Mask (..., H, W) bool → float32 alpha: 0 outside it, rising to 1 over `feather_px` inside.

    Linear in the exact distance from a pixel's centre to the mask's edge. The border of the picture does not count as
    one.
    """
    reach = math.ceil(feather_px + 0.5)  # pixels farther away do not matter
    squared = np.where(mask, np.float32(reach**2), np.float32(0))
    for axis in (-2, -1):  # squared distances separate: along columns, then along rows
        squared = _nearest_along(axis, squared, reach)
    return np.clip((np.sqrt(squared) - 0.5) / max(float(feather_px), 1e-3), 0, 1)


def _nearest_along(axis: int, squared: np.ndarray, reach: int) -> np.ndarray:
    squared = np.moveaxis(squared, axis, -1)
    nearest = squared.copy()
    for step in range(1, min(reach, squared.shape[-1] - 1) + 1):
        there, here = squared + np.float32(step**2), nearest
        np.minimum(here[..., step:], there[..., :-step], out=here[..., step:])
        np.minimum(here[..., :-step], there[..., step:], out=here[..., :-step])
    return np.moveaxis(nearest, -1, axis)
