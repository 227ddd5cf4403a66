"""What no trainable parameter touches is computed once, and nothing else changes by it."""

import resource
from collections import Counter
from contextlib import contextmanager

import pytest
import torch
from conftest import make_tiny_model, narrow_vgg
from torch import nn

from vaegaze.config.finetune import LossParams, OneshotParams
from vaegaze.models.cpu import fast_forms, layers, use_fast_layers
from vaegaze.models.cpu import packed_convolutions as packing
from vaegaze.models.cpu.mixed_precision import frozen_weights, in_bf16
from vaegaze.models.cpu.packed_convolutions import packed_convolutions
from vaegaze.training.loop import make_optimizer, training_steps
from vaegaze.training.losses import Loss
from vaegaze.training.precompute import precompute
from vaegaze.training.strategies import STRATEGIES, freeze_all_but
from vaegaze.training.tensors import prepare_training_frames

CPU = torch.device("cpu")
PLENTY_MB = 2048


@pytest.fixture(autouse=True)
def norm_by_hand(monkeypatch):
    """Also on the tiny model's small pictures, frozen group norms are computed as on large ones."""
    monkeypatch.setattr(layers, "NORM_BY_HAND_FROM", 64)


@pytest.fixture(scope="module")
def loss():
    with narrow_vgg():
        return Loss(LossParams(vgg_weights="random"), seed=0, device=CPU)


def train(samples, loss, strategy, *, memory_mb, precision="fp32", batch_size=1, gaze_mlp=None, seen=None, steps=6):
    """A few steps of a tiny model: its weights, the totals, and what was computed once."""
    model = make_tiny_model()
    freeze_all_but(model, strategy, gaze_mlp)
    params = OneshotParams(num_steps=steps, learning_rate=1e-3, batch_size=batch_size, seed=3)
    frames, said = prepare_training_frames(model, samples, CPU, mirror=True), []
    with fast_forms((model, loss.vgg), precision, None):
        if memory_mb:
            frames, said = precompute(model, frames, loss, precision=precision, memory_mb=memory_mb)
        with watched(model, loss, seen):
            steps = list(
                training_steps(model, make_optimizer(model, params), frames, loss, params, precision=precision)
            )
    return model.state_dict(), [step.total.item() for step in steps], said


@contextmanager
def watched(model, loss, seen: Counter | None):
    """Counts the forward passes of these parts."""
    parts = {"encoder": model.vae.encoder, "down": model.unet.down_blocks[0], "mlp": model.gaze_mlp}
    parts |= {"output": model.unet.conv_out, "decoder": model.vae.decoder, "vgg": loss.vgg.features[0]}
    counted = parts.items() if seen is not None else ()
    hooks = [part.register_forward_hook(lambda *_, name=name: seen.update([name])) for name, part in counted]
    yield
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_nothing_changes_to_the_bit(strategy, precision, rendered_samples, loss):
    if strategy == "minimal":  # with VGG19 as it is
        loss = Loss(LossParams(vgg_weights="random"), seed=0, device=CPU)
    samples, steps = (rendered_samples, 3) if precision == "fp32" else (rendered_samples.take([0]), 2)  # emulated?
    how = {"precision": precision, "steps": steps}
    weights, totals, said = train(samples, loss, strategy, memory_mb=PLENTY_MB, **how)
    plain_weights, plain_totals, _ = train(samples, loss, strategy, memory_mb=0, **how)
    assert totals == plain_totals
    assert all(torch.equal(tensor, plain_weights[name]) for name, tensor in weights.items())
    assert [what.partition(":")[0] for what in said] == [
        *(["the UNet's trunk"] if strategy == "minimal" else []), "VGG19 on the targets",
    ]  # fmt: skip


def test_larger_batches_come_near_to_it(rendered_samples, loss):
    _, totals, _ = train(rendered_samples, loss, "minimal", memory_mb=PLENTY_MB, batch_size=4, steps=2)
    _, plain_totals, _ = train(rendered_samples, loss, "minimal", memory_mb=0, batch_size=4, steps=2)
    assert totals == pytest.approx(plain_totals, rel=1e-5)


