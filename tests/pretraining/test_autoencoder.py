"""The autoencoder that learns texture: crops by number, the linear start, averaged weights, the run alone."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from conftest import TINY_CONFIG, process_restored
from PIL import Image

from vaegaze.commands import convert, pretrain
from vaegaze.config.pretrain import ModelParams, PretrainConfig, PretrainParams
from vaegaze.config.tree import to_yaml
from vaegaze.errors import UserError
from vaegaze.models import AutoencoderKL
from vaegaze.models.checkpoint import load_checkpoint, save_checkpoint
from vaegaze.models.diffusers.files import open_source
from vaegaze.models.diffusers.parts import config_of
from vaegaze.pretraining import loop
from vaegaze.pretraining.averaging import averaged, first_average, take_average, update_average
from vaegaze.pretraining.base_model import build_base_model
from vaegaze.pretraining.distributed import Processes
from vaegaze.pretraining.loop import Progress, pretraining_steps
from vaegaze.pretraining.losses import gradient_difference
from vaegaze.pretraining.patch_codec import start_from_principal_components
from vaegaze.pretraining.photographs import CropBatches, read_photographs
from vaegaze.pretraining.sources import held_out_frames, open_sources
from vaegaze.runs.pretraining_folder import PretrainFolder

CROP_PX = 32
VAE = {"block_out_channels": [8, 8, 16], "layers_per_block": 1, "norm_num_groups": 4, "latent_channels": 16}
MODEL = {
    **TINY_CONFIG,
    "vae": {**VAE, "patch_shortcut": True},
    "unet": {**TINY_CONFIG["unet"], "in_channels": 32, "out_channels": 16},
}
STEPS = 6
CPU = torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def fewer_first_pictures():
    """To render them takes longer than these trainings."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(loop, "FIRST_PICTURES", loop.FIRST_PICTURES[:8])
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two pictures with texture at every scale."""
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for name, size in (("a.png", (90, 120)), ("b.jpg", (64, 64))):
        layers = [rng.random((max(2, size[1] >> k), max(2, size[0] >> k), 3)) for k in range(6)]
        big = [np.asarray(Image.fromarray(np.uint8(255 * x)).resize(size, Image.Resampling.BICUBIC)) for x in layers]
        Image.fromarray(np.mean(big, axis=0).astype(np.uint8)).save(folder / name)
    (folder / "notes.txt").write_text("no picture")
    return folder


def settings(folder, **changes):
    params = PretrainParams(
        photographs=str(folder), crop_px=CROP_PX, vae_steps=STEPS, vae_batch_size=1, latent_steps=0, pixel_steps=0,
        held_out=8, eval_every=3, min_vae_eye_psnr=0, threads=1, persons=20, ema=0.9,
    )  # fmt: skip
    return replace(params, **changes)


def new_model(config=MODEL):
    torch.manual_seed(0)
    return build_base_model(ModelParams(**config)).model


def train(model, params, progress=None, *, stop_after=math.inf):
    progress, sources = progress or Progress(), open_sources(params)
    held_out, _ = held_out_frames(sources, params, model.canvas, CPU)
    config = PretrainConfig(params, ModelParams(**MODEL))
    for _ in pretraining_steps(model, config, sources, held_out, progress, Processes(CPU)):
        if progress.step == stop_after:
            break
    return progress


def psnr(vae, pictures):
    with torch.no_grad():
        error = vae.decode(vae.encode(pictures).latent_dist.mode()).sample - pictures
    return 10 * math.log10(4 / error.square().mean().item())


# --- crops ------------------------------------------------------------------------------------------------------------


def test_crops_are_a_function_of_their_numbers(folder):
    batches = CropBatches(str(folder), (0, 1), CROP_PX, 3, 2, seed=0, persons_to_draw_from=20, samples_per_person=4)
    first = batches[5]
    read_photographs.cache_clear()
    assert torch.equal(first, batches[5]) and not torch.equal(first, batches[6])
    assert not torch.equal(first, replace(batches, entropy=(0, 2))[5])
    assert first.shape == (3 + 2 * 2, 3, CROP_PX, CROP_PX) and first.abs().max() <= 1
    assert first.std(dim=(1, 2, 3)).min() > 0.02


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda folder: folder.rmdir(), "is not a folder"),
        (lambda folder: (folder / "notes.txt").write_text("none"), "holds no picture"),
        (lambda folder: (folder / "a.png").write_bytes(b"nothing"), "a.png cannot be read"),
        (lambda folder: Image.new("RGB", (20, 200)).save(folder / "a.png"), "20×200 px, smaller than the crops of 32"),
    ],
)
def test_folders_that_do_not_serve_are_refused_in_one_line(prepare, message, tmp_path, capsys):
    folder = tmp_path / "photographs"
    folder.mkdir()
    prepare(folder)
    assert run_command(tmp_path, folder) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and "\n" not in error and not (tmp_path / "run").exists()


def test_gradients_differ_where_edges_do():
    edge, everywhere = torch.zeros(1, 3, 8, 8), torch.ones(1, 1, 8, 8)
    edge[..., 4:] = 1
    assert gradient_difference(edge, edge, everywhere) == 0
    assert gradient_difference(edge + 0.5, edge, everywhere).item() == pytest.approx(0, abs=1e-6)
    full_size, half_size = 8 / (8 * 7), 4 / (4 * 3)  # one step a row, among all neighbours in a row
    plain = torch.zeros_like(edge)
    assert gradient_difference(plain, edge, everywhere).item() == pytest.approx((full_size + half_size) / 2)
    left = everywhere.clone()
    left[..., 4:] = 0
    assert gradient_difference(plain, edge, left) == 0


# --- the shortcut -----------------------------------------------------------------------------------------------------


def test_the_shortcut_begins_as_the_best_linear_map(folder):
    """Of no worse error than the patches' remaining variance; with all components there is none."""
    batches = CropBatches(str(folder), (0, 0), CROP_PX, 6, 0, seed=0, persons_to_draw_from=20, samples_per_person=4)
    pictures = [batches[i] for i in range(8)]
    for latents in (16, 48):
        vae = AutoencoderKL(**{**VAE, "latent_channels": latents}, patch_shortcut=True)
        start_from_principal_components(vae, pictures)
        together = torch.cat(pictures)
        patches = torch.nn.functional.unfold(together, 4, stride=4).transpose(1, 2).flatten(0, 1).double()
        lost = torch.linalg.eigvalsh(patches.T.cov())[: 48 - latents].sum().item() / 48
        of_pixels = patches.mean(0).reshape(3, 16)  # the decoder adds but a mean for each colour
        lost += (of_pixels - of_pixels.mean(1, keepdim=True)).square().mean().item()
        error = 4 / 10 ** (psnr(vae, together) / 10)
        assert error == pytest.approx(lost, rel=0.02)
        with torch.no_grad():
            latent = vae.encode(together).latent_dist.mode()
        assert latent.var(dim=(0, 2, 3)).mean().item() == pytest.approx(1, rel=0.02)


