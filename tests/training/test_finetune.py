"""The one function that fine-tunes: silent, stoppable, resumable bit for bit, for one person after another."""

import copy
import sys
from dataclasses import replace

import pytest
import torch
from conftest import make_tiny_model, narrow_vgg

from vaegaze.config.finetune import LossParams, OneshotParams
from vaegaze.errors import UserError
from vaegaze.models import to_unit_range
from vaegaze.training import StateMismatch, TrainingDiverged, TrainingState, finetune
from vaegaze.training.decoder import decoder_parameters
from vaegaze.training.losses import Loss
from vaegaze.training.precompute import precompute
from vaegaze.training.references import choose_references
from vaegaze.training.replay import rendered_frames, settle_replay
from vaegaze.training.tensors import prepare_training_frames

CPU = torch.device("cpu")
SETTINGS = OneshotParams(num_steps=6, learning_rate=1e-3, batch_size=2, seed=3, mirror=True, precision="fp32")


@pytest.fixture(scope="module")
def loss():
    with narrow_vgg():
        return Loss(LossParams(vgg_weights="random"), seed=0, device=CPU)


@pytest.fixture(scope="module")
def plain_loss():
    """Without VGG, which takes most of the time."""
    return Loss(LossParams(vgg_loss=0), seed=0, device=CPU)


def kept(state):
    """As a resume file keeps it: no later step changes it."""
    return copy.deepcopy(state)


def assert_equal_states(first, second):
    expected = second.state_dict()
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("strategy", ["selective", "minimal"])
def test_stopped_and_resumed_equals_uninterrupted(strategy, precision, rendered_samples, loss, tmp_path, capfd):
    settings = replace(SETTINGS, num_steps=3, finetune_strategy=strategy, precision=precision)
    if precision == "bf16":  # may be emulated
        settings = replace(settings, batch_size=1, mirror=False)
    whole, steps = make_tiny_model(), []
    result = finetune(whole, rendered_samples, settings, loss, on_step=steps.append, scratch_dir=tmp_path)
    assert [step.number for step in steps] == [1, 2, 3] and not result.stopped and result.state.step == 3
    assert result.losses.tolist() == [step.total.item() for step in steps]
    assert result.selection.trainable == sum(tensor.numel() for tensor in result.state.trained.values())
    expected = choose_references(rendered_samples)
    assert [reference.image.tobytes() for reference in result.references] == [each.image.tobytes() for each in expected]

    parts, seen = make_tiny_model(), []
    stopped = finetune(parts, rendered_samples, settings, loss, on_step=seen.append, should_stop=lambda: len(seen) == 2)
    assert stopped.stopped and stopped.state.step == 2 and len(stopped.losses) == 2
    state = kept(stopped.state)
    resumed = make_tiny_model()
    rest = finetune(resumed, rendered_samples, settings, loss, state=state)
    assert_equal_states(resumed, whole)
    assert stopped.losses.tolist() + rest.losses.tolist() == result.losses.tolist()
    assert not list(tmp_path.iterdir()) and capfd.readouterr() == ("", "")


def test_the_state_of_any_step_resumes(rendered_samples, plain_loss):
    states = {}
    whole = make_tiny_model()
    finetune(
        whole,
        rendered_samples,
        SETTINGS,
        plain_loss,
        on_step=lambda step: states.update({step.number: kept(step.state())}),
    )
    for number in (1, 5, 6):
        model = make_tiny_model()
        result = finetune(model, rendered_samples, SETTINGS, plain_loss, state=states[number])
        assert result.state.step == 6 and len(result.losses) == 6 - number
        assert_equal_states(model, whole)


def test_one_person_after_another(rendered_samples, loss):
    """Loss and base are loaded once; the order of the persons does not matter."""
    base, frozen = make_tiny_model(), copy.deepcopy(loss.vgg.state_dict())
    settings = replace(SETTINGS, num_steps=1, batch_size=1, mirror=False, precision="bf16")  # which may be emulated
    persons = {"a": rendered_samples.take([0, 1, 2]), "b": rendered_samples.take([3, 4])}
    models = {}
    for order in (("a", "b"), ("b", "a")):
        for name in order:
            model = copy.deepcopy(base)
            finetune(model, persons[name], settings, loss)
            models.setdefault(name, []).append(model)
    for first, second in models.values():
        assert_equal_states(first, second)
    assert all(torch.equal(tensor, frozen[name]) for name, tensor in loss.vgg.state_dict().items())
    assert_equal_states(base, make_tiny_model())


