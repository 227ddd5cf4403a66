"""Whom the model is fine-tuned on: chosen, read, and said."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vaegaze.commands.progress import progress_callback
from vaegaze.config.finetune import DEMO_HDF_PATH, OneshotParams
from vaegaze.data import hdf5
from vaegaze.data.persons import named
from vaegaze.data.photo import Photo, eyes_text, load_photo
from vaegaze.data.safe_hdf5 import path_given_by
from vaegaze.data.samples import Samples
from vaegaze.data.selection import choose_person, choose_samples
from vaegaze.geometry.camera import Camera
from vaegaze.renderer import data_set as synthetic
from vaegaze.renderer.redrawing import RenderedPerson, matching_renderer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Person:
    """One person's samples: those to train on, and those held out, of which there may be none."""

    name: str
    train: Samples
    held_out: Samples
    info: dict  # for person_info.json
    photo: Photo | None = None
    rendered: RenderedPerson | None = None


def load_person(params: OneshotParams, canvas: Camera) -> Person:
    """Choose the person and the samples, bring them onto the canvas, and print what was done.

    UserError for whatever is wrong with the file or the photo.
    """
    person = _load_from_gazecapture(params, canvas) if params.use_gazecapture else _load_from_photo(params, canvas)
    for samples in (person.train, person.held_out):
        samples.refuse_empty_masks(person.name)
        log.debug("%s: samples %s", person.name, samples.indices.tolist())
    return person


@path_given_by("oneshot_params.gazecapture_params.hdf_path, or --hdf_path")
def _load_from_gazecapture(params: OneshotParams, canvas: Camera) -> Person:
    given, seed = params.gazecapture_params, params.seed
    print("🎯 Starting VAE-GAZE One-Shot Training with GazeCapture Dataset")
    print(f"📁 {named(given.hdf_path)}")
    print(f"👤 Person ID: {given.person_id or 'Random'}")
    print(f"📊 Number of samples: {given.num_samples}")
    if Path(given.hdf_path) == Path(DEMO_HDF_PATH) and not Path(given.hdf_path).exists():
        print("🎨 Rendering the demo file, once")
        with progress_callback("rendering demo.h5") as on_sample:
            synthetic.demo_file(given.hdf_path, on_sample)

    person_id = given.person_id
    if person_id is None:
        person_id = choose_person(hdf5.person_counts(given.hdf_path), given.num_samples, seed)
        print(f"🎲 Randomly selected person: {person_id}")
    total = hdf5.sample_count(given.hdf_path, person_id)
    print(f"📊 Found {total} total samples for person {person_id}")
    train_rows, held_out_rows = choose_samples(total, given.num_samples, given.num_eval_samples, seed)
    if len(train_rows) < total:
        print(f"🎯 Randomly selected {len(train_rows)} samples from {total} available")
    elif total < given.num_samples:
        print(f"🎯 Using all {total} samples, fewer than the {given.num_samples} asked for")

    rows = [*train_rows, *held_out_rows]
    data = hdf5.read_person(given.hdf_path, person_id, rows, canvas, given.mask_path)
    train, held_out = data.samples.take(slice(len(train_rows))), data.samples.take(slice(len(train_rows), None))
    print(f"✅ Successfully loaded {len(train)} samples for person {person_id}")
    print(f"📐 Layout: {data.layout}; eye masks: {data.mask_source}; held out: {len(held_out)} samples")
    info = {
        "person_id": person_id,
        "hdf_path": str(given.hdf_path),
        "layout": data.layout,
        "mask_source": data.mask_source,
        "total_samples": total,
        "train_indices": train.indices.tolist(),
        "held_out_indices": held_out.indices.tolist(),
        "seed": seed,
        "gaze_range_rad": _gaze_range(train),
    }
    return Person(person_id, train, held_out, info, rendered=matching_renderer(data))


def _load_from_photo(params: OneshotParams, canvas: Camera) -> Person:
    given = params.photo_params
    print("🎯 Starting VAE-GAZE One-Shot Training with one photo")
    print(f"📁 Photo: {given.image}")
    picture = load_photo(given.image, given.mask_path, given.gaze, given.head, canvas, given.face)
    height, width = picture.picture.shape[:2]
    if given.mask_path is None:
        print(f"👁️ Eyes found {eyes_text(picture)}")
    print(f"✅ Aligned {width}×{height} px by its eyes: turned by {np.degrees(picture.roll_rad):.1f}°")
    for note in picture.notes:
        print(note)
    info = {
        "person_id": Path(given.image).stem,
        "seed": params.seed,
        "gaze_range_rad": _gaze_range(picture.samples),
        "image": str(given.image),
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
    """The least and the largest angle, on the canvas."""
    low, high = samples.gaze.min(axis=0).tolist(), samples.gaze.max(axis=0).tolist()
    return {"pitch": [low[0], high[0]], "yaw": [low[1], high[1]]}
