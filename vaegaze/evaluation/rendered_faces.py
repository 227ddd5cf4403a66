"""Rendered frames at their own size, each with the same person, head and light looking elsewhere, to the pixel."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from vaegaze.data.photo import Photo
from vaegaze.data.samples import ARRAYS, Samples
from vaegaze.evaluation.iris import Eye
from vaegaze.geometry.alignment import place
from vaegaze.geometry.camera import EYE_CENTRES_MM, EYE_CORNERS_MM, Camera, canvas_camera
from vaegaze.geometry.eye_regions import corners_from_parsing, mask_in_photo, warp_mask
from vaegaze.geometry.transforms import warp
from vaegaze.renderer import render
from vaegaze.renderer.data_set import person_from_seed, scene_from_seed
from vaegaze.renderer.persons import Person, Scene, eye_gazes, eyeball_centres_mm
from vaegaze.renderer.redrawing import other_gazes

FACE_PX = 512  # side of the frames


@dataclass(frozen=True)
class RenderedFace:
    """One frame of a rendered person, and K true pictures of it with other gazes."""

    photo: Photo
    camera: Camera  # of the frame
    eyes: tuple[Eye, Eye]
    gazes: np.ndarray  # (K, 2)
    pictures: np.ndarray  # (K, H, W, 3) uint8
    parsings: np.ndarray  # (K, H, W) uint8, see `renderer.Rendering`
    irises: np.ndarray  # (K, 2, 2): x, y of each iris's middle, exact

    @property
    def redirected(self) -> Samples:
        """The true pictures on the canvas, with the eye mask, head and index of the frame."""
        repeated = self.photo.samples.take(np.zeros(len(self.gazes), int))
        shape = self.photo.samples.canvas.shape
        images = np.stack([warp(picture, self.photo.to_canvas, *shape)[0] for picture in self.pictures])
        return replace(repeated, images=images, gaze=self.gazes.astype(np.float32))


def rendered_photo(split: str, seed: int, number: int, sample: int, canvas: Camera, *, face_px: int = FACE_PX) -> Photo:
    """Picture `sample` of a rendered person as a photo whose eye corners are known, placed on a model's canvas."""
    person, scene = person_from_seed(seed, number, split), scene_from_seed(seed, number, sample, split)
    camera, head = canvas_camera(face_px), np.array(scene.head)
    rendering = render(person, scene, camera)
    to_canvas = place(camera, head, canvas)
    corners, by_pose = corners_from_parsing(rendering.face_parsing), camera.project(EYE_CORNERS_MM, head)
    corners = np.where(np.isnan(corners), by_pose, corners)
    mask = mask_in_photo(camera.shape, to_canvas, head, canvas, corners)
    image, valid = warp(rendering.image, to_canvas, *canvas.shape)
    gaze, head = (np.array(angles, np.float32) for angles in (scene.gaze, scene.head))
    eye_mask = warp_mask(mask, to_canvas, canvas)
    samples = Samples(*(each[None] for each in (image, eye_mask, valid, gaze, head)), np.array([sample]), canvas)
    eyes = camera.project(EYE_CENTRES_MM, head)
    return Photo(samples, rendering.image, rendering.image, mask, eyes, to_canvas, gaze, head)


def rendered_face(
    split: str, seed: int, number: int, sample: int, canvas: Camera, *, gazes: int, face_px: int = FACE_PX
) -> RenderedFace:
    """Picture `sample` of a rendered person with its first so many other gazes; see `renderer.redrawing`."""
    photo = rendered_photo(split, seed, number, sample, canvas, face_px=face_px)
    person, scene = person_from_seed(seed, number, split), scene_from_seed(seed, number, sample, split)
    camera, looks = canvas_camera(face_px), other_gazes(photo.samples)[0, :gazes]
    scenes = [replace(scene, gaze=tuple(gaze)) for gaze in looks.tolist()]
    renderings = [render(person, each, camera) for each in scenes]
    eyes = rendered_eyes(person, scene, camera)
    irises = [[eye.iris_px(gaze) for eye, gaze in zip(eyes, eye_gazes(person, each))] for each in scenes]
    pictures, parsings = (np.stack([getattr(r, name) for r in renderings]) for name in ("image", "face_parsing"))
    return RenderedFace(photo, camera, eyes, looks, pictures, parsings, np.array(irises))


def rendered_eyes(person: Person, scene: Scene, camera: Camera) -> tuple[Eye, Eye]:
    """The person's eyes as the camera sees them, the picture's left one first."""
    head = np.array(scene.head)
    left, right = (
        Eye(centre, person.eyeball_radius_mm, person.iris_radius_mm, head, camera)
        for centre in eyeball_centres_mm(person)
    )
    return left, right


def joined(samples: Sequence[Samples]) -> Samples:
    """Samples on the same canvas, one after another."""
    return replace(samples[0], **{name: np.concatenate([getattr(each, name) for each in samples]) for name in ARRAYS})
