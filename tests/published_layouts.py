"""Files of every published layout, written as its writer does it: a camera's photos, normalised, with their labels.

The photos are rendered, so where the person looks is known. What follows is each writer's own procedure (Zhang et al.,
"Revisiting data normalization", ETRA 2018, section 3.3), and knows nothing of how vaegaze reads the result.
"""

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

from vaegaze.geometry import camera as geometry
from vaegaze.geometry.camera import canvas_camera
from vaegaze.renderer import data_set as synthetic
from vaegaze.renderer.data_set import Person, Scene, eye_gazes, render

PHOTO_PX = 384
CAMERA_ROLL = np.array([[np.cos(0.2), -np.sin(0.2), 0], [np.sin(0.2), np.cos(0.2), 0], [0, 0, 1]])  # normalised away
BLUE = (0.01, 0.03, 0.35)

# Eye corners and the nose's lower corners, mm: rows 20, 23, 26, 29, 15, 19 of ETH-XGaze's face_model.txt, rounded.
XGAZE_LANDMARKS = np.array(
    [
        [-46.51, -38.33, 36.42],
        [-17.76, -32.59, 29.08],
        [18.04, -30.96, 29.06],
        [44.74, -34.11, 36.73],
        [-10.61, 12.96, 21.62],
        [11.29, 13.86, 21.84],
    ]
)
XGAZE_EYES = XGAZE_LANDMARKS[:4].mean(axis=0)
XGAZE_CENTRE = (XGAZE_EYES + XGAZE_LANDMARKS[4:].mean(axis=0)) / 2 - XGAZE_EYES  # from the point between the eyes


@dataclass(frozen=True)
class Camera:
    """A writer's normalised camera."""

    focal_px: float
    distance_mm: float
    height_px: int
    width_px: int
    centre_mm: tuple | np.ndarray  # what it looks at, from the point between the eyes


@dataclass(frozen=True)
class Normalised:
    """One sample, as the writer has it before it is stored."""

    frame: np.ndarray  # (H, W, 3) uint8 RGB
    parsing: np.ndarray  # (H, W) uint8
    rotation: np.ndarray  # (3, 3) of the head, normalised
    gaze: np.ndarray  # (3,) normalised, from the centre towards the target
    eyes: np.ndarray  # (2, 3) the same of each eye


CAMERAS = {
    "ST-ED": Camera(500, 600, 128, 128, (0, 30, 0)),
    "FAZE": Camera(1300, 600, 64, 256, (0, 1.5, -3)),
    "upstream": Camera(1000, 600, 256, 256, (0, 30, 0)),
    "ETH-XGaze": Camera(960, 300, 448, 448, XGAZE_CENTRE),
    "ETH-XGaze 224": Camera(480, 300, 224, 224, XGAZE_CENTRE),
    "GazeNeRF (GazeCapture)": Camera(1200, 680, 512, 512, XGAZE_CENTRE),
    "GazeNeRF (ETH-XGaze)": Camera(1600, 680, 512, 512, XGAZE_CENTRE),
    "GazeNeRF (MPIIFaceGaze)": Camera(1400, 680, 512, 512, XGAZE_CENTRE),
}


def somebody() -> Person:
    """Somebody with blue irises in wide open eyes, and skin that is anything but blue."""
    person = synthetic.person_from_seed(0, 1)
    return replace(
        person, glasses=False, iris_contrast=0.0, limbus=0.0, iris_colour=BLUE, iris_ring_colour=BLUE, lashes=0.0,
        eyeliner=0.0, eyeshadow=0.0, sclera_redness=0.0, epicanthus=0.0, lid_peak=0.0,
    )  # fmt: skip


def scene(gaze=(0.0, 0.0), head=(0.0, 0.0)) -> Scene:
    return Scene(gaze=gaze, head=head, blur_px=0.3, noise=0, lid_opening=1.6, pupil_mm=1.2)


