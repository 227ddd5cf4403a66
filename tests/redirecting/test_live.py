"""Frames redrawn one by one, as they come."""

import numpy as np
import pytest
from conftest import make_tiny_model

import vaegaze
from vaegaze.errors import UserError
from vaegaze.faces.follower import CLOSED
from vaegaze.faces.one_euro import OneEuroFilter
from vaegaze.models.checkpoint import Checkpoint
from vaegaze.redirecting.fading import Fades
from vaegaze.redirecting.live import Redirector

pytest.importorskip("cv2")


@pytest.fixture
def redirector():
    return Redirector(Checkpoint(make_tiny_model(), {"drops_reference": True}, ()), (0.1, 0.2))


def test_each_frame_comes_back_at_once(talking, redirector, landmarks_installed):
    for number in range(10, 26):
        frame = talking.frames[number].copy()
        drawn = redirector.frame(frame, number / 25)
        assert (frame == talking.frames[number]).all(), "what was given stays"
        changed = (drawn != frame).any(axis=-1)
        if talking.openness[number] < 0.5:
            assert not changed.any() and redirector.last_fate.why == CLOSED
        elif number < 19:
            ys, xs = np.nonzero(changed)
            near = np.linalg.norm(np.stack([xs, ys], axis=-1)[:, None] - talking.eyes[number], axis=-1).min(axis=1)
            assert near.max() < 60 and changed.any() and redirector.last_fate.strength > 0
    assert (redirector.frame(np.zeros((96, 128, 3), np.uint8)) == 0).all(), "another size, and no face"


def test_the_model_given_keeps_its_weights():
    model = make_tiny_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    vaegaze.Redirector(Checkpoint(model, {"drops_reference": True}, ()))
    assert all(
        value.dtype == before[name].dtype and (value == before[name]).all()
        for name, value in model.state_dict().items()
    )


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"fades": Fades(gaze=(20, 30))}, "fade_gaze: got .*looks like degrees"),
        ({"fades": Fades(head_yaw=(0.5, 0.2))}, "fade_head_yaw: .*smaller angle first"),
        ({"fades": (0.2, 0.5)}, "fades: got tuple"),
        ({"look_away": -1}, "look_away: got -1"),
        ({"look_away": True}, "look_away: got true"),
    ],
)
def test_what_the_command_would_refuse_is_refused(wrong, words):
    with pytest.raises(UserError, match=words):
        Redirector(Checkpoint(make_tiny_model(), {}, ()), **wrong)


def test_a_time_that_no_clock_shows(redirector):
    for time_sec in (10**400, float("inf"), float("nan")):
        with pytest.raises(UserError, match="time_sec"):
            redirector.frame(np.zeros((9, 9, 3), np.uint8), time_sec)


@pytest.mark.parametrize(
    "wrong", [np.zeros((9, 9, 3)), np.zeros((9, 9), np.uint8), np.zeros((0, 9, 3), np.uint8), [[0, 0, 0]]]
)
def test_what_is_no_frame_is_said(redirector, wrong):
    with pytest.raises(UserError, match="expected an array"):
        redirector.frame(wrong)


def test_the_filter_is_steady_at_rest_and_quick_in_motion():
    rng, filtered = np.random.default_rng(0), OneEuroFilter()
    rest = np.array([filtered(rng.normal(0, 0.02, 2), i / 30) for i in range(90)])
    assert rest[30:].std() < 0.01, "half of what comes"
    turn = [filtered(np.array([0.6, 0.0]), 3 + i / 30)[0] for i in range(10)]
    assert turn[4] > 0.5 and (np.diff(turn) >= 0).all()


def test_faces_are_counted_from_one():
    with pytest.raises(UserError, match="got 0"):
        Redirector(Checkpoint(make_tiny_model(), {"drops_reference": True}, ()), face=0)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), "2"])
def test_what_is_no_time_is_said(redirector, wrong):
    with pytest.raises(UserError, match="time_sec: got"):
        redirector.frame(np.zeros((9, 9, 3), np.uint8), wrong)


def test_a_clock_that_goes_back_begins_anew(talking, redirector):
    """As a camera's that was taken off: nothing is carried over."""
    first = redirector.frame(talking.frames[30], 0.0)
    for number in range(31, 34):
        redirector.frame(talking.frames[number], (number - 30) / 25)
    assert (redirector.frame(talking.frames[30], 0.0) == first).all()
    assert redirector.frame(talking.frames[30], -5.0).shape == first.shape
