"""Our classes are diffusers' own: the same names, the same numbers, the same config keys."""

import inspect
import re
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from published_weights import MUSETALK_JSON, SD_VAE_JSON, with_random_weights

from vaegaze.models import AutoencoderKL, UNet2DConditionModel, VAEGaze
from vaegaze.models.diffusers.options import WITHOUT_EFFECT, covered_by_autoencoder, covered_by_unet
from vaegaze.models.diffusers.parts import OWN_OPTION

DOCS = Path(__file__).parents[2] / "docs" / "diffusers.md"
DRAWN = range(12)  # configurations of each class
# diffusers computes with float32 in both; what differs is the order in which a sum is taken.
RELATIVE = {torch.float64: 1e-9, torch.float32: 1e-4}
PAIRS = {
    AutoencoderKL: (diffusers.AutoencoderKL, covered_by_autoencoder),
    UNet2DConditionModel: (diffusers.UNet2DConditionModel, covered_by_unet),
}


def draw_widths(rng, unit):
    return [int(unit * rng.integers(1, 4)) for _ in range(rng.integers(1, 5))]


def drawn_unet(seed):
    """A config as diffusers takes it, and a picture's height and width."""
    rng = np.random.default_rng([seed, 0])
    heads, groups = (int(2 ** rng.integers(3)) for _ in range(2))
    widths = draw_widths(rng, max(heads, groups) * 2)
    config = {
        "in_channels": int(rng.integers(1, 10)),
        "out_channels": int(rng.integers(1, 10)),
        "block_out_channels": widths,
        "layers_per_block": int(rng.integers(1, 4)),
        "attention_head_dim": heads,
        "cross_attention_dim": int(rng.integers(1, 20)),
        "norm_num_groups": groups,
        "norm_eps": float(10 ** rng.uniform(-6, -2)),
    }
    return config | covered_by_unet(len(widths)), [int(n) << len(widths) for n in rng.integers(1, 4, size=2)]


def drawn_autoencoder(seed):
    rng = np.random.default_rng([seed, 1])
    groups = int(2 ** rng.integers(3))
    widths = draw_widths(rng, groups)
    config = {
        "in_channels": int(rng.integers(1, 5)),
        "out_channels": int(rng.integers(1, 5)),
        "block_out_channels": widths,
        "layers_per_block": int(rng.integers(1, 4)),
        "latent_channels": int(rng.integers(1, 6)),
        "norm_num_groups": groups,
        "scaling_factor": float(rng.uniform(0.1, 2)),
    }
    return config | covered_by_autoencoder(len(widths)), [int(n) << len(widths) for n in rng.integers(2, 6, size=2)]


def pair_of(kind, config, dtype, seed=0):
    """Ours and theirs with the same random weights; odd seeds load ours into theirs, even ones the other way."""
    ours, theirs = (each(**config).to(dtype).requires_grad_(False) for each in (kind, PAIRS[kind][0]))
    source, target = (theirs, ours) if seed % 2 else (ours, theirs)
    with_random_weights(source, seed)
    target.load_state_dict(source.state_dict(), strict=True)
    return ours, theirs


