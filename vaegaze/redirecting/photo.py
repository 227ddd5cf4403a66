"""A photo in which the person looks elsewhere."""

import numpy as np

from vaegaze.data.photo import Photo, own_irises, paste
from vaegaze.models.checkpoint import Checkpoint
from vaegaze.redirecting.drawing import redraw_gazes, reference_of
from vaegaze.redirecting.fading import drawn_gaze


def redirect_photo(
    checkpoint: Checkpoint, photo: Photo, gaze: tuple[float, float], strength: float = 1.0, reference: str = "auto"
) -> np.ndarray:
    """The photo (H, W, C) uint8 with eyes that look at `gaze`, (pitch, yaw) in radians; its channels are the photo's.

    `strength`, 0..1, is how far from where they look now; see `fading.drawn_gaze`. `reference`: see `reference_of`.
    """
    if strength == 0:
        return photo.original
    told, opacity = drawn_gaze(np.array(gaze), photo.read_gaze, strength)
    drawn = redraw_gazes(checkpoint.model, photo, reference_of(reference, checkpoint, photo), told[None])[0]
    result = paste(photo, drawn, irises=own_irises(photo, drawn, told))
    if opacity == 1:
        return result
    return np.rint(photo.original + opacity * (result.astype(np.float64) - photo.original)).astype(np.uint8)
