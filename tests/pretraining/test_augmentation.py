"""What the changes do to pictures of which it is known where everything is: a spot, and a face drawn anew."""

from dataclasses import replace

import numpy as np
import published_layouts
import pytest
from small_pretraining import UNCHANGED

from vaegaze.config.pretrain import AugmentationParams
from vaegaze.data.samples import Samples
from vaegaze.geometry.camera import canvas_camera
from vaegaze.pretraining.augmentation import augmented
from vaegaze.renderer.data_set import render

SIZE_PX, COUNT = 128, 40
SPOT, SIGMA_PX = np.array([50.0, 80.0]), 6.0  # x, y, with the origin at the picture's corner
CENTRE = np.array([SIZE_PX / 2, SIZE_PX / 2])
X, Y = np.meshgrid(np.arange(SIZE_PX) + 0.5, np.arange(SIZE_PX) + 0.5)


def samples_of(images, masks, gaze=(0.1, 0.2), head=(0.05, -0.1)):
    count = len(images)
    return Samples(
        images=images, eye_masks=masks, valid=np.ones(images.shape[:3], bool), indices=np.arange(count),
        gaze=np.tile(np.float32(gaze), (count, 1)), head=np.tile(np.float32(head), (count, 1)),
        canvas=canvas_camera(SIZE_PX),
    )  # fmt: skip


@pytest.fixture(scope="module")
def spots():
    """The same picture of a bright spot again and again; its mask is a square around it, 30 px wide."""
    spot = np.exp(-((X - SPOT[0]) ** 2 + (Y - SPOT[1]) ** 2) / (2 * SIGMA_PX**2))
    image = np.rint(30 + 200 * spot)[..., None].repeat(3, axis=-1).astype(np.uint8)
    mask = (abs(X - SPOT[0]) < 15) & (abs(Y - SPOT[1]) < 15)
    return samples_of(np.stack([image] * COUNT), np.stack([mask] * COUNT))


def changed(samples, seed=0, **settings):
    return augmented(samples, AugmentationParams(**{**UNCHANGED, **settings}), np.random.default_rng(seed))


def place_and_width(weights):
    """Where a picture's light, or a mask, lies, and how wide it is: the standard deviation in x."""
    weights = weights.astype(float)
    x, y = ((weights * each).sum() / weights.sum() for each in (X, Y))
    return np.array([x, y]), np.sqrt((weights * (X - x) ** 2).sum() / weights.sum())


def light(image):
    """Without the background, of 30, and what resampling adds around the spot."""
    return (image.astype(float).mean(axis=-1) - 40).clip(0)


def test_scale_alone_moves_all_from_the_centre(spots):
    _, before = place_and_width(light(spots.images[0]))
    scales, after = [], changed(spots, scale=0.25)
    for image, mask, valid in zip(after.images, after.eye_masks, after.valid):
        place, width = place_and_width(light(image))
        scales.append(width / before)
        assert place == pytest.approx(CENTRE + scales[-1] * (SPOT - CENTRE), abs=0.3)
        mask_place, _ = place_and_width(mask)
        assert mask_place == pytest.approx(place, abs=0.6) and mask.sum() == pytest.approx(
            900 * scales[-1] ** 2, rel=0.1
        )
        edge = max(0, 64 * (1 - scales[-1]))  # what a smaller picture does not reach, on each side
        assert (~valid[64]).sum() == pytest.approx(2 * edge, abs=2.1) and valid[64, 64]
    assert 1 / 1.25 - 0.02 < min(scales) < 0.87 and 1.15 < max(scales) < 1.25 + 0.02
    assert len(set(np.round(scales, 3))) > COUNT / 2, "each frame's own"
    assert np.array_equal(after.gaze, spots.gaze) and np.array_equal(after.head, spots.head)


def test_shift_alone_keeps_every_size(spots):
    most = 0.1 * SIZE_PX
    _, before = place_and_width(light(spots.images[0]))
    shifts, after = [], changed(spots, shift=0.1)
    for image, mask, valid in zip(after.images, after.eye_masks, after.valid):
        place, width = place_and_width(light(image))
        shifts.append(place - SPOT)
        assert width == pytest.approx(before, rel=0.02)
        mask_place, _ = place_and_width(mask)
        assert mask_place - SPOT == pytest.approx(shifts[-1], abs=0.6) and mask.sum() == pytest.approx(900, rel=0.05)
        missing = [(~valid).all(axis=axis).sum() for axis in (0, 1)]  # whole columns, whole rows
        assert missing == pytest.approx(abs(shifts[-1]), abs=1.1)
    shifts = np.array(shifts)
    assert (shifts.min(axis=0) < -0.6 * most).all() and (shifts.max(axis=0) > 0.6 * most).all()
    assert abs(shifts).max() < most + 0.2 and abs(np.corrcoef(shifts.T)[0, 1]) < 0.5


def irises(image):
    """The centres (2, 2) of the blue irises, the one at the left of the picture first."""
    image = image.astype(int)
    blue = image[..., 2] > image[..., 0] + 25
    assert blue.sum() > 20
    middle = (X[blue].min() + X[blue].max()) / 2
    return np.array([place_and_width(blue & side)[0] for side in (middle > X, middle <= X)])


def test_a_mirrored_face_is_one_that_looks_where_its_labels_say():
    """Drawn anew with these labels, the irises are where the mirrored picture has them."""
    person, canvas = published_layouts.somebody(), canvas_camera(SIZE_PX)
    mask = np.zeros((1, SIZE_PX, SIZE_PX), bool)
    for gaze, head in (((0.1, 0.35), (0.0, 0.0)), ((-0.1, -0.1), (0.1, 0.25))):
        image = render(person, published_layouts.scene(gaze, head), canvas).image
        mirrored = changed(samples_of(image[None], mask, gaze, head), mirror=1.0)
        anew = render(person, published_layouts.scene(tuple(mirrored.gaze[0]), tuple(mirrored.head[0])), canvas).image
        assert abs(irises(mirrored.images[0]) - irises(anew)).max() < 0.7
        assert abs(irises(image) - irises(anew)).max() > 2, "else it could not tell"


def test_so_many_are_mirrored(spots):
    few = replace(spots, images=spots.images[:1], eye_masks=spots.eye_masks[:1], valid=spots.valid[:1],
                  gaze=spots.gaze[:1], head=spots.head[:1], indices=spots.indices[:1])  # fmt: skip
    turned = [changed(few, seed, mirror=0.25).gaze[0, 1] < 0 for seed in range(400)]
    assert 70 < sum(turned) < 130
