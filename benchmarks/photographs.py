"""How photographs of your own come out: faces found, eyes that look closed, and the eyes redrawn.

    python -m benchmarks.photographs FOLDER

Every face whose eyes are far enough apart is made to look into the camera, 20° left and right, 12° up and down. The
numbers of a face are, in the eyes' mask, result / photo:

sharpness   variance of the Laplacian, median over results and eyes
edge        gradient across the mask's border, mean over results; 1: as much as before

Both also for results with irises as drawn. The last line is one JSON object, with medians over the faces, and the
share of results that have the photo's own irises.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from benchmarks.forecast import say_beforehand
from vaegaze.data.photo import Photo, load_photo, own_irises, paste
from vaegaze.errors import UserError
from vaegaze.evaluation.full_size import EDGE_OF_EYE, border_slope, gradient_across
from vaegaze.faces.reader import BACKENDS, closed_below, read_picture
from vaegaze.geometry.transforms import scale_of
from vaegaze.images.pictures import read_picture as read_file
from vaegaze.images.pictures import rgb_over_white
from vaegaze.images.sharpness import laplacian_variance
from vaegaze.models.checkpoint import load_checkpoint
from vaegaze.redirecting.drawing import redraw_gazes, reference_of

FOUND_SEC, REDRAWN_SEC = 0.3, 1.55  # a face of 512 × 512 px, of a Zen 3 core, for the forecast
GAZES = np.radians([(0, 0), (0, 20), (0, -20), (12, 0), (-12, 0)])


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--checkpoint", default="checkpoints/pretrained_model.pth", help="(default: %(default)s)")
    parser.add_argument("--by", choices=BACKENDS, help="read faces with this (default: landmarks where installed)")
    parser.add_argument("--least_px", type=float, default=15, help="between the eyes of a face (default: %(default)s)")
    parser.add_argument("--only_find", action="store_true", help="redraw nothing")
    given = parser.parse_args(argv)
    pictures = sorted(given.folder.iterdir())
    seconds = len(pictures) * (FOUND_SEC + (0 if given.only_find else REDRAWN_SEC))
    say_beforehand(f"{len(pictures)} pictures (of one face each, as a guess)", seconds)
    checkpoint = load_checkpoint(given.checkpoint)
    found, closed, kept, numbers, as_drawn = 0, 0, [], [], []
    for path in pictures:
        try:
            faces = read_picture(read_file(path, "image").rgb(), given.by)
        except UserError as error:
            print(error)
            continue
        shut = [bool(face.openness.mean() < closed_below(face)) for face in faces]
        found, closed = found + len(faces), closed + sum(shut)
        print(f"{path.name}: {len(faces)} faces, {sum(shut)} with closed eyes")
        for number, face in enumerate(faces, 1):
            if given.only_find or face.eye_distance_px < given.least_px:
                continue
            try:
                photo = load_photo(path, None, None, None, checkpoint.model.canvas, number)
            except UserError as error:
                print(f"  {number}: {error}")
                continue
            drawn = redraw_gazes(checkpoint.model, photo, reference_of("auto", checkpoint, photo), GAZES)
            photo = photo.around_face()
            irises = [own_irises(photo, *each) for each in zip(drawn, GAZES)]
            kept += map(bool, irises)
            as_drawn.append(judge(photo, drawn, [()] * len(drawn)))
            numbers.append(judge(photo, drawn, irises))
            sharpness, edge = numbers[-1]
            print(f"  {number}: eyes {face.eye_distance_px:.0f} px apart, sharpness {sharpness:.2f}, edge {edge:.2f}")
    summary = {"faces": found, "closed": closed, "redrawn": len(numbers)}
    if numbers:
        summary["own_irises"] = round(float(np.mean(kept)), 3)
        for name, each in (("", numbers), ("_irises_as_drawn", as_drawn)):
            medians = np.median(each, axis=0).round(3).tolist()
            summary |= dict(zip((f"sharpness{name}", f"edge{name}"), medians))
    print(json.dumps(summary))
    return 0


def judge(photo: Photo, drawn: np.ndarray, irises: list) -> tuple[float, float]:
    """Sharpness and edge of drawings on the canvas (K, H, W, 3), pasted with `irises`; see the top of this file."""
    canvas, mask = photo.samples.canvas, photo.mask
    slope = border_slope(mask, EDGE_OF_EYE * canvas.eye_radius_px / scale_of(photo.to_canvas))
    left = np.arange(mask.shape[1]) < photo.eyes[:, 0].mean()
    eyes = [mask & side for side in (left, ~left) if (mask & side).any()]
    results = [rgb_over_white(paste(photo, each, irises=own)) for each, own in zip(drawn, irises)]
    sharpness = [
        laplacian_variance(result, eye) / laplacian_variance(photo.picture, eye) for result in results for eye in eyes
    ]
    edges = [gradient_across(result, slope) / gradient_across(photo.picture, slope) for result in results]
    return float(np.median(sharpness)), float(np.mean(edges))


if __name__ == "__main__":
    sys.exit(main())
