"""Eyes through a video: near the truth and steady, also when faces come and go or there are several."""

import numpy as np
import pytest
from command_runs import ROOT
from PIL import Image

from benchmarks.rendered_video import BLINKS_SEC, FRAMES_PER_SEC
from vaegaze.errors import UserError
from vaegaze.faces import cascades as eyes_module
from vaegaze.faces import follower
from vaegaze.faces.cascades import eyes_about
from vaegaze.faces.everyone import follow_all
from vaegaze.faces.follower import AHEAD_SEC, CLOSED, COVERED, NO_FACE, RAMP_SEC
from vaegaze.faces.motion import movement
from vaegaze.faces.tracking import WAIT_FOR_FACE_SEC, follow_eyes
from vaegaze.images.video import Frame

pytest.importorskip("cv2")

HELD_BACK = round((AHEAD_SEC + RAMP_SEC) * FRAMES_PER_SEC) + 1
RAMP = round(RAMP_SEC * FRAMES_PER_SEC) - 1
NEAR_PX = 5.0  # of eyes 90 px apart
TREMBLE_PX = 1 / 3  # that the found eyes may move otherwise than the true ones, from frame to frame


def video(frames):
    return (Frame(frame, number / FRAMES_PER_SEC) for number, frame in enumerate(frames))


def follow(frames, **options):
    return list(follow_eyes(video(frames), "talk.mp4", by=options.pop("by", "cascades"), **options))


def shifts(found, true) -> np.ndarray:
    """How far each found eye moves otherwise than the true one from one frame to the next, in pixels."""
    return np.linalg.norm(np.diff(found, axis=0) - np.diff(true, axis=0), axis=-1)


@pytest.fixture(scope="module")
def followed(talking):
    return follow(talking.frames)


def test_the_eyes_do_not_tremble(talking, followed):
    found = np.stack([each.eyes for each in followed])
    assert shifts(found, talking.eyes).mean() < TREMBLE_PX
    assert np.linalg.norm(found - talking.eyes, axis=-1).mean() < NEAR_PX
    seen = [(eyes_about(frame, eyes), eyes) for frame, eyes in zip(talking.frames[:16], talking.eyes)]
    alone = shifts(*(np.stack(each) for each in zip(*[pair for pair in seen if pair[0] is not None])))
    assert alone.mean() > 2 * TREMBLE_PX, "what is found in each frame alone does"


def test_only_blinks_are_left_as_they_are(talking, followed):
    assert [each.closed for each in followed] == (talking.openness < 0.5).tolist()
    for each, openness in zip(followed, talking.openness):
        assert (each.blend == 0).all() if openness < 0.5 else (each.blend > 0).all()
    blends = np.array([each.blend for each in followed])
    blinks = np.array([each.blinks for each in followed])
    assert blinks[blends < 1].all() and not blinks[blends == 1].any()
    assert abs(np.diff(blends)).max() < 0.5, "no flicker"
    first = round(BLINKS_SEC[0] * FRAMES_PER_SEC)
    assert (blends[: first - 2 - RAMP] == 1).all() and (blends[-1] == 1).all()


def test_frames_come_in_order_and_few_are_held_back(talking):
    given = []

    def frames():
        for each in video(talking.frames[:20]):
            given.append(each)
            yield each

    for number, each in enumerate(follow_eyes(frames(), "talk.mp4", by="cascades")):
        assert each.frame is given[number] and len(given) <= number + 1 + HELD_BACK
    assert number == 19


def test_a_face_that_vanishes_for_a_while(talking):
    frames = talking.frames[:48].copy()
    frames[:3] = frames[24:33] = 128
    followed = follow(frames)
    seen = np.array([each.eyes is not None for each in followed])
    assert not seen[:3].any() and seen[3:24].all() and not seen[24:33].any() and seen[33:].all()
    assert all((each.blend == 0).all() for each in np.array(followed)[~seen])
    found = np.stack([each.eyes for each in followed if each.eyes is not None])
    assert np.linalg.norm(found - talking.eyes[:48][seen], axis=-1).mean() < NEAR_PX


def test_no_face_at_all(talking):
    followed = follow(np.full_like(talking.frames[:15], 90))
    assert len(followed) == 15 and all(each.eyes is None and not each.closed for each in followed)


def test_the_numbered_one_of_two_faces_is_kept(talking):
    width = talking.frames.shape[2]
    both = np.concatenate([talking.frames[:6, :, 60:-60], talking.frames[30:36, :, 60:-60]], axis=2)
    with pytest.raises(UserError, match=r"^talk\.mp4 at 0\.00 s shows 2 faces"):
        follow(both)
    left, right = (np.stack([each.eyes for each in follow(both, face=face)]) for face in (1, 2))
    assert np.linalg.norm(left - (talking.eyes[:6] - (60, 0)), axis=-1).mean() < NEAR_PX
    assert np.linalg.norm(right - (talking.eyes[30:36] + np.array([width - 180, 0])), axis=-1).mean() < NEAR_PX
    with pytest.raises(UserError, match=r"shows 2 faces with eyes, no face 3$"):
        follow(both, face=3)


