"""Published weights to a checkpoint and back: each tensor arrives, or one line says why not."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import diffusers
import pytest
import torch
from command_runs import Outcome, assert_one_line, command, files_in
from conftest import make_tiny_model, process_restored
from test_checkpoint import Bomb
from test_diffusers import with_random_weights

from vaegaze import convert
from vaegaze.models import GazeMLP
from vaegaze.models.checkpoint import load_checkpoint, save_checkpoint

SIZE_PX = 32
TOKEN = 16
# As upstream's, but for widths and depths: 32 groups and 8 heads are what no shape tells.
VAE = {
    "block_out_channels": [32, 32, 64, 32],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 1,
}
UNET = {
    "in_channels": 8,
    "block_out_channels": [32, 64],
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "layers_per_block": 1,
    "cross_attention_dim": TOKEN,
}


class Published:
    """Random weights as diffusers holds them, and a gaze MLP."""

    def __init__(self, seed):
        self.vae = diffusers.AutoencoderKL(**VAE).eval().requires_grad_(False)
        self.unet = diffusers.UNet2DConditionModel(**UNET).eval().requires_grad_(False)
        self.gaze_mlp = GazeMLP(num_out=TOKEN).requires_grad_(False)
        for part in (self.vae, self.unet, self.gaze_mlp):
            with_random_weights(part, seed)

    def states(self):
        return {part: dict(getattr(self, part).state_dict()) for part in ("vae", "unet", "gaze_mlp")}

    def weights(self):
        return {f"{part}.{name}": tensor for part, state in self.states().items() for name, tensor in state.items()}


@pytest.fixture(scope="module")
def published():
    return Published(seed=1)


@pytest.fixture
def files(published, tmp_path):
    """One plain file for each part, as flags."""
    states = published.states()
    for part, state in states.items():
        torch.save(state, tmp_path / f"{part}.pth")
    return {f"--{part}": tmp_path / f"{part}.pth" for part in states}


@pytest.fixture
def run(capsys, tmp_path):
    """The command, which writes to full.pth unless it is told otherwise; returns how it ended."""

    def run(*flags, ok=True):
        flags = [*flags] if "--checkpoint" in flags else ["--output", tmp_path / "full.pth", *flags]
        with process_restored():
            code = convert.main([str(flag) for flag in flags])
        captured = capsys.readouterr()
        outcome = Outcome(code, captured.out, captured.err)
        assert (code == 0) is ok, outcome
        return outcome

    return run


def flags_of(files):
    return [word for pair in files.items() for word in pair]


def assert_same(path, weights):
    state = load_checkpoint(path).model.state_dict()
    assert state.keys() == weights.keys()
    for name, tensor in weights.items():
        assert state[name].dtype == torch.float32 and torch.equal(state[name], tensor.float()), name


def prefixed(state, prefix):
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


# --- every form that a file has --------------------------------------------------------------------------------------


@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "bin"])
@torch.no_grad()
def test_diffusers_folders_draw_what_diffusers_draws(safe, published, files, run, tmp_path):
    for part in ("vae", "unet"):
        getattr(published, part).save_pretrained(tmp_path / part, safe_serialization=safe)
        files[f"--{part}"] = tmp_path / part
    out = run(*flags_of(files), "--image_size", SIZE_PX).out
    assert "from config.json: " in out and "as published" not in out and "attention_head_dim 8" in out
    assert_same(tmp_path / "full.pth", published.weights())

    model = load_checkpoint(tmp_path / "full.pth").model
    images = torch.rand(2, 3, SIZE_PX, SIZE_PX) * 2 - 1
    head, gaze = torch.rand(2, 2), torch.rand(2, 2)
    masked = 0.18215 * published.vae.encode(images).latent_dist.mode()
    tokens = torch.stack([published.gaze_mlp.head_mlp(head), published.gaze_mlp.gaze_mlp(gaze)], dim=1)
    latents = published.unet(torch.cat([masked, masked], dim=1), 0, encoder_hidden_states=tokens).sample
    expected = published.vae.decode(latents / 0.18215).sample
    ours = model(model.encode(images), model.encode(images), head, gaze)
    assert (ours - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_musetalks_files(published, files, run, tmp_path):
    (tmp_path / "musetalk").mkdir()
    torch.save(published.unet.state_dict(), tmp_path / "musetalk" / "pytorch_model.bin")
    config = json.dumps({"_class_name": "UNet2DConditionModel", **UNET, "norm_eps": 1e-3})
    (tmp_path / "musetalk" / "musetalk.json").write_text(config)
    out = run(*flags_of(files | {"--unet": tmp_path / "musetalk"})).out
    assert "from musetalk.json: " in out and "norm_eps 0.001" in out
    assert load_checkpoint(tmp_path / "full.pth").model.unet.conv_norm_out.eps == 1e-3
    assert_same(tmp_path / "full.pth", published.weights())


def test_musetalk_15s_files(published, files, run, tmp_path):
    (tmp_path / "musetalkV15").mkdir()
    torch.save(published.unet.state_dict(), tmp_path / "musetalkV15" / "unet.pth")
    (tmp_path / "musetalkV15" / "musetalk.json").write_text(json.dumps({"_class_name": "UNet2DConditionModel", **UNET}))
    assert "from musetalk.json: " in run(*flags_of(files | {"--unet": tmp_path / "musetalkV15"})).out
    assert_same(tmp_path / "full.pth", published.weights())


def test_a_config_without_a_class_name_is_taken_by_its_keys(files, run, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({**UNET, "attention_head_dim": 4, "norm_num_groups": 16}))
    out = run(*flags_of(files)).out
    assert "from config.json: " in out and "config.json is not used, because it is of UNet\n" in out
    config = load_checkpoint(tmp_path / "full.pth").model.config
    assert config["unet"]["norm_num_groups"] == 16 and config["unet"]["attention_head_dim"] == 4
    assert config["vae"]["norm_num_groups"] == 32

    (tmp_path / "config.json").write_text(json.dumps({**UNET, "attention_heads": 4}))
    assert_one_line(run(*flags_of(files), "--overwrite", ok=False), "no option 'attention_heads'")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"_class_name": "UNet3D\n"}, "it is of UNet3D\\n"),
        ({"model_type": "vit"}, "it is of no part of a VAE-GAZE model"),
    ],
)
def test_configs_of_something_else_are_told(config, words, published, files, run, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(config))
    states = published.states()
    torch.save({"unet": states["unet"], "gaze_mlp": states["gaze_mlp"]}, files["--unet"])
    del files["--gaze_mlp"]
    out = run(*flags_of(files)).out
    assert out.count(f"config.json is not used, because {words}") == 2, "for the VAE and the UNet"


def test_without_a_config_it_is_inferred_and_shown(published, files, run, tmp_path):
    out = run(*flags_of(files)).out
    assert_same(tmp_path / "full.pth", published.weights())
    for words in (
        "from the tensors' shapes: in_channels 3, out_channels 3, block_out_channels [32, 32, 64, 32], "
        "layers_per_block 1, latent_channels 4\n",
        "as published: norm_num_groups 32, scaling_factor 0.18215\n",
        "block_out_channels [32, 64], layers_per_block 1, cross_attention_dim 16\n",
        "as published: attention_head_dim 8, norm_num_groups 32, norm_eps 1e-05\n",
        "num_layers 4, num_in 2, num_hidden 128, num_out 16\n",
        "full.pth: 256 px",
    ):
        assert words in out, words
    config = load_checkpoint(tmp_path / "full.pth").model.config
    assert config["unet"]["attention_head_dim"] == 8 and config["vae"]["scaling_factor"] == 0.18215


def test_of_other_depths(run, tmp_path):
    for seed, (blocks, layers, linears) in enumerate([(1, 3, 1), (3, 1, 2), (4, 2, 6)]):
        model = make_tiny_model(
            {
                "image_size": 64,
                "vae": {"block_out_channels": [32] * blocks, "layers_per_block": layers, "latent_channels": 3},
                "unet": {
                    "in_channels": 6,
                    "out_channels": 3,
                    "block_out_channels": [32] * (5 - blocks),
                    "layers_per_block": layers,
                    "cross_attention_dim": 5,
                },
                "gaze_mlp": {"num_layers": linears, "num_hidden": 7, "num_out": 5},
            },
            seed,
        )
        for part in ("vae", "unet", "gaze_mlp"):
            torch.save(getattr(model, part).state_dict(), tmp_path / f"{part}.pth")
        files = {f"--{part}": tmp_path / f"{part}.pth" for part in ("vae", "unet", "gaze_mlp")}
        run(*flags_of(files), "--overwrite")
        assert_same(tmp_path / "full.pth", model.state_dict())


WRAPPINGS = {
    "state_dict": lambda s: {"state_dict": s["unet"], "epoch": 3, "lr": 0.1},
    "model_state_dict": lambda s: {"model_state_dict": s["unet"], "optimizer": {"state": {0: {"m": torch.ones(2)}}}},
    "unet_state_dict": lambda s: {"unet_state_dict": s["unet"], "step": torch.tensor(5)},
    "module.": lambda s: prefixed(s["unet"], "module."),
    "model_state_dict, module.": lambda s: {"model_state_dict": prefixed(s["unet"], "module.")},
    "compiled": lambda s: prefixed(s["unet"], "module._orig_mod."),
    "averaged model": lambda s: {"n_averaged": torch.tensor(9), **prefixed(s["unet"], "module.")},
    "whole model": lambda s: {
        "state_dict": {k: t for part, state in s.items() for k, t in prefixed(state, f"{part}.").items()}
    },
    "one module": lambda s: {"model_state_dict": {**s["unet"], **s["gaze_mlp"]}},
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_keys_above_the_unet(wrapping, published, files, run, tmp_path):
    torch.save(WRAPPINGS[wrapping](published.states()), tmp_path / "unet.pth")
    run(*flags_of(files))
    assert_same(tmp_path / "full.pth", published.weights())


def test_the_gaze_mlp_may_lie_in_the_unets_file(published, files, run, tmp_path):
    states = published.states()
    content = {"model_state_dict": prefixed(states["unet"], "module."), "gaze_mlp_state_dict": states["gaze_mlp"]}
    torch.save(content, tmp_path / "unet.pth")
    del files["--gaze_mlp"]
    run(*flags_of(files))
    assert_same(tmp_path / "full.pth", published.weights())


def test_tensors_of_no_part_are_told(published, files, run, tmp_path):
    torch.save({"unet": published.states()["unet"], "discriminator": {"w": torch.ones(2)}}, tmp_path / "unet.pth")
    assert "left out: 1 other tensors, discriminator.w" in run(*flags_of(files)).out


@pytest.mark.parametrize("shape", ["linear", "convolution"])
def test_old_attention_names(shape, published, files, run, tmp_path):
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = {}
    for name, tensor in published.states()["vae"].items():
        for now, before in old.items():
            if f".attentions.0.{now}." in name:
                name = name.replace(now, before)
                tensor = tensor[:, :, None, None] if shape == "convolution" and name.endswith("weight") else tensor
        state[name] = tensor
    assert sum(f".{before}." in name for name in state for before in old.values()) == 16
    torch.save(state, tmp_path / "vae.pth")
    run(*flags_of(files))
    assert_same(tmp_path / "full.pth", published.weights())

    state["encoder.mid_block.attentions.0.to_q.bias"] = torch.zeros(32)
    torch.save(state, tmp_path / "vae.pth")
    assert_one_line(run(*flags_of(files), "--overwrite", ok=False), "mid_block.attentions.0.to_q.bias twice", "vae.pth")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions(dtype, published, files, run, tmp_path):
    states = published.states()
    unet = {name: tensor.to(dtype) for name, tensor in states["unet"].items()}
    torch.save(unet, tmp_path / "unet.pth")
    out = run(*flags_of(files)).out
    assert f"parameters, {str(dtype).removeprefix('torch.')}" in out
    assert_same(tmp_path / "full.pth", published.weights() | prefixed(unet, "unet."))


EMA_FILES = {
    "keys": lambda trained, average: {"model_state_dict": trained, "ema_state_dict": average},
    "unet_ema": lambda trained, average: {"unet": prefixed(trained, "module."), "unet_ema": average},
    "flat": lambda trained, average: {**trained, **prefixed(average, "ema.")},
    "ema_model": lambda trained, average: {**prefixed(trained, "online_model."), **prefixed(average, "ema_model.")},
}


@pytest.mark.parametrize("kind", EMA_FILES)
def test_averaged_copies_are_taken_only_when_asked_for(kind, published, files, run, tmp_path):
    average = {name: tensor + 1 for name, tensor in published.states()["unet"].items()}
    torch.save(EMA_FILES[kind](published.states()["unet"], average), tmp_path / "unet.pth")
    assert "there are averaged weights (EMA), too; --ema takes those" in run(*flags_of(files)).out
    assert_same(tmp_path / "full.pth", published.weights())
    assert "\n  averaged weights (EMA)\n" in run(*flags_of(files), "--ema", "--overwrite").out
    assert_same(tmp_path / "full.pth", published.weights() | prefixed(average, "unet."))


def test_averages_in_a_whole_file_are_told(published, run, tmp_path):
    states = published.states()
    average = {name: tensor + 1 for name, tensor in states["unet"].items()}
    torch.save({**states, "unet_ema": average}, tmp_path / "upstream.pth")
    assert_same(tmp_path / "upstream.pth", published.weights())
    _, note = load_checkpoint(tmp_path / "upstream.pth").notes
    assert note.startswith("UNet: there are averaged weights (EMA), too; python -m vaegaze.convert --vae ")

    line = note.split("vaegaze.convert ")[1].removesuffix(" --output PATH takes those")
    run(*shlex.split(line))
    assert_same(tmp_path / "full.pth", published.weights() | prefixed(average, "unet."))


def test_averages_alone(published, files, run, tmp_path):
    torch.save({"ema": published.states()["unet"]}, tmp_path / "unet.pth")
    assert "\n  averaged weights (EMA)\n" in run(*flags_of(files)).out
    assert_same(tmp_path / "full.pth", published.weights())


def test_a_folder_that_diffusers_averaging_wrote(published, files, run, tmp_path):
    average = diffusers.training_utils.EMAModel(
        published.unet.parameters(), model_cls=diffusers.UNet2DConditionModel, model_config=published.unet.config
    )
    average.save_pretrained(tmp_path / "unet_ema")
    assert "optimization_step" in (tmp_path / "unet_ema" / "config.json").read_text()
    run(*flags_of(files | {"--unet": tmp_path / "unet_ema"}))
    assert_same(tmp_path / "full.pth", published.weights())


def test_a_checkpoint_of_ours_keeps_its_config(files, run, tmp_path):
    model = make_tiny_model()  # of 4 groups, which no shape tells
    save_checkpoint(tmp_path / "ours.pth", model, {})
    del model.config["unet"]["attention_head_dim"], model.config["vae"]["scaling_factor"]
    model = make_tiny_model(model.config)
    save_checkpoint(tmp_path / "ours.pth", model, {})
    out = run("--vae", tmp_path / "ours.pth", "--unet", tmp_path / "ours.pth").out
    assert "from its own model_config: " in out and "as published" not in out
    assert "the class's defaults: scaling_factor 0.18215\n" in out
    assert "model:\n  from its own model_config: image_size 32, residual false, fill_eyes false\n" in out
    assert_same(tmp_path / "full.pth", model.state_dict())
    converted = load_checkpoint(tmp_path / "full.pth").model
    latents, angles = torch.ones(1, 4, 8, 8), torch.zeros(1, 2)
    assert torch.equal(converted(latents, latents, angles, angles), model(latents, latents, angles, angles))

    assert converted.image_size == SIZE_PX


def test_flags_that_contradict_a_checkpoint_of_ours(tiny_config, run, tmp_path):
    both = ("--vae", tmp_path / "ours.pth", "--unet", tmp_path / "ours.pth")
    save_checkpoint(tmp_path / "ours.pth", make_tiny_model({**tiny_config, "residual": True, "image_size": 64}), {})
    refused = run(*both, "--no-residual", "--fill_eyes", "--image_size", 32, ok=False)
    for words in (
        "image_size 64 (given: 32)",
        "residual true (given: false)",
        "fill_eyes false (given: true)",
        "as its own model_config says; leave out --image_size, --residual, --fill_eyes",
    ):
        assert_one_line(refused, words)
    run(*both, "--residual")
    config = load_checkpoint(tmp_path / "full.pth").model.config
    assert config["residual"] is True and config["fill_eyes"] is False and config["image_size"] == 64

    save_checkpoint(tmp_path / "ours.pth", make_tiny_model(), {})
    assert_one_line(run(*both, "--residual", "--overwrite", ok=False), "residual false (given: true)")


# --- a new gaze MLP ---------------------------------------------------------------------------------------------------


def test_a_new_gaze_mlp_only_when_asked_for(published, files, run, tmp_path):
    del files["--gaze_mlp"]
    assert_one_line(run(*flags_of(files), ok=False), "holds no gaze MLP", "--gaze_mlp PATH", "--new_gaze_mlp")
    assert not (tmp_path / "full.pth").exists()

    states = []
    for seed in (3, 3, 4):
        out = run(*flags_of(files), "--new_gaze_mlp", "--seed", seed, "--overwrite").out
        assert f"gaze_mlp: new, drawn by seed {seed}" in out
        checkpoint = load_checkpoint(tmp_path / "full.pth")
        assert f"drawn by seed {seed}" in checkpoint.info["trained_on"]
        states.append(checkpoint.model.state_dict())
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())
    for name, tensor in states[0].items():
        same = torch.equal(tensor, states[2][name])
        assert same != (name.startswith("gaze_mlp.") and name.endswith("weight")) or name.endswith("bias"), name
    with torch.no_grad():
        angles = torch.tensor([[0.0, 0.0], [0.2, 0.1]])
        tokens = checkpoint.model.gaze_mlp(angles, angles)
    assert tokens.shape == (2, 2, TOKEN) and (tokens[0] - tokens[1]).std() > 0.1, "gazes are told apart"


def test_its_absence_is_told_in_training(files, run, world, tmp_path):
    del files["--gaze_mlp"]
    run(*flags_of(files), "--new_gaze_mlp", "--image_size", SIZE_PX)
    outcome = command(*world.flags, "--checkpoint_path", tmp_path / "full.pth", "--save_dir", tmp_path, "--dry_run")
    assert outcome.code == 0 and "its gaze MLP on nothing (drawn by seed 0)" in outcome.out


# --- the way back -----------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_diffusers_opens_what_is_written(run, tmp_path, capsys):
    model = make_tiny_model(seed=5)
    with_random_weights(model, seed=5)
    save_checkpoint(tmp_path / "ours.pth", model, {})
    out = run("--checkpoint", tmp_path / "ours.pth", "--to_diffusers", tmp_path / "parts").out
    assert files_in(tmp_path / "parts") == {
        "gaze_mlp.safetensors",
        "unet/vaegaze.json",
        *(f"{part}/{name}" for part in ("vae", "unet") for name in ("config.json", convert.WEIGHTS)),
    }
    vae, vae_left = diffusers.AutoencoderKL.from_pretrained(tmp_path / "parts/vae", output_loading_info=True)
    unet, unet_left = diffusers.UNet2DConditionModel.from_pretrained(tmp_path / "parts/unet", output_loading_info=True)
    assert not any(map(len, (*vae_left.values(), *unet_left.values())))
    captured = capsys.readouterr()
    assert "not expected" not in captured.out + captured.err and "ignored" not in captured.out + captured.err
    assert vae.config.scaling_factor == 0.7
    assert vae.config.sample_size == SIZE_PX and unet.config.sample_size == SIZE_PX // 4

    images = torch.rand(1, 3, SIZE_PX, SIZE_PX) * 2 - 1
    latents, tokens = torch.rand(1, 8, 8, 8), torch.rand(1, 2, 8)
    for ours, theirs in (
        (model.vae.encode(images).latent_dist.mode(), vae.encode(images).latent_dist.mode()),
        (model.vae.decode(latents[:, :4]).sample, vae.decode(latents[:, :4]).sample),
        (model.unet(latents, 7, tokens).sample, unet(latents, 7, encoder_hidden_states=tokens).sample),
    ):
        assert theirs.std() > 0 and (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()

    # and back again, by the line that it printed
    line = next(line for line in out.splitlines() if "back again: " in line)
    run(*line.split("vaegaze.convert ")[1].removesuffix(" --output PATH").split())
    assert_same(tmp_path / "full.pth", model.state_dict())
    assert load_checkpoint(tmp_path / "full.pth").model.image_size == SIZE_PX


def test_what_is_ours_alone_is_told_on_the_way_back(tiny_config, run, tmp_path):
    model = make_tiny_model({**tiny_config, "residual": True, "fill_eyes": True})
    save_checkpoint(tmp_path / "ours.pth", model, {})
    out = run("--checkpoint", tmp_path / "ours.pth", "--to_diffusers", tmp_path / "parts").out
    assert "residual: the UNet's output is to be added" in out and "fill_eyes: masked eyes" in out
    parts = ("--vae", tmp_path / "parts/vae", "--unet", tmp_path / "parts/unet")
    gaze_mlp = ("--gaze_mlp", tmp_path / "parts/gaze_mlp.safetensors")
    assert f"{shlex.join(map(str, parts + gaze_mlp))} --output PATH" in out

    out = run(*parts, *gaze_mlp).out
    assert "model:\n  from vaegaze.json: image_size 32, residual true, fill_eyes true\n" in out
    config = load_checkpoint(tmp_path / "full.pth").model.config
    assert config["residual"] is True and config["fill_eyes"] is True and config["image_size"] == SIZE_PX
    wrong = run(*parts, "--new_gaze_mlp", "--no-fill_eyes", "--overwrite", ok=False)
    assert_one_line(wrong, "fill_eyes true (given: false), as vaegaze.json says")

    for content, words in (
        ('{"resdual": true}', "unknown key 'resdual'"),
        ('{"residual": "yes"}', "residual is 'yes'"),
        ('{"image_size": -1}', "image_size -1"),
        ("[", "is no JSON"),
    ):
        (tmp_path / "parts/unet/vaegaze.json").write_text(content)
        assert_one_line(run(*parts, *gaze_mlp, "--overwrite", ok=False), words)


def test_nothing_is_replaced_unasked(files, run, tmp_path):
    run(*flags_of(files))
    before = (tmp_path / "full.pth").read_bytes()
    assert_one_line(run(*flags_of(files), ok=False), "full.pth exists", "--overwrite")
    back = ("--checkpoint", tmp_path / "full.pth", "--to_diffusers", tmp_path / "parts")
    run(*back)
    assert_one_line(run(*back, ok=False), "exists", "--overwrite")
    run(*back, "--overwrite")
    run(*flags_of(files), "--overwrite")
    assert (tmp_path / "full.pth").read_bytes() == before


def test_without_the_safetensors_package(published, files, run, tmp_path, monkeypatch):
    published.vae.save_pretrained(tmp_path / "vae")
    run(*flags_of(files))
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    words = ("needs the safetensors package", "pip install safetensors")
    assert_one_line(run(*flags_of(files | {"--vae": tmp_path / "vae"}), "--overwrite", ok=False), "reading", *words)
    back = ("--checkpoint", tmp_path / "full.pth", "--to_diffusers", tmp_path / "parts")
    assert_one_line(run(*back, "--output", tmp_path / "copy.pth", ok=False), "writing", *words)
    assert not (tmp_path / "parts").exists() and not (tmp_path / "copy.pth").exists()


def test_the_hint_names_the_flag_that_was_given(run, tmp_path):
    outcome = run("--checkpoint", tmp_path / "none.pth", "--output", tmp_path / "copy.pth", ok=False)
    assert_one_line(outcome, "there is no file", "with --checkpoint")
    assert "--checkpoint_path" not in outcome.err


# --- upstream's files as base models ----------------------------------------------------------------------------------


WHOLE_FILES = {
    "three keys": lambda s: {
        "vae_state_dict": s["vae"],
        "model_state_dict": s["unet"],
        "gaze_mlp_state_dict": s["gaze_mlp"],
    },
    "one state dict": lambda s: {
        "state_dict": {f"module.{p}.{n}": t for p, state in s.items() for n, t in state.items()}
    },
    "flat": lambda s: {f"{p}.{n}": t for p, state in s.items() for n, t in state.items()},
}


@pytest.mark.parametrize("kind", WHOLE_FILES)
def test_a_whole_file_is_taken_as_it_is(kind, published, tmp_path):
    torch.save(WHOLE_FILES[kind](published.states()), tmp_path / "upstream.pth")
    assert_same(tmp_path / "upstream.pth", published.weights())
    (note,) = load_checkpoint(tmp_path / "upstream.pth").notes
    assert "image_size 256" in note and "unet.attention_head_dim 8" in note and "vae.scaling_factor 0.18215" in note


def test_a_whole_file_with_a_config_beside_it(published, tmp_path):
    torch.save(WHOLE_FILES["three keys"](published.states()), tmp_path / "upstream.pth")
    (tmp_path / "musetalk.json").write_text(json.dumps({**UNET, "attention_head_dim": 4, "norm_eps": 1e-3}))
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    checkpoint = load_checkpoint(tmp_path / "upstream.pth")
    assert (
        checkpoint.model.config["unet"]["attention_head_dim"] == 4 and checkpoint.model.unet.conv_norm_out.eps == 1e-3
    )
    note, other = checkpoint.notes
    assert "unet config from musetalk.json; as published: image_size 256" in note and "unet.norm_eps" not in note
    assert other == "config.json is not used, because it is of no part of a VAE-GAZE model"


def test_a_run_from_a_whole_file(published, world, tmp_path):
    torch.save(WHOLE_FILES["three keys"](published.states()), tmp_path / "upstream.pth")
    flags = (*world.flags, "--checkpoint_path", tmp_path / "upstream.pth", "--save_dir", tmp_path, "--num_samples", 2)
    flags = (*flags, "--num_eval_samples", 1, "--person_id", "person_004", "--num_steps", 1)
    outcome = command(*flags, "--finetune_strategy", "minimal")
    assert outcome.code == 0, outcome
    assert "   config inferred from the tensors' shapes; as published: image_size 256" in outcome.out
    tuned = load_checkpoint(tmp_path / "person_004/finetuned_model.pth").model
    frozen = {name: tensor for name, tensor in published.weights().items() if "unet.conv_" not in name}
    assert all(torch.equal(tuned.state_dict()[name], tensor) for name, tensor in frozen.items())
    assert not torch.equal(tuned.unet.conv_out.weight, published.unet.conv_out.weight)


def test_a_part_of_one_points_to_convert(published, world, tmp_path):
    states = published.states()
    for parts, words in (
        (("unet", "gaze_mlp"), "a UNet and a gaze MLP, but no VAE;"),
        (("vae",), "a VAE, but no UNet and no gaze MLP;"),
    ):
        torch.save({part: states[part] for part in parts}, tmp_path / "part.pth")
        outcome = command(*world.flags, "--checkpoint_path", tmp_path / "part.pth", "--save_dir", tmp_path)
        assert_one_line(outcome, "part.pth holds", words, "python -m vaegaze.convert")


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.fixture
def refused(files, run, tmp_path):
    """Spoils a part's file, and runs the command, which must refuse in one line, having written nothing."""

    def refused(part, content, *words, flags=()):
        torch.save(content, tmp_path / "spoilt.pth")
        before = files_in(tmp_path)
        spoilt = flags_of(files | {f"--{part}": tmp_path / "spoilt.pth"})
        assert_one_line(run(*spoilt, *flags, ok=False), "spoilt.pth", *words)
        assert files_in(tmp_path) == before

    return refused


