"""What the person's own irises bring to a redirected video, on rendered persons whose true frames are known.

    python -m benchmarks.video_irises

A model makes persons who look around, move and blink look into the camera: with their own irises, and without. Frames
with open eyes are held against those of the same persons who do look into the camera, within the masks of their eyes,
and so are those beside blinks (`blink_psnr`); the other numbers are those of `vaegaze compare`. Means over persons; the
last line is one JSON object.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from PIL import Image

from benchmarks.forecast import say_beforehand
from benchmarks.rendered_video import FRAMES_PER_SEC, RenderedVideo, rendered_video
from benchmarks.video_roundtrip import BASE, OPEN, SHUT, judge
from vaegaze.faces.follower import FollowedFrame
from vaegaze.faces.tracking import follow_eyes
from vaegaze.geometry.alignment import align
from vaegaze.geometry.camera import Camera, rolled
from vaegaze.geometry.eye_regions import mask_in_photo
from vaegaze.geometry.transforms import roll_of
from vaegaze.images.sharpness import laplacian_variance
from vaegaze.images.video import Frame
from vaegaze.models.checkpoint import load_checkpoint
from vaegaze.redirecting import irises
from vaegaze.redirecting.comparison import Comparison
from vaegaze.redirecting.drawing import BATCH_SIZE, low_precision
from vaegaze.redirecting.series import Look, Series

FRAME_SEC = 0.45  # in all ways, of a Zen 3 core, for the forecast
SHOWN = ("eye_psnr", "blink_psnr", "eye_l1", "sharpness", "gaze_deg", "jitter_px", "jitter_ratio", "closed",
         "closed_kept", "shut", "shut_changed", "switches", "corners_off", "eye_width", "edges", "colour",
         "pulsing")  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--checkpoint", type=Path, default=BASE, help="a base model (default: %(default)s)")
    parser.add_argument("--persons", type=int, nargs="+", default=[2, 3, 4, 5], help="(default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=1.4, help="of each video (default: %(default)s)")
    parser.add_argument("--face_px", type=int, default=256, help="size of the faces (default: %(default)s)")
    parser.add_argument("--sheet", type=Path, help="PNG of some eyes: the video, without, with, and the true ones")
    given = parser.parse_args(argv)
    frames = len(given.persons) * round(given.seconds * FRAMES_PER_SEC)
    say_beforehand(f"{len(given.persons)} persons, {frames} frames in 3 ways", frames * FRAME_SEC)
    numbers: dict[str, list[dict]] = {"without": [], "with": [], "true": []}
    rows = []
    for number in given.persons:
        size = round(1.875 * given.face_px), round(1.41 * given.face_px)
        shown, true = (
            rendered_video(*size, given.face_px, given.seconds, number, into_camera=each) for each in (False, True)
        )
        results = redirected(given.checkpoint, shown, true)
        for name, (_, found) in results.items():
            numbers[name].append(found)
        videos = shown.frames, *(frames for frames, _ in results.values())
        rows.append(eyes_of(videos, shown, given.face_px))
        print(f"person {number}: eye PSNR " + ", ".join(f"{n} {v[-1]['eye_psnr']:.2f}" for n, v in numbers.items()))
    means = {
        name: {key: mean_of([person[key] for person in persons]) for key in SHOWN} for name, persons in numbers.items()
    }
    for key in SHOWN:
        print(f"{key:<16}" + "".join(_shown(means[name][key]) for name in means))
    if given.sheet is not None:
        Image.fromarray(np.vstack(rows)).save(given.sheet)
    print(json.dumps({"persons": numbers, "means": means}))
    return 0


def mean_of(values: Sequence[float | None]) -> float | None:
    """Of those that were measured; None if there is none, as of blinks in a video without."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _shown(value: float | None) -> str:
    return f"{'–':>10}" if value is None else f"{value:>10.4f}"


