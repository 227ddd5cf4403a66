"""What the photo's own detail and irises bring to a drawing, on rendered faces whose true pictures are known.

    python -m benchmarks.pasting

A base model redraws frames of rendered val persons with other gazes. Each drawing is pasted alone, with detail, with
detail and irises as of a photo, and as of a data set's frame, of which it is known where it looks. The numbers are
those of `evaluation.full_size.judge`, means over persons. The last line is one JSON object.
"""

import argparse
import json
import sys
from dataclasses import replace

import numpy as np

from benchmarks.forecast import say_beforehand
from vaegaze.data.photo import own_irises, paste
from vaegaze.evaluation.full_size import judge
from vaegaze.evaluation.rendered_faces import FACE_PX, RenderedFace, rendered_face
from vaegaze.images.pictures import rgb_over_white
from vaegaze.models.checkpoint import Checkpoint, load_checkpoint
from vaegaze.models.estimator import load_estimator
from vaegaze.redirecting.drawing import redraw_gazes, reference_of

SAMPLES = (1, 5, 6)  # frames of each person
PICTURE_SEC = 1.15  # in all ways, of a Zen 3 core, for the forecast
SHOWN = ("eye_psnr", "eye_l1", "sharpness", "edge", "sclera_shift", "travel_pitch", "travel_yaw", "iris_offset",
         "gaze_error_to_target_deg")  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--checkpoint", default="checkpoints/pretrained_model.pth", help="(default: %(default)s)")
    parser.add_argument("--estimator", default="checkpoints/gaze_estimator/gaze_estimator.pth", help="(%(default)s)")
    parser.add_argument("--persons", type=int, default=12, help="(default: %(default)s)")
    parser.add_argument(
        "--gazes", type=int, default=4, help="other gazes of each frame, up to 8 (default: %(default)s)"
    )
    parser.add_argument("--face_px", type=int, default=FACE_PX, help="side of the frames (default: %(default)s)")
    given = parser.parse_args(argv)
    pictures = given.persons * len(SAMPLES) * given.gazes
    say_beforehand(f"{given.persons} persons, {pictures} pictures in 4 ways", pictures * PICTURE_SEC)
    checkpoint, estimator = load_checkpoint(given.checkpoint), load_estimator(given.estimator).model
    numbers: dict[str, list[dict]] = {"alone": [], "detail": [], "irises": [], "known": []}
    kept: list[bool] = []
    for number in range(1, given.persons + 1):
        faces = [
            rendered_face("val", 0, number, i, checkpoint.model.canvas, gazes=given.gazes, face_px=given.face_px)
            for i in SAMPLES
        ]
        pasted: dict[str, list[np.ndarray]] = {name: [] for name in numbers}
        for face in faces:
            for name, pictures, irises in _pasted(checkpoint, face):
                pasted[name].append(pictures)
                kept += irises
        for name, pictures in pasted.items():
            numbers[name].append(judge(pictures, faces, estimator))
        print(f"person {number}: eye PSNR " + ", ".join(f"{n} {v[-1]['eye_psnr']:.2f}" for n, v in numbers.items()))
    means = {
        name: {key: round(float(np.mean([person[key] for person in persons])), 4) for key in SHOWN}
        for name, persons in numbers.items()
    }
    for key in SHOWN:
        print(f"{key:<26}" + "".join(f"{means[name][key]:>10.4f}" for name in means))
    print(json.dumps({"own_irises": round(float(np.mean(kept)), 3), **means}))
    return 0


def _pasted(checkpoint: Checkpoint, face: RenderedFace):
    """Of each way of pasting its name, the pictures (K, H, W, 3), and which of them have the photo's irises."""
    of_photo = replace(face.photo, gaze=None)
    reference = reference_of("auto", checkpoint, face.photo)
    drawn, told = (redraw_gazes(checkpoint.model, each, reference, face.gazes) for each in (of_photo, face.photo))
    no_irises = [()] * len(face.gazes)
    irises = [own_irises(of_photo, *each) for each in zip(drawn, face.gazes)]
    known = [own_irises(face.photo, *each) for each in zip(told, face.gazes)]
    for name, each_way, detail, own in (
        ("alone", drawn, False, no_irises),
        ("detail", drawn, True, no_irises),
        ("irises", drawn, True, irises),
        ("known", told, True, known),
    ):
        results = [paste(face.photo, each, detail=detail, irises=each_own) for each, each_own in zip(each_way, own)]
        yield name, np.stack([rgb_over_white(each) for each in results]), list(map(bool, own)) if own is irises else []


if __name__ == "__main__":
    sys.exit(main())
