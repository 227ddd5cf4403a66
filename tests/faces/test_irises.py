"""Where a photo's irises go in a drawing, on rendered faces whose irises are known."""

from dataclasses import replace

import numpy as np
import pytest

from vaegaze.data.photo import own_irises
from vaegaze.evaluation.rendered_faces import rendered_face
from vaegaze.geometry.camera import canvas_camera
from vaegaze.geometry.transforms import move

pytestmark = pytest.mark.usefixtures("landmarks_installed")


def test_where_a_photo_looks_tells_where_its_irises_go():
    errors = {"told": [], "not told": []}
    for number in (1, 5, 6):
        face = rendered_face("val", 0, number, 5, canvas_camera(256), gazes=3)
        for k, gaze in enumerate(face.gazes):
            for name, photo in {"told": face.photo, "not told": replace(face.photo, gaze=None)}.items():
                for (_, target), true in zip(own_irises(photo, face.redirected.images[k], gaze), face.irises[k]):
                    errors[name].append(np.linalg.norm(target.centre - move(photo.to_canvas, true)))
    assert len(errors["told"]) == len(errors["not told"]) == 18
    assert np.mean(errors["told"]) < 0.6 * np.mean(errors["not told"])
