"""What all drawing shares: the camera as the head sees it, the light, soft edges, noise."""

import functools
from dataclasses import dataclass

import numpy as np

from vaegaze.geometry import camera as geometry
from vaegaze.renderer.persons import Person, Scene

TO_CAMERA = np.array([0.0, 0.0, -1.0])


@dataclass(frozen=True)
class View:
    """The camera as the head sees it."""

    camera: geometry.Camera
    head: tuple[float, float]
    rotation: np.ndarray  # (3, 3) head → camera
    position_mm: np.ndarray  # (3,) of the camera, head frame
    rays: np.ndarray  # (3, H, W) float32, head frame, z of the camera frame = 1
    pixel_mm: float  # width of a pixel at the face

    @classmethod
    def of(cls, head: tuple[float, float], camera: geometry.Camera) -> "View":
        rotation = geometry.head_rotation(head)
        position_mm = np.array(camera.origin_mm) - rotation.T @ (0.0, 0.0, camera.distance_mm)
        across, down = (
            ((np.arange(size) + 0.5 - size / 2) / camera.focal_px).astype(np.float32)
            for size in (camera.width_px, camera.height_px)
        )
        columns = rotation.T.astype(np.float32)[:, :, None, None]
        rays = columns[:, 0] * across + columns[:, 1] * down[:, None] + columns[:, 2]
        return cls(camera, head, rotation, position_mm, rays, camera.distance_mm / camera.focal_px)

    def plane(self, z_mm: float) -> tuple[np.ndarray, np.ndarray]:
        """x, y (H, W) where the rays meet the head frame's plane z = z_mm."""
        x_mm, y_mm, from_mm = self.position_mm.tolist()
        steps = (z_mm - from_mm) / self.rays[2]
        return x_mm + steps * self.rays[0], y_mm + steps * self.rays[1]


@dataclass(frozen=True)
class Light:
    towards: np.ndarray  # (3,) unit vector to the key light, camera axes
    key: np.ndarray  # (3, 1, 1) linear RGB
    ambient: np.ndarray  # (3, 1, 1)
    size: float

    @classmethod
    def of(cls, scene: Scene, person: Person) -> "Light":
        # A phone meters on the face: dark skin is exposed longer.
        exposure = scene.exposure * (1 + 0.11 * max(person.skin_tone - 3, 0))
        key, ambient = (colour(c) * exposure for c in (scene.light_colour, scene.ambient_colour))
        return cls(geometry.gaze_vector(scene.light), key, ambient, scene.light_size)


def blur_sigma_px(scene: Scene, camera: geometry.Camera) -> float:
    """Standard deviation of the lens blur in the camera's pixels."""
    return scene.blur_px * camera.face_px / geometry.FACE_PX


def blur_reach_px(scene: Scene, camera: geometry.Camera) -> int:
    """How far the lens blur carries light, in the camera's pixels."""
    sigma_px = blur_sigma_px(scene, camera)
    return int(np.ceil(2.5 * sigma_px)) if sigma_px >= 0.2 else 0


def colour(rgb) -> np.ndarray:
    return np.asarray(rgb, np.float32)[:, None, None]


def mix(picture: np.ndarray, colour: np.ndarray, alpha: np.ndarray) -> None:
    """Paint `colour` over `picture` (3, H, W) in place, as thick as `alpha` (H, W) says."""
    picture += alpha * (colour - picture)


def inside(distance: np.ndarray, softness: float) -> np.ndarray:
    """How much of a pixel lies inside a shape: `distance` > 0 inside, the edge is `softness` wide."""
    return np.clip(distance / softness + 0.5, 0, 1)


def smoothstep(low: float, high: float, value: np.ndarray) -> np.ndarray:
    value = np.clip((value - low) / (high - low), 0, 1)
    return value * value * (3 - 2 * value)


def bump(x, y, x0: float, y0: float, width: float, height: float) -> np.ndarray:
    """A Gaussian of height 1; `width` and `height` are its standard deviations."""
    return np.exp(-0.5 * ((x - x0) / width) ** 2) * np.exp(-0.5 * ((y - y0) / height) ** 2)


def dot(vector: np.ndarray, field: np.ndarray) -> np.ndarray:
    """(H, W): the scalar product of one vector (3,) with each of `field` (3, H, W)."""
    return (np.asarray(vector, field.dtype) @ field.reshape(3, -1)).reshape(field.shape[1:])


def smooth_noise(lattice: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Smooth noise: `lattice` (64, 64), repeated, read between its points at x, y in cells."""
    column, row = np.floor(x), np.floor(y)
    x, y = x - column, y - row
    x, y = x * x * (3 - 2 * x), y * y * (3 - 2 * y)
    left, upper = column.astype(np.intp) & 63, (row.astype(np.intp) & 63) << 6
    right, lower = (left + 1) & 63, (upper + 64) & 4095
    lattice = lattice.ravel()
    above, below = lattice.take(upper + left), lattice.take(lower + left)
    above += x * (lattice.take(upper + right) - above)
    below += x * (lattice.take(lower + right) - below)
    return above + y * (below - above)


@functools.lru_cache(maxsize=32)
def white_noise(seed: int, count: int) -> np.ndarray:
    """(count, 64, 64) float32, uniform in -1..1."""
    return np.random.default_rng(seed).random((count, 64, 64), np.float32) * 2 - 1