def test_frozen_parts_are_not_run_again(rendered_samples, loss):
    seen = Counter()
    train(rendered_samples, loss, "minimal", memory_mb=PLENTY_MB, seen=seen)
    levels = 2  # of VGG19's pyramid: 32 and 16 px
    assert seen == {"output": 6, "decoder": 6, "vgg": 6 * levels}, "six steps, of the results alone"

    seen.clear()
    train(rendered_samples, loss, "minimal", memory_mb=0, seen=seen)
    assert seen == {"down": 6, "mlp": 6, "output": 6, "decoder": 6, "vgg": 12 * levels}, "the encoder is never"


def test_what_trains_decides_not_the_name(rendered_samples, loss):
    seen = Counter()
    _, _, said = train(rendered_samples, loss, "minimal", memory_mb=PLENTY_MB, gaze_mlp=["last"], seen=seen)
    assert seen["down"] == 6 and len(said) == 1


def test_what_does_not_fit_is_computed_at_every_step_and_said(rendered_samples, loss):
    model, samples = make_tiny_model(), rendered_samples.take([*range(6)] * 4)  # 2 MB of features
    freeze_all_but(model, "minimal")
    frames = prepare_training_frames(model, samples, CPU, mirror=False)
    together, said = precompute(model, frames, loss, precision="fp32", memory_mb=PLENTY_MB)
    assert together.features.shape[0] == len(frames) and together.target_features[0].shape == (24, 8, 32, 32)
    assert len(together.target_features) == 10 and "once, " in said[1]

    trunk_alone, said = precompute(model, frames, loss, precision="fp32", memory_mb=1)
    assert torch.equal(trunk_alone.features, together.features) and trunk_alone.target_features == ()
    assert said[1].startswith("VGG19 on the targets: at every step, since ")
    nothing, said = precompute(model, frames, loss, precision="fp32", memory_mb=0)
    assert nothing.features is None and nothing.target_features == () and len(said) == 2


def test_other_gazes_have_other_features(rendered_samples, loss):
    model = make_tiny_model()
    freeze_all_but(model, "minimal")
    frames = prepare_training_frames(model, rendered_samples, CPU, mirror=False)
    frames, _ = precompute(model, frames, loss, precision="fp32", memory_mb=PLENTY_MB)
    assert frames.looking((0.1, 0.2)).features is None
    few = frames.take([4, 1])
    assert torch.equal(few.features, frames.features[[4, 1]]) and torch.equal(
        few.target_features[3], frames.target_features[3][[4, 1]]
    )


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_rounded_weights_compute_as_autocast_makes_them_and_come_back(strategy, rendered_samples, loss, tmp_path):
    model, plain = make_tiny_model(), use_fast_layers(make_tiny_model())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    params = OneshotParams(num_steps=2, learning_rate=1e-3)
    frames = prepare_training_frames(model, rendered_samples, CPU, mirror=False)
    seen = Counter()

    def train(model):
        freeze_all_but(model, strategy)
        steps = training_steps(model, make_optimizer(model, params), frames, loss, params, precision="bf16")
        return [step.total.item() for step in steps]

    freeze_all_but(model, strategy)
    with fast_forms((model, loss.vgg, None), "bf16", tmp_path):
        for name, parameter in model.named_parameters():
            seen[parameter.requires_grad, parameter.dtype] += 1
            if not parameter.requires_grad:  # what autocast makes of these values is exactly them
                plain.get_parameter(name).data = parameter.data.float()
        vgg = [parameter.data.float() for parameter in loss.vgg.parameters()]
        totals = train(model)
        assert {parameter.dtype for parameter in loss.vgg.parameters()} == {torch.bfloat16}
    assert set(seen) <= {(True, torch.float32), (False, torch.bfloat16), (False, torch.float32)}
    assert seen[False, torch.bfloat16] > 30, "all but what normalises"
    for name, parameter in model.named_parameters():
        assert parameter.dtype == torch.float32 and parameter.is_contiguous()
        assert parameter.requires_grad or torch.equal(parameter, before[name]), name

    own = [parameter.data for parameter in loss.vgg.parameters()]
    for parameter, rounded in zip(loss.vgg.parameters(), vgg):
        parameter.data = rounded
    assert train(plain) == totals
    for parameter, values in zip(loss.vgg.parameters(), own):
        parameter.data = values
    for name, parameter in model.named_parameters():
        assert not parameter.requires_grad or torch.equal(parameter, plain.get_parameter(name)), name


