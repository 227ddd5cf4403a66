"""The numbers against independent ones, pasting to the pixel, and the baselines on cases made by hand."""

import math
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torchmetrics.functional.image import peak_signal_noise_ratio

from vaegaze.data.samples import Samples
from vaegaze.evaluation.baselines import eye_centres, mean_eye_patch, reference_eyes
from vaegaze.evaluation.eval_set import EvalSet
from vaegaze.evaluation.metrics import draw, evaluate, measure, outside_difference, paste, two_standard_errors
from vaegaze.geometry.camera import canvas_camera
from vaegaze.models import to_unit_range
from vaegaze.models.checkpoint import Reference
from vaegaze.training.references import choose_references
from vaegaze.training.tensors import prepare_frames

CPU = torch.device("cpu")
SIZE = 32


@pytest.fixture
def frames(tiny_model, rendered_samples):
    return prepare_frames(tiny_model, rendered_samples, choose_references(rendered_samples), CPU)


def samples_of(images, eye_masks, valid=None):
    count, shape = len(images), images.shape[:3]
    angles = np.zeros((count, 2), dtype=np.float32)
    valid = np.ones(shape, dtype=bool) if valid is None else valid
    return Samples(images, eye_masks, valid, angles, angles, np.arange(count), canvas_camera(shape[1]))


def noise(seed, count=1):
    return np.random.default_rng(seed).integers(256, size=(count, SIZE, SIZE, 3), dtype=np.uint8)


def two_eyes(row, left, right, height=4, width=6):
    mask = np.zeros((SIZE, SIZE), dtype=bool)
    for column in (left, right):
        mask[row : row + height, column : column + width] = True
    return mask


# --- frames' values ---------------------------------------------------------------------------------------------------


def test_means_and_the_values_of_frames_behind_them(tiny_model, rendered_samples):
    """A redirected frame's value is the mean over its gazes."""
    eval_set = EvalSet.prepare(tiny_model, rendered_samples, choose_references(rendered_samples))
    twice = rendered_samples.take(np.repeat(np.arange(len(rendered_samples)), 2))
    twice = replace(twice, gaze=twice.gaze + np.tile([[0.1], [-0.1]], (len(rendered_samples), 1)).astype(np.float32))
    twice_each = replace(eval_set, redirections=eval_set.redirected(twice))
    found = evaluate(tiny_model, twice_each, lambda pictures: pictures.mean(dim=(2, 3))[:, :2])
    assert {name.removeprefix("redirected_") for name in found.per_frame} >= {"eye_l1", "gaze_error_to_target_deg"}
    for name, values in found.per_frame.items():
        assert values.shape == (len(rendered_samples),) and values.std() > 0
        assert found.numbers[name] == pytest.approx(values.mean().item(), rel=1e-5)
    assert "lpips" not in found.per_frame and found.numbers["outside_mask"] == 0


def test_the_standard_error_covers_what_it_should():
    """In 95 of 100 draws of 32 frames the true change lies within two standard errors."""
    generator, covered = torch.Generator().manual_seed(0), 0
    for _ in range(400):
        before = 1 + torch.randn(32, generator=generator)
        after = before + 0.3 + 0.5 * torch.randn(32, generator=generator)
        error = two_standard_errors({"l1": before}, {"l1": after})["l1"]
        covered += abs((after - before).mean().item() - 0.3) <= error
    assert 0.92 <= covered / 400 <= 0.97
    assert two_standard_errors({"l1": before[:3]}, {"l1": after[:3]}) == {}


# --- metrics ----------------------------------------------------------------------------------------------------------


def test_metrics_against_other_libraries(frames):
    generator = torch.Generator().manual_seed(0)
    results = (frames.target + 0.2 * torch.randn(frames.target.shape, generator=generator)).clamp(-1, 1)
    values = measure(results, frames)
    assert list(values) == ["l1", "eye_l1", "eye_psnr", "ssim"]

    expected = {name: [] for name in values}
    for result, target, eyes in zip(results, frames.target, frames.eye_masks.bool()):
        expected["l1"].append((result - target).abs().mean().item())
        in_eyes = [picture.masked_select(eyes) for picture in (result, target)]
        expected["eye_l1"].append((in_eyes[0] - in_eyes[1]).abs().mean().item())
        expected["eye_psnr"].append(peak_signal_noise_ratio(*in_eyes, data_range=(-1.0, 1.0)).item())
        # scikit-image mirrors borders with the edge doubled: padded as torch does, only full windows are left
        padded = [
            np.pad((p.double().numpy() + 1) / 2, [(0, 0), (5, 5), (5, 5)], mode="reflect") for p in (result, target)
        ]
        _, ssim_map = structural_similarity(
            *padded, channel_axis=0, data_range=1.0, gaussian_weights=True, use_sample_covariance=False, full=True
        )
        expected["ssim"].append(ssim_map[:, 5:-5, 5:-5].mean())
    for name, value in values.items():
        assert value == pytest.approx(np.mean(expected[name]), rel=1e-3), name
    assert len({round(value, 3) for value in expected["eye_psnr"]}) == len(frames), "a mean of different values"


