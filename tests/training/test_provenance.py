"""Whether a model was fine-tuned on given frames, by the checksums in its checkpoint."""

from dataclasses import replace

import numpy as np
import pytest
from command_runs import PERSON
from conftest import SIZE_PX

from vaegaze.data import hdf5
from vaegaze.geometry.camera import canvas_camera
from vaegaze.models.checkpoint import load_checkpoint
from vaegaze.renderer.data_set import write_hdf5
from vaegaze.training.provenance import CHECKSUMS, count_trained, fine_tuned_on, frame_checksums


@pytest.fixture
def tuned(finished):
    return load_checkpoint(finished[2] / "finetuned_model.pth")


def without_checksums(checkpoint):
    """As an older version wrote it."""
    info = {key: value for key, value in checkpoint.info.items() if key not in (CHECKSUMS, "reference_index")}
    return replace(checkpoint, info=info)


def test_the_frames_it_was_trained_on_are_counted(tuned, world):
    samples = hdf5.read_person(world.hdf_path, PERSON, range(12), canvas_camera(SIZE_PX)).samples
    trained = tuned.info["trained_indices"]
    assert count_trained(tuned.info, samples) == len(trained) == 8
    assert count_trained(tuned.info, samples.take(trained[:3])) == 3
    assert count_trained(tuned.info, replace(samples, gaze=samples.gaze + np.float32(0.01))) == 0
    assert count_trained(without_checksums(tuned).info, samples) == 8
    assert count_trained({}, samples) == 0


def test_a_label_that_differs_in_its_last_bits_is_the_same(rendered_samples):
    nudged = replace(rendered_samples, head=np.nextafter(rendered_samples.head, np.float32(9)))
    same = sum(frame_checksums(nudged)[index] == each for index, each in frame_checksums(rendered_samples).items())
    assert same >= len(rendered_samples) - 1
    assert len(set(frame_checksums(rendered_samples).values())) == len(rendered_samples)


def test_whose_model_it_is(tuned, world, tmp_path):
    assert fine_tuned_on(tuned, world.hdf_path, PERSON) == (True, [])
    own, notes = fine_tuned_on(tuned, world.hdf_path, "person_001")
    assert not own and "person_002, not on person_001" in notes[0]
    write_hdf5(tmp_path / "other.h5", 2, SIZE_PX, seed=1, samples=12)
    own, notes = fine_tuned_on(tuned, tmp_path / "other.h5", PERSON)
    assert not own and str(tmp_path / "other.h5") in notes[0]
    assert fine_tuned_on(load_checkpoint(world.base), world.hdf_path, PERSON) == (False, [])


def test_the_same_labels_of_another_face_are_noticed(tuned, world, tmp_path):
    """Frames that all look into the camera have labels that say little."""
    changed = replace(tuned, references=(replace(tuned.references[0], image=255 - tuned.references[0].image),))
    assert not fine_tuned_on(changed, world.hdf_path, PERSON)[0]


def test_an_older_checkpoint_is_judged_by_the_id_with_a_warning(tuned, world):
    own, notes = fine_tuned_on(without_checksums(tuned), world.hdf_path, PERSON)
    assert own and len(notes) == 1 and PERSON in notes[0]


@pytest.mark.parametrize("checksums", [5, [1], {"a": 1}, {0: 0}, {}])
def test_checksums_that_are_none(checksums, tuned, world, rendered_samples):
    foreign = replace(tuned, info={**tuned.info, CHECKSUMS: checksums})
    fine_tuned_on(foreign, world.hdf_path, PERSON)
    count_trained(foreign.info, rendered_samples)
