"""The shipped eye-band model draws a photo from its own eyes, without fine-tuning."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from vaegaze.data.photo import load_photo, paste, without_own_error
from vaegaze.evaluation.full_size import judge
from vaegaze.evaluation.rendered_faces import rendered_face
from vaegaze.models.checkpoint import Reference, load_checkpoint
from vaegaze.redirecting.drawing import redraw_gazes, reference_of

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs" / "images"


def test_its_own_eyes_bring_a_drawing_nearer_to_the_photo():
    base = load_checkpoint(ROOT / "checkpoints" / "pretrained_model.pth")
    photo = load_photo(IMAGES / "astronaut.png", IMAGES / "astronaut_mask.png", (0, 0), (0, 0), base.model.canvas)

    def off(choice):
        drawn = redraw_gazes(base.model, photo, reference_of(choice, base, photo), photo.gaze[None])[0]
        return np.abs(paste(photo, drawn).astype(int) - photo.original)[photo.mask].mean()

    assert reference_of("auto", base, photo) is not None
    assert off("auto") == off("own") < 0.5 * off("none"), (off("own"), off("none"))


def test_what_is_tuned_from_it_also_draws_from_the_picture_itself():
    base = load_checkpoint(ROOT / "checkpoints" / "pretrained_model.pth")
    photo = load_photo(IMAGES / "astronaut.png", IMAGES / "astronaut_mask.png", (0, 0), (0, 0), base.model.canvas)
    other = Reference(photo.samples.images[0][:, ::-1].copy(), photo.gaze, photo.samples.head[0])
    tuned = replace(base, references=(other,), info={**base.info, "fine_tuned_on": "me"})
    assert np.array_equal(reference_of("auto", tuned, photo).image, photo.samples.images[0])
    assert reference_of("model", tuned, photo) is other
    elsewhere = replace(tuned, info={"fine_tuned_on": "me"})
    assert reference_of("auto", elsewhere, photo) is other


def test_what_a_model_gets_wrong_in_the_photo_itself_is_taken_off_other_drawings():
    canvas = load_checkpoint(ROOT / "checkpoints" / "pretrained_model.pth").model.canvas
    photo = load_photo(IMAGES / "astronaut.png", IMAGES / "astronaut_mask.png", (0, 0.1), (0, 0), canvas)
    image = photo.samples.images[0].clip(0, 205)
    photo = replace(photo, samples=replace(photo.samples, images=image[None]))
    gazes = np.array([(0, 0.1), (0.2, 0.1), (0, 0.5), (0.6, 0.1)])
    drawn = np.stack([image + 50] * 4)  # as wrong everywhere

    def left(of):
        return (without_own_error(of, drawn, gazes, drawn[0]).astype(int) - image).mean(axis=(1, 2, 3)) / 50

    e = np.exp(-1)
    np.testing.assert_allclose(left(photo), 1 - 0.6 * np.array([1, e, e, 0]), atol=0.02)


def test_a_true_picture_comes_nearer_where_the_gaze_is_known():
    base = load_checkpoint(ROOT / "checkpoints" / "pretrained_model.pth")
    faces = [rendered_face("val", 0, number, 5, base.model.canvas, gazes=4) for number in (3, 4)]
    psnr = {}
    for name, changes in (("known", {}), ("unknown", {"gaze": None})):
        pasted = []
        for face in faces:
            photo = replace(face.photo, **changes)
            drawn = redraw_gazes(base.model, photo, reference_of("auto", base, photo), face.gazes)
            pasted.append(np.stack([paste(photo, each) for each in drawn]))
        psnr[name] = judge(pasted, faces)["eye_psnr"]
    assert psnr["known"] > psnr["unknown"] + 0.1, psnr
