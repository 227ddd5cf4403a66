"""The full-size path for real: published shapes, three steps on a CPU, shipped, and fine-tuned."""

import gc

import diffusers
import pytest
import torch
import yaml
from command_runs import ROOT
from conftest import process_restored
from published_weights import MUSETALK_JSON, SD_VAE_JSON

from vaegaze.commands import pretrain, train
from vaegaze.config.pretrain import PretrainConfig
from vaegaze.config.tree import resolve
from vaegaze.models.checkpoint import load_checkpoint
from vaegaze.models.device import has_native_bf16
from vaegaze.renderer import data_set

SIZE_PX = 64  # shapes of weights do not depend on it


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Random weights of sd-vae-ft-mse's and MuseTalk's shapes, in half precision, as diffusers writes them."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    for part, kind, config in (
        ("vae", diffusers.AutoencoderKL, SD_VAE_JSON),
        ("unet", diffusers.UNet2DConditionModel, MUSETALK_JSON),
    ):
        with torch.device("meta"):
            model = kind.from_config(config)
        model = model.half().to_empty(device="cpu")
        for parameter in model.parameters():
            parameter.data.normal_(0.0, 0.02) if parameter.ndim > 1 else parameter.data.fill_(0.5)
        model.save_pretrained(folder / part)
        del model
        gc.collect()
    return folder


@pytest.mark.slow
def test_three_steps_resumed_shipped_and_fine_tuned(weights, tmp_path, capsys):
    data_set.write_hdf5(tmp_path / "data.h5", 4, size=SIZE_PX, samples=4, split="all")
    content = yaml.safe_load((ROOT / "configs" / "pretrain" / "gazecapture_256.yaml").read_text())
    content["model_params"]["image_size"] = SIZE_PX
    for part, name in (("vae", "vae"), ("unet", "unet")):
        content["model_params"][part]["checkpoint"] = str(weights / name)
    run = tmp_path / "run"
    content["pretrain_params"] |= {
        "save_dir": str(run), "output": str(run / "model.pth"), "sources": [str(tmp_path / "data.h5")],
        "latent_steps": 1, "pixel_steps": 2, "latent_batch_size": 1, "pixel_batch_size": 1, "gazes_per_person": 1,
        "eval_every": 2, "held_out": 8, "workers": 0, "min_vae_eye_psnr": 0, "pixel_vgg_loss": 0, "ema": 0,
        "precision": "bf16" if has_native_bf16("cpu") else "fp32",
    }  # fmt: skip
    path = tmp_path / "full.yaml"
    path.write_text(yaml.safe_dump(content))
    assert resolve(PretrainConfig, str(path)).config.model_params.checkpoint_of("unet")

    stopped = pretrain.PretrainFolder.save
    saves = []

    def interrupted(folder, model, progress):
        stopped(folder, model, progress)
        saves.append((progress.phase, progress.step))
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patched, process_restored():
        patched.setattr(pretrain.PretrainFolder, "save", interrupted)
        assert pretrain.main(["--config", str(path)]) == 130
    assert saves == [(0, 1)]
    gc.collect()
    with process_restored():
        assert pretrain.main(["--config", str(path), "--resume"]) == 0
    out = capsys.readouterr().out
    assert "849,9" in out and "gaze_mlp  new" in out and "redraws held-out eyes with" in out
    (run / "resume.pth").unlink()
    (run / "best.pth").unlink()
    gc.collect()

    loaded = load_checkpoint(run / "model.pth")
    assert [record["phase"] for record in loaded.info["records"]] == [
        "autoencoder",
        "UNet on latents",
        "UNet on pixels",
    ]
    assert sum(parameter.numel() for parameter in loaded.model.unet.parameters()) == 849_947_844
    del loaded
    gc.collect()
    flags = [
        *("--hdf_path", tmp_path / "data.h5", "--checkpoint_path", run / "model.pth", "--save_dir", tmp_path / "tuned"),
        *("--num_steps", 2, "--num_samples", 3, "--num_eval_samples", 1, "--vgg_loss", 0, "--estimator", "none"),
        *("--person_id", "person_001", "--device", "cpu", "--sample_every", 0, "--save", "adapter"),
        *("--finetune_strategy", "minimal", "--checkpoint_every", 0),
    ]
    with process_restored():
        assert train.main([str(flag) for flag in flags]) == 0
    assert (tmp_path / "tuned" / "person_001" / "adapter.pth").exists()