def test_metrics_by_hand(frames):
    frames = replace(frames.take([0]), target=torch.zeros(1, 3, SIZE, SIZE), eye_masks=torch.zeros(1, 1, SIZE, SIZE))
    frames.eye_masks[:, :, :2, :8] = 1  # 16 pixels
    result = torch.zeros(1, 3, SIZE, SIZE)
    result[:, :, 0, :8] = 0.2  # half of the eye
    result[:, :, 20, :] = 0.5  # 32 other pixels
    values = measure(result, frames)
    assert values["eye_l1"] == pytest.approx(0.1)
    assert values["eye_psnr"] == pytest.approx(10 * math.log10(4 / 0.02))
    assert values["l1"] == pytest.approx((8 * 0.2 + 32 * 0.5) / SIZE**2)
    assert values["ssim"] < 1


def test_invalid_pixels_have_no_influence_on_metrics(frames):
    frames.valid[:, :, :9] = 0
    eyes = frames.eye_masks.bool()
    assert eyes[:, :, :9].any() and eyes[:, :, 9:].any(), "some eye pixels are valid, others not"
    generator = torch.Generator().manual_seed(0)
    results = torch.rand(frames.target.shape, generator=generator) * 2 - 1
    changed = torch.where(frames.valid.bool(), results, -results)
    assert measure(changed, frames) == measure(results, frames)
    target = torch.where(frames.valid.bool(), frames.target, torch.tensor(1.0))
    assert measure(results, replace(frames, target=target)) == measure(results, frames)


def test_a_perfect_copy_has_finite_numbers(frames):
    """What ends up in summary.json: JSON knows no infinity."""
    values = measure(frames.target, frames)
    assert values == {"l1": 0.0, "eye_l1": 0.0, "eye_psnr": 100.0, "ssim": pytest.approx(1.0)}


# --- drawing and pasting ----------------------------------------------------------------------------------------------


def test_draw_is_the_model_frame_by_frame(tiny_model, frames):
    results = draw(tiny_model, frames)
    assert results.shape == frames.target.shape and not results.requires_grad
    assert results.abs().max() <= 1
    assert torch.equal(draw(tiny_model, frames.take([4, 1])), results[[4, 1]])
    with torch.no_grad():
        batch = tiny_model(frames.masked_latents, frames.reference_latents, frames.head, frames.gaze).clamp(-1, 1)
    torch.testing.assert_close(results, batch, atol=1e-5, rtol=1e-4)


def test_draw_can_be_stopped_between_frames(tiny_model, frames):
    calls = []

    def check():
        calls.append(None)
        if len(calls) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw(tiny_model, frames, check)
    assert len(calls) == 3


def test_paste_rewrites_eyes_alone(rendered_samples):
    results = noise(5, len(rendered_samples))
    before = rendered_samples.images.copy()
    pasted = paste(results, rendered_samples)
    assert pasted.dtype == np.uint8 and pasted.shape == before.shape
    outside = ~rendered_samples.eye_masks
    assert outside.any() and np.array_equal(pasted[outside], before[outside])
    assert np.array_equal(rendered_samples.images, before)
    changed = (pasted != before).any(axis=-1)
    assert changed.sum() > 0.9 * rendered_samples.eye_masks.sum()


def test_pasted_eyes_fade_in_and_reach_the_result():
    size = 128
    mask = np.zeros((1, size, size), dtype=bool)
    mask[0, 40:80, 20:60] = True
    samples = samples_of(np.full((1, size, size, 3), 100, np.uint8), mask)
    pasted = paste(np.full((1, size, size, 3), 200, np.uint8), samples)[0, :, :, 0]
    assert (pasted[45:75, 25:55] == 200).all()
    # the edge lies at column 20; half a pixel inside it a quarter of the 2 px (a 64th of the canvas) has been faded
    assert pasted[60, 17:25].tolist() == [100, 100, 100, 125, 175, 200, 200, 200]


