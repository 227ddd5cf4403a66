"""How much of an eye's texture an autoencoder keeps: pictures go through it at their own size, nothing is redrawn.

    python -m benchmarks.autoencoder --vae checkpoints/autoencoder.pth

Judged are the boxes around the eyes (1.4 corner radii each way) of a photograph and of rendered val persons: peak
signal-to-noise ratio over them, and sharpness, the variance of the Laplacian, result / true. "smoothed" has that ratio
after the small smoothing of `vaegaze.images.sharpness`, which takes most of the sensor's noise away. The last line is
one JSON object.
"""

import argparse
import json
import sys
from collections.abc import Iterable

import numpy as np
import torch

from benchmarks.forecast import say_beforehand
from vaegaze.commands.running import run_command
from vaegaze.geometry.camera import EYE_CENTRES_MM, EYE_CORNERS_MM, canvas_camera, eye_circles
from vaegaze.images.pictures import read_picture
from vaegaze.models import AutoencoderKL, to_pixels, to_unit_range
from vaegaze.models.diffusers.files import open_source
from vaegaze.models.diffusers.parts import config_of
from vaegaze.renderer import data_set

BOX = 1.4  # corner radii from an eye's centre to its box's edges
MARGIN_PX = 64  # around the boxes, of what goes through the autoencoder
FACE_PX, FRAMES = 512, 5
PERSON_SEC = 1.1  # of a Zen 3 core, for the forecast
ASTRONAUTS_EYES = (202.7, 100.9, 247.7, 103.4)
SMOOTHING = np.array([1, 2, 1]) / 4


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.autoencoder", description=__doc__.splitlines()[0])
    parser.add_argument("--vae", required=True, metavar="PATH", help="folder or file with the autoencoder")
    parser.add_argument("--picture", default="docs/images/astronaut.png", metavar="PATH", help="of one face")
    parser.add_argument("--eyes", type=float, nargs=4, default=ASTRONAUTS_EYES, metavar="PX", help="its eyes: x y x y")
    parser.add_argument("--persons", type=int, default=12, metavar="N", help="rendered val persons")
    args = parser.parse_args(argv)
    return run_command(lambda: run(args))


def run(args: argparse.Namespace) -> None:
    say_beforehand(f"a photograph and {args.persons} rendered persons", args.persons * PERSON_SEC)
    vae = load_autoencoder(args.vae)
    picture = read_picture(args.picture, "--picture").rgb()
    results = {
        "photograph": judge(vae, [(picture, circles_of(np.reshape(args.eyes, (2, 2))))]),
        "rendered": judge(vae, map(rendered_face, range(args.persons))),
    }
    for name, result in results.items():
        print(f"{name:10}  " + "  ".join(f"{key} {value:.3f}" for key, value in result.items()))
    print(json.dumps(results))


def load_autoencoder(path: str) -> AutoencoderKL:
    source = open_source(path, ["vae"])
    weights = source.contents.parts["vae"]
    vae = AutoencoderKL(**config_of(path, "vae", weights, source.configs.get("vae"))).eval()
    vae.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    return vae


def circles_of(eyes: np.ndarray) -> np.ndarray:
    """Centres (2, 2) → (2, 3) = x, y, corner radius, of a face seen from the front."""
    corners = np.linalg.norm(EYE_CORNERS_MM[:, 0] - EYE_CORNERS_MM[:, 1], axis=-1).mean() / 2
    share = corners / np.linalg.norm(EYE_CENTRES_MM[0] - EYE_CENTRES_MM[1])
    return np.column_stack([eyes, np.full(2, share * np.linalg.norm(eyes[1] - eyes[0]))])


def rendered_face(number: int) -> tuple[np.ndarray, np.ndarray]:
    camera, scene = canvas_camera(FACE_PX), data_set.scene_from_seed(0, number, number % FRAMES, "val")
    image = data_set.render(data_set.person_from_seed(0, number, "val"), scene, camera).image
    return image, eye_circles(scene.head, camera)


def judge(vae: AutoencoderKL, faces: Iterable[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    measured = np.array([compare(face, through(vae, face, circles), circles) for face, circles in faces])
    psnr, sharpness, smoothed = measured.T
    return {
        "psnr": psnr.mean(),
        "worst_psnr": psnr.min(),
        "sharpness": sharpness.mean(),
        "median_sharpness": float(np.median(sharpness)),
        "worst_sharpness": sharpness.min(),
        "smoothed": smoothed.mean(),
    }


@torch.no_grad()
def through(vae: AutoencoderKL, face: np.ndarray, circles: np.ndarray) -> np.ndarray:
    """The face (H, W, 3) uint8 with the surroundings of the eyes encoded and decoded."""
    reach = BOX * circles[:, 2].max() + MARGIN_PX
    low = np.maximum((circles[:, :2].min(axis=0) - reach) // 16 * 16, 0).astype(int)
    high = np.minimum(-((-circles[:, :2].max(axis=0) - reach) // 16) * 16, face.shape[1::-1]).astype(int)
    part = slice(low[1], high[1]), slice(low[0], high[0])
    result = face.copy()
    pictures = to_unit_range(face[part][None].copy())
    result[part] = to_pixels(vae.decode(vae.encode(pictures).latent_dist.mode()).sample)[0]
    return result


def compare(true: np.ndarray, drawn: np.ndarray, circles: np.ndarray) -> tuple[float, float, float]:
    """PSNR in dB over both boxes; sharpness drawn / true, plain and smoothed, mean of the boxes."""
    errors, ratios = [], []
    for x, y, radius in circles:
        top, bottom, left, right = (max(0, round(e)) for c in (y, x) for e in (c - BOX * radius, c + BOX * radius))
        boxes = [picture[top:bottom, left:right].astype(float) for picture in (drawn, true)]
        errors.append(((boxes[0] - boxes[1]) ** 2).ravel())
        grey = [box @ (0.299, 0.587, 0.114) for box in boxes]
        plain, smoothed = [sharpness(each) for each in grey], [sharpness(smooth(each)) for each in grey]
        ratios.append([plain[0] / plain[1], smoothed[0] / smoothed[1]])
    return 10 * np.log10(255**2 / np.concatenate(errors).mean()), *np.mean(ratios, axis=0)


def sharpness(grey: np.ndarray) -> float:
    inner = grey[1:-1, 1:-1]
    return (grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * inner).var()


def smooth(grey: np.ndarray) -> np.ndarray:
    for _ in range(2):  # rows, then columns
        grey = sum(weight * grey[i : len(grey) - 2 + i] for i, weight in enumerate(SMOOTHING)).T
    return grey


if __name__ == "__main__":
    sys.exit(main())
