"""Rendered frames drawn again with another gaze: what a redirected picture should look like, to the pixel.

A file written by `renderer.data_set` records which rendered person each group holds. So the same person can be drawn
with the same head and light, looking elsewhere, which no camera can do.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from vaegaze.data.hdf5 import PersonData
from vaegaze.data.samples import Samples
from vaegaze.geometry.alignment import place
from vaegaze.geometry.camera import canvas_camera
from vaegaze.geometry.transforms import warp
from vaegaze.images.side_by_side import side_by_side
from vaegaze.renderer import render_gazes
from vaegaze.renderer.data_set import SPLITS, person_from_seed, scene_from_seed

GAZES_PER_FRAME = 8
REDIRECTED = 64  # pictures, about: what a person is judged by costs the same however many frames are held out
LIMIT_RAD = np.radians((20, 28))  # pitch, yaw: how far off the camera
REACH_RAD = np.radians((27, 33))  # pitch, yaw: how far eyes turn from the head's own direction
SAME_LEVELS = 0.5  # of 255: other machines round differently, and JPEG enlarges that
_STREAM = 7  # of random numbers, apart from other uses of the same seed


@dataclass(frozen=True)
class RenderedPerson:
    """One of the rendered persons, by its numbers."""

    split: str
    seed: int
    number: int
    frame_px: int  # side of the file's frames

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, int | str], frame_px: int) -> "RenderedPerson | None":
        """From the attributes of the person's group; None if this renderer did not write them."""
        split, seed, number = (attributes.get(name) for name in ("split", "seed", "number"))
        if split not in SPLITS or not isinstance(seed, int) or not isinstance(number, int) or min(seed, number) < 0:
            return None
        return cls(split, seed, number, frame_px)

    def redraw(self, samples: Samples, gazes: np.ndarray) -> Samples:
        """The frames of `samples` (N), each drawn with its K of `gazes` (N, K, 2): N·K samples, frame by frame.

        Eye masks, head and indices are those of the original frames.
        """
        person, camera = person_from_seed(self.seed, self.number, self.split), canvas_camera(self.frame_px)

        def redrawn(sample: int, head: np.ndarray, looks: list[list[float]]) -> list[np.ndarray]:
            scene = scene_from_seed(self.seed, self.number, sample, self.split)
            to_canvas = place(camera, head, samples.canvas)
            drawn = render_gazes(person, scene, map(tuple, looks), camera)
            return [warp(each.image, to_canvas, *samples.canvas.shape)[0] for each in drawn]

        frames = list(zip(samples.indices.tolist(), samples.head, gazes.tolist(), strict=True))
        pictures = [picture for few in side_by_side(lambda frame: redrawn(*frame), frames) for picture in few]
        repeated = samples.take(np.repeat(np.arange(len(samples)), gazes.shape[1]))
        return replace(repeated, images=np.stack(pictures), gaze=gazes.reshape(-1, 2).astype(np.float32))

    def redirected(self, samples: Samples) -> Samples:
        """The frames of `samples` (N), each looking in K other directions: K·N samples, of which there are about 64.

        K is 8 for up to eight frames, 2 for 32, 1 for more than 32.
        """
        gazes = min(GAZES_PER_FRAME, max(1, REDIRECTED // len(samples)))
        return self.redraw(samples, other_gazes(samples)[:, :gazes])

    def drew(self, samples: Samples) -> bool:
        """Whether this version of the renderer draws the first, middle and last of the samples as they are."""
        some = samples.take(sorted({0, len(samples) // 2, len(samples) - 1}))
        scenes = [scene_from_seed(self.seed, self.number, i, self.split) for i in some.indices.tolist()]
        again = self.redraw(some, np.array([[scene.gaze] for scene in scenes])).images.astype(int)
        return np.abs(again - some.images).mean(axis=(1, 2, 3)).max() < SAME_LEVELS


def matching_renderer(data: PersonData) -> tuple[RenderedPerson | None, list[str]]:
    """The rendered person behind these samples, if this version of the renderer reproduces them, and notes to show.

    None without notes for samples that were not rendered.
    """
    rendered = RenderedPerson.from_attributes(data.attributes, data.frame_px)
    if rendered is None or rendered.drew(data.samples):
        return rendered, []
    return None, [
        "⚠️ Another version of the renderer made this file, so redirected results cannot be compared with true pictures",
        "   (render it again; delete the demo file to have it made again)",
    ]


def other_gazes(samples: Samples) -> np.ndarray:
    """(N, 8, 2): for each frame eight other directions its eyes could look in, the same each time."""
    return np.stack([_gazes(int(index), head) for index, head in zip(samples.indices, samples.head)])


def _gazes(index: int, head: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng([_STREAM, index])
    low, high = np.maximum(-LIMIT_RAD, head - REACH_RAD), np.minimum(LIMIT_RAD, head + REACH_RAD)
    low, high = np.minimum(low, high), np.maximum(low, high)  # a head turned farther than eyes turn back
    return rng.uniform(low, high, size=(GAZES_PER_FRAME, 2))
