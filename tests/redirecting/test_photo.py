"""A photo in which the person looks elsewhere, more or less."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import make_tiny_model

from vaegaze.data.photo import load_photo
from vaegaze.models.checkpoint import Checkpoint
from vaegaze.redirecting.photo import redirect_photo

DOCS = Path(__file__).parents[2] / "docs" / "images"
LOOK = (0.2, 0.3)


@pytest.fixture(scope="module")
def base():
    model = make_tiny_model()
    model.gaze_mlp.gaze_mlp.net[-1].weight.data *= 30  # untrained as it is, the gaze shows
    return Checkpoint(model.eval(), {}, ())


@pytest.fixture(scope="module")
def photo(base):
    return load_photo(DOCS / "astronaut.png", DOCS / "astronaut_mask.png", (0, 0), (0, 0), base.model.canvas)


def test_without_strength_it_is_the_photo(base, photo):
    assert np.array_equal(redirect_photo(base, photo, LOOK, 0.0), photo.original)


def test_where_the_true_gaze_is_unknown_the_true_eyes_show_through(base, photo):
    whole, half = (redirect_photo(base, photo, LOOK, strength).astype(int) for strength in (1.0, 0.5))
    assert (whole != photo.original).any()
    assert abs(half - (photo.original + whole) / 2).max() <= 0.5


def test_from_a_known_gaze_the_eyes_go_part_of_the_way(base, photo):
    seen = replace(photo, read_gaze=np.array([-0.1, 0.1]))
    half = redirect_photo(base, seen, LOOK, 0.5)
    assert np.array_equal(half, redirect_photo(base, photo, (0.05, 0.2)))
    assert (half != redirect_photo(base, photo, LOOK)).any()


@pytest.mark.usefixtures("landmarks_installed")
def test_landmarks_read_where_the_astronaut_looks(base):
    found = load_photo(DOCS / "astronaut.png", None, (0, 0), None, base.model.canvas)
    assert abs(found.read_gaze).max() < 0.1  # into the camera
