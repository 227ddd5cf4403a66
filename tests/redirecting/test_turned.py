"""A head that is turned far: what lies behind it stays as it is."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from command_runs import ROOT

from vaegaze.faces.tracking import follow_eyes
from vaegaze.geometry.camera import canvas_camera
from vaegaze.images.video import Frame
from vaegaze.models.checkpoint import load_checkpoint
from vaegaze.redirecting.fading import Fades
from vaegaze.redirecting.series import Look, Series
from vaegaze.renderer import View, render
from vaegaze.renderer.data_set import person_from_seed, scene_from_seed
from vaegaze.renderer.face import head_surface

PERSON, FACE_PX, NEVER = 4, 256, (3.2, 3.2)
HEADS_RAD = -np.radians(np.linspace(0, 26, 24))
FRAMES_PER_SEC = 60  # of which every other face is read


@pytest.mark.usefixtures("landmarks_installed")
def test_the_wall_behind_it_stays():
    camera, person = canvas_camera(FACE_PX), person_from_seed(0, PERSON)
    place = replace(scene_from_seed(0, PERSON, 0), lid_opening=1.0, blink=0.0, jpeg_quality=0)
    scenes = [replace(place, head=(0.0, yaw), gaze=(0.0, 0.4 * yaw)) for yaw in HEADS_RAD]
    video = [Frame(render(person, each, camera).image, i / FRAMES_PER_SEC) for i, each in enumerate(scenes)]
    followed = list(follow_eyes(video, "video"))
    assert any(each.face is None for each in followed) and all(each.outline is not None for each in followed)

    changed = []
    for frames in (followed, [replace(each, outline=None) for each in followed]):
        model = load_checkpoint(ROOT / "checkpoints" / "pretrained_model.pth").model.eval()
        series = Series(model, None, Look((0.0, 0.0), fades=Fades(NEVER, NEVER, NEVER)))
        changed.append(0)
        for scene, each in zip(scenes, frames):
            with torch.no_grad():
                ((pixels, _),) = series.redraw([[each]])
            wall = head_surface(person, View.of(scene.head, camera)).coverage == 0
            changed[-1] += int(abs(pixels[wall].astype(int) - each.frame.pixels[wall]).sum())
    assert 2 * changed[0] < changed[1]  # the outline is read to a few px
