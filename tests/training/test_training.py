"""The loop and what it is fed: batches, references, encoded frames, bad numbers, interruption."""

import io
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import SIZE_PX, make_tiny_model

from vaegaze.config.finetune import LossParams, OneshotParams
from vaegaze.geometry.camera import canvas_camera
from vaegaze.geometry.eye_regions import pose_mask
from vaegaze.models import to_unit_range
from vaegaze.models.checkpoint import MAX_REFERENCES, Reference
from vaegaze.training.loop import TrainingDiverged, batch_rows, make_optimizer, training_steps
from vaegaze.training.losses import Loss
from vaegaze.training.optimizer import AdamW
from vaegaze.training.references import (
    choose_references,
    nearest_reference,
    reference_rows,
    references_at,
    spare_reference,
)
from vaegaze.training.strategies import freeze_all_but
from vaegaze.training.tensors import PREPARED, prepare_frames, prepare_training_frames

CPU = torch.device("cpu")


def set_up(samples, params, seed=0):
    """A tiny model ready to train, as the command does it."""
    model = make_tiny_model(seed=seed)
    freeze_all_but(model, "selective", ["all"])
    frames = prepare_frames(model, samples, choose_references(samples), CPU)
    loss = Loss(LossParams(vgg_loss=0.0), seed=0, device=CPU)
    optimizer = make_optimizer(model, params)
    return model, optimizer, frames, loss


def run(samples, params, precision="fp32"):
    model, optimizer, frames, loss = set_up(samples, params)
    return model, list(training_steps(model, optimizer, frames, loss, params, precision=precision))