@pytest.mark.parametrize("part", ["vae", "unet", "gaze_mlp"])
def test_every_missing_unknown_or_misshaped_tensor_is_named(part, published, refused):
    state = published.states()[part]
    marks = {"encoder.conv_in.weight", "time_embedding.linear_1.weight", "head_mlp.net.0.weight"}
    names = sorted(set(state) - marks)
    for name in names[:: max(1, len(names) // 12)]:
        refused(
            part,
            {key: tensor for key, tensor in state.items() if key != name},
            "" if "norm" in name else name.split(".")[0],
        )
    name = next(name for name in names if name.endswith("bias"))
    refused(
        part,
        state | {name: state[name][:-1]},
        f"{name}: expected ({len(state[name])},), found ({len(state[name]) - 1},)",
    )
    refused(part, state | {"more.bias": torch.ones(2)}, "more.bias: expected nothing, found (2,)")
    for bad in (float("nan"), float("inf")):
        refused(part, state | {name: state[name].clone().fill_(bad)}, f"{name} holds numbers that are infinite or NaN")
    for other in (state[name].long(), state[name].to_sparse(), state[name].to("meta")):
        refused(part, state | {name: other}, f"{name}: expected ({len(state[name])},), found something else")


@pytest.mark.parametrize(
    "content",
    [{}, [1, 2], None, 5, "text", {"a": {"b": torch.zeros(2)}}, {1: 2, None: torch.zeros(3)}, torch.zeros(3)],
    ids=str,
)
def test_files_with_no_part(content, refused):
    refused("unet", content, "holds no part of a VAE-GAZE model")


def test_the_wrong_part(published, files, run):
    swapped = files | {"--vae": files["--unet"]}
    assert_one_line(run(*flags_of(swapped), ok=False), "unet.pth holds a UNet, but no VAE; see --vae")


def test_two_of_a_part(published, refused):
    state = published.states()["unet"]
    refused("unet", {"a": state, "b": dict(state)}, "more than one UNet, under a., b.")
    refused("unet", {"a": dict(state), "b": dict(state)}, "more than one UNet", flags=["--ema"])
    refused(
        "unet", {str(i): {"time_embedding.linear_1.weight": torch.zeros(1)} for i in range(99)}, "99 copies of a UNet"
    )
    refused("unet", {"a": {"b": torch.zeros(1)}, "a.b": torch.zeros(1), **state}, "two tensors named a.b")


def test_no_average(files, run):
    assert_one_line(run(*flags_of(files), "--ema", ok=False), "none of the files holds averaged weights")


def test_dictionaries_within_themselves(published, refused, files, run, tmp_path):
    knot = {}
    knot["knot"] = knot
    for _ in range(200):
        knot = {"a": knot, "b": knot}
    refused("unet", knot, "no part")
    torch.save({"unet": published.states()["unet"], "more": knot}, tmp_path / "unet.pth")
    run(*flags_of(files))


def test_absurd_shapes_are_refused_before_they_are_allocated(published, refused):
    state = published.states()["unet"]
    huge = torch.zeros(1).expand(2**20, 2**20, 3, 3)  # of four bytes
    refused("unet", state | {"conv_in.weight": huge}, "conv_in.weight: expected (32, 1048576, 3, 3)")
    refused("unet", state | {"down_blocks.0.resnets.0.conv1.weight": huge}, "do not fit")
    blocks = {f"down_blocks.{i}.resnets.0.conv1.weight": torch.zeros(8, 8) for i in range(5000)}
    refused("unet", {**blocks, **state}, "more than 32 layers")
    layers = {f"down_blocks.0.resnets.{i}.conv1.weight": torch.zeros(8, 8) for i in range(5000)}
    refused("unet", {**layers, **state}, "more than 32 layers")
    linears = {f"head_mlp.net.{i}.weight": torch.zeros(8, 8) for i in range(0, 5000, 2)}
    refused("gaze_mlp", {**linears, **published.states()["gaze_mlp"]}, "num_layers is 2500")
    for empty in (torch.zeros(()), torch.zeros(0), torch.zeros(0, 0, 0, 0)):
        refused("unet", state | {"conv_in.weight": empty}, "no UNet of this family")
        refused("vae", published.states()["vae"] | {"decoder.conv_in.weight": empty}, "no VAE of this family")


CONFIGS = {
    "not json": "{",
    "no mapping": "[1]",
    "deep": "[" * 100_000,
    "too large": '{"a": "' + "b" * 2**21 + '"}',
    "not utf-8": b"\xff\xfe",
    "huge number": '{"_class_name": "UNet2DConditionModel", "layers_per_block": ' + "9" * 5000 + "}",
}


@pytest.mark.parametrize("content", CONFIGS)
def test_damaged_configs(content, files, run, tmp_path):
    content = CONFIGS[content]
    (tmp_path / "config.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    assert_one_line(run(*flags_of(files), ok=False), "config.json", "mend or remove it")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"act_fn": "gelu"}, "act_fn is 'gelu'"),
        ({"use_linear_projection": True}, "use_linear_projection is True"),
        ({"attention_head_dim": [5, 10]}, "attention_head_dim is [5, 10]"),
        ({"layers_per_block": 10**9}, "more than 32 layers"),
        ({"block_out_channels": [2**62, 2**62]}, "no UNet of this family"),
        ({"norm_groups": 3}, "no option 'norm_groups'"),
        ({"norm_eps": "small"}, "no UNet of this family"),
        ({"norm_num_groups": 5}, "no UNet of this family"),
        ({"cross_attention_dim": 17}, "expected (64, 17), found (64, 16)"),
        ({"evil\n\x1b[2J": 1}, "evil"),
    ],
    ids=str,
)
def test_configs_that_are_not_covered(change, words, files, run, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "UNet2DConditionModel", **UNET, **change}))
    outcome = run(*flags_of(files), ok=False)
    assert_one_line(outcome, "unet.pth", words)
    assert "\x1b" not in outcome.err


