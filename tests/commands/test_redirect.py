"""vaegaze redirect: a photo or a frame looks elsewhere, as a picture, a sheet or an animation."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from command_runs import World, assert_one_line, command, files_in, invoke
from conftest import SIZE_PX, make_tiny_model, process_restored
from PIL import Image, ImageCms, ImageSequence

from vaegaze.commands import redirect
from vaegaze.data import hdf5
from vaegaze.data.photo import load_photo, own_irises, photo_of_frame, without_own_error
from vaegaze.data.photo import paste as paste_photo
from vaegaze.evaluation.metrics import draw
from vaegaze.geometry.camera import canvas_camera
from vaegaze.images import animations
from vaegaze.images.animations import CAPTION_PX, captioned, write_animation
from vaegaze.models import to_pixels
from vaegaze.models.checkpoint import Reference, load_checkpoint, save_checkpoint
from vaegaze.redirecting.drawing import redraw_gazes
from vaegaze.redirecting.sweeps import MAX_LISTED, sweep_gazes
from vaegaze.renderer.data_set import write_hdf5
from vaegaze.training.references import choose_references, references_of
from vaegaze.training.tensors import prepare_frames

DOCS = Path(__file__).parents[2] / "docs" / "images"
PERSON = "person_002"
EXIF_ORIENTATION = 0x0112
TURNED = "-0.2,0.3;0.3,-0.3;0,0"  # begins as a flag does


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A tiny model in whose drawings the gaze shows, untrained as it is."""
    model = make_tiny_model()
    with torch.no_grad():
        model.gaze_mlp.gaze_mlp.net[-1].weight *= 30
    path = tmp_path_factory.mktemp("base") / "base.pth"
    save_checkpoint(path, model, {"trained_on": "nothing", "drops_reference": True})
    return path


@pytest.fixture(scope="module")
def tuned(world, base, tmp_path_factory):
    """A folder with a fine-tuned model and the same as an adapter."""
    save_dir = tmp_path_factory.mktemp("runs")
    flags = (*world.flags, "--checkpoint_path", base, "--person_id", PERSON, "--num_steps", 3, "--learning_rate", 1e-2)
    assert command(*flags, "--save", "both", "--save_dir", save_dir).code == 0
    return save_dir / PERSON


@pytest.fixture(scope="module")
def cut() -> tuple[np.ndarray, np.ndarray]:
    """The shipped photo's face (170, 200, 3) uint8 and its eye mask (170, 200) bool."""
    window = (slice(20, 190), slice(130, 330))
    return np.asarray(Image.open(DOCS / "astronaut.png"))[window], np.asarray(
        Image.open(DOCS / "astronaut_mask.png").convert("L")
    )[window] >= 128


@pytest.fixture
def photo(cut, tmp_path):
    """The flags for it."""
    return photo_flags(tmp_path, Image.fromarray(cut[0]), cut[1])


def photo_flags(folder, picture, mask, name="me.png", **options):
    picture.save(folder / name, **options)
    Image.fromarray(mask).save(folder / "eyes.png")
    return ("--image", folder / name, "--mask", folder / "eyes.png")


@pytest.fixture
def run(base):
    """The command on the tiny base model, unless it is told another; returns how it ended."""

    def run(*flags, ok=True):
        return invoke(redirect.main, "--checkpoint", base, "--device", "cpu", *flags, ok=ok)

    return run


def pixels(path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def frames_of(path) -> list[np.ndarray]:
    with Image.open(path) as picture:
        return [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(picture)]


def durations_of(path) -> list[float]:
    with Image.open(path) as picture:
        return [frame.copy().info["duration"] for frame in ImageSequence.Iterator(picture)]  # WebP's, once it is read


# --- Still pictures ---------------------------------------------------------------------------------------------------


def test_only_the_eyes_of_a_photo_change(run, photo, cut, tmp_path):
    picture, mask = cut
    results = []
    for number, gaze in enumerate([(0, 0), (0.3, -0.4)]):
        outcome = run(*photo, "--gaze", *gaze, "--output", tmp_path / f"{number}.png")
        results.append(pixels(tmp_path / f"{number}.png"))
        assert results[-1].shape == picture.shape and (results[-1][~mask] == picture[~mask]).all()
        assert (results[-1][mask] != picture[mask]).mean() > 0.5
        assert f"✅ {tmp_path / f'{number}.png'}" in outcome.out and "eyes by the mask at (73, 81)" in outcome.out
    assert abs(results[0].astype(int) - results[1])[mask].max() > 10
    run(*photo, "--gaze", 0, 0, "--output", tmp_path / "again.png")
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "0.png").read_bytes()