def test_the_numbered_face_may_appear_a_little_later(talking):
    width = talking.frames.shape[2]
    both = np.concatenate([talking.frames[:12], talking.frames[30:42]], axis=2)
    both[:2, :, width:] = 128
    eyes = [each.eyes for each in follow(both, face=2)]
    assert eyes[0] is None and eyes[1] is None
    there = talking.eyes[30:42] + np.array([width, 0])
    assert np.linalg.norm(np.stack(eyes[2:]) - there[2:], axis=-1).mean() < NEAR_PX


@pytest.mark.parametrize("count", [7, 45])
def test_a_face_that_never_comes(talking, count):
    given = []
    frames = (given.append(each) or each for each in video(talking.frames[:count, ::2, ::2]))
    with pytest.raises(UserError, match=r"shows 1 face with eyes, no face 2$"):
        list(follow_eyes(frames, "talk.mp4", face=2, by="cascades"))
    assert len(given) <= WAIT_FOR_FACE_SEC * FRAMES_PER_SEC + 1


def test_a_face_is_searched_for_in_every_frame_until_found(talking, monkeypatch):
    searched, search = [], eyes_module._faces_with_eyes
    monkeypatch.setattr(eyes_module, "_faces_with_eyes", lambda picture: searched.append(picture) or search(picture))
    frames = talking.frames[:12].copy()
    frames[:6] = 128
    assert [each.eyes is not None for each in follow(frames)] == [False] * 6 + [True] * 6
    assert len(searched) == 7


@pytest.mark.parametrize("eye_distance_px", [45, 180])
def test_movement_is_measured_to_a_fraction_of_a_pixel(eye_distance_px):
    picture = Image.open(ROOT / "docs" / "images" / "astronaut.png")
    factor = eye_distance_px / 44.6
    picture = picture.resize((round(picture.width * factor), round(picture.height * factor)), Image.Resampling.BICUBIC)
    eyes = np.array([[203.0, 101.0], [247.5, 103.5]]) * factor
    cos, sin = 1.01 * np.cos(0.02), 1.01 * np.sin(0.02)
    there = np.array([[cos, sin, 3.3], [-sin, cos, 5.7]])  # target → source, as Pillow has it
    moved = picture.transform(picture.size, Image.Transform.AFFINE, there.ravel().tolist(), Image.Resampling.BICUBIC)
    motion = movement(np.asarray(picture), np.asarray(moved), eyes)
    expected = np.linalg.solve(there[:, :2], (eyes - there[:, 2]).T).T
    assert np.linalg.norm(eyes @ motion[:, :2].T + motion[:, 2] - expected, axis=1).max() < 0.004 * eye_distance_px


def test_a_cut_is_no_movement(talking):
    other = np.asarray(Image.open(ROOT / "docs" / "images" / "astronaut.png").resize((480, 360)))
    assert movement(talking.frames[0], other, talking.eyes[0]) is None


def test_landmarks_read_the_head_too_and_end_where_the_face_does(talking, landmarks_installed):
    frames = talking.frames[:45].copy()
    frames[38:] = 128
    followed = follow(frames, by="landmarks")
    assert [each.eyes is not None for each in followed] == [True] * 38 + [False] * 7
    assert [each.closed for each in followed[:38]] == (talking.openness[:38] < 0.5).tolist()
    off_deg = np.degrees(np.stack([each.head for each in followed[:38]]) - talking.head[:38])
    assert off_deg.std(axis=0).max() < 2, "but for the person's own offset"
    opened = talking.openness[:38] == 1
    gaze = np.stack([each.gaze for each in followed[:38]])[opened]
    true = talking.gaze[:38][opened]
    assert np.corrcoef(gaze[:, 1], true[:, 1])[0, 1] > 0.9 and np.degrees(abs(gaze - true)).mean() < 8
    found = np.stack([each.eyes for each in followed[:38]])
    assert shifts(found, talking.eyes[:38]).mean() < TREMBLE_PX
    assert np.linalg.norm(found - talking.eyes[:38], axis=-1).mean() < NEAR_PX
    assert abs(np.stack([each.face.eyes for each in followed[:38]]) - found).max() < NEAR_PX, "read in this frame"
    assert followed[-1].face is None


# --- Moments in which the face is not found ---------------------------------------------------------------------------

LOST = (8, 36)  # first frames of the moments, between the blinks
MOMENT = 6  # frames


def disturbed(talking, how):
    """The frames, `how(picture, eyes)` applied in two moments."""
    frames = talking.frames.copy()
    for first in LOST:
        for number in range(first, first + MOMENT):
            frames[number] = how(frames[number], talking.eyes[number])
    return frames


