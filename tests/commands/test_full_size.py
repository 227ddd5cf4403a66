"""The full-size model: published weights, here random ones, go all the way through every command and back."""

import tempfile
from pathlib import Path

import diffusers
import pytest
import torch
from command_runs import assert_in_order, command, files_in
from conftest import process_restored
from published_weights import MUSETALK_JSON, SD_VAE_JSON, with_random_weights

from vaegaze.commands import convert
from vaegaze.models.checkpoint import load_checkpoint

pytestmark = pytest.mark.slow

PERSON = "person_004"
SIZE_PX = 64  # so that it fits a CPU; the weights are the same at any size


@torch.no_grad()
def test_from_diffusers_through_every_command_and_back(world, capsys):
    with tempfile.TemporaryDirectory() as folder:  # 12 GB, gone at once
        through_every_command_and_back(world, Path(folder), capsys)


def through_every_command_and_back(world, folder, capsys):
    for seed, (part, kind, config) in enumerate(
        (("vae", diffusers.AutoencoderKL, SD_VAE_JSON), ("unet", diffusers.UNet2DConditionModel, MUSETALK_JSON))
    ):
        with torch.device("meta"):
            published = kind.from_config(config)
        published.to_empty(device="cpu")
        with_random_weights(published, seed)
        published.save_pretrained(folder / part)
        del published

    # convert
    flags = ["--vae", folder / "vae", "--unet", folder / "unet", "--new_gaze_mlp", "--image_size", SIZE_PX]
    run_convert(*flags, "--output", folder / "full.pth")
    out = capsys.readouterr().out
    for words in ("83,653,863 parameters", "849,947,844 parameters", "gaze_mlp: new", "full.pth: 64 px, 933,767,595"):
        assert words in out, words

    # dry run, and two steps
    flags = [*world.flags, "--person_id", PERSON, "--num_samples", 2, "--num_eval_samples", 1, "--num_steps", 2]
    flags += ["--checkpoint_path", folder / "full.pth", "--save_dir", folder / "runs", "--save", "adapter"]
    flags += ["--finetune_strategy", "cross_attention_only", "--learning_rate", 1e-3]
    outcome = command(*flags, "--dry_run")
    assert outcome.code == 0 and "Dry run: 2 steps" in outcome.out and not (folder / "runs").exists(), outcome
    with torch.enable_grad():
        outcome = command(*flags)
    assert outcome.code == 0, outcome
    adapter = folder / "runs" / PERSON / "adapter.pth"
    assert_in_order(outcome.out, f"✅ {adapter}")
    assert "finetuned_model.pth" not in files_in(folder / "runs" / PERSON)
    assert 137e6 < adapter.stat().st_size < 140e6

    # the adapter on its base
    base = load_checkpoint(folder / "full.pth").model.state_dict()
    tuned = load_checkpoint(adapter)
    for name, tensor in tuned.model.state_dict().items():
        assert torch.equal(tensor, base[name]) != (".attn2." in name), name
    assert tuned.references[0].image.shape == (SIZE_PX, SIZE_PX, 3)
    del base

    # back to diffusers
    run_convert("--checkpoint", adapter, "--to_diffusers", folder / "back")
    sample, tokens = torch.randn(1, 8, 8, 8), torch.randn(1, 2, 384)
    unet = diffusers.UNet2DConditionModel.from_pretrained(folder / "back" / "unet")
    assert_close(tuned.model.unet(sample, 0, tokens).sample, unet(sample, 0, tokens).sample)
    del unet
    vae = diffusers.AutoencoderKL.from_pretrained(folder / "back" / "vae")
    images = torch.rand(1, 3, SIZE_PX, SIZE_PX) * 2 - 1
    latents = vae.encode(images).latent_dist.mode()
    assert_close(tuned.model.vae.encode(images).latent_dist.mode(), latents)
    assert_close(tuned.model.vae.decode(latents).sample, vae.decode(latents).sample)


def run_convert(*flags):
    with process_restored():
        assert convert.main([str(flag) for flag in flags]) == 0


def assert_close(ours, theirs):
    assert theirs.std() > 0 and (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()
