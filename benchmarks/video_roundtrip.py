"""From a video and a table of gazes to the same video looking into the camera, end to end; and how well it does.

    python -m benchmarks.video_roundtrip

Renders a person who looks around, moves and blinks twice, and runs the real commands in a temporary folder: prepare,
fine-tune, redirect, compare. The gaze estimator then measures how far the eyes are from looking into the camera: in the
original video, redirected with the base model, and with the fine-tuned one; and in every sixth frame redirected as a
photo with its true head pose, which a redirected video lacks. It counts frames with truly shut eyes that were redrawn.
The last line is one JSON object.
"""

import argparse
import csv
import json
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.forecast import say_beforehand
from benchmarks.rendered_video import FRAMES_PER_SEC, RenderedVideo, rendered_video
from vaegaze.data.photo import load_photo, own_irises, paste
from vaegaze.evaluation.gaze import angular_error_deg
from vaegaze.geometry.alignment import align_face
from vaegaze.geometry.camera import rolled
from vaegaze.images.video import open_video, write_video
from vaegaze.models import to_unit_range
from vaegaze.models.checkpoint import load_checkpoint
from vaegaze.models.device import to_device
from vaegaze.models.estimator import CANVAS, load_estimator
from vaegaze.redirecting.comparison import eyes_drawn
from vaegaze.redirecting.drawing import redraw_gazes, reference_of

