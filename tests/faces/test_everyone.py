"""Several persons in a video, each followed."""

import re

import numpy as np
import pytest
from videos import encoded

from benchmarks.rendered_video import FRAMES_PER_SEC
from vaegaze.faces.everyone import follow_all
from vaegaze.faces.follower import NO_FACE
from vaegaze.faces.tracking import follow_eyes
from vaegaze.images.video import Frame, open_video

pytest.importorskip("cv2")

NEAR_PX = 5.0


@pytest.fixture(scope="module")
def both(talking):
    """Two of the same person, at other times: frames, and each one's eyes."""
    width = talking.frames.shape[2]
    frames = np.concatenate([talking.frames[:10, :, 60:-60], talking.frames[30:40, :, 60:-60]], axis=2)
    return frames, (talking.eyes[:10] - (60, 0), talking.eyes[30:40] + np.array([width - 180, 0]))


def follow(frames, by="cascades"):
    return list(follow_all((Frame(frame, i / FRAMES_PER_SEC) for i, frame in enumerate(frames)), by))


def test_every_face_of_every_frame(both):
    frames, eyes = both
    followed = follow(frames)
    assert [len(faces) for faces in followed] == [2] * 10
    for number, (faces, *true) in enumerate(zip(followed, *eyes)):
        assert all(each.frame.time_sec == number / FRAMES_PER_SEC for each in faces)
        assert [each.person for each in faces] == [1, 2]
        assert max(abs(each.eyes - there).max() for each, there in zip(faces, true)) < 2 * NEAR_PX


def test_one_comes_later(both):
    frames, _ = both
    half = frames.copy()
    half[:4, :, frames.shape[2] // 2 :] = 128
    half[0] = 128
    followed = follow(np.concatenate([half, frames, frames[::-1]]))
    assert len(followed) == 30
    assert followed[0][0].left == NO_FACE and followed[0][0].eyes is None
    assert [each.person for each in followed[2]] == [1]
    assert [each.person for each in followed[25]] == [1, 2]


def opened(path, frames):
    encoded(path, frames)
    return open_video(path, "--video")


@pytest.mark.parametrize("follow_video", [follow_all, lambda video, by: follow_eyes(video, "two.mp4", 1, by)])
def test_a_face_that_cannot_be_read_is_noted_once(both, follow_video, tmp_path):
    frames, eyes = both
    with opened(tmp_path / "two.mp4", frames) as video:
        assert len(list(follow_video(video, "cascades"))) == 10 and not video.notes
    hidden = frames.copy()
    for x, y in eyes[1][0].round().astype(int):
        hidden[:, y - 34 : y + 34, x - 38 : x + 38] = hidden[:, y + 65 : y + 66, x - 38 : x + 38]
    with opened(tmp_path / "one.mp4", hidden) as video:
        assert len(list(follow_video(video, "cascades"))) == 10
        (note,) = video.notes
    assert re.search(r"^⚠️ The frame at 0\.00 s shows more faces that could not be read: at \(\d+, \d+\)$", note)
