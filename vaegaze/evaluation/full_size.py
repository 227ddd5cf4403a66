"""How well eyes are redrawn in the picture that a user gets: at its own size, pasted, against the true picture.

Judged is the part of the picture that depends on the gaze (`renderer.eyes.eye_areas`), whatever mask a model draws in.
"""

import statistics
from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image, ImageFilter

from vaegaze.evaluation.gaze import Estimator, read_gaze, reading_errors
from vaegaze.evaluation.iris import find_irises, travel_and_offset
from vaegaze.evaluation.rendered_faces import RenderedFace
from vaegaze.geometry.camera import EYE_CENTRES_MM
from vaegaze.geometry.pasting import inward_alpha
from vaegaze.images.colours import colour_shift
from vaegaze.images.sharpness import laplacian_variance
from vaegaze.models import to_unit_range
from vaegaze.renderer.eyes import eye_areas

BEST_PSNR_DB = 100.0  # of a perfect copy
NO_EDGE_PX = 3  # skin and sclera are judged this far from the lids and the limbus
EDGE_OF_EYE = (
    0.125  # how far from a mask's border its edge is looked for (sigma) / half the distance between eye corners
)


def judge(
    pasted: Sequence[np.ndarray],
    faces: Sequence[RenderedFace],
    estimator: Estimator | None = None,
    check: Callable[[], None] = lambda: None,
) -> dict[str, float | None]:
    """Numbers of one person's redirected frames: for each face its K results (K, H, W, 3) uint8.

    eye_psnr       in dB, mean over pictures
    eye_l1         mean absolute difference of pictures in [−1, 1]
    sharpness      variance of the Laplacian, result / true; median over eyes
    sclera_shift   CIE76 ΔE between the median colours of the white of the eye; None if none is seen
    skin_shift     the same of the skin around the lids
    edge           mean gradient across the mask's border, result / true; 1: invisible
    travel_…, iris_offset           see `iris.travel_and_offset`
    gaze_…, estimator_error_deg     see `gaze_numbers`
    """
    found: dict[str, list[float]] = {
        name: [] for name in ("eye_psnr", "eye_l1", "sharpness", "sclera_shift", "skin_shift", "edge")
    }
    irises = []
    for results, face in zip(pasted, faces, strict=True):
        check()
        for name, values in face_numbers(results, face).items():
            found[name] += values
        irises.append(np.stack([find_irises(result, face.eyes) for result in results]))
    means = {name: statistics.fmean(values) if values else None for name, values in found.items()}
    means["sharpness"] = statistics.median(found["sharpness"])
    numbers = means | travel_and_offset(irises, [face.irises for face in faces], [eye_distance_px(f) for f in faces])
    return numbers if estimator is None else numbers | gaze_numbers(estimator, pasted, faces)


def eye_distance_px(face: RenderedFace) -> float:
    left, right = face.camera.project(EYE_CENTRES_MM, face.photo.head)
    return float(np.linalg.norm(left - right))


def face_numbers(results: np.ndarray, face: RenderedFace) -> dict[str, list[float]]:
    """The numbers of each of a frame's K results, or of both its eyes; see `judge`."""
    area = eye_areas(tuple(face.photo.head), face.camera)
    rows, columns = (np.flatnonzero((area | face.photo.mask).any(axis=axis)) for axis in (1, 0))
    window = slice(max(rows[0] - 8, 0), rows[-1] + 9), slice(max(columns[0] - 8, 0), columns[-1] + 9)
    area, slope = area[window], border_slope(face.photo.mask[window], EDGE_OF_EYE * face.camera.eye_radius_px)
    left = np.arange(area.shape[1]) < area.shape[1] / 2
    found: dict[str, list[float]] = {
        name: [] for name in ("eye_psnr", "eye_l1", "sharpness", "sclera_shift", "skin_shift", "edge")
    }
    for result, true, parsing in zip(results, face.pictures, face.parsings):
        result, true, parsing = result[window], true[window], parsing[window]
        difference = (result[area].astype(np.float64) - true[area]) / 127.5
        squared = (difference**2).mean()
        found["eye_psnr"].append(min(10 * np.log10(4 / squared), BEST_PSNR_DB) if squared else BEST_PSNR_DB)
        found["eye_l1"].append(np.abs(difference).mean())
        for eye in (left, ~left):
            found["sharpness"].append(laplacian_variance(result, area & eye) / laplacian_variance(true, area & eye))
        for name, part in (("sclera_shift", shrunk(np.isin(parsing, (1, 2)))), ("skin_shift", shrunk(parsing == 0))):
            if (part & area).any():
                found[name].append(colour_shift(result[part & area], true[part & area]))
        found["edge"].append(gradient_across(result, slope) / gradient_across(true, slope))
    return found


def shrunk(mask: np.ndarray) -> np.ndarray:
    """(H, W) bool: the pixels of a mask that are farther than NO_EDGE_PX from its border."""
    return inward_alpha(mask, NO_EDGE_PX) >= 1


def border_slope(mask: np.ndarray, sigma_px: float) -> np.ndarray:
    """The gradient (2, H, W) of a softened mask (H, W): it points across the border, and is 0 away from it."""
    soft = Image.fromarray(mask.astype(np.uint8) * 255).filter(ImageFilter.GaussianBlur(sigma_px))
    return np.stack(np.gradient(np.asarray(soft, dtype=np.float32)))


def gradient_across(picture: np.ndarray, slope: np.ndarray) -> float:
    """How much grey changes across a border, summed along it; `slope` is its `border_slope`."""
    grey = np.asarray(Image.fromarray(picture).convert("L"), dtype=np.float32)
    return float(np.abs((np.stack(np.gradient(grey)) * slope).sum(axis=0)).sum())


def gaze_numbers(
    estimator: Estimator, pasted: Sequence[np.ndarray], faces: Sequence[RenderedFace]
) -> dict[str, float | None]:
    """Mean angular errors in degrees of what an estimator reads off the results.

    gaze_error_to_target_deg is against its reading of the true pictures; gaze_error_unbiased_deg against the label, the
    mean difference between readings of the true pictures and their labels taken off (None for a single picture);
    estimator_error_deg is its own error on the true pictures.
    """
    gaze = torch.from_numpy(np.concatenate([face.gazes for face in faces])).float()

    def read(pictures: Sequence[np.ndarray]) -> torch.Tensor:
        parts = []
        for few, face in zip(pictures, faces):
            head = torch.from_numpy(face.photo.head).expand(len(few), 2)
            parts.append(read_gaze(estimator, to_unit_range(few), head, face.camera))
        return torch.cat(parts)

    return reading_errors(read(pasted), read([face.pictures for face in faces]), gaze)
