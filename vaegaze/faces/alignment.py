"""One face in a video's frame: brought onto the canvas by its eyes, and a drawing pasted back over them.

As `photo` does it, but with the head pose's eye mask alone, and that to a fraction of a pixel: a mask of whole pixels
would jump from frame to frame.
"""

from dataclasses import dataclass

import numpy as np

from vaegaze.geometry.alignment import AROUND_FACE, align
from vaegaze.geometry.camera import rolled
from vaegaze.geometry.eye_regions import FEATHER_OF_CANVAS, pose_mask, pose_squares_in_photo
from vaegaze.geometry.transforms import draw, inverse, move, roll_of, scale_of


@dataclass(frozen=True)
class AlignedFace:
    """A face of a frame on the canvas of S × S pixels."""

    image: np.ndarray  # (S, S, 3) uint8
    eye_mask: np.ndarray  # (S, S) bool, only where the frame shows something
    to_canvas: np.ndarray  # (2, 3) similarity, frame pixel → canvas pixel
    head: np.ndarray  # (2,) pitch, yaw in radians on the canvas

    @property
    def roll_rad(self) -> float:
        """How far the canvas turns the picture."""
        return roll_of(self.to_canvas)


def align_face(frame: np.ndarray, eyes: np.ndarray, head: np.ndarray, size_px: int) -> AlignedFace:
    """The face whose eyes are at (2, 2) = x, y in a frame (H, W, 3) uint8; `head` (2,) as seen in the upright frame."""
    to_canvas = align(eyes, head, size_px)
    head = rolled(head, roll_of(to_canvas))
    centre, reach = move(inverse(to_canvas), np.full(2, size_px / 2)), AROUND_FACE * size_px / scale_of(to_canvas) / 2
    left, top = np.clip(np.floor(centre - reach).astype(int), 0, np.array(frame.shape[1::-1]) - 1)
    right, bottom = np.ceil(centre + reach).astype(int)
    near = frame[top : max(bottom, top + 1), left : max(right, left + 1)]
    from_near = np.column_stack([to_canvas[:, :2], move(to_canvas, np.array([left, top]))])
    image, valid = draw(near, from_near, size_px, size_px)
    return AlignedFace(image, pose_mask(head, size_px) & valid, to_canvas, head)


def paste_eyes(frame: np.ndarray, face: AlignedFace, drawn: np.ndarray, blend: float = 1.0) -> np.ndarray:
    """The frame (H, W, 3) uint8 with the eyes of a drawing on the canvas (S, S, 3) uint8, as thick as `blend` (0..1).

    Pixels outside the eyes' squares are the frame's; inside the drawing comes in over a soft edge.
    """
    pasted, size_px = frame.copy(), len(drawn)
    for window, depth in pose_squares_in_photo(frame.shape[:2], face.to_canvas, face.head, size_px):
        alpha = blend * np.clip(depth / (FEATHER_OF_CANVAS * size_px), 0, 1)[..., None]
        to_window = inverse(face.to_canvas) - np.array([[0, 0, window[1].start], [0, 0, window[0].start]])
        above, _ = draw(drawn, to_window, *depth.shape)
        below = frame[window]
        pasted[window] = np.rint(below + alpha * (above.astype(np.float32) - below))
    return pasted
