"""The shipped eye-band model draws a photo from its own eyes, without fine-tuning."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from vaegaze.data.photo import load_photo, paste
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
