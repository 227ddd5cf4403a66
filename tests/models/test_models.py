"""The model: upstream's sizes, the gaze tokens, the stages, the pictures' ranges. See also test_diffusers.py."""

import numpy as np
import pytest
import torch
from conftest import make_tiny_model

from vaegaze.models import (
    AutoencoderKL,
    GazeMLP,
    UNet2DConditionModel,
    VAEGaze,
    blocks,
    layers,
    to_pixels,
    to_unit_range,
)
from vaegaze.models.blocks import DOUBLED_IN_ONE_FROM, FEW_WEIGHTS, Upsample2D, attend
from vaegaze.models.masking import fill_eyes


def random_like(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_full_size_is_upstreams():
    """Millions of parameters of upstream's UNet and of sd-vae-ft-mse, as published."""
    with torch.device("meta"):
        unet, vae = UNet2DConditionModel(), AutoencoderKL()

    def millions(module, part=""):
        return sum(p.numel() for name, p in module.named_parameters() if part in name) / 1e6

    assert millions(unet) == pytest.approx(849.9, abs=0.05)
    assert millions(unet, ".attn2.") == pytest.approx(34.4, abs=0.05)
    assert millions(unet, "up_blocks.") == pytest.approx(505.6, abs=0.05)
    assert millions(vae) == pytest.approx(83.7, abs=0.05)


# --- faster forms of the same formulas --------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [8, 32])
def test_a_large_picture_is_doubled_and_convolved_in_one(side):
    layer = Upsample2D(6).double()
    x = random_like(2, 6, side, side + 4).requires_grad_()
    repeated = x.repeat_interleave(2, dim=-2).repeat_interleave(2, dim=-1)
    expected = layer.conv(repeated)
    result = layer(x)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-13)
    assert (side * (side + 4) >= DOUBLED_IN_ONE_FROM) == (side == 32), "both forms are tried"
    inputs, factors = (x, layer.conv.weight, layer.conv.bias), random_like(*expected.shape, seed=1)
    for got, wanted in zip(*(torch.autograd.grad((each * factors).sum(), inputs) for each in (result, expected))):
        torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("tokens", [2, FEW_WEIGHTS // 400])
def test_few_and_many_attention_weights_come_to_the_same(tokens, monkeypatch):
    query, key, value = (random_like(2, 2, length, 5, seed=i) for i, length in enumerate((300, tokens, tokens)))
    result = attend(query, key, value)
    monkeypatch.setattr(blocks, "FEW_WEIGHTS", 0 if tokens == 2 else 2**30)
    torch.testing.assert_close(result, attend(query, key, value), rtol=0, atol=1e-13)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("trained", [False, True])
def test_a_small_picture_and_a_large_kernel_are_a_product(layout, trained, monkeypatch):
    layer = layers.Conv3x3(6, 5).double().to(memory_format=layout)
    x = random_like(2, 6, 4, 7).requires_grad_()
    inputs = (x, *layer.parameters()) if trained else (x,)
    expected = layer(x)
    monkeypatch.setattr(layers, "LARGE_KERNEL", layer.weight.numel())
    result = layer(x)
    assert "Convolution" in expected.grad_fn.name() and "Convolution" not in result.grad_fn.name()
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-13)
    factors = random_like(*expected.shape, seed=1)
    for got, wanted in zip(*(torch.autograd.grad((each * factors).sum(), inputs) for each in (result, expected))):
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-12)
    large = random_like(1, 6, 8, 9)
    assert torch.equal(layer(large), torch.nn.Conv2d.forward(layer, large))


@pytest.mark.parametrize("frozen", [False, True])
def test_under_autocast_the_product_has_the_type_and_order_of_the_convolution(frozen, monkeypatch):
    layer = layers.Conv3x3(6, 5).requires_grad_(not frozen)
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