def test_the_eyes_are_found(run, cut, tmp_path):
    pytest.importorskip("cv2")
    picture, mask = cut
    image = photo_flags(tmp_path, Image.fromarray(np.hstack([picture, picture])), np.hstack([mask, mask]))[:2]
    flags = (*image, "--gaze", 0, 0, "--output", tmp_path / "out.png")
    assert_one_line(run(*flags, ok=False), "me.png shows 2 faces", "--face N")
    out = run(*flags, "--face", 2).out
    assert re.search(r"eyes found at \(273, 81\) and at \(318, 8[34]\)", out), out
    changed = (pixels(tmp_path / "out.png") != pixels(image[1])).any(axis=-1)
    assert not changed[:, :200].any() and changed[:, 200:][mask].mean() > 0.5


def test_without_opencv_a_mask_is_needed(run, photo, no_opencv, tmp_path):
    output = ("--gaze", 0, 0, "--output", tmp_path / "out.png")
    assert_one_line(run(*photo[:2], *output, ok=False), "--mask PATH", "pip install 'opencv-python")
    run(*photo, *output)


def test_an_exif_rotation_is_applied(run, cut, tmp_path):
    picture, mask = cut
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 6
    flags = photo_flags(tmp_path, Image.fromarray(np.rot90(picture, 1)), mask, exif=exif)
    run(*flags, "--gaze", 0, 0, "--output", tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as result:
        assert EXIF_ORIENTATION not in result.getexif()
        assert (np.asarray(result)[~mask] == picture[~mask]).all() and result.size == picture.shape[1::-1]


@pytest.mark.parametrize("kind", ["grey", "grey and alpha", "alpha", "palette", "deep", "cmyk", "jpeg"])
def test_every_kind_of_picture_keeps_its_channels(run, cut, tmp_path, kind):
    picture, mask = cut
    image = Image.fromarray(picture)
    grey, alpha = image.convert("L"), Image.linear_gradient("L").resize(image.size)
    name, stored, expected = {
        "grey": ("a.png", grey, grey),
        "grey and alpha": ("a.png", Image.merge("LA", (grey, alpha)), None),
        "alpha": ("a.png", Image.merge("RGBA", (*image.split(), alpha)), None),
        "palette": ("a.png", image.quantize(64), image.quantize(64).convert("RGB")),
        "deep": ("a.png", Image.fromarray(np.asarray(grey).astype(np.uint16) * 257), grey),
        "cmyk": ("a.tif", image.convert("CMYK"), image.convert("CMYK").convert("RGB")),
        "jpeg": ("a.jpg", image, None),
    }[kind]
    flags = photo_flags(tmp_path, stored, mask, name)
    run(*flags, "--gaze", 0.1, 0.2, "--output", tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as result, Image.open(flags[1]) as given:
        expected = expected or given
        assert result.mode == expected.mode
        result, expected = np.asarray(result), np.asarray(expected)
    assert (result[~mask] == expected[~mask]).all() and (result[mask] != expected[mask]).any()
    assert "alpha" not in kind or (result[..., -1] == np.asarray(alpha)).all()


def test_a_jpeg_and_what_it_cannot_hold(run, cut, photo, tmp_path):
    picture, mask = cut
    run(*photo, "--gaze", 0, 0, "--output", tmp_path / "out.jpg")
    with Image.open(tmp_path / "out.jpg") as result:
        assert result.format == "JPEG" and abs(np.asarray(result).astype(int) - picture)[~mask].mean() < 3
    clear = photo_flags(tmp_path, Image.fromarray(picture).convert("RGBA"), mask)
    refused = run(*clear, "--gaze", 0, 0, "--output", tmp_path / "clear.jpg", ok=False)
    assert_one_line(refused, "JPEG holds no transparency", "ends in .png")


def test_the_colour_profile_goes_along_where_it_fits(run, cut, tmp_path):
    picture, mask = cut
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    colour = photo_flags(tmp_path, Image.fromarray(picture), mask, icc_profile=profile)
    for output, sweep in (("a.png", ("--gaze", 0, 0)), ("b.png", ("--sweep", "grid")), ("c.webp", ("--sweep", "0,0"))):
        run(*colour, *sweep, "--output", tmp_path / output)
        with Image.open(tmp_path / output) as result:
            assert result.info["icc_profile"] == profile
    grey = photo_flags(tmp_path, Image.fromarray(picture).convert("L"), mask, "grey.png", icc_profile=profile)
    run(*grey, "--sweep", "grid", "--output", tmp_path / "d.png")
    with Image.open(tmp_path / "d.png") as result:
        assert result.mode == "RGB" and "icc_profile" not in result.info


# --- Frames of a data set, and every kind of checkpoint ---------------------------------------------------------------


def frame_flags(world, index=3, person_id=PERSON):
    return ("--hdf_path", world.hdf_path, "--person_id", person_id, "--index", index)


def drawn_by_hand(world, checkpoint, references, gaze, index=3, person_id=PERSON):
    """The frame, its eye mask, and the drawing as evaluation makes it, pasted into the frame with its irises."""
    model = checkpoint.model
    sample = hdf5.read_person(world.hdf_path, person_id, [index], model.canvas).samples
    frames = prepare_frames(model, sample, references, torch.device("cpu"))
    frame = photo_of_frame(sample)
    drawn, own = (to_pixels(draw(model, frames.looking(each))) for each in (gaze, frame.gaze))
    (drawn,) = without_own_error(frame, drawn, np.array([gaze]), own[0])
    irises = own_irises(frame, drawn, np.array(gaze))
    return sample.images[0], sample.eye_masks[0], paste_photo(frame, drawn, irises=irises)


def test_a_frame_is_drawn_with_the_nearest_reference(run, world, tuned, tmp_path):
    flags = (*frame_flags(world), "--gaze", -0.1, 0.3)
    run("--checkpoint", tuned / "finetuned_model.pth", *flags, "--output", tmp_path / "whole.png")
    run("--checkpoint", tuned / "adapter.pth", *flags, "--output", tmp_path / "adapter.png")
    assert (tmp_path / "whole.png").read_bytes() == (tmp_path / "adapter.png").read_bytes()
    checkpoint = load_checkpoint(tuned / "finetuned_model.pth")
    assert len(checkpoint.references) == 8
    image, mask, expected = drawn_by_hand(world, checkpoint, checkpoint.references, (-0.1, 0.3))
    result = pixels(tmp_path / "whole.png")
    assert abs(result.astype(int) - expected).max() <= 1 and (result[~mask] == image[~mask]).all()
    assert (result[mask] != image[mask]).any()


def test_an_adapter_whose_base_has_moved(run, world, tuned, base, tmp_path):
    (tmp_path / "moved").mkdir()
    (tmp_path / "moved" / "adapter.pth").write_bytes((tuned / "adapter.pth").read_bytes())
    flags = (*frame_flags(world), "--gaze", 0, 0, "--checkpoint", tmp_path / "moved" / "adapter.pth")
    run(*flags, "--base", base, "--output", tmp_path / "out.png")
    assert_one_line(run(*flags, "--base", tmp_path / "no.pth", "--output", tmp_path / "b.png", ok=False), "--base PATH")


def test_a_base_model_takes_other_frames_of_the_person(run, world, base, tmp_path):
    run(*frame_flags(world), "--gaze", 0.2, 0, "--output", tmp_path / "out.png")
    checkpoint = load_checkpoint(base)
    references = choose_references(hdf5.read_person(world.hdf_path, PERSON, range(12), canvas_camera(SIZE_PX)).samples)
    expected = drawn_by_hand(world, checkpoint, references, (0.2, 0))[-1]
    assert abs(pixels(tmp_path / "out.png").astype(int) - expected).max() <= 1
    dropped = drawn_by_hand(world, checkpoint, [], (0.2, 0))[-1]
    assert abs(expected.astype(int) - dropped).max() > 1


def test_another_persons_model_gives_a_warning(run, world, tuned, tmp_path):
    flags = (*frame_flags(world, 0, "person_003"), "--gaze", 0, 0, "--output", tmp_path / "out.png")
    outcome = run("--checkpoint", tuned / "finetuned_model.pth", *flags)
    assert f"fine-tuned on {PERSON}, not on person_003" in outcome.out


def test_another_person_of_the_same_name_is_drawn_with_a_frame_of_their_own(run, tuned, tmp_path):
    write_hdf5(tmp_path / "other.h5", 2, SIZE_PX, seed=1, samples=12)
    other = World(tmp_path / "other.h5", tuned / "finetuned_model.pth")
    outcome = run(*frame_flags(other), "--checkpoint", other.base, "--gaze", 0, 0, "--output", tmp_path / "out.png")
    assert f"fine-tuned on another {PERSON} than that of {other.hdf_path}" in outcome.out
    references = references_of(other.hdf_path, PERSON, canvas_camera(SIZE_PX))
    expected = drawn_by_hand(other, load_checkpoint(other.base), references, (0.0, 0.0))[-1]
    assert abs(pixels(tmp_path / "out.png").astype(int) - expected).max() <= 1


def test_a_base_model_draws_with_the_frame_that_evaluation_takes(run, world, base, tmp_path):
    run(*frame_flags(world, person_id="person_001"), "--gaze", 0.2, 0, "--output", tmp_path / "out.png")
    references = references_of(world.hdf_path, "person_001", canvas_camera(SIZE_PX))
    expected = drawn_by_hand(world, load_checkpoint(base), references, (0.2, 0), person_id="person_001")[-1]
    assert abs(pixels(tmp_path / "out.png").astype(int) - expected).max() <= 1


def test_a_model_that_needs_a_reference_gives_a_warning(run, photo, tmp_path):
    save_checkpoint(tmp_path / "model.pth", make_tiny_model(), {})
    flags = (*photo, "--checkpoint", tmp_path / "model.pth", "--gaze", 0, 0)
    outcome = run(*flags, "--reference", "none", "--output", tmp_path / "out.png")
    assert "never saw a dropped reference" not in run(*flags, "--output", tmp_path / "own.png").out
    assert "never saw a dropped reference" in outcome.out


def test_a_photo_is_its_own_reference_unless_the_model_has_one(run, photo, base, tuned, tmp_path):
    def drawn(checkpoint, *choice):
        run(
            *photo, "--checkpoint", checkpoint, "--gaze", 0.2, 0, *choice, "--output", tmp_path / "a.png", "--overwrite"
        )
        return (tmp_path / "a.png").read_bytes()

    model, paths = load_checkpoint(base).model, (tmp_path / "me.png", tmp_path / "eyes.png")
    subject = load_photo(*paths, None, None, model.canvas)
    own = Reference(subject.samples.images[0], subject.samples.gaze[0], subject.samples.head[0])
    gaze = np.array([0.2, 0])
    by_hand = redraw_gazes(model, subject, own, gaze[None])[0]
    by_hand = paste_photo(subject, by_hand, irises=own_irises(subject, by_hand, gaze))
    assert drawn(base) == drawn(base, "--reference", "own") != drawn(base, "--reference", "none")
    drawn(base)
    assert abs(pixels(tmp_path / "a.png").astype(int) - by_hand).max() <= 1
    person = tuned / "finetuned_model.pth"
    assert drawn(person) == drawn(person, "--reference", "model") != drawn(person, "--reference", "own")
    single = load_checkpoint(base)
    save_checkpoint(tmp_path / "single.pth", single.model, {**single.info, "fine_tuned_on": "a photo"})
    assert drawn(tmp_path / "single.pth") == drawn(base, "--reference", "none"), "tuned without a reference"
    flags = ("--gaze", 0, 0, "--reference", "model", "--output", tmp_path / "b.png")
    assert_one_line(run(*photo, *flags, ok=False), "no reference frame", "--reference own")


def test_a_model_that_draws_nothing_finite(run, photo, tmp_path):
    model = make_tiny_model()
    with torch.no_grad():
        model.vae.decoder.conv_out.bias.fill_(torch.inf)
    save_checkpoint(tmp_path / "model.pth", model, {})
    flags = ("--checkpoint", tmp_path / "model.pth", "--gaze", 0, 0, "--output", tmp_path / "out.png")
    assert_one_line(run(*photo, *flags, ok=False), "infinite or NaN", "--checkpoint")
    assert not (tmp_path / "out.png").exists()


def test_a_gaze_turns_with_the_photo_and_each_is_drawn_once(cut, tmp_path):
    """Her right eye stands higher; the canvas sets that right, and so turns the gaze."""
    picture, mask = cut
    flags = photo_flags(tmp_path, Image.fromarray(picture), mask)
    photo = load_photo(flags[1], flags[3], (0, 0), (0, 0), canvas_camera(SIZE_PX))
    model, told = make_tiny_model(), []
    model.gaze_mlp.register_forward_hook(lambda module, inputs, output: told.append(inputs[1]))
    gazes = np.array([[0.0, 0.3], [0.2, -0.1], [0.0, 0.3]])
    drawn = redraw_gazes(model, photo, None, gazes)
    assert drawn.shape == (3, SIZE_PX, SIZE_PX, 3) and (drawn[0] == drawn[2]).all()
    assert len(told) == 1 and len(told[0]) == 3, "and the photo's own"
    np.testing.assert_allclose(told[0][1], (0.3 * np.sin(photo.roll_rad), 0.3), atol=2e-3)
    assert abs(photo.roll_rad) > 0.05
    alone = redraw_gazes(model, photo, None, gazes[1:2])
    assert abs(alone[0].astype(int) - drawn[1]).max() <= 1


# --- Sweeps -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sweep", ["circle", "horizontal", "vertical"])
def test_a_sweep_is_smooth_and_closes(sweep):
    gazes = sweep_gazes(sweep)
    assert gazes.shape == (24, 2) and (abs(gazes).max(axis=0) <= (0.35, 0.45)).all()
    steps = np.linalg.norm(np.diff(gazes, axis=0, append=gazes[:1]), axis=1)
    assert steps.min() > 0 and steps.max() < 0.12
    assert (gazes[:, 0] == 0).all() == (sweep == "horizontal") and (gazes[:, 1] == 0).all() == (sweep == "vertical")


def test_a_list_of_gazes():
    np.testing.assert_array_equal(sweep_gazes(" -0.1, .2; 1e-1,0 ;"), [[-0.1, 0.2], [0.1, 0]])


@pytest.mark.parametrize(
    "sweep", ["spiral", "0", "0,0;1", "0,0,0;0", "a,b", ";", "0,2", "nan,0", "0,0;" * (MAX_LISTED + 1)]
)
def test_wrong_sweeps(sweep):
    with pytest.raises(
        ValueError, match=r"^got '.*; expected circle, horizontal, vertical, grid, or at most 240 pairs"
    ):
        sweep_gazes(sweep)


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".apng"])
@pytest.mark.parametrize(("sweep", "frames", "frame_ms"), [("circle", 24, 80), ("vertical", 24, 80), (TURNED, 3, 600)])
def test_an_animation(run, photo, tmp_path, sweep, frames, frame_ms, suffix):
    output = tmp_path / f"out{suffix}"
    outcome = run(*photo, "--sweep", sweep, "--output", output)
    assert f"{frames} frames of 320×320 px, {frames * frame_ms / 1000:.1f} s" in outcome.out
    assert re.search(r"Shown is the face: (16\d)×\1 of the photo's 200×170 px", outcome.out)
    assert ("drawing" in outcome.err) == (frames > 8)
    with Image.open(output) as picture:
        assert picture.format == {".gif": "GIF", ".webp": "WEBP", ".apng": "PNG"}[suffix]
        assert picture.size == (320, 320) and picture.info["loop"] == 0
        assert sum(durations_of(output)) == frames * frame_ms
        if picture.n_frames != frames:  # Pillow makes one of frames that look the same
            assert picture.n_frames > frames / 2 and sweep != TURNED
    shown = frames_of(output)
    moving = np.any([(frame != shown[0]).any(axis=-1) for frame in shown], axis=0)
    assert 0.005 < moving.mean() < 0.06, "only the eyes move, also in the few colours of a GIF"


