"""The report's pictures, each as a data URI."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageOps

from vaegaze.data.samples import Samples
from vaegaze.evaluation import metrics
from vaegaze.evaluation.metrics import draw, paste
from vaegaze.images.pictures import rgb_over_white
from vaegaze.models import VAEGaze, to_pixels, to_unit_range
from vaegaze.redirecting.sweeps import frame_ms, sweep_gazes
from vaegaze.renderer.redrawing import RenderedPerson
from vaegaze.report.data_uris import animation, jpeg
from vaegaze.training.tensors import Frames

FIRST, WORST = 4, 4  # frames shown in rows: the first ones, and those drawn worst
COLUMNS = ("target", "before", "after", "after, pasted")
SWEEP = "circle"
EYES_MARGIN = 0.25  # around the close-up of the eyes, in heights of the eyes
THUMBNAIL_PX, THUMBNAILS, THUMBNAIL_COLUMNS = 64, 40, 10
PHOTO_PX = 720  # longest side


@dataclass(frozen=True)
class PictureRow:
    """One frame: a picture for each of `COLUMNS`, and the eyes of each."""

    index: int  # in the person's samples
    gaze_rad: tuple[float, float]  # pitch, yaw
    eye_l1: tuple[float, float]  # before, after
    faces: list[str]
    eyes: list[str]


@dataclass(frozen=True)
class Sweep:
    """One frame that looks around, as an animation and as a still; true pictures beside it where there are any."""

    moving: str
    still: str
    with_truth: bool


def picture_rows(samples: Samples, before: np.ndarray, after: np.ndarray) -> tuple[list[PictureRow], list[PictureRow]]:
    """The first few of N frames, and those with the largest eye L1 after training, the worst first.

    `before` and `after` (N, S, S, 3) uint8 are the drawings of the samples. The second list is empty if the first
    shows all frames.
    """
    pasted, errors = paste(after, samples), (eye_l1(before, samples), eye_l1(after, samples))

    def row(i: int) -> PictureRow:
        faces = [each[i] for each in (samples.images, before, after, pasted)]
        area = eye_area(samples.eye_masks[i])
        return PictureRow(
            index=int(samples.indices[i]),
            gaze_rad=tuple(samples.gaze[i].tolist()),
            eye_l1=(float(errors[0][i]), float(errors[1][i])),
            faces=[jpeg(face) for face in faces],
            eyes=[jpeg(face[area]) for face in faces],
        )

    worst = np.argsort(-errors[1], kind="stable")[:WORST] if len(samples) > FIRST else ()
    return [row(i) for i in range(min(FIRST, len(samples)))], [row(i) for i in worst]


def eye_l1(pictures: np.ndarray, samples: Samples) -> np.ndarray:
    """(N,) eye L1 of pictures (N, H, W, 3) uint8."""
    eyes = torch.from_numpy(samples.eye_masks & samples.valid)[:, None].float()
    return metrics.eye_l1(to_unit_range(pictures), to_unit_range(samples.images), eyes).numpy()


def eye_area(mask: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns of both eyes in a mask (S, S), with a margin."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    margin = round(EYES_MARGIN * (rows[-1] - rows[0] + 1))
    return tuple(slice(max(0, found[0] - margin), found[-1] + 1 + margin) for found in (rows, columns))


def gaze_sweep(
    model: VAEGaze,
    frame: Frames,
    sample: Samples,
    rendered: RenderedPerson | None,
    check: Callable[[], None] = lambda: None,
) -> Sweep:
    """A frame (N = 1) made to look around in a circle, pasted; beside it the renderer's pictures of the same gazes.

    `check` is called before each drawing and may raise.
    """
    gazes = sweep_gazes(SWEEP)  # (K, 2)
    looking = frame.take([0] * len(gazes)).looking(torch.from_numpy(gazes))
    drawn = to_pixels(draw(model, looking, check))
    pictures = paste(drawn, sample.take(np.zeros(len(gazes), dtype=int)))  # (K, S, S, 3)
    if rendered is not None:
        pictures = np.concatenate([pictures, rendered.redraw(sample, gazes[None]).images], axis=2)  # (K, S, 2·S, 3)
    return Sweep(animation(pictures, frame_ms(SWEEP)), jpeg(pictures[0]), rendered is not None)


def thumbnails(images: np.ndarray) -> str:
    """A sheet of the first pictures of (N, S, S, 3), reduced."""
    size = (THUMBNAIL_PX, THUMBNAIL_PX)
    small = [ImageOps.contain(Image.fromarray(image), size) for image in images[:THUMBNAILS]]
    columns = min(len(small), THUMBNAIL_COLUMNS)
    sheet = Image.new("RGB", (columns * THUMBNAIL_PX, -(-len(small) // columns) * THUMBNAIL_PX), "grey")
    for i, picture in enumerate(small):
        sheet.paste(picture, (i % columns * THUMBNAIL_PX, i // columns * THUMBNAIL_PX))
    return jpeg(np.asarray(sheet))


def photo_sized(pixels: np.ndarray, colour_profile: bytes | None) -> str:
    """A photo (H, W, C) uint8 of any size and channels, as RGB of at most `PHOTO_PX`."""
    picture = Image.fromarray(rgb_over_white(pixels))
    picture.thumbnail((PHOTO_PX, PHOTO_PX), Image.Resampling.LANCZOS)
    return jpeg(
        np.asarray(picture), colour_profile if pixels.shape[-1] >= 3 else None
    )  # a grey profile does not fit RGB
