"""How strongly eyes are redrawn, and where not."""

import numpy as np
import pytest

from vaegaze.faces.follower import CLOSED, FollowedFrame
from vaegaze.images.video import Frame
from vaegaze.redirecting.fading import GAZE, HEAD_PITCH, HEAD_YAW, UNSURE, Fader, drawn_gaze

EYES, AHEAD = np.array([[20.0, 20.0], [60.0, 20.0]]), np.zeros(2)


def frame(time_sec=0.0, **changes) -> FollowedFrame:
    values = {"eyes": EYES, "closed": False, "blend": np.ones(2), "gaze": AHEAD} | changes
    return FollowedFrame(Frame(np.zeros((40, 80, 3), np.uint8), time_sec), **values)


@pytest.mark.parametrize(
    ("head_deg", "gaze_deg", "strength", "why"),
    [
        ((14, -24), (19, 0), 1, None),
        ((-20, 0), (0, 0), 0.5, HEAD_PITCH),
        ((0, 29), (0, 0), 0.2, HEAD_YAW),
        ((0, 0), (0, -22.5), 0.75, GAZE),
        ((0, 31), (15, 15), 0, HEAD_YAW),
    ],
)
def test_eyes_fade_where_head_or_gaze_is_far_off(head_deg, gaze_deg, strength, why):
    fate = Fader().fate(frame(gaze=np.radians(gaze_deg)), np.radians(head_deg))
    assert fate.strength == pytest.approx(strength) and fate.why == why
    assert Fader(strength=0.5).fate(frame(gaze=np.radians(gaze_deg)), np.radians(head_deg)).strength == pytest.approx(
        strength / 2
    )


def test_an_unsure_face_fades():
    assert Fader().fate(frame(confidence=0.65), AHEAD).strength == pytest.approx(0.5)
    assert Fader().fate(frame(confidence=0.5), AHEAD).why == UNSURE


def test_nothing_flashes_however_the_readings_jump():
    fader, rng = Fader(), np.random.default_rng(0)
    heads = rng.uniform(-0.6, 0.6, (60, 2))
    strengths = [fader.fate(frame(number / 30), head).strength for number, head in enumerate(heads)]
    assert abs(np.diff(strengths)).max() <= 4 / 30 + 1e-9


def test_a_blink_is_left_alone_and_fading_goes_on_after_it():
    fader = Fader()
    fader.fate(frame(0.0), AHEAD)
    blink = fader.fate(frame(0.1, closed=True, blend=np.zeros(2), left=CLOSED), AHEAD)
    assert blink.left_alone and blink.why == CLOSED
    assert fader.fate(frame(0.2), AHEAD).strength == 1


def test_the_eyes_move_from_the_true_gaze_to_the_told_one():
    told, true = np.array([0.0, 0.1]), np.array([0.2, -0.3])
    for strength, gaze, opacity in ((1, told, 1), (0.5, (told + true) / 2, 1), (0.1, true + 0.1 * (told - true), 0.4)):
        drawn, opaque = drawn_gaze(told, true, strength)
        np.testing.assert_allclose(drawn, gaze)
        assert opaque == pytest.approx(opacity)
    assert drawn_gaze(told, None, 0.3) == (pytest.approx(told), 0.3)
