"""The benchmark of simpler ways, at a small size."""

import json

import numpy as np
import torch

from benchmarks import peers
from vaegaze.evaluation.rendered_faces import rendered_face, rendered_photo
from vaegaze.geometry.camera import canvas_camera
from vaegaze.models.estimator import GazeEstimator, save_estimator


class Carrying(torch.nn.Module):
    """A field that takes every pixel from so many pixels to the right, for a mirrored eye to the left."""

    def __init__(self, px: float):
        super().__init__()
        self.px = px

    def forward(self, eyes, angles):
        displacements = torch.zeros(len(eyes), 2, *eyes.shape[-2:])
        displacements[:, 0] = torch.tensor([self.px, -self.px])[:, None, None]
        return displacements


def test_a_warping_field_moves_the_frames_own_pixels():
    face = rendered_face("val", 5, 2, 1, canvas_camera(256), gazes=2, face_px=256)
    still, moved = (peers.redirected_by_warping(Carrying(px), face) for px in (0.0, 4.0))
    picture, mask = face.photo.picture.astype(int), face.photo.mask
    assert np.abs(still - picture).max() <= 1
    assert not np.abs(moved - picture)[:, ~mask].any()
    rows, columns = np.nonzero(mask)
    y, x = int(rows[columns < 128].mean()), int(columns[columns < 128].mean())  # in the middle of the left eye
    np.testing.assert_allclose(moved[0, y, x - 5 : x + 6], picture[y, x - 1 : x + 10], atol=12)


def test_reference_eyes_of_the_frame_itself_change_little():
    face = rendered_face("val", 5, 2, 1, canvas_camera(256), gazes=2, face_px=256)
    pool = [rendered_photo("val", 5, 2, sample, canvas_camera(256), face_px=256) for sample in (1, 1)]
    assert np.abs(peers.pasted_reference_eyes(pool, face) - face.photo.picture.astype(int)).max() <= 1


def test_the_page(tmp_path):
    torch.manual_seed(0)
    save_estimator(tmp_path / "e.pth", GazeEstimator(), {"own_error_deg": {"all": 1.0}})
    flags = ["--persons", "1", "--held_out", "2", "--gazes", "2", "--face_px", "128", "--scenes", "2", "--steps", "2"]
    flags += ["--estimator", str(tmp_path / "e.pth"), "--output", str(tmp_path / "peers.md")]
    assert peers.main(flags) == 0
    cells = json.loads((tmp_path / "peers.json").read_text())["cells"]
    assert [cell["strategy"] for cell in cells] == ["true", "warping field", "pasted reference eyes"]
    text = (tmp_path / "peers.md").read_text()
    assert f"| `pasted reference eyes`, k = 32 | {cells[2]['numbers']['full_eye_psnr']:.2f} dB |" in text
    assert "another data set" in text and "trained 2 steps" in text
