"""How well faces are read, on rendered ones whose truth is known: eyes, irises, head pose, gaze, lids.

    python -m benchmarks.faces

Draws persons with and without glasses, their heads turned up to ±30° of yaw, ±20° of pitch and ±45° of roll, and reads
each picture with both backends; then as many with lids that are open, half shut and shut. Then draws clips, several
pictures of one person each, and takes the median error of a head pose off, as by a calibration. The last line is one
JSON object.
"""

import argparse
import json
import sys
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.forecast import say_beforehand
from vaegaze.errors import UserError
from vaegaze.faces.face import Face
from vaegaze.faces.gaze import gaze_of
from vaegaze.faces.landmarks import EYE_WIDTH_MM, OPEN_GAP
from vaegaze.faces.reader import BACKENDS, closed_below, read_picture
from vaegaze.geometry.camera import EYE_CENTRES_MM, EYE_CORNERS_MM, Camera, gaze_vector, head_rotation, rolled
from vaegaze.geometry.transforms import move, warp
from vaegaze.renderer.data_set import eye_gazes, person_from_seed, render, scene_from_seed
from vaegaze.renderer.persons import eyeball_centres_mm

SIZE_PX, FOCAL_PX = 512, 1300.0  # the whole head is in view
MAX_YAW_DEG, MAX_PITCH_DEG, MAX_ROLL_DEG = 30, 20, 45
PICTURE_SEC = 0.44  # rendered and read twice, of a Zen 3 core, for the forecast
IN_CLIP = 6  # pictures of one person
BLINKS = (0.0, 0.5, 1.0)  # of the pictures whose lids are judged, in turn
FOUND = 0.15  # distances of the eyes: an eye found farther from its place is not found


@dataclass(frozen=True)
class TrueFace:
    """A rendered picture and what is true of it, as seen in the picture."""

    picture: np.ndarray  # (512, 512, 3) uint8
    eyes: np.ndarray  # (2, 2)
    irises: np.ndarray  # (2, 2) centres
    head: np.ndarray  # (2,) rad
    gaze: np.ndarray  # (2,) rad
    openness: float  # of both eyes, as landmarks measure it: the gap of the lids in their middle
    shut: bool


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--pictures", type=int, default=40, help="(default: %(default)s)")
    parser.add_argument("--clips", type=int, default=12, help="(default: %(default)s)")
    given = parser.parse_args(argv)
    count = 2 * given.pictures + given.clips * IN_CLIP
    say_beforehand(f"{count} pictures, read in {len(BACKENDS)} ways", count * PICTURE_SEC)
    true = [true_face(number) for number in range(given.pictures)]
    lids = [true_face(number, blink=BLINKS[number % len(BLINKS)]) for number in range(given.pictures)]
    numbers = {}
    for backend in BACKENDS:
        try:
            numbers[backend] = judge(read_by(backend, true), true) | judge_lids(read_by(backend, lids), lids)
        except UserError as error:
            print(f"{backend}: {error}")
            continue
        if backend == "landmarks" and given.clips:
            numbers[backend] |= judge_clips([clip(number) for number in range(1, given.clips + 1)])
    columns = list(numbers)
    print("".join([f"{'':<48}", *(f"{column:>12}" for column in columns)]))
    for what in dict.fromkeys(what for column in columns for what in numbers[column]):
        print("".join([f"{what:<48}", *(f"{numbers[column].get(what, '–'):>12}" for column in columns)]))
    print(json.dumps(numbers))
    return 0


def read_by(backend: str, true: list[TrueFace]) -> list[Face | None]:
    return [nearest(read_picture(each.picture, backend), each) for each in true]


def clip(person: int) -> list[TrueFace]:
    return [true_face(100 * person + number, person) for number in range(IN_CLIP)]


def true_face(number: int, person_number: int | None = None, blink: float = 0.0) -> TrueFace:
    """A person, by default number `number` + 1, turned at random; every other picture with glasses."""
    person_number = number + 1 if person_number is None else person_number
    rng = np.random.default_rng([7, number])
    limits = np.radians([MAX_PITCH_DEG, MAX_YAW_DEG, MAX_ROLL_DEG])
    pitch, yaw, roll_rad = rng.uniform(-limits, limits)
    person = replace(person_from_seed(0, person_number), glasses=number % 2 == 1)
    scene = replace(scene_from_seed(0, person_number, 0), head=(pitch, yaw), blink=blink, lid_opening=1.0)
    gaze = np.array([pitch, yaw]) + rng.uniform(-0.25, 0.25, 2)  # seldom far from where the head points
    scene = replace(scene, gaze=tuple(gaze))
    camera = Camera(SIZE_PX, SIZE_PX, FOCAL_PX)
    rotation = head_rotation(scene.head)
    depth_mm = np.sqrt(person.eyeball_radius_mm**2 - person.iris_radius_mm**2)
    irises_mm = eyeball_centres_mm(person) + depth_mm * gaze_vector(eye_gazes(person, scene)) @ rotation
    cos, sin = np.cos(roll_rad), np.sin(roll_rad)
    turn = np.array([[cos, -sin], [sin, cos]])
    turn = np.column_stack([turn, camera.centre_px - turn @ camera.centre_px])
    rendering = render(person, scene, camera)
    picture, _ = warp(rendering.image, turn, *camera.shape)
    places = [move(turn, camera.project(points, scene.head)) for points in (EYE_CENTRES_MM, irises_mm)]
    head, gaze = rolled(np.array(scene.head), roll_rad), rolled(gaze, roll_rad)
    openness = true_openness(rendering.face_parsing, scene.head, camera)
    return TrueFace(picture, *places, head, gaze, openness, blink == 1)


