"""A video with known truth: a rendered person who looks around, moves and blinks twice in front of a still wall."""

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from vaegaze.geometry.camera import EYE_CENTRES_MM, canvas_camera, rolled
from vaegaze.geometry.transforms import inverse, move
from vaegaze.renderer.data_set import person_from_seed, render, scene_from_seed

FRAMES_PER_SEC = 25
BLINKS_SEC = (0.9, 2.1)  # middles of the blinks
BLINK_OPENNESS = (0.75, 0.3, 0.0, 0.0, 0.0, 0.35, 0.8)  # frame by frame, at FRAMES_PER_SEC
EDGE_PX = 10  # width of the blend between the rendered square and the wall


@dataclass(frozen=True)
class RenderedVideo:
    """N frames and their truth. Angles are as seen in the upright picture."""

    frames: np.ndarray  # (N, H, W, 3) uint8 RGB
    gaze: np.ndarray  # (N, 2) pitch, yaw in radians
    head: np.ndarray  # (N, 2) pitch, yaw in radians
    eyes: np.ndarray  # (N, 2, 2) x, y of the eyes' centres, the picture's left one first
    openness: np.ndarray  # (N,) 1 open..0 closed
    frames_per_sec: float = FRAMES_PER_SEC

    def take(self, rows) -> "RenderedVideo":
        """Some of the frames, with their truth."""
        arrays = (self.frames, self.gaze, self.head, self.eyes, self.openness)
        return RenderedVideo(*(array[rows] for array in arrays), self.frames_per_sec)


def rendered_video(
    width_px: int = 480,
    height_px: int = 360,
    face_px: int = 256,
    seconds: float = 3.0,
    number: int = 2,
    into_camera: bool = False,
    frames_per_sec: float = FRAMES_PER_SEC,
) -> RenderedVideo:
    """Demo person `number`, `face_px` wide, moves by about a tenth of the picture, nods and tilts a little.

    `into_camera`: and looks into the camera, in place of around; all else is the same.
    """
    count = round(seconds * frames_per_sec)
    time_sec = np.arange(count) / frames_per_sec
    phase = 2 * np.pi * time_sec / 3

    gaze = np.stack([0.14 * np.sin(2 * phase + 1), 0.3 * np.sin(phase)], axis=1)
    gaze = np.zeros_like(gaze) if into_camera else gaze
    head = np.stack([0.07 * np.sin(phase + 2), 0.16 * np.sin(phase - 0.5)], axis=1)
    roll_rad, scale = 0.06 * np.sin(phase + 0.7), 1 + 0.05 * np.sin(phase)
    middle = np.array([width_px, height_px]) * (0.5 + 0.05 * np.stack([np.cos(phase), np.sin(2 * phase)], axis=1))
    openness, slow_frames = np.ones(count), np.arange(count) * (FRAMES_PER_SEC / frames_per_sec)
    for blink_sec in BLINKS_SEC:
        first = round(blink_sec * FRAMES_PER_SEC) - len(BLINK_OPENNESS) // 2
        shown = first + np.arange(-1, len(BLINK_OPENNESS) + 1)
        openness = np.minimum(openness, np.interp(slow_frames, shown, (1, *BLINK_OPENNESS, 1)))

    camera = canvas_camera(face_px)
    person, place = person_from_seed(0, number), scene_from_seed(0, number, 0)
    place = replace(place, lid_opening=1.0, jpeg_quality=0)
    wall, square = _wall(width_px, height_px), Image.fromarray(_soft_square(face_px))
    frames, eyes = [], []
    for i in range(count):
        cos, sin = np.cos(roll_rad[i]), np.sin(roll_rad[i])
        linear = scale[i] * np.array([[cos, -sin], [sin, cos]])
        to_frame = np.column_stack([linear, middle[i] - linear @ np.full(2, face_px / 2)])
        scene = replace(place, gaze=tuple(gaze[i]), head=tuple(head[i]), blink=1 - openness[i], noise_seed=i)
        face = Image.fromarray(render(person, scene, camera).image)
        placed = [_place(picture, to_frame, wall) for picture in (face, square)]
        alpha = placed[1][..., None] / 255
        frames.append(np.rint(wall + alpha * (placed[0] - wall)).astype(np.uint8))
        eyes.append(move(to_frame, camera.project(EYE_CENTRES_MM, head[i])))
    in_picture = [np.stack([rolled(*each) for each in zip(angles, roll_rad)]) for angles in (gaze, head)]
    return RenderedVideo(np.stack(frames), *in_picture, np.stack(eyes), openness, frames_per_sec)


def _place(picture: Image.Image, to_frame: np.ndarray, wall: np.ndarray) -> np.ndarray:
    size = wall.shape[1::-1]
    coefficients = inverse(to_frame).ravel().tolist()
    placed = picture.transform(size, Image.Transform.AFFINE, coefficients, Image.Resampling.BICUBIC)
    return np.asarray(placed).astype(float)


def _soft_square(size_px: int) -> np.ndarray:
    """(S, S) uint8: 255, falling to 0 at the edge."""
    inside = np.minimum(np.arange(size_px), np.arange(size_px)[::-1]).clip(max=EDGE_PX) / EDGE_PX
    return np.rint(255 * np.minimum(inside, inside[:, None])).astype(np.uint8)


def _wall(width_px: int, height_px: int) -> np.ndarray:
    """(H, W, 3) float in 0..255, with some texture."""
    coarse = Image.fromarray(np.random.default_rng(0).integers(90, 170, (height_px // 24, width_px // 24), np.uint8))
    return np.asarray(coarse.resize((width_px, height_px), Image.Resampling.BICUBIC).convert("RGB")).astype(float)
