"""Every file under configs/pretrain: parsed, built, and its plan printed."""

import diffusers
import pytest
from command_runs import ROOT
from conftest import process_restored
from published_weights import UNET, VAE, with_random_weights

from vaegaze.commands import pretrain
from vaegaze.config.pretrain import PretrainConfig
from vaegaze.config.tree import resolve
from vaegaze.models.checkpoint import save_autoencoder
from vaegaze.pretraining.base_model import build_base_model
from vaegaze.renderer import data_set

CONFIGS = sorted((ROOT / "configs" / "pretrain").rglob("*.yaml"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the paths that the files name lead to something: a small data set, published weights of small widths."""
    folder = tmp_path_factory.mktemp("configs")
    (folder / "data").mkdir()
    data_set.write_hdf5(folder / "data" / "GazeCapture.h5", 5, size=32, samples=3, split="all")
    for name, kind, config in (
        ("sd-vae-ft-mse", diffusers.AutoencoderKL, VAE),
        ("musetalk", diffusers.UNet2DConditionModel, UNET),
    ):
        model = kind(**config)
        with_random_weights(model, 0)
        model.save_pretrained(folder / "weights" / name)
    config = resolve(PretrainConfig, str(ROOT / "configs/pretrain/autoencoder.yaml")).config
    autoencoder = build_base_model(config.model_params)
    save_autoencoder(folder / "checkpoints" / "autoencoder.pth", autoencoder.model, {})
    return folder


def test_there_are_the_three():
    assert {path.name for path in CONFIGS} >= {"tiny.yaml", "gazecapture_128.yaml", "gazecapture_256.yaml"}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_file_is_parsed_and_planned(path, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    with process_restored():
        code = pretrain.main(["--config", str(path), "--dry_run"])
    out = capsys.readouterr().out
    assert code == 0 and "Parameters: vae" in out and "TFLOP a step" in out
    if "gazecapture" in path.name:
        assert "train 3 persons" in out and "MB to be read" in out and "steps an epoch" in out
    assert not (folder / "outputs").exists()