def test_a_leak_outside_the_eyes_is_seen(rendered_samples):
    pasted = paste(noise(5, len(rendered_samples)), rendered_samples)
    assert outside_difference(pasted, rendered_samples) == 0
    pasted[3, 0, 0, 1] ^= 8
    assert outside_difference(pasted, rendered_samples) == 8


def test_paste_leaves_invalid_pixels():
    valid = np.ones((1, SIZE, SIZE), dtype=bool)
    valid[:, :12] = False
    images, mask = noise(1), two_eyes(10, 3, 20)[None]
    pasted = paste(noise(2), samples_of(images, mask, valid))
    written = (pasted != images).any(axis=-1)
    assert written.any() and not (written & ~(mask & valid)).any()


# --- baselines --------------------------------------------------------------------------------------------------------


def test_eye_centres():
    mask = two_eyes(10, 3, 20)
    assert eye_centres(mask).tolist() == [[11.5, 5.5], [11.5, 22.5]]
    mask[10:14, 3:9] = False
    mask[4:8, 2:6] = True  # smaller, higher
    assert eye_centres(mask).tolist() == [[5.5, 3.5], [11.5, 22.5]]


def test_reference_eyes_follow_a_shifted_target():
    """The reference's eyes, moved to where the target has its own, are the very pixels."""
    reference_mask = two_eyes(10, 3, 20)
    source = noise(1, 2)
    train = samples_of(source, np.stack([two_eyes(15, 4, 19), reference_mask]))
    target_mask = two_eyes(13, 1, 23)  # left eye 3 down, 2 left; right eye 3 down, 3 right
    targets = samples_of(noise(2), target_mask[None])
    reference = Reference(source[1], np.zeros(2, np.float32), np.zeros(2, np.float32))

    expected = targets.images[0].copy()
    expected[13:17, 1:7] = source[1, 10:14, 3:9]
    expected[13:17, 23:29] = source[1, 10:14, 20:26]
    result = reference_eyes([reference], train, targets)
    assert result.dtype == np.uint8 and np.array_equal(result[0], expected)


def test_mean_eye_patch_is_the_mean_of_aligned_eyes():
    source = noise(3, 3)
    places = [(10, 3, 20), (12, 4, 21), (8, 2, 18)]
    train = samples_of(source, np.stack([two_eyes(*place) for place in places]))
    targets = samples_of(noise(4, 2), np.stack([two_eyes(20, 2, 22), two_eyes(10, 3, 20)]))
    result = mean_eye_patch(train, targets)
    for i, (row, left, right) in enumerate([(20, 2, 22), (10, 3, 20)]):
        expected = targets.images[i].copy()
        for eye, column in enumerate((left, right)):
            patches = [image[r : r + 4, eyes[eye] : eyes[eye] + 6] for image, (r, *eyes) in zip(source, places)]
            expected[row : row + 4, column : column + 6] = np.rint(np.mean(np.stack(patches), axis=0))
        assert np.array_equal(result[i], expected)


def test_mean_eye_patch_of_thousands_of_frames():
    """Frames beyond those moved together count like the others, and the time stays short."""
    source = noise(3, 3000)
    train = samples_of(source, np.repeat(two_eyes(10, 3, 20)[None], 3000, axis=0))
    targets = samples_of(noise(4, 8), np.repeat(two_eyes(12, 4, 22)[None], 8, axis=0))
    begin_sec = time.process_time()
    result = mean_eye_patch(train, targets)
    assert time.process_time() - begin_sec < 1
    assert np.array_equal(result[5, 12:16, 4:10], np.rint(source[:, 10:14, 3:9].mean(axis=0)))


def test_patches_at_the_border_stay_in_the_picture():
    train = samples_of(noise(1), two_eyes(0, 0, 26)[None])
    targets = samples_of(noise(2), two_eyes(10, 3, 20, height=8, width=8)[None])  # larger than the source's eyes
    result = mean_eye_patch(train, targets)
    outside = ~targets.eye_masks
    assert np.array_equal(result[outside], targets.images[outside]) and not np.array_equal(result, targets.images)


def test_a_training_frames_own_eyes_are_perfect(frames, rendered_samples):
    train = rendered_samples.take([2])
    result = mean_eye_patch(train, train)
    assert np.array_equal(result, train.images)
    assert measure(to_unit_range(result), frames.take([2]))["eye_l1"] == 0
