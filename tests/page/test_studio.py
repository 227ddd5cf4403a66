"""What the page does with photos and videos, without a browser."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_tiny_model
from PIL import Image, ImageSequence
from videos import encoded, read, with_sound

from vaegaze import api
from vaegaze.errors import UserError
from vaegaze.faces.reader import NO_LANDMARKS
from vaegaze.files import shipped_path
from vaegaze.images.pictures import read_picture
from vaegaze.models.checkpoint import load_checkpoint, save_checkpoint
from vaegaze.page import studio as studio_module
from vaegaze.page.studio import BrokenOff, Studio
from vaegaze.redirecting.sweeps import SWEEP_FRAMES
from vaegaze.runs.one_person import Stopped

pytest.importorskip("cv2")
pytest.importorskip("av")

ASTRONAUT = Path(__file__).parents[2] / "docs" / "images" / "astronaut.png"
LEFT, WHOLE = (0.0, 0.3), 1.0


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A tiny model in whose drawings the gaze shows, untrained as it is."""
    model = make_tiny_model()
    model.gaze_mlp.gaze_mlp.net[-1].weight.data *= 30
    path = tmp_path_factory.mktemp("base") / "base.pth"
    save_checkpoint(path, model, {"trained_on": "nothing", "drops_reference": True})
    return path


@pytest.fixture
def studio(base, tmp_path):
    return Studio(str(base), None, "cpu", tmp_path)


@pytest.fixture
def visit(studio):
    visit = studio.begin()
    studio.open_photo(visit, ASTRONAUT)
    return visit


@pytest.fixture
def quick_recipe(monkeypatch, tmp_path):
    """The shipped one without the two networks that only judge."""
    recipe = shipped_path(studio_module.RECIPE).read_text(encoding="utf-8")
    recipe = re.sub("estimator: .*", "estimator: none", recipe)
    (tmp_path / "recipe.yaml").write_text(re.sub("vgg_loss: .*", "vgg_loss: 0", recipe), encoding="utf-8")
    monkeypatch.setattr(studio_module, "RECIPE", tmp_path / "recipe.yaml")


@pytest.fixture
def two_faces(tmp_path) -> Path:
    astronaut = np.asarray(Image.open(ASTRONAUT).convert("RGB"))
    path = tmp_path / "us two.png"
    Image.fromarray(np.hstack([astronaut, astronaut])).save(path)
    return path


def test_the_preview_shows_the_face_with_other_eyes(studio, visit):
    before, after = studio.preview(visit, LEFT, WHOLE, tuned=False)
    changed = (before != after).any(axis=-1)
    assert before.shape == after.shape == (480, 480, 3)
    assert 0.01 < changed.mean() < 0.2
    assert np.array_equal(before, studio.preview(visit, LEFT, 0.0, tuned=False)[1])


def test_the_saved_photo_is_what_the_python_api_draws(studio, visit, base):
    path = studio.save_picture(visit, LEFT, 0.5, tuned=False)
    assert path.name == "astronaut_redirected.png"
    expected = api.redirect(load_checkpoint(base), ASTRONAUT, LEFT, strength=0.5)
    off = abs(read_picture(path, "image").pixels.astype(int) - expected)
    assert off.max() <= 1 and (off > 0).sum() < 20, "the page computes by the faster forms: it may round differently"


def test_an_animation_has_every_frame_of_its_sweep(studio, visit):
    with Image.open(studio.sweep(visit, "horizontal", tuned=False)) as animation:
        assert sum(1 for _ in ImageSequence.Iterator(animation)) == SWEEP_FRAMES


def test_two_faces_are_told_and_then_one_is_chosen(studio, visit, two_faces):
    with pytest.raises(UserError, match=r"^us two.png shows 2 faces") as error:
        studio.open_photo(visit, two_faces)
    assert error.value.about == "faces"
    assert visit.path == ASTRONAUT and visit.offered == two_faces
    studio.open_photo(visit, visit.offered, 2)
    assert visit.photo.eyes[0, 0] > 512


def test_what_is_no_photo_of_a_face_leaves_the_photo_that_was_there(studio, visit, tmp_path):
    files = {"noise.png": b"", "grey.png": None, "talk.mp4": b"....ftyp"}
    Image.new("RGB", (300, 300), "grey").save(tmp_path / "grey.png")
    for name, content in files.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError) as error:
            studio.open_photo(visit, tmp_path / name)
        assert str(error.value).startswith(name) and str(tmp_path) not in str(error.value)
    assert visit.path == ASTRONAUT and visit.photo is not None


def test_without_a_photo_there_is_nothing_to_look_at(studio):
    with pytest.raises(UserError, match="choose one"):
        studio.preview(studio.begin(), LEFT, WHOLE, tuned=False)


