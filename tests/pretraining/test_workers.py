"""Batches from worker processes are those made in the process itself."""

import pickle
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from vaegaze.errors import UserError
from vaegaze.geometry.camera import canvas_camera
from vaegaze.pretraining.batches import Batches
from vaegaze.pretraining.data_sets import DataSetSource
from vaegaze.pretraining.workers import worked_ahead
from vaegaze.renderer import data_set

ROOT = Path(__file__).parents[2]
PERSONS, FRAMES, STEPS = 6, 4, 15


@pytest.fixture
def batches(tmp_path):
    path = tmp_path / "data.h5"
    data_set.write_hdf5(path, PERSONS, size=32, samples=FRAMES, split="all")
    with h5py.File(path) as file:
        counts = {person: len(group["pixels"]) for person, group in file.items()}
    source = DataSetSource(
        str(path), tuple(counts), counts, canvas_camera(32), frames_per_person=FRAMES, entropy=(0, 1), buffered=100
    )
    return Batches((source,), (1.0,), (0, 1), persons=3, turns=FRAMES, drop_reference=0.3)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_every_batch_is_the_same_and_stays(workers, batches):
    """More of them than there are slots, taken more slowly than the workers make them."""
    with h5py.File(batches.sources[0].path, "a") as file:
        file["person_002/labels"][1] = np.nan
    made = []
    for batch in worked_ahead(batches, range(2, 2 + STEPS), workers, pinned=False):
        time.sleep(0.01)
        made.append(batch)
    assert len(made) == STEPS
    for step, batch in enumerate(made, start=2):
        expected = batches.batch(step).tensors()
        assert batch.tensors().keys() == expected.keys()
        for name, tensor in batch.tensors().items():
            assert tensor.dtype == expected[name].dtype and torch.equal(tensor, expected[name]), name
    told = {(each.person, each.row) for batch in made for each in batch.skipped}
    assert told == {("person_002", 1)}


def test_a_loader_that_is_still_alive_does_not_hold_up_the_exit(batches):
    """As when an error's traceback keeps it."""
    script = "import pickle, sys\nfrom vaegaze.pretraining.workers import worked_ahead\n"
    script += "items = worked_ahead(pickle.load(sys.stdin.buffer), range(15), 2, pinned=False)\nnext(items)\n"
    done = subprocess.run([sys.executable, "-c", script], input=pickle.dumps(batches), timeout=100, cwd=ROOT)
    assert done.returncode == 0


def test_an_error_of_a_worker_arrives_as_it_was(batches):
    with h5py.File(batches.sources[0].path, "a") as file:
        for person in file:
            file[f"{person}/labels"][:] = np.nan
    items = worked_ahead(batches, range(STEPS), 1, pinned=False)
    first = next(items)
    assert isinstance(first, UserError) and "none of the 6 persons can be used" in str(first)