def random_like(*shape, dtype, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(dtype)


def assert_close(ours, theirs):
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
    assert theirs.isfinite().all() and theirs.abs().max() > 0
    assert (ours - theirs).abs().max() <= RELATIVE[ours.dtype] * theirs.abs().max()


def assert_same_function(ours, theirs, *inputs):
    """Outputs, and what a random weighting of them sends back to each input."""
    outputs, gradients = [], []
    for function in (ours, theirs):
        leaves = [tensor.detach().clone().requires_grad_() for tensor in inputs]
        outputs.append(function(*leaves))
        weighting = random_like(*outputs[-1].shape, dtype=inputs[0].dtype, seed=99)
        gradients.append(torch.autograd.grad((outputs[-1] * weighting).sum(), leaves))
    assert_close(*outputs)
    for ours, theirs in zip(*gradients):
        assert_close(ours, theirs)


def assert_same_unet(ours, theirs, config, sides, dtype, timesteps):
    sample = random_like(len(timesteps), config["in_channels"], *sides, dtype=dtype)
    tokens = random_like(len(timesteps), 3, config["cross_attention_dim"], dtype=dtype, seed=1)
    assert_same_function(*(lambda x, c, m=m: m(x, timesteps, c).sample for m in (ours, theirs)), sample, tokens)


def assert_same_autoencoder(ours, theirs, config, sides, dtype, batch=2):
    images = random_like(batch, config["in_channels"], *sides, dtype=dtype)
    for parameter in ("mean", "logvar"):
        moments = [lambda x, m=m, p=parameter: getattr(m.encode(x).latent_dist, p) for m in (ours, theirs)]
        assert_same_function(*moments, images)
    latents = theirs.encode(images).latent_dist.mode()
    assert latents.shape[-1] == sides[-1] >> (len(config["block_out_channels"]) - 1)
    assert_same_function(*(lambda z, m=m: m.decode(z).sample for m in (ours, theirs)), latents)


# --- the same names and numbers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", RELATIVE, ids=str)
@pytest.mark.parametrize("seed", DRAWN)
def test_unet_is_diffusers_unet(seed, dtype):
    config, sides = drawn_unet(seed)
    ours, theirs = pair_of(UNet2DConditionModel, config, dtype, seed)
    for timesteps in (torch.zeros(2, dtype=torch.long), torch.tensor([3, 700])):
        assert_same_unet(ours, theirs, config, sides, dtype, timesteps)


@pytest.mark.parametrize("dtype", RELATIVE, ids=str)
@pytest.mark.parametrize("seed", DRAWN)
def test_autoencoder_is_diffusers_autoencoder(seed, dtype):
    config, sides = drawn_autoencoder(seed)
    ours, theirs = pair_of(AutoencoderKL, config, dtype, seed)
    assert ours.scaling_factor == theirs.config.scaling_factor
    assert_same_autoencoder(ours, theirs, config, sides, dtype)


def test_what_is_drawn_varies():
    for draw in (drawn_unet, drawn_autoencoder):
        drawn = [draw(seed) for seed in DRAWN]
        for key in set(drawn[0][0]) - set(covered_by_unet(1)) - set(covered_by_autoencoder(1)):
            assert len({str(config[key]) for config, _ in drawn}) > 2, key
        assert {len(config["block_out_channels"]) for config, _ in drawn} == {1, 2, 3, 4}
        assert any(height != width for _, (height, width) in drawn)


def test_the_posterior_is_diffusers():
    config, sides = drawn_autoencoder(0)
    ours, theirs = pair_of(AutoencoderKL, config, torch.float64)
    images = random_like(2, config["in_channels"], *sides, dtype=torch.float64)
    our_posterior, their_posterior = ours.encode(images).latent_dist, theirs.encode(images).latent_dist
    assert_close(our_posterior.mode(), their_posterior.mode())
    assert_close(our_posterior.kl(), their_posterior.kl())
    assert_close(*(each.sample(torch.Generator().manual_seed(5)) for each in (our_posterior, their_posterior)))


@pytest.mark.slow
def test_the_full_size_unet_is_diffusers():
    with torch.device("meta"):
        theirs = diffusers.UNet2DConditionModel.from_config(MUSETALK_JSON)
        ours = UNet2DConditionModel(**MUSETALK_JSON)
    assert_full_size_equal(
        ours, theirs, lambda: assert_same_unet(ours, theirs, MUSETALK_JSON, [16, 16], torch.float32, torch.tensor([0]))
    )


@pytest.mark.slow
def test_the_full_size_autoencoder_is_diffusers():
    with torch.device("meta"):
        theirs = diffusers.AutoencoderKL.from_config(SD_VAE_JSON)
        ours = AutoencoderKL(**SD_VAE_JSON)
    assert_full_size_equal(
        ours, theirs, lambda: assert_same_autoencoder(ours, theirs, SD_VAE_JSON, [32, 32], torch.float32, batch=1)
    )


def assert_full_size_equal(ours, theirs, compare):
    theirs.to_empty(device="cpu").requires_grad_(False)
    with_random_weights(theirs, seed=0)
    ours.load_state_dict(theirs.state_dict(), strict=True, assign=True)  # the same memory twice
    compare()


# --- the same config keys ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", PAIRS)
def test_every_option_of_diffusers_is_known(kind):
    theirs, covered = PAIRS[kind]
    options = set(inspect.signature(theirs.__init__).parameters) - {"self"}
    varied = {name for name, p in inspect.signature(kind).parameters.items() if p.kind is p.KEYWORD_ONLY} - {OWN_OPTION}
    assert varied | set(covered(1)) | (WITHOUT_EFFECT & options) == options
    assert not varied & set(covered(1))


def test_the_docs_list_every_option():
    text = DOCS.read_text(encoding="utf-8")
    for _kind, (theirs, covered) in PAIRS.items():
        section = re.search(rf"## {theirs.__name__}\n(.*?)(?=\n## |\Z)", text, re.DOTALL)[1]
        listed = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|$", section, re.MULTILINE))
        assert set(listed) == set(inspect.signature(theirs.__init__).parameters) - {"self"}
        for key, value in covered(4).items():
            shown = {"down_block_types": "see", "up_block_types": "see", None: "`null`"}
            expected = (
                shown.get(key) or shown.get(value) or f"`{str(value).lower() if value in (True, False) else value}`"
            )
            assert listed[key].startswith(expected), key


@pytest.mark.parametrize("blocks", [1, 2, 4])
@pytest.mark.parametrize("kind", PAIRS)
def test_another_value_is_refused_by_name(kind, blocks):
    small = {"block_out_channels": [8] * blocks, "norm_num_groups": 4}
    covered = PAIRS[kind][1](blocks)
    kind(**small, **covered)
    for key, value in covered.items():
        for other in (
            {True: False, False: True}.get(value, "other"),
            [*value, "DownBlock2D"] if type(value) is tuple else [value],
        ):
            with pytest.raises(ValueError, match=rf"^{key} is .*supported for {kind.__name__}"):
                kind(**small, **{**covered, key: other})


@pytest.mark.parametrize("key", ["attention_head_dim", "layers_per_block", "cross_attention_dim", "norm_num_groups"])
@pytest.mark.parametrize("value", [[4, 4], None, 0, -1, 4.0, "4", True])
def test_numbers_are_one_for_all_blocks(key, value):
    with pytest.raises(ValueError, match=f"^{key} is "):
        UNet2DConditionModel(**{"block_out_channels": [8, 8], "norm_num_groups": 4, key: value})


@pytest.mark.parametrize("value", [[], 8, "88", None, [8, [8]], [8, 0]])
@pytest.mark.parametrize("kind", PAIRS)
def test_widths_are_a_list_of_numbers(kind, value):
    with pytest.raises(ValueError, match=r"^block_out_channels is "):
        kind(block_out_channels=value)


@pytest.mark.parametrize("kind", PAIRS)
def test_unknown_options_and_other_classes_are_refused_by_name(kind):
    with pytest.raises(TypeError, match="no option 'norm_groups'"):
        kind(block_out_channels=[8], norm_num_groups=4, norm_groups=4)
    with pytest.raises(ValueError, match=r"the config is of 'VQModel', not of"):
        kind(block_out_channels=[8], norm_num_groups=4, _class_name="VQModel")


def test_published_configs_are_taken_as_they_are():
    with torch.device("meta"):
        model = VAEGaze({"image_size": 256, "vae": SD_VAE_JSON, "unet": MUSETALK_JSON, "gaze_mlp": {}})
        assert {name: tensor.shape for name, tensor in model.unet.state_dict().items()} == {
            name: tensor.shape for name, tensor in UNet2DConditionModel().state_dict().items()
        }


@pytest.mark.parametrize("kind", PAIRS)
def test_a_config_that_diffusers_writes_is_taken_as_it_is(kind, tmp_path):
    theirs = PAIRS[kind][0](
        block_out_channels=[8],
        norm_num_groups=4,
        **{key: value for key, value in PAIRS[kind][1](1).items() if key.endswith("types")},
    )
    theirs.save_config(tmp_path)
    kind(**theirs.load_config(tmp_path))
    kind(**theirs.config)