@pytest.mark.parametrize("mean", [0, 5])
def test_frozen_group_norm_has_the_gradient_of_pytorchs(mean):
    layer = layers.GroupNorm(2, 6).requires_grad_(False)
    layer.weight.copy_(random_like(6).float()), layer.bias.copy_(random_like(6, seed=1).float())

    def as_computed(values):
        return values.to(torch.bfloat16, memory_format=torch.channels_last)

    # The gradient has parts that are the same everywhere, and along x: what normalising takes away.
    x, factors = random_like(2, 6, 64, 80) + mean, random_like(2, 6, 64, 80, seed=3)
    x = as_computed(x).requires_grad_()
    factors = as_computed(factors + x.detach().double() - mean + 1)
    result = layer(x)
    assert result.grad_fn.name() == "FrozenGroupNormBackward" and result.dtype == torch.bfloat16
    (got,) = torch.autograd.grad(result, x, factors)
    (native,) = torch.autograd.grad(torch.nn.GroupNorm.forward(layer, x), x, factors)
    exact = x.detach().double().requires_grad_()
    (wanted,) = torch.autograd.grad(torch.nn.GroupNorm.forward(layer.double(), exact), exact, factors.double())

    def off(gradient):
        return float((gradient - wanted).norm() / wanted.norm())

    assert torch.equal(result, torch.nn.GroupNorm.forward(layer.float(), x))
    assert off(native) < 2**-9 and off(got) < 2**-7, "rounded once, and three times"
    assert got.stride() == x.stride()


def test_group_norm_that_trains_or_is_small_or_float32_is_pytorchs():
    def backward_of(layer, *shape, dtype=torch.bfloat16, layout=torch.channels_last):
        return layer(torch.zeros(shape).to(dtype, memory_format=layout).requires_grad_()).grad_fn.name()

    frozen, trained = (layers.GroupNorm(2, 30).requires_grad_(on) for on in (False, True))
    one_trained = layers.GroupNorm(2, 30)
    one_trained.weight.requires_grad_(False)
    assert backward_of(frozen, 1, 30, 64, 64) == "FrozenGroupNormBackward"
    names = {
        backward_of(trained, 1, 30, 64, 64),
        backward_of(one_trained, 1, 30, 64, 64),
        backward_of(frozen, 1, 30, 64, 63),
        backward_of(frozen, 1, 30, 64, 64, dtype=torch.float32),
        backward_of(frozen, 1, 30, 64, 64, layout=torch.contiguous_format),
        backward_of(layers.GroupNorm(2, 32).requires_grad_(False), 1, 32, 64, 64),
    }
    assert names == {"NativeGroupNormBackward0"}


# --- gaze tokens ------------------------------------------------------------------------------------------------------


def test_gaze_mlp_has_upstreams_keys_and_widths():
    shapes = {name: tuple(tensor.shape) for name, tensor in GazeMLP().state_dict().items()}
    widths = [2, 128, 128, 128, 384]
    expected = {}
    for branch in ("head_mlp", "gaze_mlp"):
        for i in range(4):
            expected[f"{branch}.net.{2 * i}.weight"] = (widths[i + 1], widths[i])
            expected[f"{branch}.net.{2 * i}.bias"] = (widths[i + 1],)
    assert shapes == expected


@torch.no_grad()
def test_gaze_tokens_are_head_first_and_computed_apart():
    mlp = GazeMLP(num_layers=2, num_hidden=4, num_out=6)
    head, gaze, other = (random_like(3, 2, seed=seed).float() for seed in range(3))
    tokens = mlp(head, gaze)
    assert tokens.shape == (3, 2, 6)

    def by_hand(branch, angles):
        state = mlp.state_dict()
        hidden = angles @ state[f"{branch}.net.0.weight"].T + state[f"{branch}.net.0.bias"]
        hidden = torch.where(hidden > 0, hidden, 0.01 * hidden)
        return hidden @ state[f"{branch}.net.2.weight"].T + state[f"{branch}.net.2.bias"]

    torch.testing.assert_close(tokens[:, 0], by_hand("head_mlp", head))
    torch.testing.assert_close(tokens[:, 1], by_hand("gaze_mlp", gaze))
    changed = mlp(head, other)
    assert torch.equal(changed[:, 0], tokens[:, 0]) and not torch.equal(changed[:, 1], tokens[:, 1])


