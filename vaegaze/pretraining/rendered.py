"""Rendered persons as a source: each example is rendered on demand."""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from vaegaze.config.pretrain import RENDERED
from vaegaze.geometry import eye_regions
from vaegaze.geometry.camera import EYE_CORNERS_MM, LIDS, Camera, eye_circles
from vaegaze.pretraining.batches import Example, Skipped
from vaegaze.pretraining.mask_jitter import SQUARES_SHARE, jittered_corners
from vaegaze.renderer import data_set as rendering
from vaegaze.renderer import render_gazes

MASK_FACTORS = (1.25, 1.6)  # around upstream's 1.4: masks of other sources are cut differently
MASK_JITTER = 0.04  # of the eye's radius, standard deviation of the centre
# A circle read off a face parsing encloses the centres of the pixels that show the eye, and the eye's pointed corners
# hardly fill one: it is so much smaller than the circle through the corners, in pixels of the parsing.
PARSING_LOSES_PX = (0.4, 1.2)


@dataclass(frozen=True)
class RenderedSource:
    """Persons of one split of the rendered world; a person's targets differ in gaze alone."""

    canvas: Camera
    seed: int
    persons: int  # to draw from
    samples_per_person: int
    split: str = "train"
    photographic: float = 0.0  # how often all of a person's pictures go through `like_a_photograph`
    same_frame: float = 0.0  # how often the reference is the target's own frame with another gaze
    name: str = RENDERED
    has_gaze: bool = True

    def example(self, visit: int, turn: int, rng: np.random.Generator, gazes: int) -> Example:
        number = int(rng.integers(self.persons))
        person = rendering.person_from_seed(self.seed, number, self.split)
        frame = partial(rendering.scene_from_seed, self.seed, number, split=self.split)
        scene, other = map(frame, rng.choice(self.samples_per_person, size=2, replace=False).tolist())
        same_frame = self.same_frame and rng.random() < self.same_frame
        if same_frame:
            other = replace(scene, gaze=other.gaze)
        target_mask, reference_mask = self._eye_mask(scene, rng), self._eye_mask(other, rng)
        elsewhere = rng.integers(self.samples_per_person, size=gazes - 1).tolist()
        looks = [scene.gaze, *(frame(sample).gaze for sample in elsewhere)]

        if same_frame:
            drawn = render_gazes(person, scene, [*looks, other.gaze], self.canvas)
        else:
            drawn = [*render_gazes(person, scene, looks, self.canvas), rendering.render(person, other, self.canvas)]
        pictures = np.stack([each.image for each in drawn])
        if rng.random() < self.photographic:
            pictures = like_a_photograph(pictures, rng)
        valid = np.ones(pictures.shape[:3], bool)
        return Example(
            target=pictures[:-1],
            eye_masks=np.stack([target_mask] * gazes),
            valid=valid[:-1],
            gaze=np.array(looks, np.float32),
            head=np.array([scene.head] * gazes, np.float32),
            reference=pictures[-1],
            reference_eye_masks=reference_mask,
            reference_valid=valid[-1],
            frames=np.full(gazes + 1, -1),
        )

    def _eye_mask(self, scene: rendering.Scene, rng: np.random.Generator) -> np.ndarray:
        if self.canvas.eye_masks == LIDS and rng.random() >= SQUARES_SHARE:
            corners = jittered_corners(self.canvas.project(EYE_CORNERS_MM, scene.head), rng)
            return eye_regions.draw_lids(corners, self.canvas.shape)
        circles = eye_circles(scene.head, self.canvas)
        circles[:, :2] += rng.normal(0.0, MASK_JITTER, size=(2, 2)) * circles[:, 2:]
        circles[:, 2] -= rng.uniform(*PARSING_LOSES_PX)
        return eye_regions.draw_squares(circles, self.canvas.shape, rng.uniform(*MASK_FACTORS))

    def take_skipped(self) -> list[Skipped]:
        return []

    def close(self) -> None:
        pass


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