def copy_of(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_equal_states(first, second):
    assert list(first) == list(second)
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


# --- batches ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("frames", "batch_size"), [(7, 1), (7, 2), (6, 3), (5, 5), (3, 8), (1, 4)])
def test_every_epoch_shows_every_frame_once(frames, batch_size):
    epochs = 6
    rows = [row for step in range(frames * epochs) for row in batch_rows(step, frames, batch_size, seed=3)]
    assert len(rows) == frames * epochs * batch_size
    for start in range(0, len(rows) - frames + 1, frames):
        assert sorted(rows[start : start + frames]) == list(range(frames))


def test_batches_are_a_function_of_their_arguments():
    rows = [batch_rows(step, 30, 4, seed=5) for step in range(40)]
    assert [batch_rows(step, 30, 4, seed=5) for step in reversed(range(40))] == rows[::-1]
    assert [batch_rows(step, 30, 4, seed=6) for step in range(40)] != rows
    flat = [row for batch in rows for row in batch]
    assert flat[:30] != flat[30:60], "each epoch has its own order"
    assert all(type(row) is int for row in flat)
    first_rows = Counter(batch_rows(0, 4, 1, seed)[0] for seed in range(200))
    assert all(first_rows[row] > 20 for row in range(4)), "every frame may come first"


def test_replayed_frames_are_evenly_spread():
    rows = [row for step in range(20) for row in batch_rows(step, 5, 2, seed=3, replay=0.3, replayed=4)]
    replayed = [position for position, row in enumerate(rows) if row >= 5]
    assert len(replayed) == 12 and max(np.diff(replayed)) <= 4
    assert sorted(row for row in rows if row >= 5) == sorted([5, 6, 7, 8] * 3), "each as often"
    own = [row for row in rows if row < 5]
    assert own == [row for step in range(14) for row in batch_rows(step, 5, 2, seed=3)], "in the usual order"
    assert rows[8:10] == batch_rows(4, 5, 2, seed=3, replay=0.3, replayed=4)


# --- references -------------------------------------------------------------------------------------------------------


def with_heads(samples, heads):
    return replace(samples.take(range(len(heads))), head=np.array(heads, dtype=np.float32))


def test_the_first_reference_is_the_most_frontal_frame(rendered_samples):
    samples = with_heads(rendered_samples, [(0.3, 0.3), (0.0, -0.25), (-0.1, 0.1), (0.2, 0.0), (-0.6, 0.0)])
    first, *_ = references = choose_references(samples)
    assert len(references) == 5, "every frame of so few"
    assert np.array_equal(first.image, samples.images[2])
    assert np.array_equal(first.gaze, samples.gaze[2]) and np.array_equal(first.head, samples.head[2])


def many_frames(samples, heads):
    """Frames with these heads, all different: each has a pixel of its own."""
    samples = with_heads(samples.take([0] * len(heads)), heads)
    for row in range(len(heads)):
        samples.images[row, row // SIZE_PX, row % SIZE_PX] = (1, 2, 3)
    return samples


def test_references_are_spread_over_the_heads(rendered_samples):
    around = [(pitch, yaw) for pitch in (-0.4, 0.0, 0.4) for yaw in (-0.5, 0.0, 0.5)]
    rng = np.random.default_rng(0)
    heads = [centre + rng.normal(0, 0.02, 2) for centre in np.array(around)[rng.permutation(9)] for _ in range(6)]
    samples = many_frames(rendered_samples, heads)
    rows = reference_rows(samples)
    assert len(rows) == len(set(rows)) == MAX_REFERENCES and rows == reference_rows(samples)
    assert np.argmin(np.linalg.norm(samples.head, axis=1)) == rows[0]
    assert len({row // 6 for row in rows}) == 8, "no two of the same group"


def test_of_equally_frontal_frames_the_earlier_is_the_first_reference(rendered_samples):
    samples = with_heads(rendered_samples, [(0.0, 0.2), (0.2, 0.0), (0.0, -0.2)])
    assert np.array_equal(choose_references(samples)[0].image, samples.images[0])


def test_a_single_frame_has_no_reference(rendered_samples):
    assert choose_references(rendered_samples.take([0])) == []
    assert len(choose_references(rendered_samples.take([0, 1]))) == 2


def test_a_doubled_frame_is_not_its_own_reference(rendered_samples):
    heads = [(0.0, 0.0), (0.0, 0.0), (0.2, 0.2)]
    first, second = choose_references(with_heads(rendered_samples.take([1, 1, 0]), heads))
    assert np.array_equal(first.image, rendered_samples.images[1])
    assert np.array_equal(second.image, rendered_samples.images[0])
    assert nearest_reference([first, second], first.image, first.head) is second
    assert nearest_reference([first], first.image, first.head) is None
    assert choose_references(rendered_samples.take([1, 1])) == []


def test_the_nearest_reference_is_that_of_the_nearest_head_then_light():
    def frame(level, head):
        return Reference(np.full((4, 8, 3), level, np.uint8), np.zeros(2, np.float32), np.array(head, np.float32))

    dark, bright, turned = frame(50, (0.0, 0.0)), frame(150, (0.0, 0.0)), frame(100, (0.0, 0.4))
    references, like = [dark, bright, turned], np.full((4, 8, 3), 60, np.uint8)
    assert nearest_reference(references, like, np.array([0.0, 0.1])) is dark
    assert nearest_reference(references, like + 80, np.array([0.0, 0.1])) is bright
    assert nearest_reference(references, like, np.array([0.0, 0.3])) is turned


@torch.no_grad()
def test_the_only_reference_of_an_older_model(tiny_model, rendered_samples):
    """It serves every frame but its own, which gets the most frontal other one."""
    samples = with_heads(rendered_samples, [(0.3, 0.3), (0.0, -0.25), (-0.1, 0.1), (0.2, 0.0)])
    only, spare = references_at(samples, [2, 3])
    assert np.array_equal(spare_reference([only], samples).image, spare.image)
    assert spare_reference([only], samples.take([2])) is only and spare_reference([only, spare], samples) is None
    frames = prepare_frames(tiny_model, samples, [only], CPU, spare_reference([only], samples))
    for i in range(4):
        image = to_unit_range((spare if i == 2 else only).image[None])
        assert torch.equal(frames.reference_latents[i], tiny_model.encode(image)[0])
    assert prepare_frames(tiny_model, samples, [only], CPU).reference_latents[2].abs().max() == 0


# --- frames -----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_frames_are_what_the_design_says(tiny_model, rendered_samples):
    samples = with_heads(rendered_samples, [(0.3, 0.3), (0.0, -0.25), (-0.1, 0.0), (0.2, 0.1)])
    samples.valid[1, :, :5] = False
    frames = prepare_frames(tiny_model, samples, choose_references(samples), CPU)
    assert len(frames) == 4
    assert frames.valid[1, 0].sum() == 32 * 27 and frames.valid[[0, 2, 3]].min() == 1
    nearest = (3, 2, 1, 0)  # in head pose
    for i in range(4):
        target = to_unit_range(samples.images[i][None])
        eyes = torch.from_numpy(samples.eye_masks[i]).float()[None, None]
        assert torch.equal(frames.target[i], target[0]) and torch.equal(frames.eye_masks[i], eyes[0])
        assert torch.equal(frames.masked_latents[i], tiny_model.encode(tiny_model.mask(target, eyes))[0])
        assert torch.equal(
            frames.reference_latents[i], tiny_model.encode(to_unit_range(samples.images[nearest[i]][None]))[0]
        )
    assert np.array_equal(frames.head.numpy(), samples.head) and np.array_equal(frames.gaze.numpy(), samples.gaze)
    assert not any(getattr(frames, name).requires_grad for name in ("masked_latents", "reference_latents"))


def test_frames_do_not_depend_on_their_number(tiny_model, rendered_samples):
    references = choose_references(rendered_samples)
    together = prepare_frames(tiny_model, rendered_samples, references, CPU)
    for row in range(len(rendered_samples)):
        alone = prepare_frames(tiny_model, rendered_samples.take([row]), references, CPU)
        for name in PREPARED:
            assert torch.equal(getattr(alone, name)[0], getattr(together, name)[row]), name


def test_without_reference_its_latents_are_zero(tiny_model, rendered_samples):
    frames = prepare_frames(tiny_model, rendered_samples.take([3]), [], CPU)
    assert frames.reference_latents.shape == frames.masked_latents.shape == (1, 4, 8, 8)
    assert frames.reference_latents.abs().max() == 0


@torch.no_grad()
def test_frames_in_a_mirror(tiny_model, rendered_samples):
    samples = with_heads(rendered_samples, [(0.3, 0.3), (0.0, -0.25), (-0.1, 0.0), (0.2, 0.1)])
    samples.valid[1, :, :5] = False
    frames = prepare_frames(tiny_model, samples, choose_references(samples), CPU)
    both = prepare_training_frames(tiny_model, samples, CPU, mirror=True)
    assert len(both) == 8
    for name in PREPARED:
        assert torch.equal(getattr(both, name)[:4], getattr(frames, name)), name
    for name in ("target", "eye_masks", "valid"):
        assert torch.equal(getattr(both, name)[4:], getattr(frames, name).flip(-1)), name
    for name in ("head", "gaze"):
        assert torch.equal(getattr(both, name)[4:], getattr(frames, name) * torch.tensor([1, -1])), name
    assert torch.equal(
        both.masked_latents[4:5], tiny_model.encode(tiny_model.mask(both.target[4:5], both.eye_masks[4:5]))
    )
    for i, row in enumerate((3, 2, 1, 0)):  # the nearest in head pose
        mirrored = tiny_model.encode(frames.target[row : row + 1].flip(-1))[0]
        assert torch.equal(both.reference_latents[4 + i], mirrored)

    alone = prepare_training_frames(tiny_model, samples, CPU, mirror=False)
    assert all(torch.equal(getattr(alone, name), getattr(frames, name)) for name in PREPARED)


def test_a_mirrored_head_has_mirrored_eyes(rendered_samples):
    mirrored = rendered_samples.mirrored()
    for sample_mask, head in zip(mirrored.eye_masks, mirrored.head):
        assert (sample_mask != pose_mask(head, canvas_camera(SIZE_PX))).sum() <= 0.02 * sample_mask.sum()
    assert np.array_equal(mirrored.indices, rendered_samples.indices)


def test_looking_changes_the_gaze_alone(tiny_model, rendered_samples):
    frames = prepare_frames(tiny_model, rendered_samples, [], CPU)
    moved = frames.looking((0.1, -0.2))
    torch.testing.assert_close(moved.gaze, torch.tensor([[0.1, -0.2]] * 6))
    assert all(getattr(moved, name) is tensor for name, tensor in vars(frames).items() if name != "gaze")


# --- the loop ---------------------------------------------------------------------------------------------------------


def test_the_loss_falls_and_each_step_is_reported(rendered_samples):
    params = OneshotParams(num_steps=30, learning_rate=3e-3, batch_size=3)
    _, steps = run(rendered_samples, params)
    assert [step.number for step in steps] == list(range(1, 31))
    totals = [step.total.item() for step in steps]
    assert np.mean(totals[-5:]) < 0.8 * np.mean(totals[:5])
    for step in steps:
        assert set(step.terms) == {"l1", "mask_l1"} and not step.total.requires_grad
        assert step.total.item() == pytest.approx(
            step.terms["l1"].item() + 2.0 * step.terms["mask_l1"].item(), rel=1e-5
        )
        assert step.grad_norm.item() > 0


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_same_run_twice_is_the_same_to_the_bit(precision, rendered_samples):
    params = OneshotParams(num_steps=3, learning_rate=1e-3, batch_size=2, seed=4)
    first, second = (run(rendered_samples, params, precision) for _ in range(2))
    assert_equal_states(first[0].state_dict(), second[0].state_dict())
    other, _ = run(rendered_samples, replace(params, seed=5), precision)
    assert not torch.equal(other.unet.conv_out.weight, first[0].unet.conv_out.weight)
    assert all(parameter.dtype == torch.float32 for parameter in first[0].parameters())


def test_gradients_are_clipped(rendered_samples):
    """AdamW is blind to the gradient's scale; plain descent shows the size of the step."""
    moved = {}
    for max_grad_norm in (1e-3, 1e9):
        params = OneshotParams(num_steps=1, batch_size=2, max_grad_norm=max_grad_norm)
        model, _, frames, loss = set_up(rendered_samples, params)
        trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        before = [parameter.detach().clone() for parameter in trainable]
        descent = torch.optim.SGD(trainable, lr=1.0, fused=True)
        (step,) = training_steps(model, descent, frames, loss, params, precision="fp32")
        distance = torch.stack([(a - b).norm() for a, b in zip(trainable, before)]).norm().item()
        moved[max_grad_norm] = distance, step.grad_norm.item()
    assert moved[1e-3][0] == pytest.approx(1e-3, rel=1e-2)
    assert moved[1e9][0] == pytest.approx(moved[1e9][1], rel=1e-3)
    assert moved[1e-3][1] == moved[1e9][1], "the norm that is reported is that before clipping"


def test_the_optimizer_takes_the_settings(tiny_model):
    freeze_all_but(tiny_model, "minimal")
    optimizer = make_optimizer(tiny_model, OneshotParams(learning_rate=2e-4, weight_decay=0.03))
    (group,) = optimizer.param_groups
    assert (group["lr"], group["weight_decay"], group["betas"]) == (2e-4, 0.03, (0.9, 0.999))
    assert isinstance(optimizer, torch.optim.AdamW) and group["fused"]


def test_the_optimizer_computes_what_pytorchs_does():
    def trained(kind) -> tuple[torch.nn.Parameter, dict]:
        weights = torch.nn.Parameter(torch.linspace(-1, 1, 5))
        optimizer, state = kind([weights], lr=0.1, weight_decay=0.5, fused=True), None
        for step in range(4):
            if step == 2:
                state, optimizer = optimizer.state_dict(), kind([weights], lr=0.1, weight_decay=0.5, fused=True)
                optimizer.load_state_dict(state)
            (weights - 2).square().sum().backward()
            optimizer.found_inf = torch.tensor(float(step == 1))
            optimizer.step()
            optimizer.zero_grad()
            assert weights.grad is None and weights.requires_grad
        return weights, optimizer.state_dict()

    (own, own_state), (pytorchs, state) = trained(AdamW), trained(torch.optim.AdamW)
    assert torch.equal(own, pytorchs) and own_state["param_groups"] == state["param_groups"]
    assert own_state["state"].keys() == state["state"].keys() == {0}
    for name, tensor in state["state"][0].items():
        assert torch.equal(own_state["state"][0][name], tensor), name
    assert state["state"][0]["step"] == 3, "a step was skipped"


# --- bad numbers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", ["NaN in a frame", "infinite weight", "infinite gradient"])
def test_a_bad_step_is_refused_before_the_update(trouble, rendered_samples):
    params = OneshotParams(num_steps=5, learning_rate=1e-3, batch_size=2)
    model, optimizer, frames, loss = set_up(rendered_samples, params)
    steps = training_steps(model, optimizer, frames, loss, params, precision="fp32")
    next(steps), next(steps)
    if trouble == "NaN in a frame":
        frames.target.fill_(torch.nan)
    elif trouble == "infinite weight":
        loss.weights["l1"] = torch.inf
    else:  # of a finite loss
        model.unet.conv_out.bias.register_hook(lambda gradient: gradient * torch.inf)
    good = copy_of(model)
    good_moments = {i: state["exp_avg"].clone() for i, state in enumerate(optimizer.state.values())}

    later = list(steps)
    assert len(later) == 3, "nobody waits for the device at each step"
    for step in later:
        with pytest.raises(TrainingDiverged, match="step 3"):
            step.refuse_bad()
    assert_equal_states(model.state_dict(), good)
    for i, state in enumerate(optimizer.state.values()):
        assert state["step"] == 2 and torch.equal(state["exp_avg"], good_moments[i])


# --- interruption -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop_after", [0, 1, 4, 5])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_interrupted_and_resumed_equals_uninterrupted(stop_after, batch_size, rendered_samples):
    params = OneshotParams(num_steps=5, learning_rate=1e-3, batch_size=batch_size, seed=7)
    uninterrupted, all_steps = run(rendered_samples, params)

    model, optimizer, frames, loss = set_up(rendered_samples, params)
    steps = training_steps(model, optimizer, frames, loss, params, precision="fp32")
    seen = [next(steps) for _ in range(stop_after)]
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    file = io.BytesIO()
    torch.save({"trained": trained, "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)

    model, optimizer, frames, loss = set_up(rendered_samples, params)
    model.load_state_dict(saved["trained"], strict=False)
    optimizer.load_state_dict(saved["optimizer"])
    seen += training_steps(model, optimizer, frames, loss, params, precision="fp32", first_step=stop_after)

    assert_equal_states(model.state_dict(), uninterrupted.state_dict())
    assert [step.number for step in seen] == [1, 2, 3, 4, 5]
    assert [step.total.item() for step in seen] == [step.total.item() for step in all_steps]