def test_weights_come_back_however_it_ends(loss, tmp_path):
    model = make_tiny_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    freeze_all_but(model, "selective")
    with pytest.raises(KeyboardInterrupt), fast_forms((model,), "bf16", tmp_path):
        raise KeyboardInterrupt
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not list(tmp_path.iterdir())

    size = sum(parameter.numel() * 4 for parameter in frozen_weights([model]))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for most in (size // 2, size - 1):  # in the midst of it, and what is still in the buffer at the end
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, limits[1]))
        try:
            with pytest.raises(OSError, match="File too large"), fast_forms((model,), "bf16", tmp_path):
                raise AssertionError("never reached")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


# The processor alone may excuse a test: where PyTorch has lost what packing needs, they are to fail.
NATIVE = pytest.mark.skipif(not torch.cpu._is_avx512_bf16_supported(), reason="this processor has no native bf16")


@NATIVE
@pytest.mark.parametrize(("inputs", "outputs"), [(24, 40), (512, 512), (3, 64)])
@pytest.mark.parametrize("side", [1, 5, 32, 33])
def test_packed_kernels_change_nothing_to_the_bit(side, inputs, outputs):
    def drawn(*shape, seed):
        values = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        return in_bf16(values)

    layer = nn.Conv2d(inputs, outputs, 3, padding=1).requires_grad_(False)
    layer.weight.data, layer.bias.data = drawn(outputs, inputs, 3, 3, seed=0), drawn(outputs, seed=1)
    x, factors = drawn(2, inputs, side, side, seed=2).requires_grad_(), drawn(2, outputs, side, side, seed=3)
    expected = layer(x)
    with packed_convolutions([layer]):
        unrounded = layer(x)
        with torch.autocast("cpu", torch.bfloat16):
            result = layer(x)
    assert (result.grad_fn.name() == "PackedConvolutionBackward") == (side <= 32), "packed where it helps"
    assert "Packed" not in unrounded.grad_fn.name(), "only under autocast"
    assert torch.equal(result, expected) and result.stride() == expected.stride()
    (got,), (wanted,) = (torch.autograd.grad(each, x, factors) for each in (result, expected))
    assert torch.equal(got, wanted)


@NATIVE
def test_only_what_is_frozen_and_plain_is_packed(loss):
    model = make_tiny_model()
    freeze_all_but(model, "selective")
    with pytest.raises(KeyboardInterrupt), packed_convolutions([model, loss.vgg]):
        packed = {layer for part in (model, loss.vgg) for layer in part.modules() if "forward" in vars(layer)}
        raise KeyboardInterrupt
    assert packed >= {layer for layer in loss.vgg.features if isinstance(layer, nn.Conv2d)}
    assert packed >= {model.unet.mid_block.resnets[0].conv1, model.vae.decoder.conv_in}
    others = {model.unet.conv_out, model.vae.post_quant_conv, model.unet.down_blocks[0].downsamplers[0].conv}
    assert not packed & others, "what trains, what is 1 × 1, what skips pixels"
    assert not any("forward" in vars(layer) for part in (model, loss.vgg) for layer in part.modules())


def test_without_pytorchs_operations_or_bf16_of_the_processor_nothing_is_packed(loss, monkeypatch):
    for owner, name in ((packing, "OPERATIONS"), (torch.cpu, "_is_avx512_bf16_supported")):
        monkeypatch.setattr(owner, name, ("_not_there",) if name == "OPERATIONS" else lambda: False)
        with packed_convolutions([loss.vgg]):
            assert not any("forward" in vars(layer) for layer in loss.vgg.modules())
        monkeypatch.undo()