ROOT = Path(__file__).parents[1]
BASE = ROOT / "checkpoints" / "pretrained_model.pth"
ESTIMATOR = ROOT / "checkpoints" / "gaze_estimator" / "gaze_estimator.pth"
OPEN, CLOSED = 0.9, 0.4  # least openness of eyes that are judged, greatest of eyes that prepare should leave out
SHUT = 0.2  # below it, no eye may be redrawn
PHOTO_EVERY = 6  # frames
START_SEC, FRAME_SEC, STEP_SEC = 60, 0.85, 0.28  # of two Zen 3 cores, for the forecast: from docs/performance.md


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--seconds", type=float, default=3.0, help="of the video (default: %(default)s)")
    parser.add_argument("--num_steps", type=int, default=150, help="of fine-tuning (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="keep all files here (default: keep nothing)")
    given = parser.parse_args(argv)
    frames = round(given.seconds * FRAMES_PER_SEC)
    say_beforehand(
        f"{frames} frames in 5 ways, {given.num_steps} steps",
        START_SEC + frames * FRAME_SEC + given.num_steps * STEP_SEC,
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        numbers = run_all(folder, rendered_video(seconds=given.seconds), given.num_steps)
    print(json.dumps(numbers))
    return 0


def run_all(folder: Path, true: RenderedVideo, num_steps: int) -> dict:
    """Run everything in this folder; returns the measurements."""
    talk, labels, data = folder / "talk.mp4", folder / "labels.csv", folder / "me.h5"
    write_inputs(talk, labels, true)
    prepared = run(
        "-m", "vaegaze", "prepare", "--frames", talk, "--labels", labels, "--person_id", "me", "--output", data
    )
    train = next(line for line in prepared.splitlines() if line.startswith("train: python "))
    proposed = shlex.split(train.removeprefix("train: python "))
    run(*proposed, "--num_steps", num_steps, "--device", "cpu", "--save_dir", folder)

    numbers = {"frames": len(true.frames)} | left_out(folder / "me.frames.csv", true)
    numbers["before_deg"], numbers["estimator_deg"] = judge(frames_of(talk), true)
    some = true.take([n for n in range(0, len(true.frames), PHOTO_EVERY) if true.openness[n] >= OPEN])
    for name, checkpoint in (("base", BASE), ("after", folder / "me" / "finetuned_model.pth")):
        result = folder / f"{name}.mp4"
        look = ("--video", talk, "--gaze", "camera", "--output", result)
        run("-m", "vaegaze", "redirect", "--checkpoint", checkpoint, *look, "--device", "cpu")
        drawn = frames_of(result)
        numbers[f"{name}_deg"], _ = judge(drawn, true)
        numbers |= shut_eyes(name, frames_of(talk), drawn, true)
        run("-m", "vaegaze", "compare", talk, result, "--output", folder / f"{name}.json")
        numbers[f"{name}_video"] = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        numbers[f"{name}_photos_deg"], _ = judge(redirected_photos(folder / "photo.png", some, checkpoint), some)
    rows = {
        "the original video": numbers["before_deg"],
        "redirected by the base model": numbers["base_deg"],
        "  as photos, with the head pose": numbers["base_photos_deg"],
        f"fine-tuned for {num_steps} steps": numbers["after_deg"],
        "  as photos, too": numbers["after_photos_deg"],
        "the estimator's own error on the video": numbers["estimator_deg"],
    }
    print(f"\n{numbers['kept']} of {numbers['frames']} frames kept; mean angle to the camera, by the estimator\n")
    for what, degrees in rows.items():
        print(f"  {what:<40}{degrees:>6.2f}°")
    for name, words in (("base", "the base model"), ("after", "the fine-tuned one")):
        print(f"  {numbers[f'{name}_shut_changed']} of {numbers['shut']} frames with shut eyes redrawn by {words}")
    return numbers


def write_inputs(talk: Path, labels: Path, true: RenderedVideo) -> None:
    """The video, and a table with a line for each frame, blinks included."""
    height, width = true.frames.shape[1:3]
    with write_video(talk, width, height, true.frames_per_sec) as writer:
        for frame in true.frames:
            writer.write(frame)
        writer.finish(whole=True)
    angles = np.degrees(np.hstack([true.gaze, true.head]))
    with open(labels, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["file_or_time", "pitch_deg", "yaw_deg", "head_pitch_deg", "head_yaw_deg"])
        for number, row in enumerate(angles):
            table.writerow([f"{number / true.frames_per_sec:.3f}", *(f"{angle:.3f}" for angle in row)])


def run(*arguments) -> str:
    """Run a command as a user types it; prints and returns its output."""
    command = [sys.executable, *map(str, arguments)]
    print(f"$ {shlex.join(['python', *command[1:]])}", flush=True)
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    print(done.stdout, flush=True)
    return done.stdout


def left_out(report: Path, true: RenderedVideo) -> dict:
    """How many frames were kept, and how many with closed and with open eyes were left out."""
    with open(report, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    kept = np.array([row["row"] != "" for row in rows])
    closed, opened = true.openness <= CLOSED, true.openness >= OPEN
    return {
        "kept": int(kept.sum()),
        "closed": int(closed.sum()),
        "closed_left_out": int((closed & ~kept).sum()),
        "open": int(opened.sum()),
        "open_left_out": int((opened & ~kept).sum()),
    }


def shut_eyes(name: str, source: Sequence[np.ndarray], result: Sequence[np.ndarray], true: RenderedVideo) -> dict:
    """How many frames with truly shut eyes, read so or not, were changed there by more than encoding changes."""
    shut = np.flatnonzero(true.openness < SHUT)
    changed = sum(eyes_drawn(source[number], result[number], true.eyes[number]) for number in shut)
    return {"shut": len(shut), f"{name}_shut_changed": changed}


def frames_of(path: Path) -> list[np.ndarray]:
    with open_video(path, "--video") as video:
        return [frame.pixels for frame in video]


def redirected_photos(path: Path, true: RenderedVideo, checkpoint: Path) -> list[np.ndarray]:
    """Each frame with eyes into the camera, as `vaegaze redirect --image --head` does; `path` holds each in between."""
    loaded, redirected = load_checkpoint(checkpoint), []
    to_device(loaded.model, torch.device("cpu"))
    for frame, head in zip(true.frames, true.head):
        Image.fromarray(frame).save(path)
        photo = load_photo(path, None, None, head, loaded.model.canvas)
        reference = reference_of("auto", loaded, photo)
        (drawn,) = redraw_gazes(loaded.model, photo, reference, np.zeros((1, 2)))
        redirected.append(paste(photo, drawn, irises=own_irises(photo, drawn, np.zeros(2))))
    return redirected


def judge(frames: Sequence[np.ndarray], true: RenderedVideo) -> tuple[float, float]:
    """Mean angles in degrees from the estimator's reading to the camera and to the true gaze; of open eyes.

    The true eye centres and head poses align the frames.
    """
    estimator = load_estimator(ESTIMATOR).model
    if len(frames) != len(true.frames):
        raise SystemExit(f"the video has {len(frames)} frames, not {len(true.frames)}")
    seen, looked = [], []
    for frame, eyes, head, gaze, openness in zip(frames, true.eyes, true.head, true.gaze, true.openness):
        if openness >= OPEN:
            face = align_face(frame, eyes, head, CANVAS)
            seen.append(face.image)
            looked.append(rolled(gaze, face.roll_rad))
    with torch.no_grad():
        read = torch.cat([estimator(few) for few in to_unit_range(np.stack(seen)).split(16)])
    to_camera = angular_error_deg(read, torch.zeros_like(read)).mean().item()
    return to_camera, angular_error_deg(read, torch.from_numpy(np.stack(looked)).float()).mean().item()


if __name__ == "__main__":
    sys.exit(main())
