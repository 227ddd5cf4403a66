"""The CPU's faster forms compute the plain formulas, and only a CPU sees them. See also test_precompute.py."""

import pytest
import torch
from conftest import TINY_CONFIG, make_tiny_model
from torch import nn
from torch.nn import functional as F

from vaegaze.models import blocks
from vaegaze.models.cpu import fast_forms, layers, use_fast_layers
from vaegaze.models.cpu.layers import DOUBLED_IN_ONE_FROM, FEW_WEIGHTS, MeanL1
from vaegaze.models.device import to_device

FAST = set(layers.FAST_FORMS.values())
LAYOUTS = [torch.contiguous_format, torch.channels_last]


def random_like(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def kinds(model):
    return {type(module) for module in model.modules()}


# --- the switch -------------------------------------------------------------------------------------------------------


def test_a_fast_model_computes_what_a_plain_one_does(monkeypatch):
    """At a size where every form is used."""
    monkeypatch.setattr(layers, "LARGE_KERNEL", 16 * 16 * 9)
    monkeypatch.setattr(layers, "DOUBLED_IN_ONE_FROM", 16 * 16)
    model = make_tiny_model({**TINY_CONFIG, "image_size": 64}).double()
    images = random_like(2, 3, 64, 64)
    head, gaze = random_like(2, 2, seed=1), random_like(2, 2, seed=2)

    def computed():
        latents = model.encode(images)
        result = model(latents, latents.flip(0), head, gaze)
        return (
            latents,
            result,
            *torch.autograd.grad((result * random_like(*result.shape)).sum(), model.parameters(), allow_unused=True),
        )

    plain, names = computed(), list(model.state_dict())
    assert not kinds(model) & FAST
    assert to_device(model, torch.device("cpu")) is model and list(model.state_dict()) == names
    assert kinds(model) >= FAST - {layers.L1Loss}
    for fast, expected in zip(computed(), plain, strict=True):
        if expected is not None:
            torch.testing.assert_close(fast, expected, rtol=1e-9, atol=1e-9)

    use_fast_layers(model, on=False)
    assert all(a is b is None or torch.equal(a, b) for a, b in zip(computed(), plain, strict=True))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_off_the_cpu_only_plain_forms_compute(precision):
    elsewhere = torch.device("meta")  # stands for any device that is not a CPU
    model = to_device(to_device(make_tiny_model().requires_grad_(False), torch.device("cpu")), elsewhere)
    assert not kinds(model) & FAST
    with fast_forms((model, None), precision, None):
        assert not kinds(model) & FAST
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
        assert not any("forward" in vars(module) for module in model.modules())


# --- each form --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [8, 32])
def test_a_large_picture_is_doubled_and_convolved_in_one(side):
    plain = blocks.Upsample2D(6).double()
    x = random_like(2, 6, side, side + 4).requires_grad_()
    inputs, factors = (x, *plain.parameters()), random_like(2, 6, 2 * side, 2 * side + 8, seed=1)
    expected = plain(x)
    result = use_fast_layers(plain)(x)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-13)
    assert ("ConvolutionBackward" in result.grad_fn.name()) and (side * (side + 4) >= DOUBLED_IN_ONE_FROM) == (
        side == 32
    )
    for got, want in zip(*(torch.autograd.grad((each * factors).sum(), inputs) for each in (result, expected))):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("tokens", [2, FEW_WEIGHTS // 400])
def test_few_and_many_attention_weights_come_to_the_same(tokens):
    query, key, value = (random_like(2, 2, length, 5, seed=i) for i, length in enumerate((300, tokens, tokens)))
    expected = blocks.Attention.attend(query, key, value)
    torch.testing.assert_close(layers.Attention.attend(query, key, value), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("trained", [False, True])
def test_a_small_picture_and_a_large_kernel_are_a_product(layout, trained, monkeypatch):
    layer = layers.Conv2d(6, 5, 3, padding=1).double().to(memory_format=layout)
    x = random_like(2, 6, 4, 7).requires_grad_()
    inputs = (x, *layer.parameters()) if trained else (x,)
    expected = layer(x)
    monkeypatch.setattr(layers, "LARGE_KERNEL", layer.weight.numel())
    result = layer(x)
    assert "Convolution" in expected.grad_fn.name() and "Convolution" not in result.grad_fn.name()
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-13)
    factors = random_like(*expected.shape, seed=1)
    for got, want in zip(*(torch.autograd.grad((each * factors).sum(), inputs) for each in (result, expected))):
        torch.testing.assert_close(got, want, rtol=0, atol=1e-12)
    large = random_like(1, 6, 8, 9)
    assert torch.equal(layer(large), torch.nn.Conv2d.forward(layer, large))


@pytest.mark.parametrize("frozen", [False, True])
def test_under_autocast_the_product_has_the_type_and_order_of_the_convolution(frozen, monkeypatch):
    layer = layers.Conv2d(6, 5, 3, padding=1).requires_grad_(not frozen)
    layer.weight.data, layer.bias.data = (random_like(*each.shape).float() for each in (layer.weight, layer.bias))
    if frozen:
        layer.to(torch.bfloat16, memory_format=torch.channels_last)
    x = random_like(2, 6, 4, 7).to(torch.bfloat16, memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        expected = layer(x)
        monkeypatch.setattr(layers, "LARGE_KERNEL", 1)
        result = layer(x)
    assert result.dtype == expected.dtype == torch.bfloat16 and result.stride() == expected.stride()
    torch.testing.assert_close(result, expected, rtol=2**-7, atol=2**-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("mean", [0, 5])
def test_frozen_group_norm_has_the_gradient_of_pytorchs(mean, dtype):
    layer = layers.GroupNorm(2, 6).requires_grad_(False)
    layer.weight.copy_(random_like(6).float()), layer.bias.copy_(random_like(6, seed=1).float())

    def as_computed(values):
        return values.to(dtype, memory_format=torch.channels_last)

    # The gradient has parts that are the same everywhere, and along x: what normalising takes away.
    x, factors = random_like(2, 6, 64, 80) + mean, random_like(2, 6, 64, 80, seed=3)
    x = as_computed(x).requires_grad_()
    factors = as_computed(factors + x.detach().double() - mean + 1)
    result = layer(x)
    assert result.grad_fn.name() == "FrozenGroupNormBackward" and result.dtype == dtype
    (got,) = torch.autograd.grad(result, x, factors)
    (native,) = torch.autograd.grad(torch.nn.GroupNorm.forward(layer, x), x, factors)
    exact = x.detach().double().requires_grad_()
    (want,) = torch.autograd.grad(torch.nn.GroupNorm.forward(layer.double(), exact), exact, factors.double())

    def off(gradient):
        return float((gradient - want).norm() / want.norm())

    assert torch.equal(result, torch.nn.GroupNorm.forward(layer.float(), x))
    if dtype == torch.bfloat16:
        assert off(native) < 2**-9 and off(got) < 2**-7, "rounded once, and three times"
    else:
        assert off(got) < 1.1 * off(native) < 2**-14
    assert got.stride() == x.stride()


def test_group_norm_that_trains_or_is_small_or_contiguous_is_pytorchs():
    def backward_of(layer, *shape, layout=torch.channels_last):
        return layer(torch.zeros(shape).to(torch.bfloat16, memory_format=layout).requires_grad_()).grad_fn.name()

    frozen, trained = (layers.GroupNorm(2, 30).requires_grad_(on) for on in (False, True))
    one_trained = layers.GroupNorm(2, 30)
    one_trained.weight.requires_grad_(False)
    assert backward_of(frozen, 1, 30, 64, 64) == "FrozenGroupNormBackward"
    names = {
        backward_of(trained, 1, 30, 64, 64),
        backward_of(one_trained, 1, 30, 64, 64),
        backward_of(frozen, 1, 30, 64, 63),
        backward_of(frozen, 1, 30, 64, 64, layout=torch.contiguous_format),
        backward_of(layers.GroupNorm(2, 32).requires_grad_(False), 1, 32, 64, 64),
    }
    assert names == {"NativeGroupNormBackward0"}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_l1_is_pytorchs_and_its_gradient_keeps_the_layout(layout):
    result, target = (random_like(2, 4, 5, 6, seed=seed).float().to(memory_format=layout) for seed in (0, 1))
    result[0, 0] = target[0, 0]  # no gradient where they are equal
    result.requires_grad_()
    distance, expected = MeanL1.apply(result, target), F.l1_loss(result, target)
    torch.testing.assert_close(distance, expected, rtol=1e-6, atol=0)
    (gradient,), (want,) = (torch.autograd.grad(3 * each, result) for each in (distance, expected))
    assert torch.equal(gradient, want) and gradient.stride() == result.stride()
    assert torch.equal(use_fast_layers(nn.L1Loss())(result, target), distance)
