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
    to_pixels,
    to_unit_range,
)
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
