"""Frames of a rendered file drawn again: the same person and light, another gaze."""

from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch
from conftest import SIZE_PX

from vaegaze.data import hdf5
from vaegaze.evaluation.eval_set import EvalSet
from vaegaze.geometry.camera import canvas_camera
from vaegaze.renderer import data_set as synthetic
from vaegaze.renderer import render_gazes
from vaegaze.renderer.redrawing import LIMIT_RAD, REACH_RAD, RenderedPerson, other_gazes
from vaegaze.training.references import choose_references


def rendered_by(data):
    return RenderedPerson.from_attributes(data.attributes, data.frame_px)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("rendered") / "faces.h5"
    synthetic.write_hdf5(path, 2, size=64, seed=3, samples=6, split="val")
    return path


@pytest.fixture
def person(file):
    return hdf5.read_person(file, "person_002", [1, 4, 5], canvas_camera(64))


def test_a_file_says_who_is_in_it(person):
    assert rendered_by(person) == RenderedPerson("val", 3, 2, 64) and rendered_by(person).drew(person.samples)


@pytest.mark.parametrize("size_px", [64, 128])
def test_with_its_own_gaze_a_frame_is_the_same(file, size_px):
    person = hdf5.read_person(file, "person_002", [1, 4, 5], canvas_camera(size_px))
    gazes = [[synthetic.scene_from_seed(3, 2, sample, "val").gaze] for sample in (1, 4, 5)]
    again = rendered_by(person).redraw(person.samples, np.array(gazes))
    for name, array in vars(person.samples).items():
        np.testing.assert_array_equal(getattr(again, name), array, err_msg=name)


@pytest.mark.parametrize("frames, gazes", [(1, 8), (8, 8), (20, 3), (32, 2), (100, 1)])
def test_about_as_many_pictures_are_drawn_for_many_frames_as_for_few(person, frames, gazes):
    samples = person.samples.take(np.zeros(frames, int))
    samples = replace(samples, indices=np.arange(frames))
    again = rendered_by(person).redirected(samples)
    assert len(again) == frames * gazes <= max(64, frames)
    first = other_gazes(samples)[:, :gazes].reshape(-1, 2)
    np.testing.assert_array_equal(again.gaze, first.astype(np.float32))


def test_another_gaze_changes_the_eyes_alone(person):
    gazes = other_gazes(person.samples)
    again = rendered_by(person).redraw(person.samples, gazes)
    assert len(again) == 24 and again.indices.tolist() == np.repeat([1, 4, 5], 8).tolist()
    np.testing.assert_array_equal(again.gaze, gazes.reshape(-1, 2).astype(np.float32))
    for i, image in enumerate(again.images):
        original = person.samples.take(i // 8)
        changed = (image != original.images).any(axis=-1)
        assert changed[original.eye_masks].any(), "it looks elsewhere"
        rows = np.nonzero(changed)[0]
        assert rows.max() < 40 and rows.min() > 5, "below the eyes nothing changes"


@pytest.mark.parametrize("number", [1, 2, 3, 4])  # with and without glasses
def test_gazes_drawn_together_are_as_drawn_alone(number):
    person, scene = synthetic.person_from_seed(1, number), synthetic.scene_from_seed(1, number, 0)
    gazes, camera = [(0.2, -0.3), scene.gaze, (-0.1, 0.4)], canvas_camera(64)
    for gaze, together in zip(gazes, render_gazes(person, scene, gazes, camera), strict=True):
        alone = synthetic.render(person, replace(scene, gaze=gaze), camera)
        np.testing.assert_array_equal(together.image, alone.image)
        np.testing.assert_array_equal(together.face_parsing, alone.face_parsing)


def test_gazes_are_those_of_the_frame_and_within_reach(person):
    gazes = other_gazes(person.samples)
    assert gazes.shape == (3, 8, 2) and (np.abs(gazes) <= LIMIT_RAD).all()
    assert (np.abs(gazes - person.samples.head[:, None]) <= REACH_RAD + 1e-6).all()
    np.testing.assert_array_equal(other_gazes(person.samples.take([2, 0])), gazes[[2, 0]])
    turned = replace(person.samples, head=np.full((3, 2), 1.5, np.float32))
    assert (np.abs(other_gazes(turned)) < np.pi / 2).all()


def test_redirections_keep_what_the_model_sees(person, tiny_model):
    # the tiny model works on 32 px
    samples = replace(
        person.samples,
        images=np.ascontiguousarray(person.samples.images[:, ::2, ::2]),
        eye_masks=np.ascontiguousarray(person.samples.eye_masks[:, ::2, ::2]),
        valid=np.ascontiguousarray(person.samples.valid[:, ::2, ::2]),
        canvas=canvas_camera(SIZE_PX),
    )
    assert samples.images.shape[1] == SIZE_PX
    eval_set = EvalSet.prepare(tiny_model, samples, choose_references(samples), rendered_by(person))
    told = eval_set.redirections
    assert len(told) == len(told.frames) == 24
    for name in ("masked_latents", "reference_latents", "eye_masks", "head", "valid"):
        assert torch.equal(getattr(told.frames, name)[::8], getattr(eval_set.frames, name)), name
    assert not torch.equal(told.frames.gaze[::8], eval_set.frames.gaze)
    np.testing.assert_array_equal(told.samples.images[5], samples.images[0])


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"split": "val", "seed": 3},
        {"split": "nowhere", "seed": 3, "number": 2},
        {"split": "val", "seed": -3, "number": 2},
        {"split": 5, "seed": 3, "number": 2},
        {"split": "val", "seed": "3", "number": 2},
        {"split": "val", "seed": np.arange(3), "number": 2},
        {"split": "val", "seed": 3, "number": "x" * 5000},
        {"split": "val", "seed": 3.5, "number": 2},
    ],
)
def test_other_files_say_nothing_of_the_kind(attributes, file, tmp_path):
    path = tmp_path / "other.h5"
    path.write_bytes(file.read_bytes())
    with h5py.File(path, "r+") as other:
        group = other["person_002"]
        for name in list(group.attrs):
            del group.attrs[name]
        group.attrs.update(attributes)
    data = hdf5.read_person(path, "person_002", [1], canvas_camera(64))
    assert RenderedPerson.from_attributes(data.attributes, data.frame_px) is None


def test_a_type_that_numpy_has_not(file, tmp_path):
    path = tmp_path / "other.h5"
    path.write_bytes(file.read_bytes())
    with h5py.File(path, "r+") as other:
        del other["person_002"].attrs["number"]
        space = h5py.h5s.create(h5py.h5s.SCALAR)
        h5py.h5a.create(other["person_002"].id, b"number", h5py.h5t.UNIX_D32LE, space)
    data = hdf5.read_person(path, "person_002", [1], canvas_camera(64))
    assert RenderedPerson.from_attributes(data.attributes, data.frame_px) is None


def test_a_file_of_another_renderer_is_noticed(person):
    other = replace(rendered_by(person), seed=4)
    assert not other.drew(person.samples)
