"""Crops that teach the autoencoder texture: of photographs at many scales, and of rendered eyes.

Rendered faces are too smooth: an autoencoder trained on them alone blurs real eyes.
"""

import io
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from vaegaze.errors import UserError
from vaegaze.geometry.camera import canvas_camera, eye_circles
from vaegaze.images.pictures import read_picture
from vaegaze.models import to_unit_range
from vaegaze.renderer import data_set

KEY = "pretrain_params.photographs"  # in errors
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".ppm")
LONGER_SIDE_PX = 2560  # of a photograph as kept in memory
LARGEST_FACTOR = 8.0  # largest downscaling of a photograph
CANDIDATES = 2  # of these crops the one with the most texture is used: much of a photograph is sky
RENDERED_PX = (128, 512)  # smallest and largest side of a rendered face
EYE_JITTER = 0.12  # standard deviation of the eye's position, as a share of the crop's side


@dataclass(frozen=True)
class CropBatches(Dataset):
    """Item `step` is that step's batch, a function of `entropy` and `step`: (N, 3, S, S) in [−1, 1].

    Of the N crops the first `photographs` are of photographs; the others are the two eyes of `persons` rendered ones.
    """

    folder: str
    entropy: tuple[int, ...]
    size: int
    photographs: int
    persons: int
    seed: int  # of the rendered persons
    persons_to_draw_from: int
    samples_per_person: int

    def __getitem__(self, step: int) -> Tensor:
        rng = np.random.default_rng([*self.entropy, step])
        pictures = read_photographs(self.folder, self.size)
        crops = [varied(photograph_crop(pictures, rng, self.size), rng) for _ in range(self.photographs)]
        for _ in range(self.persons):
            number, sample = int(rng.integers(self.persons_to_draw_from)), int(rng.integers(self.samples_per_person))
            for crop in rendered_crops(self.seed, number, sample, rng, self.size):
                crops.append(varied(crop, rng) if rng.random() < 0.5 else crop)
        return to_unit_range(np.stack(crops))


def photograph_files(folder: str) -> list[Path]:
    """The pictures in a folder, by name; UserError if there is none."""
    if not Path(folder).is_dir():
        raise UserError(f"{KEY}: {folder} is not a folder; give one with photographs")
    paths = sorted(path for path in Path(folder).iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise UserError(f"{KEY}: {folder} holds no picture ({', '.join(SUFFIXES)}); give a folder with photographs")
    return paths


@lru_cache(maxsize=1)
def read_photographs(folder: str, least_px: int) -> tuple[Image.Image, ...]:
    """The pictures of a folder, by name; UserError if there is none, or one is damaged or smaller than `least_px`.

    They stay in memory, shared with forked processes.
    """
    pictures = []
    for path in photograph_files(folder):
        picture = Image.fromarray(read_picture(path, KEY).rgb())
        picture.thumbnail((LONGER_SIDE_PX, LONGER_SIDE_PX), Image.Resampling.LANCZOS)
        if min(picture.size) < least_px:
            raise UserError(
                f"{KEY}: {path} is {picture.width}×{picture.height} px, smaller than the crops of {least_px} px; "
                "take it out, or lower pretrain_params.crop_px"
            )
        pictures.append(picture)
    return tuple(pictures)


def photograph_crop(pictures: tuple[Image.Image, ...], rng: np.random.Generator, size: int) -> np.ndarray:
    """A square of a random photograph, (size, size, 3) uint8, downscaled 1 to 8 times, mirrored half of the time."""
    best, most = None, -1.0
    for _ in range(CANDIDATES):
        picture = pictures[rng.integers(len(pictures))]
        side = size * min(LARGEST_FACTOR, min(picture.size) / size) ** rng.random()  # log-uniform
        x, y = rng.random(2) * (np.array(picture.size) - side)
        box = (x, y, min(x + side, picture.width), min(y + side, picture.height))
        crop = np.asarray(picture.resize((size, size), Image.Resampling.LANCZOS, box=box, reducing_gap=2.0))
        grey = crop.mean(axis=2)
        texture = np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean()
        if texture > most:
            best, most = crop, texture
    return best[:, ::-1] if rng.random() < 0.5 else best


def rendered_crops(
    seed: int, number: int, sample: int, rng: np.random.Generator, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Crops around both eyes of a train person, each (size, size, 3) uint8, from a face of random size."""
    person = data_set.person_from_seed(seed, number, "train")
    scene = data_set.scene_from_seed(seed, number, sample, "train")
    least, largest = (max(size, px) for px in RENDERED_PX)
    side = round(least * (largest / least) ** rng.random() / 16) * 16
    side = max(side, size)
    camera = canvas_camera(side)
    face = data_set.render(person, scene, camera).image
    centres = eye_circles(scene.head, camera)[:, :2]
    corners = centres + rng.normal(0, EYE_JITTER * size, size=(2, 2)) - size / 2
    (left, top), (left_2, top_2) = np.clip(np.rint(corners), 0, side - size).astype(int)
    return face[top : top + size, left : left + size], face[top_2 : top_2 + size, left_2 : left_2 + size]


def varied(crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A crop (S, S, 3) uint8 with its colours changed; sometimes also sharpened, blurred, made noisy or compressed."""
    pixels = crop.astype(np.float32) / 255
    if rng.random() < 0.5:
        padded = np.pad(pixels, ((1, 1), (1, 1), (0, 0)), mode="edge")
        size = len(pixels)
        blurred = sum(padded[i : i + size, j : j + size] for i in range(3) for j in range(3)) / 9
        pixels += rng.uniform(-0.7, 1.5) * (pixels - blurred)
    grey = pixels.mean(axis=2, keepdims=True)
    pixels = grey + np.exp(rng.normal(0, 0.3)) * (pixels - grey)
    pixels = pixels * np.exp(rng.normal(0, 0.15)) * np.exp(rng.normal(0, 0.1, size=3))
    pixels = pixels.clip(0, 1) ** np.exp(rng.normal(0, 0.2))
    if rng.random() < 0.2:
        pixels = pixels + rng.uniform(0, 0.02) * rng.standard_normal(pixels.shape)
    result = np.rint(255 * pixels.clip(0, 1)).astype(np.uint8)
    if rng.random() < 0.2:
        file = io.BytesIO()
        Image.fromarray(result).save(file, "JPEG", quality=int(rng.integers(60, 96)))
        result = np.asarray(Image.open(file).convert("RGB"))
    return result