@cache
def photo(person: Person, scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    rendering = render(person, scene, canvas_camera(PHOTO_PX))
    return rendering.image, rendering.face_parsing


def normalised(person: Person, scene: Scene, camera: Camera) -> Normalised:
    """Warps a photo that a camera with roll has taken as the writers' normalizeData does."""
    image, parsing = photo(person, scene)
    renderer = geometry.canvas_camera(PHOTO_PX)
    photo_camera = np.array([[renderer.focal_px, 0, PHOTO_PX / 2], [0, renderer.focal_px, PHOTO_PX / 2], [0, 0, 1]])
    unrolled = geometry.head_rotation(scene.head)
    head, eyes_middle = CAMERA_ROLL @ unrolled, CAMERA_ROLL @ (unrolled @ -np.array(renderer.origin_mm) + (0, 0, 600))
    target = eyes_middle + CAMERA_ROLL @ (scene.target_mm * geometry.gaze_vector(scene.gaze))

    centre = head @ np.asarray(camera.centre_mm) + eyes_middle
    forward = centre / np.linalg.norm(centre)
    down = np.cross(forward, head[:, 0])
    down /= np.linalg.norm(down)
    right = np.cross(down, forward)
    right /= np.linalg.norm(right)
    turn = np.stack([right, down, forward])
    scale = np.diag([1, 1, camera.distance_mm / np.linalg.norm(centre)])
    to_pixels = np.array(
        [[camera.focal_px, 0, camera.width_px / 2], [0, camera.focal_px, camera.height_px / 2], [0, 0, 1]]
    )
    warp = to_pixels @ scale @ turn @ CAMERA_ROLL @ np.linalg.inv(photo_camera)  # the roll turns photos, too

    gaze = turn @ (target - centre)
    return Normalised(
        frame=_warped(image, warp, camera, Image.Resampling.BICUBIC),
        parsing=_warped(parsing, warp, camera, Image.Resampling.NEAREST),
        rotation=turn @ head,
        gaze=gaze / np.linalg.norm(gaze),
        eyes=geometry.gaze_vector(eye_gazes(person, scene)) @ (turn @ CAMERA_ROLL).T,
    )


def _warped(picture: np.ndarray, warp: np.ndarray, camera: Camera, resample: Image.Resampling) -> np.ndarray:
    back = np.linalg.inv(warp)
    size, how = (camera.width_px, camera.height_px), Image.Transform.PERSPECTIVE
    return np.asarray(Image.fromarray(picture).transform(size, how, (back / back[2, 2]).ravel()[:8], resample))


def minus_pitch_yaw(v: np.ndarray) -> list[float]:
    """Of where somebody looks: up and to the image's left are positive."""
    return [np.arcsin(-v[1]), np.arctan2(-v[0], -v[2])]


def head_pitch_yaw(rotation: np.ndarray) -> list[float]:
    """Of a head, by its third column, as every one of the writers has it."""
    x, y, z = rotation[:, 2]
    return [np.arcsin(y), np.arctan2(x, z)]


def write(path: Path, name: str, scenes: list[Scene], person: Person | None = None, person_id: str = "00002") -> Path:
    """Writes the person's samples as the layout's writer does: into a group, or as the whole file."""
    samples = [normalised(person or somebody(), scene, CAMERAS[name]) for scene in scenes]
    with h5py.File(path, "a") as file:
        if name.startswith("ETH-XGaze"):
            _write_xgaze(file, samples)
        elif name.startswith("GazeNeRF"):
            _write_gazenerf(file, name, samples)
        else:
            _write_group(file.create_group(person_id), name, samples)
    return path


def _store(group: h5py.Group, key: str, rows: list, dtype, room: int | None = None, compression=None) -> None:
    rows = np.array(rows, dtype=dtype)
    shape = (room or len(rows), *rows.shape[1:])
    dataset = group.create_dataset(key, shape, dtype, chunks=(1, *shape[1:]), compression=compression)
    for index, row in enumerate(rows):
        dataset[index] = row


def _write_group(group: h5py.Group, name: str, samples: list[Normalised]) -> None:
    """swook/faze_preprocess create_hdf_files_for_sted.py and …_for_faze.py; the layout of ALable/FAGE."""
    labels = [minus_pitch_yaw(sample.gaze) + head_pitch_yaw(sample.rotation) for sample in samples]
    if name == "ST-ED":
        labels = [
            row + minus_pitch_yaw(left) + minus_pitch_yaw(right)
            for row, (left, right) in zip(labels, (sample.eyes for sample in samples))
        ]
    _store(group, "pixels", [sample.frame for sample in samples], "u1", compression="lzf")
    _store(group, "labels", labels, "f4", compression="lzf")
    if name == "upstream":
        _store(group, "face_parsing", [sample.parsing for sample in samples], "u1", compression="lzf")


def _write_xgaze(file: h5py.File, samples: list[Normalised]) -> None:
    """xucong-zhang/ETH-XGaze normalization_example.py: BGR as OpenCV has it, and room for eighteen times as many."""
    room, count = 18 * len(samples), len(samples)
    _store(file, "frame_index", [[index] for index in range(count)], "i8", room)
    _store(file, "cam_index", [[0]] * count, "i8", room)
    _store(file, "facial_landmarks", np.zeros((count, 68, 2)), "f8", room)
    _store(file, "face_patch", [sample.frame[..., ::-1] for sample in samples], "u1", room, "lzf")
    _store(file, "face_mat_norm", [np.eye(3)] * count, "f8", room)
    _store(file, "face_gaze", [minus_pitch_yaw(sample.gaze) for sample in samples], "f8", room)
    _store(file, "face_head_pose", [head_pitch_yaw(sample.rotation) for sample in samples], "f8", room)


def _write_gazenerf(file: h5py.File, name: str, samples: list[Normalised]) -> None:
    """AlessandroRuzzi/GazeNeRF dataset_pre_processing.py: gaze in the head's frame, with pitch = asin(+y)."""
    room = 100 if "GazeCapture" in name else len(samples)
    in_head = [sample.rotation.T @ sample.gaze for sample in samples]
    _store(file, "cam_index", [[0]] * len(samples), "u1", room)
    if "GazeCapture" not in name:
        _store(file, "frame_index", [[0]] * len(samples), "u1", room)
    if "MPIIFaceGaze" in name:
        _store(file, "face_center", [[0, 0, 680]] * len(samples), "f8", room, "lzf")
    _store(file, "face_patch", [sample.frame[..., ::-1] for sample in samples], "u1", room, "lzf")
    for key, labels in (("left_eye_mask", (1, 3)), ("right_eye_mask", (2, 4))):
        _store(file, key, [255 * np.isin(sample.parsing, labels) for sample in samples], "u1", room, "lzf")
    _store(file, "head_mask", [np.full_like(sample.parsing, 255) for sample in samples], "u1", room, "lzf")
    _store(file, "pitchyaw_head", [[np.arcsin(v[1]), np.arctan2(-v[0], -v[2])] for v in in_head], "f8", room, "lzf")
    _store(file, "face_head_pose", [head_pitch_yaw(sample.rotation) for sample in samples], "f8", room, "lzf")