def test_frames_follow_the_listed_gazes(run, photo, tmp_path):
    run(*photo, "--sweep", "0.3,0.4;-0.3,-0.4", "--output", tmp_path / "two.apng")
    first, second = frames_of(tmp_path / "two.apng")
    for frame, gaze in ((first, "0.3,0.4"), (second, "-0.3,-0.4")):
        run(*photo, "--sweep", gaze, "--output", tmp_path / "one.apng", "--overwrite")
        (alone,) = frames_of(tmp_path / "one.apng")
        # Rounding differs with the number drawn at once, and may choose another place to take detail from.
        assert abs(alone.astype(int) - frame).mean() < 0.1 * abs(first.astype(int) - second).mean()


def test_labels_stand_below_the_frames(run, photo, tmp_path):
    run(*photo, "--sweep", "0.3,-0.4;0,-0.001", "--label", "--output", tmp_path / "out.apng")
    run(*photo, "--sweep", "0.3,-0.4;0,-0.001", "--output", tmp_path / "plain.apng")
    for frame, plain, caption in zip(
        frames_of(tmp_path / "out.apng"),
        frames_of(tmp_path / "plain.apng"),
        ("pitch +0.30, yaw -0.40 rad", "pitch +0.00, yaw +0.00 rad"),
    ):
        assert frame.shape == (320 + CAPTION_PX, 320, 3)
        assert (frame == captioned(plain, caption)).all() and (frame[320:] < 128).any()


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_grid(run, world, photo, tmp_path, suffix):
    outcome = run(*photo, "--sweep", "grid", "--output", tmp_path / f"grid{suffix}")
    assert "15 gazes, 224×224 px each" in outcome.out
    sheet = pixels(tmp_path / f"grid{suffix}")
    assert sheet.shape[0] == 24 + 3 * 228 and 5 * 228 < sheet.shape[1] < 5 * 228 + 80
    run(*frame_flags(world), "--sweep", "grid", "--output", tmp_path / f"frame{suffix}")
    assert pixels(tmp_path / f"frame{suffix}").shape == sheet.shape


