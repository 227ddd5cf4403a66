"""The rendered world: random persons and scenes, and files of them in the upstream layout.

Everything follows from four numbers: a person from (split, seed, person number), a sample from these and its own
number. So person 3's picture 7 is the same however many are rendered, and no two splits share a person.
"""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np

from vaegaze.data.upstream_file import create_frames, new_file
from vaegaze.errors import UserError
from vaegaze.files import atomic_path
from vaegaze.geometry.camera import canvas_camera
from vaegaze.images.side_by_side import side_by_side
from vaegaze.renderer import Rendering, render
from vaegaze.renderer.persons import (  # fmt: skip
    Person,
    Recording,
    Scene,
    eye_gazes,
    random_person,
    random_recording,
    random_scene,
)

__all__ = [
    "Person", "Recording", "Rendering", "Scene", "demo_file", "eye_gazes", "labels", "person_from_seed",
    "random_person", "random_recording", "random_scene", "render", "scene_from_seed", "write_hdf5",
]  # fmt: skip

SPLITS = {"train": 0, "val": 1, "test": 2, "demo": 3}  # the numbers are part of every seed: never change them
FIRST_PERSON_SAMPLES = 60  # person_001 has at least these
DEMO_SEED = 1  # the first whose person_001 wears no glasses and is photographed as sharp as half of all people
DEMO_PX = 256  # a face as large as the shipped model draws it
DEMO_SAMPLES = {1: 64, 2: 60, 3: 56, 4: 24, 5: 18, 6: 12}  # person number → samples


# --- Persons and scenes by number -------------------------------------------------------------------------------------


def person_from_seed(seed: int, number: int, split: str = "demo") -> Person:
    """Person `number` (1, 2, …) of a split."""
    return random_person(_rng(split, seed, number, 0))


def scene_from_seed(seed: int, number: int, sample: int, split: str = "demo") -> Scene:
    """The scene of that person's picture `sample` (0, 1, …)."""
    return random_scene(_rng(split, seed, number, 3 + sample), _recording(split, seed, number))


@functools.lru_cache(maxsize=8)
def _recording(split: str, seed: int, number: int) -> Recording:
    return random_recording(_rng(split, seed, number, 1))


def labels(person: Person, scene: Scene) -> np.ndarray:
    """(8,) float32: gaze, head, left eye, right eye; pitch, yaw of each, in radians and camera axes."""
    return np.concatenate([scene.gaze, scene.head, eye_gazes(person, scene).ravel()]).astype(np.float32)


def _rng(split: str, seed: int, number: int, what: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([SPLITS[split], seed, number, what])))


# --- Files ------------------------------------------------------------------------------------------------------------


def write_hdf5(
    path: str | Path,
    persons: int,
    size: int = 128,
    seed: int = 0,
    samples: int | tuple[int, int] | Callable[[int], int] = 60,
    split: str = "demo",
    overwrite: bool = False,
    on_sample: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Render `persons` persons into an HDF5 file of the upstream layout.

    `samples` is the same for all, or a range to draw each person's count from, or a function of the person's number;
    the first person has at least 60. `split` "all" makes a tenth of them val persons, a tenth test persons, and the
    others train persons; each person's group names theirs in an attribute. `on_sample(done, total)` follows every
    picture.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise UserError(f"{path} exists already")
    splits = {number: split_of(number, persons) if split == "all" else split for number in range(1, persons + 1)}
    counts = {number: _sample_count(samples, splits[number], seed, number) for number in splits}
    total, done = sum(counts.values()), 0
    with atomic_path(path) as temporary, new_file(temporary) as file:
        file.attrs.update(split=np.bytes_(split), seed=seed, rendered_by=np.bytes_("vaegaze.data.synthetic"))
        for number, count in counts.items():
            group = file.create_group(f"person_{number:03d}")
            for _ in _written_samples(group, number, count, size, seed, splits[number]):
                done += 1
                on_sample(done, total)


def split_of(number: int, persons: int) -> str:
    """The split of person `number` (1, 2, …) of a file of so many: the last tenth test, the tenth before it val."""
    tenth = max(1, persons // 10) if persons >= len(SPLITS) - 1 else 0
    return "test" if number > persons - tenth else "val" if number > persons - 2 * tenth else "train"


def _sample_count(samples, split: str, seed: int, number: int) -> int:
    if callable(samples):
        count = samples(number)
    else:
        low, high = (samples, samples) if isinstance(samples, int) else samples
        count = int(_rng(split, seed, number, 2).integers(low, high, endpoint=True))
    return max(count, FIRST_PERSON_SAMPLES) if number == 1 else count


def _written_samples(group: h5py.Group, number: int, count: int, size: int, seed: int, split: str) -> Iterator[int]:
    """Writes one person's samples, and yields after each."""
    group.attrs.update(split=np.bytes_(split), seed=seed, number=number)  # what `redrawing` needs
    pixels, parsing = create_frames(group, count, size)
    label_rows = group.create_dataset("labels", (count, 8), "f4")
    person, camera = person_from_seed(seed, number, split), canvas_camera(size)
    scenes = [scene_from_seed(seed, number, sample, split) for sample in range(count)]
    for sample, rendering in enumerate(side_by_side(lambda scene: render(person, scene, camera), scenes)):
        pixels[sample], parsing[sample] = rendering.image, rendering.face_parsing
        label_rows[sample] = labels(person, scenes[sample])
        yield sample


def demo_file(path: str | Path, on_sample: Callable[[int, int], None] = lambda done, total: None) -> Path:
    """The small file that the first commands work on: made at first use."""
    path = Path(path)
    if not path.exists():
        samples = DEMO_SAMPLES.__getitem__
        write_hdf5(path, len(DEMO_SAMPLES), DEMO_PX, DEMO_SEED, samples, split="demo", on_sample=on_sample)
    return path