def test_parts_that_do_not_fit_together(published, files, run, tmp_path):
    torch.save(GazeMLP(num_out=17).state_dict(), tmp_path / "gaze_mlp.pth")
    assert_one_line(run(*flags_of(files), ok=False), "gaze_mlp.num_out is 17, needs 16")
    assert_one_line(run(*flags_of(files), "--image_size", 33, ok=False), "image_size 33 cannot be halved")


@pytest.mark.parametrize("suffix", [".safetensors", ".bin", ".pth"])
def test_files_that_are_none(suffix, published, files, run, tmp_path):
    path = tmp_path / f"other{suffix}"
    flags = flags_of(files | {"--unet": path})
    assert_one_line(run(*flags, ok=False), "there is no file", path.name)
    for content in (b"", b"hello", b"\xff" * 100, b"\x10\0\0\0\0\0\0\0" + b'{"a": {"dtype":"F32"', bytes(1000)):
        path.write_bytes(content)
        assert_one_line(run(*flags, ok=False), path.name, "damaged or cut short")
    torch.save(Bomb(tmp_path / "executed"), path)
    run(*flags, ok=False)
    assert not (tmp_path / "executed").exists()


def test_safetensors_cut_short(published, files, run, tmp_path):
    published.unet.save_pretrained(tmp_path / "unet")
    path = tmp_path / "unet" / convert.WEIGHTS
    path.write_bytes(path.read_bytes()[:-100])
    assert_one_line(run(*flags_of(files | {"--unet": tmp_path / "unet"}), ok=False), path.name, "no safetensors file")