def redirected(checkpoint: Path, shown: RenderedVideo, true: RenderedVideo) -> dict[str, tuple[np.ndarray, dict]]:
    """The frames that look into the camera, without and with own irises and as they truly are; and their numbers."""
    loaded = load_checkpoint(checkpoint)
    frames = (Frame(frame, number / shown.frames_per_sec) for number, frame in enumerate(shown.frames))
    followed, results = list(follow_eyes(frames, "the rendered video")), {}
    with low_precision(loaded.model), torch.no_grad():
        for name in ("without", "with"):
            pairs = irises.SteadyIrises.pairs if name == "with" else lambda *given: ([], 0.0)
            with mock.patch.object(irises.SteadyIrises, "pairs", pairs):
                results[name] = drawn(Series(loaded.model, None, Look((0.0, 0.0))), followed)
    results["true"] = true.frames
    return {
        name: (
            pictures,
            compared(pictures, followed) | against_truth(pictures, followed, shown, true, loaded.model.canvas),
        )
        for name, pictures in results.items()
    }


def drawn(series: Series, followed: list[FollowedFrame]) -> np.ndarray:
    batches = (followed[start : start + BATCH_SIZE] for start in range(0, len(followed), BATCH_SIZE))
    return np.stack([pixels for batch in batches for pixels, _ in series.redraw([[each] for each in batch])])


def compared(pictures: np.ndarray, followed: list[FollowedFrame]) -> dict:
    """By the pixels alone, as `vaegaze compare` does."""
    comparison = Comparison("landmarks")
    for each, pixels in zip(followed, pictures):
        comparison.add(each, pixels)
    found = asdict(comparison.numbers())
    return found | {"colour": float(np.abs(found["colour"]).mean())}


def against_truth(
    pictures: np.ndarray, followed: list[FollowedFrame], shown: RenderedVideo, true: RenderedVideo, canvas: Camera
) -> dict:
    """Of the frames with open eyes; `blink_psnr` of those beside blinks, where the true eyes come and go.

    `gaze_deg` is the estimator's mean angle to the camera. `shut` counts the frames with truly shut eyes, whether they
    were read so or not, and `shut_changed` those that were drawn in.
    """
    psnr, l1, sharpness, blink_psnr = [], [], [], []
    shut = [n for n, openness in enumerate(shown.openness) if openness < SHUT]
    changed = [n for n in shut if (pictures[n] != shown.frames[n]).any()]
    blends = (np.asarray(each.blend) for each in followed)
    truth = (true.frames, true.eyes, true.head, true.openness)
    for picture, blend, wanted, eyes, head, openness in zip(pictures, blends, *truth):
        beside_blink = np.any((blend > 0) & (blend < 1))
        if openness < OPEN and not beside_blink:
            continue
        to_canvas = align(eyes, head, canvas)
        mask = mask_in_photo(picture.shape[:2], to_canvas, rolled(head, roll_of(to_canvas)), canvas)
        difference = (picture[mask].astype(np.float64) - wanted[mask]) / 127.5
        of_frame = 10 * np.log10(4 / max((difference**2).mean(), 1e-10))
        if beside_blink:
            blink_psnr.append(of_frame)
        if openness < OPEN:
            continue
        psnr.append(of_frame)
        l1.append(np.abs(difference).mean())
        sharpness.append(laplacian_variance(picture, mask) / laplacian_variance(wanted, mask))
    gaze_deg, _ = judge(list(pictures), shown)
    means = map(mean_of, (psnr, blink_psnr, l1, sharpness))
    found = dict(zip(("eye_psnr", "blink_psnr", "eye_l1", "sharpness"), means))
    return found | {"gaze_deg": gaze_deg, "shut": len(shut), "shut_changed": len(changed)}


def eyes_of(videos: Sequence[np.ndarray], shown: RenderedVideo, face_px: int) -> np.ndarray:
    """The eyes of every sixth frame of some videos, one below the other, four times as large."""
    half_width, half_height, columns = round(0.34 * face_px), round(0.1 * face_px), []
    for number in range(0, len(shown.frames), 6):
        x, y = shown.eyes[number].mean(axis=0).round().astype(int)
        window = slice(y - half_height, y + half_height), slice(x - half_width, x + half_width)
        cut = [Image.fromarray(frames[number][window]) for frames in videos]
        columns.append(np.vstack([np.asarray(each.resize((8 * half_width, 8 * half_height))) for each in cut]))
    return np.hstack(columns)


if __name__ == "__main__":
    sys.exit(main())
