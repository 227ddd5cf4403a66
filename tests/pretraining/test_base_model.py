"""Pre-training from published weights: what is taken, what is new, and the run that follows."""

import errno
import io
import json
import os

import diffusers
import pytest
import torch
import yaml
from conftest import process_restored
from published_weights import TOKEN, UNET, VAE, with_random_weights

from vaegaze.commands import pretrain
from vaegaze.config.pretrain import ModelParams, PretrainParams
from vaegaze.errors import UserError
from vaegaze.models.checkpoint import load_checkpoint
from vaegaze.pretraining import latent_cache
from vaegaze.pretraining.base_model import build_base_model
from vaegaze.pretraining.latent_cache import LatentCache
from vaegaze.renderer import data_set

SIZE_PX = 32
UNCHANGED = dict.fromkeys(("mirror", "colour", "jpeg", "blur", "scale", "shift"), 0)


@pytest.fixture
def weights(published, tmp_path):
    """Folders as diffusers writes them."""
    for part in ("vae", "unet"):
        getattr(published, part).save_pretrained(tmp_path / part)
    return tmp_path


def params_of(weights, **parts):
    parts = {"vae": {"checkpoint": str(weights / "vae")}, "unet": {"checkpoint": str(weights / "unet")}, **parts}
    return ModelParams(image_size=SIZE_PX, **parts)


def test_published_parts_are_taken_whole(weights, published):
    base = build_base_model(params_of(weights))
    for part in ("vae", "unet"):
        taken = getattr(base.model, part).state_dict()
        assert all(torch.equal(taken[name], tensor) for name, tensor in getattr(published, part).state_dict().items())
    assert base.model.vae.scaling_factor == 0.18215
    lines = base.table().splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["vae", "taken"], ["unet", "taken"], ["gaze_mlp", "new"]]
    assert base.model.gaze_mlp.gaze_mlp.net[-1].out_features == TOKEN


def test_a_unet_of_one_latent_is_widened(weights):
    """As Stable Diffusion's: its kernels see the masked picture, and the reference changes nothing at first."""
    published = diffusers.UNet2DConditionModel(**{**UNET, "in_channels": 4}).eval()
    with_random_weights(published, 3)
    published.save_pretrained(weights / "sd")
    base = build_base_model(params_of(weights, unet={"checkpoint": str(weights / "sd")}))
    kernel = base.model.unet.conv_in.weight
    assert torch.equal(kernel[:, :4], published.conv_in.weight) and (kernel[:, 4:] == 0).all()
    assert "conv_in.weight widened" in base.table() and "8 input channels from 4" in base.table()
    latents, tokens = torch.randn(1, 4, 8, 8), torch.randn(1, 2, TOKEN)
    with torch.no_grad():
        theirs = published(latents, 0, tokens).sample
        ours = base.model.unet(torch.cat([latents, torch.randn_like(latents)], dim=1), 0, tokens).sample
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_tokens_of_another_width_leave_their_layers_new(weights, published):
    unet = {"checkpoint": str(weights / "unet"), "cross_attention_dim": 24}
    base = build_base_model(params_of(weights, unet=unet))
    name = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight"
    state = base.model.unet.state_dict()
    assert state[name].shape[1] == 24 and state[name].abs().max() > 0
    assert torch.equal(state["conv_out.weight"], published.unet.conv_out.weight)
    assert "attn2 to_k, to_v new" in base.table() and f"the published have {TOKEN}" in base.table()


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"unet": {"checkpoint": "nowhere"}}, "no file nowhere"),
        ({"unet": {"checkpoint": "vae"}}, "no UNet"),
        ({"vae": {"checkpoint": "vae", "layers_per_block": 2}}, "do not fit"),
        ({"unet": {"checkpoint": "unet", "norm_num_groups": 5}}, "no UNet of this family"),
        ({"gaze_mlp": {"num_out": TOKEN + 1}}, "do not fit together"),
    ],
)
def test_weights_that_do_not_fit(parts, words, weights, monkeypatch):
    monkeypatch.chdir(weights)
    with pytest.raises(UserError, match=words):
        build_base_model(params_of(weights, **parts))


@pytest.fixture
def file(tmp_path):
    data_set.write_hdf5(tmp_path / "data.h5", 6, size=SIZE_PX, samples=4, split="all")
    return tmp_path / "data.h5"