def test_stopping_while_precomputing_trains_nothing(rendered_samples, loss):
    model, started = make_tiny_model(), []
    result = finetune(
        model, rendered_samples, SETTINGS, loss, on_start=lambda *_: started.append(1), should_stop=lambda: True
    )
    assert result.stopped and result.state.step == 0 and not started and not len(result.losses)
    assert_equal_states(model, make_tiny_model())


def test_divergence_is_raised_though_nobody_asks(rendered_samples, plain_loss):
    model = make_tiny_model()
    torch.nn.init.constant_(model.unet.conv_out.bias, torch.nan)
    with pytest.raises(TrainingDiverged, match="step 1"):
        finetune(model, rendered_samples, SETTINGS, plain_loss)


def test_the_state_of_another_strategy_is_refused(rendered_samples, plain_loss):
    settings = OneshotParams(**{**vars(SETTINGS), "num_steps": 1})
    state = kept(finetune(make_tiny_model(), rendered_samples, settings, plain_loss).state)
    other = OneshotParams(**{**vars(SETTINGS), "finetune_strategy": "minimal"})
    with pytest.raises(StateMismatch):
        finetune(make_tiny_model(), rendered_samples, other, plain_loss, state=state)
    spoilt = TrainingState(1, state.trained, {"state": {}, "param_groups": []})
    with pytest.raises(StateMismatch):
        finetune(make_tiny_model(), rendered_samples, SETTINGS, plain_loss, state=spoilt)


def distance(model, base) -> float:
    others = base.state_dict()
    return sum((tensor - others[name]).square().sum().item() for name, tensor in model.state_dict().items()) ** 0.5


def test_an_anchor_keeps_the_weights_near_the_base(rendered_samples, plain_loss):
    distances = []
    for anchor in (0, 300, 1000):  # at this learning rate 1000 undoes every update
        model = make_tiny_model()
        finetune(model, rendered_samples, OneshotParams(**{**vars(SETTINGS), "anchor": anchor}), plain_loss)
        distances.append(distance(model, make_tiny_model()))
    assert distances[0] > 1.2 * distances[1] > 0 and distances[2] < 1e-6, distances


def test_with_an_anchor_a_resumed_training_is_the_same(rendered_samples, plain_loss):
    settings = OneshotParams(**{**vars(SETTINGS), "anchor": 100.0})
    whole, half = make_tiny_model(), make_tiny_model()
    finetune(whole, rendered_samples, settings, plain_loss)
    steps = []
    stopped = finetune(
        half, rendered_samples, settings, plain_loss, on_step=steps.append, should_stop=lambda: len(steps) == 3
    )
    resumed = make_tiny_model()
    finetune(resumed, rendered_samples, settings, plain_loss, state=kept(stopped.state))
    assert_equal_states(whole, resumed)


def test_frames_that_no_step_draws_are_not_precomputed(rendered_samples, loss, monkeypatch):
    counts = []

    def counted(model, frames, *args, **kwargs):
        counts.append(len(frames))
        return precompute(model, frames, *args, **kwargs)

    monkeypatch.setattr(sys.modules[finetune.__module__], "precompute", counted)
    settings = replace(SETTINGS, batch_size=1, mirror=False)
    losses = [
        finetune(make_tiny_model(), rendered_samples, replace(settings, num_steps=steps), loss).losses
        for steps in (2, len(rendered_samples))
    ]
    assert counts == [2, len(rendered_samples)]
    assert torch.equal(losses[0], losses[1][:2])


def test_what_is_precomputed_does_not_depend_on_the_step_that_a_run_goes_on_from(rendered_samples, loss):
    """In batches what is computed once is rounded otherwise, so the choice must stay."""
    settings = replace(SETTINGS, num_steps=4, batch_size=2, mirror=False, cache_memory_mb=4)
    whole, states, notes = make_tiny_model(), {}, []
    on_start = lambda precomputed, seconds: notes.append(precomputed)  # noqa: E731
    on_step = lambda step: states.update({step.number: kept(step.state())})  # noqa: E731
    finetune(whole, rendered_samples, settings, loss, on_start=on_start, on_step=on_step)
    resumed = make_tiny_model()
    finetune(resumed, rendered_samples, settings, loss, state=states[3], on_start=on_start)
    assert notes[0] == notes[1]
    assert_equal_states(resumed, whole)


