"""The person's own irises in a video: in steady places, never flashing, and nearer to the true picture."""

from dataclasses import replace

import numpy as np
import pytest
from command_runs import ROOT
from PIL import Image, ImageFilter

import vaegaze
from benchmarks.rendered_video import rendered_video
from vaegaze.evaluation.rendered_faces import rendered_eyes
from vaegaze.faces.follower import FollowedFrame
from vaegaze.geometry.alignment import AlignedFace
from vaegaze.geometry.camera import BETWEEN_EYES_MM, EYE_CENTRES_MM, LIDS, Camera
from vaegaze.geometry.pasting import paste_in_regions
from vaegaze.images.video import Frame
from vaegaze.redirecting.fading import SLOWEST_SEC
from vaegaze.redirecting.irises import SteadyIrises
from vaegaze.redirecting.series import Look, Series
from vaegaze.renderer.data_set import person_from_seed, render, scene_from_seed
from vaegaze.renderer.persons import eye_gazes

pytest.importorskip("cv2")
pytestmark = pytest.mark.usefixtures("landmarks_installed")

BAND = Camera(192, 96, 1000.0, BETWEEN_EYES_MM, eye_masks=LIDS)
AHEAD, ASIDE = (0.0, 0.0), (0.05, 0.25)
STEP_SEC = 1 / 25
PERSON = person_from_seed(0, 2)
SCENE = replace(scene_from_seed(0, 2, 0), head=(0.0, 0.0), lid_opening=1.0, jpeg_quality=0)


def picture(gaze, *, seed=0, blink=0.0) -> np.ndarray:
    return render(PERSON, replace(SCENE, gaze=gaze, noise_seed=seed, blink=blink), BAND).image


def blurred(pixels: np.ndarray, radius_px: float) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius_px)))


def true_irises(gaze) -> np.ndarray:
    scene = replace(SCENE, gaze=gaze)
    eyes = rendered_eyes(PERSON, scene, BAND)
    return np.stack([eye.iris_px(each) for eye, each in zip(eyes, eye_gazes(PERSON, scene))])


@pytest.fixture(scope="module")
def drawn() -> np.ndarray:
    """Soft eyes that look ahead."""
    return blurred(picture(AHEAD), 1.2)


def pairs(irises, number, image, drawn, blend=1.0):
    """Of frame `number`, whose canvas is `image`."""
    followed = FollowedFrame(Frame(image, number * STEP_SEC), np.zeros((2, 2)), False, np.full(2, blend))
    face = AlignedFace(image, np.ones(BAND.shape, bool), np.eye(2, 3), np.zeros(2))
    return irises.pairs(followed, face, drawn, np.array(AHEAD), BAND)


def centres(found, which: int) -> np.ndarray:
    return np.stack([pair[which].centre for pair in found])


def test_irises_rest_in_fixations_and_move_at_once_between_them(drawn):
    irises, looks = SteadyIrises(), [ASIDE] * 8 + [AHEAD] * 8
    found, own = zip(*(pairs(irises, n, picture(gaze, seed=n), drawn) for n, gaze in enumerate(looks)))
    assert own == (1.0,) * len(looks)
    there, here = (np.stack([centres(each, which) for each in found]) for which in (0, 1))  # (16, 2, 2)
    for fixation in (slice(0, 8), slice(8, 16)):
        assert abs(np.diff(there[fixation], axis=0)).max() < 0.1
    way = there[8] - there[7]
    assert np.linalg.norm(way - (true_irises(AHEAD) - true_irises(ASIDE)), axis=-1).max() < 1
    assert abs(np.diff(here, axis=0)).max() < 0.1
    assert np.linalg.norm(here[-1] - true_irises(AHEAD), axis=-1).max() < 0.6
    radii = np.array([[pair[1].radius for pair in each] for each in found])
    assert abs(np.diff(radii, axis=0)).max() < 0.03 * radii.mean()


def test_faint_drawn_irises_go_where_the_gaze_puts_them():
    irises, faint = SteadyIrises(), blurred(picture(AHEAD), 6)
    for number in range(6):
        found, own = pairs(irises, number, picture(ASIDE, seed=number), faint)
        assert own == 1
        assert np.linalg.norm(centres(found, 1) - true_irises(AHEAD), axis=-1).max() < 0.6


def test_eyes_that_squint_go_on_squinting():
    """Not where each drawn eye, which looks straight ahead, is clearest."""
    faint, straight = blurred(picture(AHEAD), 6), picture(AHEAD)
    inwards = np.hstack([np.roll(straight[:, :96], 2, axis=1), np.roll(straight[:, 96:], -2, axis=1)])
    (left, right), _ = pairs(SteadyIrises(), 0, inwards, faint)
    moved = (left[1].centre - right[1].centre) - np.subtract(*true_irises(AHEAD))
    assert 2.5 < moved[0] < 4.5 and abs(moved[1]) < 0.6