def test_a_video_is_redirected_whole_or_until_it_is_stopped(studio, talking, tmp_path):
    visit, done = studio.begin(), []
    with_sound(tmp_path / "talk.mp4", talking.frames[:12])
    whole = studio.redirect_video(visit, tmp_path / "talk.mp4", (0, 0), WHOLE, False, lambda *each: done.append(each))
    assert whole.path.name == "talk_redirected.mp4" and len(read(whole.path)[0]) == whole.tally.frames == 12
    assert whole.tally.redrawn > 6 and done[-1][0] == 12
    assert whole.numbers.frames == 12 and whole.numbers.drawn == whole.tally.redrawn

    stopped = studio.redirect_video(visit, tmp_path / "talk.mp4", (0, 0), WHOLE, False, lambda *each: visit.stop.set())
    assert stopped.tally.stopped and 0 < stopped.tally.frames < 12


def test_what_is_lost_of_a_video_is_said(studio, talking, tmp_path):
    encoded(tmp_path / "talk.mkv", talking.frames[:3], pixel_format="yuv444p10le")
    notes = studio.redirect_video(studio.begin(), tmp_path / "talk.mkv", (0, 0), WHOLE, False).notes
    assert any("10-bit colour" in note and "4:4:4 colour" in note for note in notes)


@pytest.mark.usefixtures("cascades_only")
def test_a_video_whose_heads_cannot_be_read_says_so(studio, talking, tmp_path):
    encoded(tmp_path / "talk.mp4", talking.frames[:2])
    assert NO_LANDMARKS in studio.redirect_video(studio.begin(), tmp_path / "talk.mp4", (0, 0), WHOLE, False).notes


def test_of_several_persons_in_a_video_one_or_everyone_is_redrawn(studio, talking, tmp_path):
    pair, visit = tmp_path / "us two.mp4", studio.begin()
    encoded(pair, np.concatenate([talking.frames[:4]] * 2, axis=2))
    with pytest.raises(UserError, match=r"^us two.mp4 at 0.00 s shows 2 faces") as error:
        studio.redirect_video(visit, pair, LEFT, WHOLE, False)
    assert error.value.about == "faces"
    changed = {}
    for name, whom in {"right": {"face": 2}, "both": {"everyone": True}}.items():
        drawn = read(studio.redirect_video(visit, pair, LEFT, WHOLE, False, **whom).path)[0]
        halves = np.split(abs(drawn[0].astype(int) - read(pair)[0][0]), 2, axis=1)
        changed[name] = [bool((half > 40).any()) for half in halves]
    assert changed == {"right": [False, True], "both": [True, True]}


def test_of_a_damaged_video_what_is_finished_stays(studio, talking, tmp_path):
    encoded(tmp_path / "whole.mkv", talking.frames)
    content = (tmp_path / "whole.mkv").read_bytes()
    (tmp_path / "talk.mkv").write_bytes(content[: len(content) // 2])
    visit = studio.begin()
    with pytest.raises(BrokenOff, match=r"; talk_redirected.mp4 holds the first \d+ frames") as error:
        studio.redirect_video(visit, tmp_path / "talk.mkv", (0, 0), WHOLE, False)
    assert str(tmp_path) not in str(error.value) and len(read(error.value.part)[0]) > 5
    (tmp_path / "talk.mkv").write_bytes(b"no video")
    with pytest.raises(UserError) as error:
        studio.redirect_video(visit, tmp_path / "talk.mkv", (0, 0), WHOLE, False)
    assert not isinstance(error.value, BrokenOff), "the earlier result"


def test_a_video_without_a_face_is_told_by_its_name(studio, tmp_path):
    with_sound(tmp_path / "wall.mp4", np.full((5, 64, 96, 3), 90, np.uint8))
    with pytest.raises(UserError, match=r"^wall.mp4 shows no face"):
        studio.redirect_video(studio.begin(), tmp_path / "wall.mp4", (0, 0), WHOLE, False)


@pytest.mark.usefixtures("quick_recipe")
def test_fine_tuning_gives_a_model_to_draw_with_and_a_report(studio, visit, base):
    steps, before = [], studio.preview(visit, LEFT, WHOLE, tuned=True)[1]
    files = studio.fine_tune(visit, 3, (0.0, 0.0), on_step=steps.append)
    assert steps == [1, 2, 3]
    assert "astronaut" in files.report.read_text(encoding="utf-8")
    assert Image.open(files.before_after).size[0] > 0
    assert visit.tuned.info["fine_tuned_on"] == "astronaut"
    tuned, untuned = (studio.preview(visit, LEFT, WHOLE, each)[1] for each in (True, False))
    assert (tuned != before).any() and np.array_equal(untuned, before)
    loaded = load_checkpoint(base).model.state_dict()
    assert all(torch.equal(loaded[name], weights) for name, weights in studio.loaded.model.state_dict().items())


@pytest.mark.usefixtures("quick_recipe")
def test_a_stopped_fine_tuning_changes_nothing(studio, visit):
    with pytest.raises(Stopped):
        studio.fine_tune(visit, 1000, (0.0, 0.0), on_step=lambda number: visit.stop.set())
    assert visit.tuned is None


def test_the_end_of_a_visit_leaves_no_file(studio, visit):
    studio.save_picture(visit, LEFT, WHOLE, tuned=False)
    assert visit.folder.is_dir()
    visit.end()
    assert not visit.folder.exists()
