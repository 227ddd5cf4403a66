"""What simpler ways of redirecting a gaze reach on the benchmark's persons and frames, by the same numbers.

    python -m benchmarks.peers --persons 12

Two ways without a generative model: a warping field, in the manner of DeepWarp (Ganin et al., ECCV 2016), trained here
on rendered persons for the stated number of steps; and the person's own eyes, cut from the training frame with the
nearest gaze. Both change the frame at its own size and are pasted by the code that pastes a user's picture. Writes a
page and beside it a .json; published figures stand below, of other data.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.forecast import say_beforehand
from vaegaze.commands.progress import progress_bar
from vaegaze.commands.running import run_command
from vaegaze.config.benchmark import POOL, BenchmarkParams
from vaegaze.config.shared import ESTIMATOR
from vaegaze.data.photo import Photo, paste
from vaegaze.evaluation.benchmark import BenchmarkPerson, at_full_size
from vaegaze.evaluation.benchmark_grid import TRUE, chosen_persons
from vaegaze.evaluation.full_size import judge
from vaegaze.evaluation.rendered_faces import RenderedFace
from vaegaze.files import write_text
from vaegaze.geometry.alignment import place
from vaegaze.geometry.camera import (
    BETWEEN_EYES_MM,
    EYE_CORNERS_MM,
    LIDS,
    Camera,
    canvas_camera,
    eye_circles,
    gaze_vector,
)
from vaegaze.geometry.transforms import move, scale_of, similarity, warp
from vaegaze.models import to_unit_range
from vaegaze.models.estimator import load_estimator
from vaegaze.renderer import render
from vaegaze.renderer.data_set import person_from_seed, scene_from_seed
from vaegaze.renderer.persons import random_scene
from vaegaze.report.benchmark_tables import Cell, full_rows, table

BAND = Camera(192, 96, 1000.0, BETWEEN_EYES_MM)  # in which the warping field is trained
EYE_PX = (64, 80)  # height and width of an eye's picture there
REACH_PX = 20.0  # how far it carries a pixel, at most
GAZES = 4  # of each training scene
BATCH, LEARNING_RATE = 8, 1e-3
SCENE_SEC, STEP_SEC, PHOTO_SEC, PICTURE_SEC = 0.053, 0.07, 0.14, 0.73  # of a Zen 3 core, for the forecast
MIRROR = torch.tensor([1.0, -1.0])
PUBLISHED = """
Published, on another data set: real faces, other test persons, no pasting. They cannot be compared with the rows above.

| method | data | gaze error |
| --- | --- | --- |
| ST-ED (NeurIPS 2020), against the label | trained and tested on GazeCapture | 2.195° |
| Gaze-hardness-aware (WACV 2023) | trained and tested on GazeCapture | about 2° |
| ST-ED, against the reading of the true picture | trained on ETH-XGaze, tested on GazeCapture | 15.478° |
| GazeNeRF, likewise | trained on ETH-XGaze, tested on GazeCapture | 10.463° |
| GazeGaussian, likewise | trained on ETH-XGaze, tested on GazeCapture | 9.752° |
| DiT-Gaze, likewise | trained on ETH-XGaze, tested on GazeCapture | 9.676° |

Nobody has published the held-out error of a redirector fine-tuned on k images of one GazeCapture person.
"""


class WarpingField(nn.Module):
    """From an eye and angles, where each of the redirected eye's pixels is to be taken from."""

    def __init__(self, width: int = 24):
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3 + 6, width, 5, stride=2, padding=2), nn.LeakyReLU(0.1)]
        for spread in (1, 2, 4, 8, 4, 2):
            layers += [nn.Conv2d(width, width, 3, padding=spread, dilation=spread), nn.LeakyReLU(0.1)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, 2, 3, padding=1))

    def forward(self, eyes: Tensor, angles: Tensor) -> Tensor:
        """Eyes (B, 3, h, w) in [−1, 1], angles (B, 6) = told gaze, gaze, head → px (B, 2, h, w) right and down."""
        planes = angles[..., None, None].expand(-1, -1, *eyes.shape[-2:])
        coarse = REACH_PX * torch.tanh(self.layers(torch.cat([eyes, planes], dim=1)))  # (B, 2, h / 2, w / 2)
        return F.interpolate(coarse, scale_factor=2, mode="bilinear")


def warped(pictures: Tensor, displacements: Tensor, mode: str = "bilinear") -> Tensor:
    """Pictures (B, 3, h, w), each pixel taken from where its displacement (B, 2, h, w) points."""
    height, width = pictures.shape[-2:]
    ys, xs = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    from_x, from_y = 2 * (xs + displacements[:, 0]) / width - 1, 2 * (ys + displacements[:, 1]) / height - 1
    return F.grid_sample(
        pictures, torch.stack([from_x, from_y], dim=-1), mode, padding_mode="border", align_corners=False
    )


