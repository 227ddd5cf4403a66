"""What pre-training sees: batches of rendered persons, each a function of its numbers alone."""

from dataclasses import dataclass, fields, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vaegaze.geometry import camera as geometry
from vaegaze.geometry import eye_regions as masks
from vaegaze.models import to_unit_range
from vaegaze.renderer import data_set as synthetic

MASK_FACTORS = (1.25, 1.6)  # around upstream's 1.4: masks of other sources are cut differently
MASK_JITTER = 0.04  # of the eye's radius, standard deviation of the centre
EYE_BAND = (6, 70)  # rows of 128 that hold both eyes at every head pose


@dataclass(frozen=True)
class Batch:
    """Rendered frames of P persons: each with G targets that differ in gaze alone, and another frame as reference."""

    target: Tensor  # (P·G, 3, H, W) in [−1, 1]; the G of a person follow each other
    eye_masks: Tensor  # (P·G, 1, H, W) in {0, 1}
    gaze: Tensor  # (P·G, 2) pitch, yaw in radians
    head: Tensor  # (P·G, 2) pitch, yaw in radians
    reference: Tensor  # (P, 3, H, W) in [−1, 1]
    reference_eye_masks: Tensor  # (P, 1, H, W) in {0, 1}
    keep_reference: Tensor  # (P, 1, 1, 1) in {0, 1}; 0 drops the reference

    def to(self, device: torch.device) -> "Batch":
        return Batch(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})

    def eye_band(self) -> "Batch":
        """The same pictures, cut to the band around the eyes: half as high."""
        rows = slice(*(edge * self.target.shape[-1] // 128 for edge in EYE_BAND))
        pictures = ("target", "eye_masks", "reference", "reference_eye_masks")
        return replace(self, **{name: getattr(self, name)[:, :, rows] for name in pictures})


@dataclass(frozen=True)
class RenderedBatches(Dataset):
    """Item `step` is that step's batch of train persons: a DataLoader can render it ahead, in another process."""

    entropy: tuple[int, ...]  # apart from the step
    canvas: geometry.Camera
    persons: int
    settings: "RenderSettings"
    gazes: int = 1

    def __getitem__(self, step: int) -> Batch:
        return render_batch("train", [*self.entropy, step], self.canvas, self.persons, self.settings, self.gazes)


@dataclass(frozen=True)
class RenderSettings:
    """Which persons there are, and what befalls their pictures."""

    seed: int
    persons: int  # to draw from
    samples_per_person: int
    drop_reference: float  # how often
    photographic: float = 0.0  # how often all of a person's pictures go through `like_a_photograph`


def render_batch(
    split: str, entropy: list[int], canvas: geometry.Camera, persons: int, settings: RenderSettings, gazes: int = 1
) -> Batch:
    """Draw random persons of `split`; the same `entropy` gives the same batch."""
    rng = np.random.default_rng(entropy)
    targets, target_masks, scenes, references, reference_masks = [], [], [], [], []
    for number in rng.integers(settings.persons, size=persons).tolist():
        person = synthetic.person_from_seed(settings.seed, number, split)
        frame = partial(synthetic.scene_from_seed, settings.seed, number, split=split)
        scene, other = map(frame, rng.choice(settings.samples_per_person, size=2, replace=False).tolist())
        target_mask, reference_mask = _eye_mask(scene, canvas, rng), _eye_mask(other, canvas, rng)
        elsewhere = rng.integers(settings.samples_per_person, size=gazes - 1).tolist()
        looks = [scene, *(replace(scene, gaze=frame(sample).gaze) for sample in elsewhere)]

        pictures = np.stack([synthetic.render(person, look, canvas).image for look in (*looks, other)])
        if rng.random() < settings.photographic:
            pictures = like_a_photograph(pictures, rng)
        targets += [*pictures[:-1]]
        target_masks += [target_mask] * gazes
        scenes += looks
        references.append(pictures[-1])
        reference_masks.append(reference_mask)
    return Batch(
        target=to_unit_range(np.stack(targets)),
        eye_masks=torch.from_numpy(np.stack(target_masks))[:, None].float(),
        gaze=torch.tensor([scene.gaze for scene in scenes], dtype=torch.float32),
        head=torch.tensor([scene.head for scene in scenes], dtype=torch.float32),
        reference=to_unit_range(np.stack(references)),
        reference_eye_masks=torch.from_numpy(np.stack(reference_masks))[:, None].float(),
        keep_reference=torch.from_numpy(rng.random((persons, 1, 1, 1)) >= settings.drop_reference).float(),
    )


def _eye_mask(scene: synthetic.Scene, canvas: geometry.Camera, rng: np.random.Generator) -> np.ndarray:
    circles = geometry.eye_circles(scene.head, canvas)
    circles[:, :2] += rng.normal(0.0, MASK_JITTER, size=(2, 2)) * circles[:, 2:]
    return masks.draw_squares(circles, canvas.shape, rng.uniform(*MASK_FACTORS))


def like_a_photograph(pictures: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rendered pictures (N, H, W, 3) uint8, all changed alike: sharper, of other colours and contrast.

    The renderer draws skin and hair softer, and in fewer colours, than cameras show them.
    """
    pixels = pictures.astype(np.float32) / 255
    padded = np.pad(pixels, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    height, width = pixels.shape[1:3]
    blurred = sum(padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)) / 9
    pixels += rng.uniform(0, 1.5) * (pixels - blurred)
    grey = pixels.mean(axis=-1, keepdims=True)
    pixels = grey + np.exp(rng.normal(0, 0.4)) * (pixels - grey)
    pixels = pixels * np.exp(rng.normal(0, 0.2, size=3))
    pixels = pixels.clip(0, 1) ** np.exp(rng.normal(0, 0.25))
    return np.rint(255 * pixels).astype(np.uint8)