def config_file(weights, file, **settings):
    params = {
        "save_dir": str(weights / "run"), "output": str(weights / "run/model.pth"), "sources": [str(file)],
        "latent_steps": 2, "pixel_steps": 2, "latent_batch_size": 2, "pixel_batch_size": 1, "held_out": 8,
        "eval_every": 2, "min_vae_eye_psnr": 0, "threads": 1, "estimator": "none", **settings,
    }  # fmt: skip
    model = {
        "image_size": SIZE_PX,
        "vae": {"checkpoint": str(weights / "vae")},
        "unet": {"checkpoint": str(weights / "unet")},
    }
    path = weights / "config.yaml"
    path.write_text(yaml.safe_dump({"pretrain_params": params, "model_params": model}))
    return path


def run(path, *flags):
    with process_restored():
        return pretrain.main(["--config", str(path), *map(str, flags)])


def test_the_given_autoencoder_is_measured_first_and_stays(weights, published, file, capsys):
    assert run(config_file(weights, file, estimator=PretrainParams().estimator)) == 0
    out = capsys.readouterr().out
    assert out.index("redraws held-out eyes with") < out.index('"phase": "UNet on latents"')
    loaded = load_checkpoint(weights / "run" / "model.pth")
    shipped = loaded.model.vae.state_dict()
    for name, tensor in published.vae.state_dict().items():
        assert torch.equal(shipped[name], tensor.half().float()), name
    assert [record["phase"] for record in loaded.info["records"]] == [
        "autoencoder",
        "UNet on latents",
        "UNet on pixels",
    ]
    card = (weights / "run" / "model.md").read_text()
    assert "| autoencoder | given, frozen |" in card and "rendered persons only" not in card and "data.h5" in card
    assert "| the label |" in card and "the estimator's own error |" in card


def test_a_poor_autoencoder_is_refused_before_anything_trains(weights, file, capsys):
    assert run(config_file(weights, file, min_vae_eye_psnr=60)) == 2
    assert "min_vae_eye_psnr" in capsys.readouterr().err and not (weights / "run" / "resume.pth").exists()


def test_cached_latents_are_those_computed(weights, file, capsys):
    """With a cache, filled and then reused, training sees the same to half precision."""
    path = config_file(weights, file, augmentation=UNCHANGED)
    assert run(path) == 0
    losses = [[json.loads(line)["loss"] for line in (weights / "run/metrics.jsonl").read_text().splitlines()[1:]]]
    for _ in range(2):
        path = config_file(weights, file, augmentation=UNCHANGED, latent_cache=str(weights / "cache"))
        assert run(path, "--overwrite") == 0
        losses.append(
            [json.loads(line)["loss"] for line in (weights / "run/metrics.jsonl").read_text().splitlines()[1:]]
        )
    (cache,) = weights.glob("cache.*")
    assert cache.stat().st_size == 72 * (2 * 2 * 4 * 4 * 4 + 1), "as was told before"
    assert "Latent cache" in capsys.readouterr().out
    assert losses[1] == losses[2] and losses[0] == pytest.approx(losses[1], rel=2e-3)


def test_a_cache_on_a_disk_that_fills_up(weights, file, monkeypatch, capsys):
    """The file has its full size from the start, yet takes no space before it is filled."""
    path = config_file(weights, file, augmentation=UNCHANGED, latent_cache=str(weights / "cache"))

    class FullDisk(io.FileIO):
        def write(self, content):
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(latent_cache, "open", lambda path, mode, buffering: FullDisk(path, mode), raising=False)
        assert run(path) == 2
    (cache,) = weights.glob("cache.*")
    assert capsys.readouterr().err.endswith(f"error: {cache}: No space left on device\n")
    assert run(path, "--overwrite") == 0


def test_a_cache_that_is_cut_short_meanwhile(weights):
    model = build_base_model(params_of(weights)).model
    one, other = (LatentCache(str(weights / "cache"), model, 5, "") for _ in range(2))
    assert one.path == other.path and one.path.stat().st_size == one.bytes
    one.known[:] = 1
    os.truncate(one.path, 10)
    with pytest.raises(UserError, match="cut short"):
        one._latents(model, None, None, torch.tensor([3]))


def test_a_cache_refuses_what_changes_frames(weights, file, capsys):
    assert run(config_file(weights, file, latent_cache=str(weights / "cache"))) == 2
    assert "augmentation" in capsys.readouterr().err


def test_the_plan_of_a_run(weights, file, capsys):
    assert run(config_file(weights, file), "--dry_run") == 0
    out = capsys.readouterr().out
    for words in ("train 4 persons", "val 1 persons", "vae ", "TFLOP a step", "steps an epoch", "MB to be read"):
        assert words in out, words
    assert not (weights / "run").exists()


def test_vae_without_its_own_keys_needs_none(weights):
    assert VAE["layers_per_block"] == build_base_model(params_of(weights)).model.config["vae"]["layers_per_block"]
