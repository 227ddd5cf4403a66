"""Openness: rendered eyes of many persons, a real face, and lids that close step by step."""

from dataclasses import replace

import numpy as np
import pytest
from command_runs import ROOT
from PIL import Image

from benchmarks.rendered_video import BLINK_OPENNESS, BLINKS_SEC, FRAMES_PER_SEC
from vaegaze.faces.openness import CLOSED_BELOW, eye_openness
from vaegaze.geometry.camera import EYE_CENTRES_MM, canvas_camera
from vaegaze.renderer.data_set import person_from_seed, render, scene_from_seed

FACE_PX = 128
ASTRONAUT_EYES = np.array([[203.0, 101.0], [247.5, 103.5]])


def openness(number, blink, **scene) -> float:
    """Of both eyes of a rendered person, their places slightly wrong, as a detector's are."""
    scene = replace(scene_from_seed(0, number, 0), blink=blink, **scene)
    eyes = canvas_camera(FACE_PX).project(EYE_CENTRES_MM, scene.head)
    off = np.random.default_rng(number).normal(0, 0.8, (2, 2))
    return eye_openness(render(person_from_seed(0, number), scene, canvas_camera(FACE_PX)).image, eyes + off).mean()


def test_open_and_closed_eyes_of_many_persons():
    opened, closed = ([openness(number, blink) for number in range(1, 49)] for blink in (0, 1))
    right = [value >= CLOSED_BELOW for value in opened] + [value < CLOSED_BELOW for value in closed]
    assert np.mean(right) > 0.93
    assert np.median(closed) < 0.55 * np.median(opened)


def test_lids_close_step_by_step():
    values = [openness(2, blink, gaze=(0, 0), head=(0, 0)) for blink in (0, 0.25, 0.5, 0.75)]
    assert (np.diff(values) < 0).all() and values[0] > CLOSED_BELOW > values[-1]


@pytest.mark.parametrize("gaze", [(0.3, 0), (-0.2, 0), (0, 0.5), (0, -0.5)])
def test_eyes_are_open_wherever_they_look(gaze):
    assert openness(2, 0, gaze=gaze, head=(0, 0)) > CLOSED_BELOW


def test_a_real_face():
    """Her lids are drawn shut by what is above her eyes, pulled down over them, and her lashes' line below."""
    picture = np.asarray(Image.open(ROOT / "docs" / "images" / "astronaut.png"))
    opened = eye_openness(picture, ASTRONAUT_EYES)
    assert (opened > 0.8).all()
    for brightness in (0.4, 1.2):
        other = (picture * brightness).clip(0, 255).astype(np.uint8)
        assert abs(eye_openness(other, ASTRONAUT_EYES) - opened).max() < 0.1
    grey = np.asarray(Image.fromarray(picture).convert("L").convert("RGB"))
    assert abs(eye_openness(grey, ASTRONAUT_EYES) - opened).max() < 0.02
    closed = Image.fromarray(picture)
    for x, y in ASTRONAUT_EYES.round().astype(int).tolist():
        lid = closed.crop((x - 13, y - 10, x + 13, y - 5)).resize((26, 14))
        closed.paste(lid, (x - 13, y - 9))
        closed.paste(
            closed.crop((x - 9, y - 4, x + 9, y - 3)).point(lambda value: value // 3).resize((18, 2)), (x - 9, y + 4)
        )
    assert (eye_openness(np.asarray(closed), ASTRONAUT_EYES) < CLOSED_BELOW).all()


def test_eyes_at_the_edge_or_outside_do_no_harm():
    picture = np.zeros((40, 60, 3), np.uint8)
    for eyes in ([[2, 2], [40, 3]], [[-50, -50], [-20, -50]], [[100, 100], [160, 100]]):
        assert np.isfinite(eye_openness(picture, np.array(eyes, float))).all()


def test_blinks_stand_out_in_the_rendered_video(talking):
    seen = np.array([eye_openness(*each).mean() for each in zip(talking.frames, talking.eyes)])
    own = np.median(seen[talking.openness == 1])
    assert (seen[talking.openness == 0] < 0.6 * own).all() and (seen[talking.openness == 1] > 0.7 * own).all()
    assert (talking.openness == 0).sum() == len(BLINKS_SEC) * BLINK_OPENNESS.count(0.0)
    assert len(talking.frames) == 3 * FRAMES_PER_SEC


def test_a_scene_without_a_blink_is_drawn_as_before():
    scene, person = scene_from_seed(0, 1, 0), person_from_seed(0, 1)
    assert (
        render(person, scene, canvas_camera(64)).image
        == render(person, replace(scene, blink=0.0), canvas_camera(64)).image
    ).all()
    shut = render(person, replace(scene, blink=1.0), canvas_camera(FACE_PX))
    assert not shut.face_parsing.any() and render(person, scene, canvas_camera(FACE_PX)).face_parsing.any()