@pytest.mark.parametrize("changes", [{"replay": "0.5"}, {"finetune_decoder": 3}], ids=["replay", "decoder"])
def test_what_precedes_the_steps_is_the_same_again_when_resumed(changes, rendered_samples, plain_loss):
    settings = OneshotParams(**{**vars(SETTINGS), **changes})
    whole, states = make_tiny_model(), {}
    finetune(
        whole,
        rendered_samples,
        settings,
        plain_loss,
        on_step=lambda step: states.update({step.number: kept(step.state())}),
    )
    for number in (4, 6):
        model = make_tiny_model()
        finetune(model, rendered_samples, settings, plain_loss, state=states[number])
        assert_equal_states(model, whole)
    plain = make_tiny_model()
    finetune(plain, rendered_samples, SETTINGS, plain_loss)
    assert not torch.equal(plain.unet.conv_out.weight, whole.unet.conv_out.weight)


def test_the_decoder_learns_to_give_back_the_frames_and_nothing_else_changes(rendered_samples, plain_loss):
    settings = OneshotParams(**{**vars(SETTINGS), "finetune_decoder": 12, "finetune_strategy": "minimal"})
    base, tuned = make_tiny_model(), make_tiny_model()
    finetune(tuned, rendered_samples, settings, plain_loss)
    trained = {"unet.conv_norm_out", "unet.conv_out", "vae.decoder", "vae.post_quant_conv"}
    before = base.state_dict()
    changed = {name for name, tensor in tuned.state_dict().items() if not torch.equal(tensor, before[name])}
    assert {".".join(name.split(".")[:2]) for name in changed} == trained
    assert changed > {name for name, _ in decoder_parameters(tuned)}
    images = to_unit_range(rendered_samples.images)
    with torch.no_grad():
        errors = [(model.decode(model.encode(images)) - images).abs().mean() for model in (base, tuned)]
    assert errors[1] < 0.98 * errors[0]


def test_rendered_frames(tiny_model):
    frames = rendered_frames(tiny_model, 4, 0, torch.device("cpu"))
    assert len(frames) == 4 and frames.target.shape == (4, 3, 32, 32)
    assert all(latents.abs().max() > 0 for latents in frames.reference_latents)
    assert frames.eye_masks.sum(dim=(1, 2, 3)).min() > 0 and len({tuple(gaze) for gaze in frames.gaze.tolist()}) == 4
    again = rendered_frames(tiny_model, 4, 0, torch.device("cpu"))
    assert torch.equal(again.target, frames.target) and torch.equal(again.gaze, frames.gaze)


@pytest.mark.parametrize("info", [{}, {"trained_on": "GazeCapture's train persons"}])
def test_other_worlds_than_the_rendered_one_are_not_replayed_to(info):
    with pytest.raises(UserError, match="not trained on rendered persons"):
        settle_replay(OneshotParams(replay="0.3"), "base.pth", info)
    assert float(settle_replay(OneshotParams(), "base.pth", info).replay) == 0
    rendered = {"trained_on": "rendered persons only (20,000 draws)"}
    assert settle_replay(OneshotParams(replay="0.3"), "base.pth", rendered).replay == "0.3"
    assert 0 < float(settle_replay(OneshotParams(), "base.pth", rendered).replay) < 1


def test_beside_replayed_persons_each_frame_is_also_its_own_reference(tiny_model, rendered_samples):
    cpu = torch.device("cpu")
    frames = prepare_training_frames(tiny_model, rendered_samples, cpu, mirror=True, from_itself=True)
    others = prepare_training_frames(tiny_model, rendered_samples, cpu, mirror=True)
    assert len(frames) == 2 * len(others) == 4 * len(rendered_samples)
    assert torch.equal(frames.reference_latents[: len(others)], others.reference_latents)
    own = tiny_model.encode(frames.target[-1:])
    assert torch.allclose(frames.reference_latents[-1:], own, atol=1e-5)
    assert not torch.allclose(others.reference_latents[-1:], own, atol=1e-2)
    single = prepare_training_frames(tiny_model, rendered_samples.take([0]), cpu, mirror=False, from_itself=True)
    assert len(single) == 1 and single.reference_latents.abs().max() > 0