def eye_windows(head: np.ndarray) -> list[tuple[int, int]]:
    """Top and left of each eye's picture in the band."""
    height, width = EYE_PX
    corners = [np.rint((y - height / 2, x - width / 2)) for x, y, _ in eye_circles(head, BAND)]
    limits = np.array(BAND.shape) - EYE_PX
    return [tuple(np.clip(corner, 0, limits).astype(int)) for corner in corners]


def eyes_of(band: np.ndarray, head: np.ndarray) -> Tensor:
    """Both eyes (2, 3, h, w) of a picture of the band, the right one mirrored."""
    height, width = EYE_PX
    cut = [to_unit_range(band[None, top : top + height, left : left + width]) for top, left in eye_windows(head)]
    return torch.cat([cut[0], cut[1].flip(-1)])


def angles_of(*angles: np.ndarray) -> Tensor:
    """Angles, each (2,) → (2 eyes, 6), mirrored for the right eye."""
    rows = torch.from_numpy(np.stack(angles)).float()
    return torch.stack([rows.flatten(), (rows * MIRROR).flatten()])


def training_set(scenes: int, seed: int) -> tuple[Tensor, Tensor]:
    """Eyes (S, GAZES, 2, 3, h, w) in several directions, and of each picture gaze and head (S, GAZES, 2, 4)."""
    eyes, angles = [], []
    with progress_bar("rendering", scenes) as bar:
        for number in range(1, scenes + 1):
            person, scene = person_from_seed(seed, number, "train"), scene_from_seed(seed, number, 0, "train")
            gazes = [random_scene(np.random.default_rng([seed, number, i])).gaze for i in range(GAZES)]
            shown = [render(person, replace(scene, gaze=gaze), BAND).image for gaze in gazes]
            eyes.append(torch.stack([eyes_of(image, np.array(scene.head)) for image in shown]))
            angles.append(torch.stack([angles_of(np.array(gaze), np.array(scene.head)) for gaze in gazes]))
            bar.update()
    return torch.stack(eyes), torch.stack(angles)


def train(scenes: int, steps: int, seed: int) -> tuple[WarpingField, float]:
    """The field, and the seconds that training took, without rendering."""
    torch.manual_seed(seed)
    eyes, angles = training_set(scenes, seed)
    field = WarpingField()
    optimizer = torch.optim.Adam(field.parameters(), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    started = time.perf_counter()
    with progress_bar("training", steps) as bar:
        for _ in range(steps):
            which, side = torch.randint(scenes, (BATCH,)), torch.randint(2, (BATCH,))
            first = torch.randint(GAZES, (BATCH,))
            second = (first + torch.randint(1, GAZES, (BATCH,))) % GAZES
            told = torch.cat([angles[which, second, side, :2], angles[which, first, side]], dim=-1)
            source, target = eyes[which, first, side], eyes[which, second, side]
            loss = (warped(source, field(source, told)) - target).abs().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            bar.update()
    return field.eval(), time.perf_counter() - started


@torch.no_grad()
def redirected_by_warping(field: WarpingField, face: RenderedFace) -> np.ndarray:
    """The frame in the face's K other gazes, (K, H, W, 3) uint8: its own pixels, moved."""
    photo = face.photo
    to_band = place(face.camera, photo.head, BAND)
    band, _ = warp(photo.picture, to_band, *BAND.shape)
    eyes, scale = eyes_of(band, photo.head), scale_of(to_band)
    picture = to_unit_range(photo.picture[None])
    columns, rows = (np.arange(side) + 0.5 for side in photo.picture.shape[1::-1])
    points = move(to_band, np.stack(np.meshgrid(columns, rows), axis=-1))
    results = []
    for gaze in face.gazes:
        fields = field(eyes, angles_of(gaze, photo.gaze, photo.head))  # (2, 2, h, w), px of the band
        fields = [fields[0], fields[1].flip(-1) * torch.tensor([-1.0, 1.0])[:, None, None]]
        moved = torch.zeros(1, 2, *photo.picture.shape[:2])
        for displacement, (top, left) in zip(fields, eye_windows(photo.head)):
            within = torch.from_numpy((points - (left, top)) / EYE_PX[::-1] * 2 - 1).float()[None]
            read = F.grid_sample(displacement[None], within, align_corners=False, padding_mode="zeros")
            moved += read / scale
        drawn = warped(picture, moved, "bicubic").clamp(-1, 1)
        results.append(paste(photo, drawn[0].add(1).mul(127.5).round().byte().permute(1, 2, 0).numpy(), detail=False))
    return np.stack(results)


def pasted_reference_eyes(pool: list[Photo], face: RenderedFace) -> np.ndarray:
    """The frame with the eyes of that frame of the pool whose gaze is nearest to each told one, (K, H, W, 3) uint8."""
    photo, results = face.photo, []
    directions = gaze_vector(np.stack([other.gaze for other in pool]))
    corners = face.camera.project(EYE_CORNERS_MM, photo.head).reshape(4, 2)
    for gaze in face.gazes:
        nearest = pool[int((directions @ gaze_vector(gaze)).argmax())]
        aligned = similarity(face.camera.project(EYE_CORNERS_MM, nearest.head).reshape(4, 2), corners)
        results.append(paste(photo, warp(nearest.picture, aligned, *photo.picture.shape[:2])[0], detail=False))
    return np.stack(results)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__.splitlines()[0])
    parser.add_argument("--persons", type=int, default=12, metavar="N", help="rendered test persons, half with glasses")
    parser.add_argument("--held_out", type=int, default=12, metavar="N", help="frames of each to measure on")
    parser.add_argument("--gazes", type=int, default=8, metavar="N", help="other directions of each frame")
    parser.add_argument("--face_px", type=int, default=512, metavar="PX", help="side of the frames")
    parser.add_argument(
        "--seed", type=int, default=1, metavar="N", help="chooses the persons, as vaegaze benchmark does"
    )
    parser.add_argument("--scenes", type=int, default=1000, metavar="N", help="rendered to train the warping field on")
    parser.add_argument("--steps", type=int, default=2000, metavar="N", help="of its training")
    parser.add_argument("--estimator", default=ESTIMATOR, metavar="PATH", help="reads the gaze")
    parser.add_argument("--output", type=Path, default=Path("./docs/benchmark_peers.md"), metavar="PATH")
    args = parser.parse_args(argv)
    return run_command(lambda: run(args))