# --- the whole --------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_stages_are_the_designs_formulas(tiny_model):
    assert [name for name, _ in tiny_model.named_children()] == ["vae", "unet", "gaze_mlp"]
    images = random_like(2, 3, 32, 32).float()
    head, gaze = random_like(2, 2, seed=1).float(), random_like(2, 2, seed=2).float()
    masked, reference = tiny_model.encode(images), tiny_model.encode(images.flip(3))
    assert masked.shape == (2, 4, 8, 8)
    torch.testing.assert_close(masked, 0.7 * tiny_model.vae.encode(images).latent_dist.mean)

    latents = tiny_model.inpaint(masked, reference, head, gaze)
    tokens = tiny_model.gaze_mlp(head, gaze)
    torch.testing.assert_close(latents, tiny_model.unet(torch.cat([masked, reference], 1), 0, tokens).sample)
    result = tiny_model(masked, reference, head, gaze)
    torch.testing.assert_close(result, tiny_model.vae.decode(latents / 0.7).sample)
    assert result.shape == (2, 3, 32, 32)
    for changed in ((reference, masked, head, gaze), (masked, reference, gaze, head)):
        assert not torch.allclose(tiny_model(*changed), result)


def test_unknown_or_missing_config_keys_are_refused(tiny_config):
    with pytest.raises(TypeError, match="norm_groups"):
        VAEGaze({**tiny_config, "unet": {"norm_groups": 4}})
    del tiny_config["vae"]
    with pytest.raises(KeyError, match="vae"):
        VAEGaze(tiny_config)


def test_a_seed_fixes_the_weights():
    first, second, other = make_tiny_model(seed=1), make_tiny_model(seed=1), make_tiny_model(seed=2)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters()))
    assert not torch.equal(first.unet.conv_in.weight, other.unet.conv_in.weight)


def test_black_eyes_are_minus_one_and_nothing_else_changes(tiny_model):
    images, eyes = random_like(2, 3, 32, 32).float().clamp(-1, 1), torch.zeros(2, 1, 32, 32)
    eyes[0, :, 2:4, 1:3] = 1
    eyes[1, :, 5:, :] = 1
    assert torch.equal(tiny_model.mask(images, eyes), torch.where(eyes.bool(), torch.tensor(-1.0), images))


def test_filled_eyes_continue_what_is_around_them(tiny_config):
    model = make_tiny_model(tiny_config | {"fill_eyes": True})
    slope = torch.linspace(-0.8, 0.8, 48).expand(1, 3, 48, 48).contiguous()
    eyes = torch.zeros(1, 1, 48, 48)
    eyes[:, :, 10:22, 4:17] = eyes[:, :, 10:22, 30:43] = 1
    with_eyes = torch.where(eyes.bool(), random_like(1, 3, 48, 48).float(), slope)
    filled = model.mask(with_eyes, eyes)
    assert torch.equal(filled, model.mask(slope, eyes)), "the eyes themselves are not seen"
    assert torch.equal(filled * (1 - eyes), slope * (1 - eyes)), "nothing else changes"
    assert (filled - slope).abs().max() < 0.25 and filled.isfinite().all()


@pytest.mark.parametrize(("height", "width"), [(32, 32), (31, 45), (3, 3), (32, 100)])
def test_no_pixel_is_known(height, width):
    """One colour where there is one, grey where there is none, whatever the size."""
    ones = torch.ones(1, 1, height, width)
    assert torch.equal(fill_eyes(random_like(1, 3, height, width).float(), ones), torch.zeros(1, 3, height, width))
    corner = ones.clone()
    corner[..., 0, 0] = 0
    assert torch.allclose(fill_eyes(torch.full((1, 3, height, width), 0.5), corner), torch.tensor(0.5))


def test_pixels_to_unit_range_and_back_is_exact():
    pixels = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    pixels = np.concatenate([pixels, pixels[:, ::-1, :, :], pixels.transpose(0, 2, 1, 3)])
    unit = to_unit_range(pixels)
    assert unit.shape == (3, 3, 16, 16) and unit.dtype == torch.float32
    assert unit.min() == -1 and unit.max() == 1
    assert np.array_equal(to_pixels(unit), pixels)
    assert pixels[0, 0, 1].tolist() == [1, 1, 1], "the input is untouched"


def test_to_pixels_rounds_and_clips():
    values = (
        torch.tensor([-1.5, -1.0, -1 + 0.6 / 127.5, -1 + 0.4 / 127.5, 1.0, 7.0]).reshape(1, 1, 1, 6).expand(1, 3, 1, 6)
    )
    assert to_pixels(values)[0, 0, :, 0].tolist() == [0, 0, 1, 0, 255, 255]