def test_the_shortcut_keeps_a_pattern_that_doubling_cannot_draw():
    """Of one latent everywhere, doubled pixels make one colour everywhere; a shortcut still tells the pixels apart."""
    vae = AutoencoderKL(**VAE, patch_shortcut=True)
    latent = torch.randn(1, 16, 1, 1).expand(1, 16, 32, 32)
    with torch.no_grad():
        with_shortcut = vae.decode(latent).sample[..., 56:72, 56:72]  # far from the edges
        vae.patch_decoder = None
        without = vae.decode(latent).sample[..., 56:72, 56:72]  # far from the edges
    assert without.std(dim=(2, 3)).max() < 1e-4 < 1e-2 < with_shortcut.std(dim=(2, 3)).min()


def test_a_shortcut_is_true_or_false():
    with pytest.raises(ValueError, match="patch_shortcut is 1, neither true nor false"):
        AutoencoderKL(**VAE, patch_shortcut=1)
    assert AutoencoderKL(**VAE).state_dict().keys() < AutoencoderKL(**VAE, patch_shortcut=True).state_dict().keys()


# --- training ---------------------------------------------------------------------------------------------------------


def test_training_redraws_texture_better(folder):
    """Also without a shortcut."""
    pictures = CropBatches(str(folder), (9,), CROP_PX, 8, 0, seed=0, persons_to_draw_from=2, samples_per_person=2)[0]
    reached = []
    for steps in (1, 30):
        model = new_model({**MODEL, "vae": VAE})
        train(model, settings(folder, vae_steps=steps, eval_every=steps, vae_learning_rate=3e-3))
        reached.append(psnr(model.vae, pictures))
    assert reached[1] > reached[0] + 3


