"""The full-size model: published weights, here random ones, go all the way through every command and back."""

import gc
import tempfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import diffusers
import pytest
import torch
import yaml
from command_runs import ROOT, assert_in_order, command, files_in, invoke
from published_weights import MUSETALK_JSON, SD_VAE_JSON, with_random_weights

from vaegaze.commands import convert, pretrain
from vaegaze.config.pretrain import PretrainConfig
from vaegaze.config.tree import resolve
from vaegaze.models.checkpoint import load_checkpoint
from vaegaze.models.device import has_native_bf16
from vaegaze.pretraining import sources
from vaegaze.pretraining.sources import held_out_frames
from vaegaze.renderer import data_set
from vaegaze.runs.pretraining_folder import PretrainFolder

pytestmark = pytest.mark.slow(minutes=5)

PERSON = "person_001"
SIZE_PX = 64  # so that it fits a CPU; the weights are the same at any size


def test_from_diffusers_through_every_command_and_back(world):
    with tempfile.TemporaryDirectory() as folder:  # up to 13 GB, gone at once
        through_every_command_and_back(world, Path(folder))


def through_every_command_and_back(world, folder):
    publish(folder)
    data_set.write_hdf5(folder / "data.h5", 4, size=SIZE_PX, samples=4, split="all")

    # convert
    flags = ["--vae", folder / "vae", "--unet", folder / "unet", "--new_gaze_mlp", "--image_size", SIZE_PX]
    out = invoke(convert.main, *flags, "--output", folder / "full.pth", ok=True).out
    for words in ("83,653,863 parameters", "849,947,844 parameters", "gaze_mlp: new", "full.pth: 64 px, 933,767,595"):
        assert words in out, words

    # a dry run of its fine-tuning
    flags = [*world.flags, "--hdf_path", folder / "data.h5", "--person_id", PERSON, "--save_dir", folder / "runs"]
    flags += ["--num_samples", 3, "--num_eval_samples", 1, "--num_steps", 2, "--save", "adapter"]
    flags += ["--finetune_strategy", "cross_attention_only", "--learning_rate", 1e-3]
    outcome = command(*flags, "--checkpoint_path", folder / "full.pth", "--dry_run")
    assert outcome.code == 0 and "Dry run: 2 steps" in outcome.out and not (folder / "runs").exists(), outcome
    (folder / "full.pth").unlink()

    # three steps of pre-training, stopped after the first, resumed, and shipped
    pretrained = pretrain_three_steps(folder)

    # two steps of fine-tuning what was shipped
    outcome = command(*flags, "--checkpoint_path", pretrained)
    assert outcome.code == 0, outcome
    adapter = folder / "runs" / PERSON / "adapter.pth"
    assert_in_order(outcome.out, f"✅ {adapter}")
    assert "finetuned_model.pth" not in files_in(folder / "runs" / PERSON)
    assert 137e6 < adapter.stat().st_size < 140e6

    # what was shipped, and the adapter on it
    shipped = load_checkpoint(pretrained)
    phases = [record["phase"] for record in shipped.info["records"]]
    assert phases == ["autoencoder", "UNet on latents", "UNet on pixels"]
    assert sum(parameter.numel() for parameter in shipped.model.unet.parameters()) == 849_947_844
    base = shipped.model.state_dict()
    tuned = load_checkpoint(adapter)
    for name, tensor in tuned.model.state_dict().items():
        assert torch.equal(tensor, base[name]) != (".attn2." in name), name
    assert tuned.references[0].image.shape == (SIZE_PX, SIZE_PX, 3)
    del shipped, base

    # back to diffusers
    invoke(convert.main, "--checkpoint", adapter, "--to_diffusers", folder / "back", ok=True)
    assert_same_parts(tuned.model, folder / "back")