def true_openness(face_parsing: np.ndarray, head: tuple[float, float], camera: Camera) -> float:
    """Of both eyes, before the picture is turned: what is seen between the lids, in the middle of each eye."""
    gaps_px = []
    for corners in camera.project(EYE_CORNERS_MM, head):
        middle, half = corners[:, 0].mean(), abs(np.diff(corners[:, 0]).item()) / 8
        columns = face_parsing[:, round(middle - half) : round(middle + half) + 1]
        gaps_px.append((columns > 0).sum(axis=0).mean())
    return float(np.mean(gaps_px)) * camera.distance_mm / camera.focal_px / (OPEN_GAP * EYE_WIDTH_MM)


def nearest(faces: list[Face], true: TrueFace) -> Face | None:
    """The face that was read where the true one is."""
    apart_px = np.linalg.norm(true.eyes[1] - true.eyes[0])
    there = [face for face in faces if np.linalg.norm(face.eyes - true.eyes, axis=1).max() < FOUND * apart_px]
    return there[0] if there else None


def judge(read: list[Face | None], true: list[TrueFace]) -> dict[str, float | str]:
    """Medians and means over the faces that were found; see docs/faces.md."""
    pairs = [(face, each) for face, each in zip(read, true) if face is not None]
    numbers: dict[str, float | str] = {"faces found": f"{len(pairs)} of {len(true)}"}
    if not pairs:
        return numbers
    apart = np.array([np.linalg.norm(each.eyes[1] - each.eyes[0]) for _, each in pairs])
    eyes_off = np.array([np.linalg.norm(face.eyes - each.eyes, axis=1).mean() for face, each in pairs])
    read_apart = np.array([face.eye_distance_px for face, _ in pairs])
    numbers["eye centres off, % of eye distance (median)"] = percent(np.median(eyes_off / apart))
    numbers["eyes too far out on each side, % (median)"] = percent(np.median((read_apart / apart - 1) / 2))
    if pairs[0][0].irises is None:
        return numbers
    irises_off = np.array([np.linalg.norm(face.irises[:, :2] - each.irises, axis=1).mean() for face, each in pairs])
    numbers["iris centres off, % of eye distance (median)"] = percent(np.median(irises_off / apart))
    heads = np.degrees([[face.head, each.head] for face, each in pairs])  # (K, 2: read and true, 2)
    for axis, name in enumerate(("pitch", "yaw")):
        got, truth = heads[:, 0, axis], heads[:, 1, axis]
        slope, offset = np.polyfit(truth, got, 1)
        numbers[f"head {name}: slope of read over true"] = round(float(slope), 3)
        numbers[f"head {name}: offset at 0, °"] = round(float(offset), 2)
        numbers[f"head {name}: spread, °"] = round(float((got - slope * truth - offset).std()), 2)
        numbers[f"head {name}: mean error, °"] = round(float(abs(got - truth).mean()), 2)
        centred = got - truth - np.median(got - truth)
        numbers[f"head {name}: mean error without its offset, °"] = round(float(abs(centred).mean()), 2)
    gazes = np.degrees([[gaze_of(face.eyes, face.irises, face.head), each.gaze] for face, each in pairs])
    for axis, name in enumerate(("pitch", "yaw")):
        got, truth = gazes[:, 0, axis], gazes[:, 1, axis]
        numbers[f"gaze {name}: mean error, °"] = round(float(abs(got - truth).mean()), 2)
        numbers[f"gaze {name}: correlation with the true one"] = correlation(got, truth)
    return numbers


def judge_lids(read: list[Face | None], true: list[TrueFace]) -> dict[str, float | str]:
    """How well openness tells open lids from half shut and shut ones."""
    pairs = [(face, each) for face, each in zip(read, true) if face is not None]
    if not pairs:
        return {}
    got, truth = np.array([[face.openness.mean(), each.openness] for face, each in pairs]).T
    numbers: dict[str, float | str] = {"openness: correlation with the true one": correlation(got, truth)}
    if pairs[0][0].lids is not None:  # the cascades' measure is another
        numbers["openness: mean error"] = round(float(abs(got - truth).mean()), 3)
    for name, shut in (("shut", True), ("open or half shut", False)):
        closed = [face.openness.mean() < closed_below(face) for face, each in pairs if each.shut == shut]
        numbers[f"{name} pairs that look closed"] = f"{sum(closed)} of {len(closed)}"
    return numbers


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    return round(float(np.corrcoef(one, other)[0, 1]), 3)


def judge_clips(clips: list[list[TrueFace]]) -> dict[str, float]:
    """Mean errors of the head pose, each clip's median error taken off."""
    off = []
    for pictures in clips:
        read = zip(read_by("landmarks", pictures), pictures)
        errors = np.degrees([face.head - each.head for face, each in read if face is not None])
        off += abs(errors - np.median(errors, axis=0)).tolist() if len(errors) else []
    pitch, yaw = np.mean(off, axis=0).round(2).tolist()
    return {
        "head pitch: mean error in a clip, calibrated, °": pitch,
        "head yaw: mean error in a clip, calibrated, °": yaw,
    }


def percent(share: float) -> float:
    return round(100 * float(share), 2)


if __name__ == "__main__":
    sys.exit(main())