def test_the_average_is_the_formula():
    model = torch.nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(0.0)
    average, expected = first_average(model), 0.0
    for step, weight in enumerate((1.0, -2.0, 4.0), 1):
        model.weight.data.fill_(weight)
        update_average(average, model, 0.25, step)
        share = min(0.25, (1 + step) / (10 + step))
        expected = share * expected + (1 - share) * weight
    assert average["weight"].item() == pytest.approx(expected)
    with averaged(model, average):
        assert model.weight.item() == pytest.approx(expected)
    assert model.weight.item() == 4.0
    with averaged(model, None):
        assert model.weight.item() == 4.0
    take_average(model, average)
    assert model.weight.item() == pytest.approx(expected)


@pytest.fixture(scope="module")
def trained(folder):
    """A model, trained without interruption, and its progress. To be looked at only."""
    model = new_model()
    return model, train(model, settings(folder))


def test_what_a_phase_leaves_is_the_average(folder, trained):
    plain = new_model()
    plain_progress = train(plain, settings(folder, ema=0.0))
    for progress in (trained[1], plain_progress):
        assert progress.average is None and all(record["held_out_eye_psnr"] > 10 for record in progress.records)
    with_average, without = (model.vae.decoder.conv_out.weight for model in (trained[0], plain))
    assert not torch.equal(with_average, without)


@pytest.mark.parametrize("stop_after", [4, STEPS])
def test_interrupted_and_resumed_equals_uninterrupted(stop_after, folder, trained, tmp_path):
    params, (whole, _) = settings(folder), trained
    config = PretrainConfig(params, ModelParams(**MODEL))
    model, run = new_model(), PretrainFolder(tmp_path)
    progress = train(model, params, stop_after=stop_after)
    run.config.write_text(to_yaml(config))
    run.save(model, progress)
    resumed = new_model()
    train(resumed, params, run.load(config, resumed, Progress()))
    weights = resumed.vae.state_dict()
    assert resumed.config == whole.config
    for name, tensor in whole.vae.state_dict().items():
        assert torch.equal(tensor, weights[name]), name


# --- the command ------------------------------------------------------------------------------------------------------


def run_command(tmp_path, folder):
    params = {key: getattr(settings(folder), key) for key in ("crop_px", "vae_steps", "vae_batch_size", "latent_steps")}
    params |= {key: getattr(settings(folder), key) for key in ("pixel_steps", "held_out", "eval_every", "persons")}
    params |= {"save_dir": str(tmp_path / "run"), "output": str(tmp_path / "run" / "vae.pth"), "ema": 0.9}
    params |= {"min_vae_eye_psnr": 0, "threads": 1, "photographs": str(folder)}
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump({"pretrain_params": params, "model_params": MODEL}))
    with process_restored():
        return pretrain.main(["--config", str(path)])


def test_the_command_writes_the_autoencoder_alone(folder, tmp_path):
    assert run_command(tmp_path, folder) == 0
    output = tmp_path / "run" / "vae.pth"
    source = open_source(output, ["vae"])
    assert set(source.contents.parts) == {"vae"}
    config = config_of(str(output), "vae", source.contents.parts["vae"], source.configs["vae"])
    assert config["patch_shortcut"] is True and config["scaling_factor"] != MODEL["vae"].get("scaling_factor", 0.18215)
    AutoencoderKL(**config).load_state_dict(source.contents.parts["vae"])
    with pytest.raises(UserError, match="tensors do not fit the model config"):
        load_checkpoint(output)
    card = output.with_suffix(".md").read_text(encoding="utf-8")
    assert f"{STEPS * 2} crops of 2 photographs" in card and f"{STEPS} steps" in card


def test_the_shortcut_is_read_off_the_tensors(folder):
    state = AutoencoderKL(**VAE, patch_shortcut=True).state_dict()
    assert config_of("file", "vae", state, {"norm_num_groups": 4})["patch_shortcut"] is True
    state = AutoencoderKL(**VAE).state_dict()
    assert "patch_shortcut" not in config_of("file", "vae", state, {"norm_num_groups": 4})


def test_diffusers_gets_no_shortcut(tmp_path, capsys):
    save_checkpoint(tmp_path / "model.pth", new_model(), {})
    flags = ["--checkpoint", str(tmp_path / "model.pth"), "--to_diffusers", str(tmp_path / "parts")]
    with process_restored():
        assert convert.main(flags) == 2
    error = capsys.readouterr().err.strip()
    assert "patch_shortcut" in error and "\n" not in error and not (tmp_path / "parts").exists()
    assert load_checkpoint(tmp_path / "model.pth").model.vae.patch_encoder is not None