def run(args: argparse.Namespace) -> None:
    pictures = args.persons * args.held_out * args.gazes
    say_beforehand(
        f"{args.scenes:,} scenes rendered, {args.steps:,} steps, {pictures:,} pictures in 3 ways",
        args.scenes * SCENE_SEC + args.steps * STEP_SEC + args.persons * POOL * PHOTO_SEC + pictures * PICTURE_SEC,
    )
    estimator = load_estimator(args.estimator).model
    torch.set_num_threads(1)
    params = BenchmarkParams(held_out=args.held_out, gazes=args.gazes, face_px=args.face_px, seed=args.seed)
    canvas = replace(canvas_camera(args.face_px), eye_masks=LIDS)
    field, seconds = train(args.scenes, args.steps, args.seed)
    ways: dict[tuple[str, int], Callable[[RenderedFace, list[Photo]], np.ndarray]] = {
        (TRUE, 0): lambda face, pool: face.pictures,
        ("warping field", 0): lambda face, pool: redirected_by_warping(field, face),
        ("pasted reference eyes", 32): lambda face, pool: pasted_reference_eyes(pool, face),
    }
    cells, numbers = [], chosen_persons(args.seed, args.persons)
    with progress_bar("peers", len(numbers) * len(ways)) as bar:
        for number in numbers:
            person = BenchmarkPerson.render("test", number, params, canvas, lambda: None)
            for (way, k), redirect in ways.items():
                found = judge([redirect(face, person.photos) for face in person.held_out], person.held_out, estimator)
                name = f"person_{number:03d}"
                cells.append(Cell("test", name, way, k, 0, {}, 0.0, at_full_size(found), None, person.glasses))
                bar.update()
    weights = sum(parameter.numel() for parameter in field.parameters())
    text = f"""# Simpler ways, on the same persons and frames

`python -m benchmarks.peers` wrote this page: persons, frames, gazes and measures of [benchmark.md](benchmark.md), in
frames of {args.face_px} px; {len(numbers)} persons, {args.held_out} frames of each, {args.gazes} other gazes a frame.

{table([[*row[:-2]] for row in full_rows(cells)])}

*warping field*: in the manner of DeepWarp (Ganin et al. 2016), without its second scale and its correction of
lightness; {weights:,} weights, trained {args.steps:,} steps ({seconds:.0f} s) on {args.scenes:,} rendered
scenes of {GAZES} gazes each. It is shown the frame and knows nothing else of the person. *pasted reference eyes*: those
of the nearest gaze among 32 frames of the person, aligned by the eyes' corners.
{PUBLISHED}"""
    write_text(args.output, text)
    content = {"settings": {**vars(args), "output": str(args.output)}, "cells": [asdict(cell) for cell in cells]}
    write_text(args.output.with_suffix(".json"), json.dumps(content, indent=1, allow_nan=False) + "\n")
    print(f"✅ {args.output}")


if __name__ == "__main__":
    sys.exit(main())
