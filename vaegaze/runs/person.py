"""The person a run fine-tunes on: chosen and read."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vaegaze.config.finetune import DEMO_HDF_PATH, OneshotParams
from vaegaze.data import hdf5
from vaegaze.data.persons import named
from vaegaze.data.photo import Photo, eyes_text, load_photo
from vaegaze.data.rows import choose_rows, left_out_line
from vaegaze.data.samples import Samples, gaze_doubt, picture_doubts, repeated
from vaegaze.data.selection import choose_person
from vaegaze.geometry.camera import Camera
from vaegaze.renderer import data_set as synthetic
from vaegaze.renderer.redrawing import RenderedPerson, matching_renderer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Person:
    """One person's samples: those to train on, and those held out (possibly none)."""

    name: str
    train: Samples
    held_out: Samples
    info: dict  # for person_info.json
    photo: Photo | None = None
    rendered: RenderedPerson | None = None


def load_person(
    params: OneshotParams,
    canvas: Camera,
    say: Callable[[str], None] = lambda line: None,
    on_sample: Callable[[int, int], None] = lambda done, total: None,
) -> Person:
    """Choose the person and the samples, and bring them onto the canvas.

    `say` gets a line about each thing that was chosen or found; `on_sample(done, total)` follows the demo file while it
    is rendered. UserError for whatever is wrong with the file or the photo.
    """
    if params.use_gazecapture:
        person = _load_from_gazecapture(params, canvas, say, on_sample)
    else:
        person = _load_from_photo(params, canvas, say)
    for samples in (person.train, person.held_out):
        samples.refuse_empty_masks(person.name)
        log.debug("%s: samples %s", person.name, samples.indices.tolist())
    return person


def _load_from_gazecapture(
    params: OneshotParams, canvas: Camera, say: Callable[[str], None], on_sample: Callable[[int, int], None]
) -> Person:
    given, seed = params.gazecapture_params, params.seed
    say(f"📁 {named(given.hdf_path)}")
    say(f"👤 Person ID: {given.person_id or 'Random'}")
    say(f"📊 Number of samples: {given.num_samples}")
    if Path(given.hdf_path) == Path(DEMO_HDF_PATH) and not Path(given.hdf_path).exists():
        say("🎨 Rendering the demo file, once")
        synthetic.demo_file(given.hdf_path, on_sample)

    person_id = given.person_id
    if person_id is None:
        person_id = choose_person(hdf5.person_counts(given.hdf_path), given.num_samples, seed)
        say(f"🎲 Randomly selected person: {person_id}")
    rows = choose_rows(given.hdf_path, person_id, given.num_samples, given.num_eval_samples, seed)
    say(f"📊 Found {rows.total} total samples for person {person_id}")
    if rows.left_out:
        say(left_out_line(rows.left_out, person_id))
    usable, count = rows.total - len(rows.left_out), len(rows.train)
    if count < usable:
        say(f"🎯 Randomly selected {count} samples from {rows.total} available")
    elif count < given.num_samples:
        say(f"🎯 Using all {count} samples, fewer than the {given.num_samples} asked for")

    both = [*rows.train, *rows.held_out]
    data = hdf5.read_person(given.hdf_path, person_id, both, canvas, given.mask_path)
    train, held_out = data.samples.take(slice(count)), data.samples.take(slice(count, None))
    say(f"✅ Successfully loaded {len(train)} samples for person {person_id}")
    say(f"📐 Layout: {data.layout}; eye masks: {data.mask_source}; held out: {len(held_out)} samples")
    for doubt in filter(None, (gaze_doubt(train.gaze, train.head), *picture_doubts(train))):
        say(f"⚠️ {doubt[0].upper()}{doubt[1:]}")
    if again := repeated(held_out, train):
        say(
            f"⚠️ {again} of the {len(held_out)} held-out frames equal training frames, so numbers on them are too good: "
            "store each frame once"
        )
    rendered, notes = matching_renderer(data)
    for note in notes:
        say(note)
    info = {
        "person_id": person_id,
        "hdf_path": str(given.hdf_path),
        "layout": data.layout,
        "mask_source": data.mask_source,
        "total_samples": rows.total,
        "train_indices": train.indices.tolist(),
        "held_out_indices": held_out.indices.tolist(),
        "left_out_indices": rows.left_out,
        "seed": seed,
        "gaze_range_rad": _gaze_range(train),
    }
    return Person(person_id, train, held_out, info, rendered=rendered)


def _load_from_photo(params: OneshotParams, canvas: Camera, say: Callable[[str], None]) -> Person:
    given = params.photo_params
    say(f"📁 Photo: {given.image}")
    picture = load_photo(given.image, given.mask_path, given.gaze, given.head, canvas, given.face, given.at)
    height, width = picture.picture.shape[:2]
    if given.mask_path is None:
        say(f"👁️ Eyes found {eyes_text(picture)}")
    say(f"✅ Aligned {width}×{height} px by its eyes: turned by {np.degrees(picture.roll_rad):.1f}°")
    for note in picture.notes:
        say(note)
    info = {
        "person_id": Path(given.image).stem,
        "seed": params.seed,
        "gaze_range_rad": _gaze_range(picture.samples),
        "image": str(given.image),
        "at_sec": given.at,
        "mask": given.mask_path,
        "eyes_px": picture.eyes.tolist(),
        "gaze_rad": picture.gaze.tolist(),
        "head_rad": picture.head.tolist(),
        "roll_rad": picture.roll_rad,
        "photo_to_canvas": picture.to_canvas.tolist(),
        "ignored_specks": picture.ignored_specks,
    }
    return Person(Path(given.image).stem, picture.samples, picture.samples.take([]), info, picture)


def _gaze_range(samples: Samples) -> dict[str, list[float]]:
    """The smallest and the largest angle, on the canvas."""
    low, high = samples.gaze.min(axis=0).tolist(), samples.gaze.max(axis=0).tolist()
    return {"pitch": [low[0], high[0]], "yaw": [low[1], high[1]]}