def test_a_sweep_shows_the_face_of_a_large_photo(run, cut, tmp_path):
    picture, mask = cut
    size = (1200, 1020)
    mask = np.asarray(Image.fromarray(mask).resize(size))
    flags = photo_flags(tmp_path, Image.fromarray(picture).resize(size), mask)
    outcome = run(*flags, "--sweep", "0,0;0.2,0.2", "--output", tmp_path / "out.gif")
    assert "Shown is the face: 10" in outcome.out and "2 frames of 512×512 px" in outcome.out
    run(*flags, "--gaze", 0, 0, "--output", tmp_path / "out.png")
    assert pixels(tmp_path / "out.png").shape == (1020, 1200, 3)


def test_grey_and_transparent_photos(run, cut, tmp_path):
    picture, mask = cut
    grey = photo_flags(tmp_path, Image.fromarray(picture).convert("L"), mask, "grey.png")
    run(*grey, "--sweep", "0,0;0.3,0.3", "--output", tmp_path / "grey.webp")
    assert all((frame == frame[..., :1]).all() for frame in frames_of(tmp_path / "grey.webp"))
    clear = Image.fromarray(picture).convert("RGBA")
    clear.putalpha(Image.fromarray(np.where(np.arange(200) < 60, 0, 255).astype(np.uint8)[None].repeat(170, axis=0)))
    run(*photo_flags(tmp_path, clear, mask, "clear.png"), "--sweep", "0,0", "--output", tmp_path / "clear.apng")
    assert (frames_of(tmp_path / "clear.apng")[0][:, :40] == 255).all()


