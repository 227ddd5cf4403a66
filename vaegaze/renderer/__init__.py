"""A procedural picture of a face around the eyes, drawn by the normalised camera of `geometry`.

The face is a head-frame surface: an ellipsoid with a relief (nose, sockets, lips) that every camera ray is intersected
with. Skin, brows, lips and hair are painted in millimetres on that surface, so a turning head moves them as a head
would. The eyes are spheres behind it, seen through lids that follow the gaze. Light is linear until `_develop`.
Nothing that depends on gaze leaves either shape of eye mask (`eyes.eye_areas`).

Left and right are the image's. Images inside this module are channel first: (3, H, W) float32.
"""

import io
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from vaegaze.geometry import camera as geometry
from vaegaze.renderer.canvas import (
    Light,
    View,
    blur_reach_px,
    blur_sigma_px,
    colour,
    dot,
    inside,
    mix,
    smooth_noise,
    smoothstep,
    white_noise,
)
from vaegaze.renderer.eyes import EyeBox, draw_eye, eye_areas
from vaegaze.renderer.face import head_surface, shade, skin, skin_colour
from vaegaze.renderer.persons import Person, Scene, eye_gazes

PLAIN_CAMERA = geometry.canvas_camera(128)


@dataclass(frozen=True)
class Rendering:
    image: np.ndarray  # (H, W, 3) uint8 RGB
    face_parsing: np.ndarray  # (H, W) uint8: 0 background, 1 left eye, 2 right eye, 3 left iris, 4 right iris


def render(person: Person, scene: Scene, camera: geometry.Camera = PLAIN_CAMERA) -> Rendering:
    """The picture that this camera takes of this person in this scene."""
    return next(render_gazes(person, scene, [scene.gaze], camera))


def render_gazes(
    person: Person, scene: Scene, gazes: Iterable[tuple[float, float]], camera: geometry.Camera = PLAIN_CAMERA
) -> Iterator[Rendering]:
    """The scene's picture once with each gaze, in place of its own. All but the eyes is painted once for all."""
    view = View.of(scene.head, camera)
    light = Light.of(scene, person)
    surface = head_surface(person, view)

    noise = scene.noise * _sensor_noise(scene.noise_seed, camera.shape)
    areas = eye_areas(scene.head, camera) if scene.jpeg_quality else None
    boxes = [EyeBox.of(scene, view, side) for side in range(2)]

    without_eyes = _background(scene, view)
    _draw_behind_the_face(without_eyes, person, view, light)
    face = shade(skin(person, scene, surface), person, surface, light)
    mix(without_eyes, face, surface.coverage)

    for gaze in gazes:
        scene, picture, face_parsing = replace(scene, gaze=gaze), without_eyes.copy(), np.zeros(camera.shape, np.uint8)
        for box, eye_gaze in zip(boxes, eye_gazes(person, scene)):
            draw_eye(picture, face_parsing, person, scene, view, light, box, eye_gaze)
        if person.glasses:
            _draw_glasses(picture, person, scene, view, light)
        image = _develop(picture, scene, camera, noise)
        if scene.jpeg_quality:
            image = _compress(image, scene.jpeg_quality, areas)
        yield Rendering(image, face_parsing)


def _background(scene: Scene, view: View) -> np.ndarray:
    """(3, H, W): an unsharp room, two colours that flow into each other."""
    coarse, fine = white_noise(scene.background_seed, 2)[:, :7, :7]
    share = 0.5 + 0.9 * _stretch(coarse[:4, :5], view.camera) + 0.35 * _stretch(fine, view.camera)
    first, second = (colour(c) * scene.exposure for c in scene.background_colours)
    return second + np.clip(share, 0, 1) * (first - second)


def _stretch(values: np.ndarray, camera: geometry.Camera) -> np.ndarray:
    """(H, W): a coarse grid drawn out over the whole picture, smoothly."""

    def weights(count: int, size: int) -> np.ndarray:  # (size, count), each row's sum is 1
        distance = np.linspace(0, count - 1, size, dtype=np.float32)[:, None] - np.arange(count, dtype=np.float32)
        weights = np.exp(-2 * distance**2)
        return weights / weights.sum(axis=1, keepdims=True)

    rows, columns = map(weights, values.shape, camera.shape)
    return rows @ values @ columns.T


def _draw_behind_the_face(picture, person: Person, view: View, light: Light) -> None:
    """Neck, ears and the hair that stands out around the head."""
    skin = skin_colour(person)
    brightness = light.ambient + 0.35 * light.key
    x, y = view.plane(60.0)
    neck = inside(50 - 0.1 * (y - 90) - np.abs(x), 3) * inside(y - 60, 6)
    mix(picture, skin * brightness * 0.55, neck)

    x, y = view.plane(70.0)
    u, half_width_mm = np.abs(x), person.face_half_width_mm
    if not person.long_hair:
        ear = 1 - np.hypot((u - half_width_mm - 6) / 9, (y - 18) / 27)  # 0 at its rim, 1 in the middle
        mix(picture, skin * brightness * (0.8 - 0.5 * smoothstep(0.25, 0.8, ear)), inside(ear * 9, 2))
    hair = colour(person.hair_colour) * (light.ambient + 0.4 * light.key)
    strands = 0.8 + 0.4 * smooth_noise(white_noise(person.texture_seed, 5)[3], x / 1.7, y / 25)
    bulk_mm = 14 if person.long_hair else 7
    cap = (1 - np.hypot(x / (half_width_mm + bulk_mm), (y + 20) / 125)) * half_width_mm
    sides = np.minimum(half_width_mm + bulk_mm - 0.05 * y - u, u - 40) if person.long_hair else -np.inf
    cap = np.minimum(cap, -10 - y + 0 * u)
    mix(picture, hair * strands, inside(np.maximum(cap, sides), 4))


