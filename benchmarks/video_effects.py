"""What --strength, the fades and --look_away do to a video, as frames: docs/images/video_effects.jpg.

    python -m benchmarks.video_effects

A rendered person of known head and gaze is made to look into the camera by a base model.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np

from benchmarks.forecast import say_beforehand
from benchmarks.video_roundtrip import BASE
from vaegaze.faces.tracking import follow_eyes
from vaegaze.files import atomic_path
from vaegaze.geometry.camera import EYE_CENTRES_MM, canvas_camera
from vaegaze.images.video import Frame
from vaegaze.models import VAEGaze
from vaegaze.models.checkpoint import load_checkpoint
from vaegaze.redirecting.drawing import low_precision
from vaegaze.redirecting.fading import Fate
from vaegaze.redirecting.glances import LEAST_RAD, Glances
from vaegaze.redirecting.series import Look, Series
from vaegaze.renderer.data_set import person_from_seed, render, scene_from_seed

PERSON, FACE_PX, FRAMES_PER_SEC = 4, 384, 25
ASIDE_RAD = (0.0, 0.3)  # where the person truly looks
TURNED_DEG = (0, 15, 20, 22, 24, 28)  # heads of which frames are shown
LOOK_AWAY_SEC, SEED = 12, 0
CAMERA = (0.0, 0.0)
FRAMES = 3 * 4 + 2 * FRAMES_PER_SEC + LOOK_AWAY_SEC * FRAMES_PER_SEC
FRAME_SEC = 0.25  # of a Zen 3 core, for the forecast
TILE = (0.36, 0.14)  # half sides of what is shown of a frame / the face's width

Row = tuple[str, list[tuple[str, np.ndarray]]]  # title; a caption and (H, W, 3) uint8 for each frame


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--checkpoint", type=Path, default=BASE, help="a base model (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("docs/images/video_effects.jpg"))
    given = parser.parse_args(argv)
    say_beforehand(f"{FRAMES} frames", FRAMES * FRAME_SEC)
    model = load_checkpoint(given.checkpoint).model.eval()
    with low_precision(model):
        rows = [strengths(model), turning(model), looks_away(model)]
    write_figure(given.output, rows)
    print(f"✅ {given.output}")
    return 0


def strengths(model: VAEGaze) -> Row:
    frames = [rendered(CAMERA, ASIDE_RAD)] * 4
    tiles = [("source", tile(frames[-1], CAMERA))]
    for strength in (0.25, 0.5, 1.0):
        result, _ = redirected(model, frames, Look(CAMERA, strength=strength))
        tiles.append((f"--strength {strength:g}", tile(result[-1], CAMERA)))
    return "Looks aside, and is told to look into the camera", tiles


def turning(model: VAEGaze) -> Row:
    """A head that turns for two seconds, its eyes with it a little."""
    degrees = np.linspace(TURNED_DEG[0], TURNED_DEG[-1], 2 * FRAMES_PER_SEC)
    heads = [(0.0, -float(np.radians(each))) for each in degrees]
    frames = [rendered(head, (0.0, 0.4 * head[1])) for head in heads]
    result, fates = redirected(model, frames, Look(CAMERA))
    tiles = []
    for shown in TURNED_DEG:
        number = int(abs(degrees - shown).argmin())
        tiles.append((f"{shown}°: {fates[number].strength:.0%}", tile(result[number], heads[number])))
    return "Turns the head: how strongly the eyes are redrawn", tiles


def looks_away(model: VAEGaze) -> Row:
    """A frame of each look at the camera and away."""
    look = Look(CAMERA, look_away=SEED)
    source = rendered(CAMERA, (0.05, 0.1))
    times = np.arange(0, LOOK_AWAY_SEC, 1 / FRAMES_PER_SEC)
    glances = Glances(SEED)
    offsets = np.stack([glances.offset(each) for each in times])
    away = np.linalg.norm(offsets, axis=1) > 0.9 * LEAST_RAD
    changes = np.flatnonzero(np.diff(away, prepend=away[0]))
    middles = [int((start + end) // 2) for start, end in zip([0, *changes], changes)][:6]
    result, _ = redirected(model, [source] * (middles[-1] + 1), look)
    return "--look_away", [(f"{times[each]:.1f} s", tile(result[each], CAMERA)) for each in middles]


def rendered(head: Sequence[float], gaze: Sequence[float]) -> np.ndarray:
    scene = scene_from_seed(0, PERSON, 0)
    scene = replace(scene, head=tuple(head), gaze=tuple(gaze), lid_opening=1.0, blink=0.0, jpeg_quality=0)
    return render(person_from_seed(0, PERSON), scene, canvas_camera(FACE_PX)).image


def redirected(model: VAEGaze, frames: list[np.ndarray], look: Look) -> tuple[list[np.ndarray], list[Fate]]:
    video = (Frame(each, number / FRAMES_PER_SEC) for number, each in enumerate(frames))
    series, redrawn = Series(model, None, look), []
    for followed in follow_eyes(video, "video"):
        redrawn += series.redraw([[followed]])
    pictures, fates = zip(*redrawn)
    return list(pictures), list(fates)


def tile(picture: np.ndarray, head: Sequence[float]) -> np.ndarray:
    """The eyes of a rendered frame."""
    x, y = canvas_camera(FACE_PX).project(EYE_CENTRES_MM, np.array(head)).mean(axis=0).round().astype(int)
    across, down = (round(share * FACE_PX) for share in TILE)
    return picture[max(y - down, 0) : y + down, max(x - across, 0) : x + across]


def write_figure(path: Path, rows: list[Row]) -> None:
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure = pyplot.figure(figsize=(11, 4.6), layout="constrained")
    for part, (title, tiles) in zip(figure.subfigures(len(rows)), rows):
        part.suptitle(title, fontsize=11)
        for axis, (caption, pixels) in zip(part.subplots(1, len(tiles)), tiles):
            axis.imshow(pixels)
            axis.set_axis_off()
            axis.set_title(caption, fontsize=9)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="jpg", dpi=120, pil_kwargs={"quality": 88})
    pyplot.close(figure)


if __name__ == "__main__":
    sys.exit(main())