def test_a_gif_does_not_shimmer(tmp_path):
    """What is the same in all frames stays so, though colours are dithered; and what moves is shown."""
    rng = np.random.default_rng(0)
    ys, xs = np.mgrid[:120, :160]
    still = np.stack([xs, ys, (xs + ys) / 2], axis=-1).astype(np.uint8) + rng.integers(0, 9, (120, 160, 3), np.uint8)
    frames = [still.copy() for _ in range(5)]
    for number, frame in enumerate(frames):
        frame[20:40, 20 + number : 50 + number] = (40 * number, 90, 60)
    write_animation(tmp_path / "out.gif", frames, 100)
    shown = frames_of(tmp_path / "out.gif")
    assert len(shown) == 5
    for frame, seen in zip(frames, shown):
        same = (frame == frames[0]).all(axis=-1)
        assert (seen[same] == shown[0][same]).all()
        assert abs(seen.astype(int) - frame).mean() < 12
    assert animations.SUFFIXES[0] == ".gif"


# --- What is refused --------------------------------------------------------------------------------------------------

SOURCE, LOOK, OUT = ("--image", DOCS / "astronaut.png"), ("--gaze", 0, 0), ("--output", "out.png")
HDF = ("--hdf_path", "a.h5", "--person_id", "b", "--index", 0)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ((*LOOK, *OUT), ["--image PATH, --video PATH, or --hdf_path"]),
        ((*SOURCE, *OUT), ["redirect_params.gaze", "needed; or give --sweep"]),
        ((*SOURCE, *LOOK), ["redirect_params.output", "give --output PATH"]),
        ((*SOURCE, *HDF[:2], *LOOK, *OUT), ["--image", "cannot be combined with --hdf_path"]),
        ((*SOURCE, "--index", 0, *LOOK, *OUT), ["--index", "does not apply to --image"]),
        ((*SOURCE, "--mask", "m.png", "--face", 1, *LOOK, *OUT), ["--face", "cannot be combined with --mask"]),
        ((*HDF[:4], *LOOK, *OUT), ["redirect_params.index", "needed with --hdf_path"]),
        ((*HDF, "--head", 0, 0, *LOOK, *OUT), ["--head", "the data set has it"]),
        ((*HDF, *LOOK, *OUT), ["a.h5", "does not exist", "--hdf_path"]),
        ((*SOURCE, *LOOK, "--sweep", "circle", *OUT), ["--gaze", "cannot be combined with --sweep"]),
        ((*SOURCE, "--gaze", 0, *OUT), ["--gaze", "expected 2 arguments"]),
        ((*SOURCE, "--gaze", 20, 0, *OUT), ["--gaze", "1.5708 rad"]),
        ((*SOURCE, "--face", 0, *LOOK, *OUT), ["--face", "whole number >= 1"]),
        ((*SOURCE, "--sweep", "spiral", *OUT), ["--sweep", "expected circle, horizontal, vertical, grid"]),
        ((*SOURCE, "--sweep", "circle", *OUT), ["out.png does not fit --sweep circle", ".gif, .webp or .apng"]),
        ((*SOURCE, "--sweep", "0,0", *OUT), ["does not fit a --sweep of listed gazes", ".apng"]),
        ((*SOURCE, "--sweep", "grid", "--output", "a.gif"), ["a.gif does not fit --sweep grid", ".png, .jpg or .jpeg"]),
        ((*SOURCE, *LOOK, "--output", "a.webp"), ["does not fit --gaze", ".png, .jpg or .jpeg"]),
        ((*SOURCE, *LOOK, "--label", *OUT), ["--label", "does not apply to --gaze"]),
        ((*SOURCE, *LOOK, *OUT, "--checkpoint", "no.pth"), ["there is no file no.pth", "--checkpoint"]),
        (("--image", "no.png", *LOOK, *OUT), ["image: no.png does not exist"]),
        ((*SOURCE, "--mask", "no.png", *LOOK, *OUT), ["mask: no.png does not exist"]),
        ((*SOURCE, *LOOK, *OUT, "--overwite"), ["--overwite: unknown flag; did you mean --overwrite?"]),
    ],
)
def test_what_is_wrong_is_one_line(run, flags, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert_one_line(run(*flags, ok=False), *words)
    assert not files_in(tmp_path)


def test_all_missing_settings_are_reported_at_once(capsys):
    with process_restored():
        assert redirect.main([]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: 4 mistakes:") and all(
        f"--{name}" in err for name in ("checkpoint", "output", "image")
    )


def test_files_that_are_no_pictures(run, cut, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    Image.new("1", (30_000, 10)).save(tmp_path / "wide.png")
    output = ("--gaze", 0, 0, "--output", tmp_path / "out.png")
    assert_one_line(run("--image", tmp_path / "text.png", *output, ok=False), "cannot be read as a picture")
    assert_one_line(run("--image", tmp_path / "wide.png", *output, ok=False), "30000×10 pixels", "make it smaller")
    picture, mask = cut
    flags = photo_flags(tmp_path, Image.fromarray(picture), mask[:, 1:])
    assert_one_line(run(*flags, *output, ok=False), "199×170 pixels, but the upright photo has 200×170")
    flags = photo_flags(tmp_path, Image.fromarray(picture), mask & (np.arange(200) < 100))
    assert_one_line(run(*flags, *output, ok=False), "1 separate white area")
    assert not (tmp_path / "out.png").exists()


def test_a_missing_frame(run, world, tmp_path):
    output = ("--gaze", 0, 0, "--output", tmp_path / "out.png")
    assert_one_line(run(*frame_flags(world, 12), *output, ok=False), "--index", "12 frames; give 0 to 11, not 12")
    assert_one_line(run(*frame_flags(world, -1), *output, ok=False), "--index", "whole number >= 0")
    assert_one_line(run(*frame_flags(world, 0, "person_0022"), *output, ok=False), "person_0022", "'person_002'")


def test_outputs_replace_nothing_unasked_and_inputs_never(run, photo, base, tmp_path):
    before = {name: (tmp_path / name).read_bytes() for name in files_in(tmp_path)}
    (tmp_path / "link.png").hardlink_to(tmp_path / "me.png")
    (tmp_path / "folder.png").mkdir()
    look = (*photo, "--gaze", 0, 0)
    for name in ("me.png", "eyes.png", "link.png"):
        refused = run(*look, "--output", tmp_path / name, "--overwrite", ok=False)
        assert_one_line(refused, name, "never replaced")
    assert_one_line(run(*look, "--output", tmp_path / "folder.png", "--overwrite", ok=False), "is a folder")
    assert before == {name: (tmp_path / name).read_bytes() for name in before}

    (tmp_path / "out.png").write_text("mine")
    assert_one_line(run(*look, "--output", tmp_path / "out.png", ok=False), "out.png exists", "--overwrite")
    assert (tmp_path / "out.png").read_text() == "mine"
    run(*look, "--output", tmp_path / "out.png", "--overwrite")
    assert pixels(tmp_path / "out.png").shape == (170, 200, 3)
    assert_one_line(run(*look, "--output", tmp_path / "me.png" / "out.png", ok=False), "--output")


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_no_picture_is_left_half_written(run, photo, tmp_path, monkeypatch, interruption):
    before = files_in(tmp_path)

    def save(self, path, **options):
        Path(path).write_bytes(b"half")
        raise interruption

    monkeypatch.setattr(Image.Image, "save", save)
    outcome = run(*photo, "--sweep", "circle", "--output", tmp_path / "out.gif", ok=False)
    stopped = interruption is KeyboardInterrupt
    assert outcome.code == (130 if stopped else 2)
    assert ("stopped; nothing was written" if stopped else "No space left") in outcome.err
    assert files_in(tmp_path) == before
