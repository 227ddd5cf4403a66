"""How much of a fine-tuning is kept."""

from dataclasses import replace

import pytest
import torch

from vaegaze.evaluation.blend_choice import ALPHAS, BlendPoint, best_blend, choose_blend, iris_travel_px
from vaegaze.evaluation.eval_set import EvalSet
from vaegaze.evaluation.metrics import draw
from vaegaze.training.blending import blend_weights, trainable_weights
from vaegaze.training.references import choose_references
from vaegaze.training.strategies import freeze_all_but


def curve(*points) -> list[BlendPoint]:
    """Points of (alpha, eye L1, gaze error, iris travel)."""
    return [BlendPoint(*point) for point in points]


BASE = (0.0, 0.10, 2.0, 1.0)


@pytest.mark.parametrize(
    ("others", "alpha"),
    [
        ([(0.5, 0.08, 2.05, 1.0), (1.0, 0.05, 2.05, 0.95)], 1.0),  # all obey: the best eyes
        ([(0.5, 0.08, 2.05, 1.0), (1.0, 0.05, 3.0, 0.95)], 0.5),  # all of it misses the gaze
        ([(0.5, 0.08, 2.05, 0.95), (1.0, 0.05, 2.0, 0.6)], 0.5),  # all of it hardly moves the irises
        ([(0.5, 0.08, 2.3, 0.95), (1.0, 0.05, 2.4, 0.95)], 0.0),  # nothing obeys but the base model
        ([(0.5, 0.12, 1.5, 1.0), (1.0, 0.15, 1.0, 1.0)], 0.0),  # nothing draws the eyes better
    ],
)
def test_the_best_eyes_among_those_that_obey(others, alpha):
    assert best_blend(curve(BASE, *others)) == alpha


def test_without_an_estimator_the_irises_decide():
    points = curve((0.0, 0.10, None, 1.0), (0.5, 0.08, None, 0.95), (1.0, 0.05, None, 0.7))
    assert best_blend(points) == 0.5


@pytest.fixture
def tuned(tiny_model, rendered_samples):
    """A model, its base weights, weights that were pushed away from them, and frames."""
    freeze_all_but(tiny_model, "minimal")
    base = trainable_weights(tiny_model)
    generator = torch.Generator().manual_seed(0)
    pushed = {name: weights + 0.1 * torch.randn(weights.shape, generator=generator) for name, weights in base.items()}
    return tiny_model, base, pushed, EvalSet.prepare(tiny_model, rendered_samples, choose_references(rendered_samples))


def test_weights_are_interpolated(tuned):
    model, base, pushed, _ = tuned
    for alpha in (0.0, 0.25, 1.0):
        blend_weights(model, base, pushed, alpha)
        for name, weights in trainable_weights(model).items():
            torch.testing.assert_close(weights, base[name] + alpha * (pushed[name] - base[name]))
    assert all(torch.equal(weights, pushed[name]) for name, weights in trainable_weights(model).items())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_spoilt_weights_are_not_kept(tuned, precision):
    """Random weights draw worse than the base: none of them is kept, and the model is the base, to the bit."""
    model, base, pushed, eval_set = tuned
    blend_weights(model, base, base, 1.0)
    targets = draw(model, eval_set.frames)
    eval_set = replace(eval_set, frames=replace(eval_set.frames, target=targets))
    choice = choose_blend(model, base, pushed, eval_set, None, held_out=True, precision=precision)
    errors = [point.eye_l1 for point in choice.curve]
    assert errors == sorted(errors) and errors[-1] > 5 * errors[0], "each blend was drawn with its own weights"
    assert choice.alpha == 0 and [point.alpha for point in choice.curve] == list(ALPHAS)
    assert all(torch.equal(weights, base[name]) for name, weights in trainable_weights(model).items())


def test_iris_travel_is_what_the_dark_moves(tuned):
    """A stand-in that draws a dark bar 3 px to the left for a look to the left, 3 to the right otherwise."""
    _, _, _, eval_set = tuned

    def draws_a_bar(masked_latents, reference_latents, head, gaze):
        picture = torch.ones(len(gaze), 3, 32, 32)
        for row, (_, yaw) in zip(picture, gaze.tolist()):
            column = 16 - 3 * (yaw > 0) + 3 * (yaw < 0)
            row[:, :, column : column + 2] = -1
        return picture

    everywhere = torch.ones_like(eval_set.frames.eye_masks)
    eval_set = replace(eval_set, frames=replace(eval_set.frames, eye_masks=everywhere))
    assert iris_travel_px(draws_a_bar, eval_set) == pytest.approx(6)