def test_no_flash_where_irises_are_not_clear_for_a_moment(drawn):
    irises, own = SteadyIrises(), []
    clear, unclear = picture(ASIDE), blurred(picture(ASIDE), 14)
    for number in range(24):
        own.append(pairs(irises, number, unclear if number in (8, 9, 16) else clear, drawn)[1])
    assert own == [1.0] * 24


def test_irises_fade_where_they_are_unclear_for_long_and_come_back_late(drawn):
    irises, own = SteadyIrises(), []
    clear, unclear = picture(ASIDE), blurred(picture(ASIDE), 14)
    for number in range(80):
        own.append(pairs(irises, number, unclear if 4 <= number < 30 else clear, drawn)[1])
    assert own[:8] == [1.0] * 8 and own[29:50] == [0.0] * 21 and own[-1] == 1
    assert abs(np.diff(own)).max() <= STEP_SEC / SLOWEST_SEC + 1e-6


def test_an_unlucky_first_frame_is_soon_made_up_for(drawn):
    irises, own = SteadyIrises(), []
    for number in range(20):
        own.append(pairs(irises, number, picture(ASIDE) if number else blurred(picture(ASIDE), 14), drawn)[1])
    assert own[0] == 0 and own[-1] == 1


def test_irises_that_come_and_go_stay_as_drawn(drawn):
    irises = SteadyIrises()
    clear, unclear = picture(ASIDE), blurred(picture(ASIDE), 14)
    assert {pairs(irises, n, clear if n % 3 else unclear, drawn)[1] for n in range(40)} == {0.0}


def test_a_blink_does_not_count(drawn):
    irises, own = SteadyIrises(), []
    opened, closing = picture(ASIDE), picture(ASIDE, blink=0.9)
    for number in range(30):
        blinks = number % 10 >= 7
        own.append(pairs(irises, number, closing if blinks else opened, drawn, 0.4 if blinks else 1.0)[1])
    assert own == [1.0] * 30


def test_beside_a_blink_no_eye_has_two_irises():
    model = vaegaze.load_model(ROOT / "checkpoints" / "pretrained_model.pth").model
    given, wanted = (picture(gaze, blink=0.2) for gaze in (ASIDE, AHEAD))
    ys, xs = np.mgrid[: BAND.height_px, : BAND.width_px] + 0.5
    places = np.concatenate([true_irises(ASIDE), true_irises(AHEAD)])
    on_irises = np.any([np.hypot(xs - x, ys - y) < 9 for x, y in places], axis=0)

    def error(blend, blinks):
        eyes = BAND.project(EYE_CENTRES_MM, np.zeros(2))
        followed = FollowedFrame(Frame(given, 0.0), eyes, False, blend, blinks=blinks)
        ((result, _),) = Series(model, None, Look(AHEAD, (0.0, 0.0))).redraw([[followed]])
        return abs(result.astype(int) - wanted)[on_irises].mean()

    assert error(1 / 3, True) < 1.15 * error(1.0, False) < 0.8 * error(1 / 3, False)


def test_half_opaque_irises_lie_halfway(drawn):
    image = picture(ASIDE)
    found, _ = pairs(SteadyIrises(), 0, image, drawn)
    drawn = blurred(drawn, 2.0)  # so soft that sharp irises change it much
    none, half, whole = (
        paste_in_regions(image, np.zeros(2), drawn, np.eye(2, 3), BAND, 1.0, None, found, share).astype(int)
        for share in (0.0, 0.5, 1.0)
    )
    assert abs(whole - none).max() > 40 and abs(half - (whole + none) / 2).max() <= 1
    assert (none == paste_in_regions(image, np.zeros(2), drawn, np.eye(2, 3), BAND)).all()


def test_without_landmarks_all_stays_as_drawn(drawn, cascades_only):
    assert pairs(SteadyIrises(), 0, picture(ASIDE), drawn) == ([], 0.0)


def test_a_video_comes_nearer_to_the_true_one(monkeypatch):
    given, true = (rendered_video(seconds=0.16, number=5, into_camera=each) for each in (False, True))
    model = vaegaze.load_model(ROOT / "checkpoints" / "pretrained_model.pth")

    def redirected():
        redirector = vaegaze.Redirector(model)
        return [redirector.frame(frame, number * STEP_SEC) for number, frame in enumerate(given.frames)]

    def error(frames) -> float:
        """Within the irises."""
        ys, xs = np.mgrid[: true.frames.shape[1], : true.frames.shape[2]] + 0.5
        return float(
            np.mean(
                [
                    abs(frame.astype(int) - wanted)[np.hypot(xs - x, ys - y) < 9].mean()
                    for frame, wanted, eyes in zip(frames, true.frames, true.eyes)
                    for x, y in eyes
                ]
            )
        )

    frames, again = redirected(), redirected()
    assert all((one == other).all() for one, other in zip(frames, again)), "the same each time"
    monkeypatch.setattr(SteadyIrises, "pairs", lambda *given: ([], 0.0))
    assert error(frames) < 0.9 * error(redirected())