def publish(folder):
    """Random weights as diffusers writes them, in half precision."""
    for seed, (part, kind, config) in enumerate(
        (("vae", diffusers.AutoencoderKL, SD_VAE_JSON), ("unet", diffusers.UNet2DConditionModel, MUSETALK_JSON))
    ):
        with torch.device("meta"):
            published = kind.from_config(config)
        published = published.half().to_empty(device="cpu")
        with_random_weights(published, seed)
        published.save_pretrained(folder / part)


def pretrain_three_steps(folder) -> Path:
    """One on latents, after which the run is stopped as it has saved itself, and two on pixels; → the model's path."""
    content = yaml.safe_load((ROOT / "configs" / "pretrain" / "gazecapture_256.yaml").read_text())
    content["model_params"]["image_size"] = SIZE_PX
    for part in ("vae", "unet"):
        content["model_params"][part]["checkpoint"] = str(folder / part)
    run = folder / "pretraining"
    content["pretrain_params"] |= {
        "save_dir": str(run), "output": str(run / "model.pth"), "sources": [str(folder / "data.h5")],
        "latent_steps": 1, "pixel_steps": 2, "latent_batch_size": 1, "pixel_batch_size": 1, "gazes_per_person": 1,
        "eval_every": 2, "held_out": 8, "workers": 0, "min_vae_eye_psnr": 0, "pixel_vgg_loss": 0, "ema": 0,
        "precision": "bf16" if has_native_bf16("cpu") else "fp32",
    }  # fmt: skip
    path = folder / "full.yaml"
    path.write_text(yaml.safe_dump(content))
    assert resolve(PretrainConfig, str(path)).config.model_params.checkpoint_of("unet")

    save, saves = PretrainFolder.save, []

    def interrupted(folder, model, progress):
        save(folder, model, progress)
        saves.append((progress.phase, progress.step))
        raise KeyboardInterrupt

    def counted(folder, model, progress):
        save(folder, model, progress)
        resumed.append((progress.phase, progress.step))

    resumed = []
    with pytest.MonkeyPatch.context() as patched, two_held_out_frames():
        patched.setattr(PretrainFolder, "save", interrupted)
        begun = invoke(pretrain.main, "--config", path)
    assert begun.code == 130 and saves == [(0, 1)]
    assert (run / "resume.pth").stat().st_size < 4e9, "the weights alone"
    for words in ("849,947,844", "gaze_mlp  new", "redraws held-out eyes with"):
        assert words in begun.out, words
    gc.collect()
    with pytest.MonkeyPatch.context() as patched, two_held_out_frames():
        patched.setattr(PretrainFolder, "save", counted)
        invoke(pretrain.main, "--config", path, "--resume", ok=True)
    assert (0, 1) not in resumed and resumed, resumed
    (run / "resume.pth").unlink()
    (run / "best.pth").unlink()
    gc.collect()
    return run / "model.pth"


@contextmanager
def two_held_out_frames():
    """To measure and draw eight, the least that settings ask for, takes longer than these steps."""

    def one_batch(*about):
        held_out, skipped = held_out_frames(*about)
        return [replace(each, batches=each.batches[:1]) for each in held_out], skipped

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sources, "HELD_OUT_BATCH", 2)
        patched.setattr(pretrain, "held_out_frames", one_batch)
        yield


@torch.no_grad()
def assert_same_parts(model, folder):
    sample, tokens = torch.randn(1, 8, 8, 8), torch.randn(1, 2, 384)
    unet = diffusers.UNet2DConditionModel.from_pretrained(folder / "unet")
    assert_close(model.unet(sample, 0, tokens).sample, unet(sample, 0, tokens).sample)
    del unet
    vae = diffusers.AutoencoderKL.from_pretrained(folder / "vae")
    images = torch.rand(1, 3, SIZE_PX, SIZE_PX) * 2 - 1
    latents = vae.encode(images).latent_dist.mode()
    assert_close(model.vae.encode(images).latent_dist.mode(), latents)
    assert_close(model.vae.decode(latents).sample, vae.decode(latents).sample)


def assert_close(ours, theirs):
    assert theirs.std() > 0 and (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()