def smeared(picture, eyes):
    """As by a jerk of the camera."""
    import cv2

    return cv2.blur(picture, (61, 9))


def mouth_covered(picture, eyes):
    top, apart = round(eyes[:, 1].max() + 0.35 * np.ptp(eyes[:, 0])), round(np.ptp(eyes[:, 0]))
    covered = picture.copy()
    covered[top:, round(eyes[0, 0]) - apart : round(eyes[1, 0]) + apart] = 190
    return covered


def overexposed(picture, eyes):
    """As by a flash."""
    return picture // 16 + 236


def left_eye_covered(picture, eyes):
    (x, y), reach = eyes[0].round().astype(int), 28
    covered = picture.copy()
    covered[y - reach : y + reach, x - reach : x + reach] = picture[y + 40, x]
    return covered


def switches(followed, talking) -> int:
    """How often the eyes change between drawn and left, but for the true blinks."""
    drawn = np.array([np.all(each.blend > 0) for each in followed])
    return int(abs(np.diff(drawn[talking.openness >= 0.5].astype(int))).sum())


@pytest.mark.parametrize("how", [smeared, overexposed, mouth_covered])
@pytest.mark.parametrize("by", ["landmarks", "cascades"])
def test_eyes_do_not_flash_where_the_face_is_lost_for_a_moment(talking, how, by, request, monkeypatch):
    if by == "landmarks":
        request.getfixturevalue("landmarks_installed")
    followed = follow(disturbed(talking, how), by=by)
    assert switches(followed, talking) == 0, [each.left for each in followed]
    off = np.linalg.norm(np.stack([each.eyes for each in followed]) - talking.eyes, axis=-1)
    assert off.mean() < NEAR_PX and off.max() < 3 * NEAR_PX
    if (how, by) == (overexposed, "cascades"):
        monkeypatch.setattr(follower, "BRIDGE_SEC", 0)
        lost = [number for number, each in enumerate(follow(disturbed(talking, how), by=by)) if each.eyes is None]
        moments = [number for first in LOST for number in range(first, first + MOMENT)]
        assert lost == moments, "neither found nor followed there"


def test_a_covered_eye_is_left_alone_and_said(talking, landmarks_installed):
    followed = follow(disturbed(talking, left_eye_covered), by="landmarks")
    for first in LOST:
        for each in followed[first : first + MOMENT]:
            assert each.left == COVERED and each.blend[0] == 0 and each.blend[1] == 1
        for each in followed[first - RAMP + 1 : first]:
            assert 0 < each.blend[0] < 1 and not each.blinks[0]
    assert {each.left for each in followed} == {None, CLOSED, COVERED}


def test_a_face_gone_for_long_is_not_bridged(talking, landmarks_installed):
    frames = talking.frames[:60].copy()
    frames[30:50] = 128
    followed = follow(frames, by="landmarks")
    assert {each.left for each in followed[30:50]} == {NO_FACE}
    assert {each.left for each in followed[50:]} == {None, CLOSED}


@pytest.mark.parametrize("by", ["landmarks", "cascades"])
def test_eyes_end_where_the_face_dissolves_into_a_slide(talking, by, request):
    if by == "landmarks":
        request.getfixturevalue("landmarks_installed")
    begins, takes, count = 12, 12, 44
    slide = np.full_like(talking.frames[0], 235)
    for top in range(60, 300, 40):  # lines of text
        slide[top : top + 12, 60:420:3] = 40
    frames = talking.frames[:count].copy()
    for number in range(begins, count):
        share = min((number - begins + 1) / takes, 1.0)
        frames[number] = (1 - share) * frames[number] + share * slide
    left = [each.left for each in follow(frames, by=by)]
    assert set(left[begins + takes :]) == {NO_FACE} and left[0] != NO_FACE, left


@pytest.mark.parametrize("by", ["cascades", "landmarks"])
@pytest.mark.parametrize("times", [(0, 0.04, 60, 60.04, 200), (0, 5, 10, 15, 20)], ids=["pauses", "slow"])
def test_frames_far_apart(times, by, talking, request):
    """A pause of a recording, or a frame every few seconds: what was found before it still counts."""
    if by == "landmarks":
        request.getfixturevalue("landmarks_installed")
    frames = [Frame(talking.frames[number], float(time_sec)) for number, time_sec in enumerate(times)]
    alone, everyone = list(follow_eyes(frames, "talk.mp4", by=by)), list(follow_all(frames, by))
    assert len(alone) == len(everyone) == len(times)
    for number, (each, faces) in enumerate(zip(alone, everyone)):
        assert len(faces) == 1
        for followed in (each, faces[0]):
            assert followed.frame is frames[number] and followed.left is None
            assert np.linalg.norm(followed.eyes - talking.eyes[number], axis=1).max() < NEAR_PX