def test_a_folder_without_weights(files, run, tmp_path):
    (tmp_path / "empty").mkdir()
    flags = flags_of(files | {"--vae": tmp_path / "empty"})
    assert_one_line(run(*flags, ok=False), "empty holds no diffusion_pytorch_model.safetensors", "give the file itself")


def test_files_of_other_formats_of_ours(published, refused):
    content = {"format": "vaegaze-9", "state_dict": prefixed(published.states()["unet"], "unet.")}
    refused("unet", content, "has format 'vaegaze-9'")
    refused("unet", content | {"format": "vaegaze-1"}, "do not describe a VAE-GAZE model")
    config = {"vae": {}, "unet": {}, "gaze_mlp": {}}
    content |= {"format": "vaegaze-1", "model_config": config}
    refused("unet", content, "do not describe a VAE-GAZE model")
    config["image_size"] = torch.ones(2)
    refused("unet", content, "image_size is tensor([1., 1.]), expected a whole number")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], ["--vae PATH", "--unet PATH", "--output PATH"]),
        (["--checkpoint", "a"], ["--to_diffusers DIR"]),
        (["--checkpoint", "a", "--vae", "b", "--output", "c"], ["vae", "has no use with --checkpoint"]),
        (["--vae", "a", "--unet", "b", "--output", "c", "--to_diffusers", "d"], ["has no use without --checkpoint"]),
        (["--vae", "a", "--unet", "b", "--output", "c", "--gaze_mlp", "d", "--new_gaze_mlp"], ["leave out one"]),
        (["--vea", "a"], ["did you mean --vae?"]),
    ],
)
def test_flags_that_do_not_go_together(flags, words, capsys):
    with process_restored():
        assert convert.main(flags) == 2
    err = capsys.readouterr().err
    assert "Traceback" not in err and all(word in err for word in words), err


def test_places_that_cannot_be_written_to(files, run, tmp_path):
    (tmp_path / "file").write_text("in the way")
    for place, words in ((tmp_path / "file" / "x.pth", "cannot write to"), (tmp_path, "exists")):
        assert_one_line(run(*flags_of(files), "--output", place, ok=False), words)


def test_as_a_process(files, tmp_path):
    root = Path(convert.__file__).parents[1]
    flags = [
        sys.executable,
        "-m",
        "vaegaze.convert",
        *map(str, flags_of(files)),
        "--output",
        str(tmp_path / "full.pth"),
    ]
    done = subprocess.run(flags, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "" and done.stdout.splitlines()[-1].startswith("✅"), done