def _draw_glasses(picture: np.ndarray, person: Person, scene: Scene, view: View, light: Light) -> None:
    """Rims, bridge and temples in a plane before the eyes, and what the lenses mirror."""
    x, y = view.plane(-14.0)
    u = np.abs(x)
    half_width, half_height = person.glasses_half_size_mm
    corner = person.glasses_corner_mm
    dx, dy = np.abs(u - 33) - half_width + corner, np.abs(y - 3) - half_height + corner
    outline = np.hypot(np.maximum(dx, 0), np.maximum(dy, 0)) + np.minimum(np.maximum(dx, dy), 0) - corner  # < 0 inside
    rim = person.glasses_rim_mm - np.abs(outline)
    bridge = np.minimum(1.2 * person.glasses_rim_mm - np.abs(y + 3 - 0.01 * x * x), 33 - half_width - u + 1)
    temple = np.minimum(2.0 - np.abs(y + half_height * 0.5 - 3), u - 33 - half_width)
    frame = np.maximum(np.maximum(rim, bridge), temple)
    lattice = white_noise(scene.background_seed, 2)[1]
    mirrored = smoothstep(
        0.25, 0.75, smooth_noise(lattice, x / 26 + y / 40 + 30 * scene.head[1], y / 30 + 30 * scene.head[0])
    )
    lens = inside(-outline, view.pixel_mm)
    picture *= 1 - 0.06 * lens
    picture += 0.06 * mirrored * lens * (light.key + light.ambient)
    gleam = 1 + 0.8 * smoothstep(0.0, 1.0, rim / person.glasses_rim_mm)
    mix(
        picture,
        colour(person.glasses_colour) * gleam * (light.ambient + 0.6 * light.key),
        inside(frame, view.pixel_mm),
    )


def _develop(picture: np.ndarray, scene: Scene, camera: geometry.Camera, noise: np.ndarray) -> np.ndarray:
    """Linear light (3, H, W) → 8-bit sRGB (H, W, 3): lens blur, colours, tone, the sensor's noise."""
    picture = _blur(picture, blur_sigma_px(scene, camera), blur_reach_px(scene, camera)) * colour(scene.white_balance)
    grey = dot([0.25, 0.65, 0.10], picture)
    picture = np.maximum(grey + scene.saturation * (picture - grey), 0)
    picture = np.sqrt(1.25 * picture / (1 + 0.35 * picture))  # about sRGB's curve; highlights roll off
    picture = 0.5 + (picture - 0.5) * scene.contrast
    picture += noise
    return np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0).copy()


def _sensor_noise(seed: int, shape: tuple[int, int]) -> np.ndarray:
    """(3, H, W), standard deviation about 1, mostly of brightness; two random bytes add up to nearly a Gaussian."""
    random_bytes = np.random.default_rng(seed).bytes(2 * 3 * math.prod(shape))
    first, second = np.frombuffer(random_bytes, np.uint8).reshape(2, 3, *shape).astype(np.float32)
    noise = (first + second - 255) / 104.5
    return 0.6 * noise + 0.8 * noise[1]


def _blur(picture: np.ndarray, sigma_px: float, reach: int) -> np.ndarray:
    """Gaussian blur of (3, H, W), edges repeated."""
    if not reach:
        return picture
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma_px) ** 2)
    weights = (weights / weights.sum()).astype(np.float32)
    height, width = picture.shape[1:]
    padded = np.pad(picture, ((0, 0), (reach, reach), (0, 0)), mode="edge")
    picture = sum(weight * padded[:, k : k + height] for k, weight in enumerate(weights))
    padded = np.pad(picture, ((0, 0), (0, 0), (reach, reach)), mode="edge")
    return sum(weight * padded[:, :, k : k + width] for k, weight in enumerate(weights))


def _compress(image: np.ndarray, quality: int, eye_areas: np.ndarray) -> np.ndarray:
    """JPEG and back. Its blocks of 8 × 8 pixels do not know of each other here, since colour keeps its resolution.

    Blocks across the border of an eye's area would carry gaze beyond it: their outer pixels stay as they were.
    """
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality, subsampling=0)
    compressed = np.asarray(Image.open(file).convert("RGB"))
    height, width = eye_areas.shape
    blocks = np.pad(eye_areas, ((0, -height % 8), (0, -width % 8)))
    blocks = blocks.reshape(-(-height // 8), 8, -(-width // 8), 8).any(axis=(1, 3))
    border = blocks.repeat(8, 0).repeat(8, 1)[:height, :width] & ~eye_areas
    return np.where(border[..., None], image, compressed)
