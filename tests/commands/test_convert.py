"""Published weights to a checkpoint and back: each tensor arrives."""

import json
import shlex
import sys

import diffusers
import pytest
import torch
from command_runs import assert_one_line, command, contents_of, files_in
from conftest import make_tiny_model
from published_weights import SIZE_PX, TOKEN, UNET, assert_same, flags_of, prefixed, with_random_weights

from vaegaze.commands import convert
from vaegaze.geometry.camera import canvas_camera
from vaegaze.models.checkpoint import load_checkpoint, save_checkpoint

# --- every form that a file has --------------------------------------------------------------------------------------


@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "bin"])
@torch.no_grad()
def test_diffusers_folders_draw_what_diffusers_draws(safe, published, files, run_convert, tmp_path):
    for part in ("vae", "unet"):
        getattr(published, part).save_pretrained(tmp_path / part, safe_serialization=safe)
        files[f"--{part}"] = tmp_path / part
    out = run_convert(*flags_of(files), "--image_size", SIZE_PX).out
    assert "from config.json: " in out and "published default" not in out and "attention_head_dim 8" in out
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


def test_musetalks_files(published, files, run_convert, tmp_path):
    (tmp_path / "musetalk").mkdir()
    torch.save(published.unet.state_dict(), tmp_path / "musetalk" / "pytorch_model.bin")
    config = json.dumps({"_class_name": "UNet2DConditionModel", **UNET, "norm_eps": 1e-3})
    (tmp_path / "musetalk" / "musetalk.json").write_text(config)
    out = run_convert(*flags_of(files | {"--unet": tmp_path / "musetalk"})).out
    assert "from musetalk.json: " in out and "norm_eps 0.001" in out
    assert load_checkpoint(tmp_path / "full.pth").model.unet.conv_norm_out.eps == 1e-3
    assert_same(tmp_path / "full.pth", published.weights())


def test_musetalk_15s_files(published, files, run_convert, tmp_path):
    (tmp_path / "musetalkV15").mkdir()
    torch.save(published.unet.state_dict(), tmp_path / "musetalkV15" / "unet.pth")
    (tmp_path / "musetalkV15" / "musetalk.json").write_text(json.dumps({"_class_name": "UNet2DConditionModel", **UNET}))
    assert "from musetalk.json: " in run_convert(*flags_of(files | {"--unet": tmp_path / "musetalkV15"})).out
    assert_same(tmp_path / "full.pth", published.weights())


def test_a_config_without_a_class_name_is_taken_by_its_keys(files, run_convert, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({**UNET, "attention_head_dim": 4, "norm_num_groups": 16}))
    out = run_convert(*flags_of(files)).out
    assert "from config.json: " in out and "config.json is not used, because it is of UNet\n" in out
    config = load_checkpoint(tmp_path / "full.pth").model.config
    assert config["unet"]["norm_num_groups"] == 16 and config["unet"]["attention_head_dim"] == 4
    assert config["vae"]["norm_num_groups"] == 32

    (tmp_path / "config.json").write_text(json.dumps({**UNET, "attention_heads": 4}))
    assert_one_line(run_convert(*flags_of(files), "--overwrite", ok=False), "no option 'attention_heads'")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"_class_name": "UNet3D\n"}, "it is of UNet3D\\n"),
        ({"model_type": "vit"}, "it is of no part of a VAE-GAZE model"),
    ],
)
def test_configs_of_something_else_are_told(config, words, published, files, run_convert, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(config))
    states = published.states()
    torch.save({"unet": states["unet"], "gaze_mlp": states["gaze_mlp"]}, files["--unet"])
    del files["--gaze_mlp"]
    out = run_convert(*flags_of(files)).out
    assert out.count(f"config.json is not used, because {words}") == 2, "for the VAE and the UNet"


def test_without_a_config_it_is_inferred_and_shown(published, files, run_convert, tmp_path):
    out = run_convert(*flags_of(files)).out
    assert_same(tmp_path / "full.pth", published.weights())
    for words in (
        "from the tensors' shapes: in_channels 3, out_channels 3, block_out_channels [32, 32, 64, 32], "
        "layers_per_block 1, latent_channels 4\n",
        "not stated; published default: norm_num_groups 32, scaling_factor 0.18215\n",
        "block_out_channels [32, 64], layers_per_block 1, cross_attention_dim 16\n",
        "not stated; published default: attention_head_dim 8, norm_num_groups 32, norm_eps 1e-05\n",
        "num_layers 4, num_in 2, num_hidden 128, num_out 16\n",
        "full.pth: 256 px",
    ):
        assert words in out, words
    config = load_checkpoint(tmp_path / "full.pth").model.config
    assert config["unet"]["attention_head_dim"] == 8 and config["vae"]["scaling_factor"] == 0.18215


def test_of_other_depths(run_convert, tmp_path):
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
        run_convert(*flags_of(files), "--overwrite")
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
def test_keys_above_the_unet(wrapping, published, files, run_convert, tmp_path):
    torch.save(WRAPPINGS[wrapping](published.states()), tmp_path / "unet.pth")
    run_convert(*flags_of(files))
    assert_same(tmp_path / "full.pth", published.weights())


def test_the_gaze_mlp_may_lie_in_the_unets_file(published, files, run_convert, tmp_path):
    states = published.states()
    content = {"model_state_dict": prefixed(states["unet"], "module."), "gaze_mlp_state_dict": states["gaze_mlp"]}
    torch.save(content, tmp_path / "unet.pth")
    del files["--gaze_mlp"]
    run_convert(*flags_of(files))
    assert_same(tmp_path / "full.pth", published.weights())


def test_tensors_of_no_part_are_told(published, files, run_convert, tmp_path):
    torch.save({"unet": published.states()["unet"], "discriminator": {"w": torch.ones(2)}}, tmp_path / "unet.pth")
    assert "left out: 1 other tensors, discriminator.w" in run_convert(*flags_of(files)).out


@pytest.mark.parametrize("shape", ["linear", "convolution"])
def test_old_attention_names(shape, published, files, run_convert, tmp_path):
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
    run_convert(*flags_of(files))
    assert_same(tmp_path / "full.pth", published.weights())

    state["encoder.mid_block.attentions.0.to_q.bias"] = torch.zeros(32)
    torch.save(state, tmp_path / "vae.pth")
    outcome = run_convert(*flags_of(files), "--overwrite", ok=False)
    assert_one_line(outcome, "mid_block.attentions.0.to_q.bias twice", "vae.pth")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions(dtype, published, files, run_convert, tmp_path):
    states = published.states()
    unet = {name: tensor.to(dtype) for name, tensor in states["unet"].items()}
    torch.save(unet, tmp_path / "unet.pth")
    out = run_convert(*flags_of(files)).out
    assert f"parameters, {str(dtype).removeprefix('torch.')}" in out
    assert_same(tmp_path / "full.pth", published.weights() | prefixed(unet, "unet."))


EMA_FILES = {
    "keys": lambda trained, average: {"model_state_dict": trained, "ema_state_dict": average},
    "unet_ema": lambda trained, average: {"unet": prefixed(trained, "module."), "unet_ema": average},
    "flat": lambda trained, average: {**trained, **prefixed(average, "ema.")},
    "ema_model": lambda trained, average: {**prefixed(trained, "online_model."), **prefixed(average, "ema_model.")},
}


@pytest.mark.parametrize("kind", EMA_FILES)
def test_averaged_copies_are_taken_only_when_asked_for(kind, published, files, run_convert, tmp_path):
    average = {name: tensor + 1 for name, tensor in published.states()["unet"].items()}
    torch.save(EMA_FILES[kind](published.states()["unet"], average), tmp_path / "unet.pth")
    assert "there are averaged weights (EMA), too; --ema takes those" in run_convert(*flags_of(files)).out
    assert_same(tmp_path / "full.pth", published.weights())
    assert "\n  averaged weights (EMA)\n" in run_convert(*flags_of(files), "--ema", "--overwrite").out
    assert_same(tmp_path / "full.pth", published.weights() | prefixed(average, "unet."))


def test_averages_in_a_whole_file_are_told(published, run_convert, tmp_path):
    states = published.states()
    average = {name: tensor + 1 for name, tensor in states["unet"].items()}
    torch.save({**states, "unet_ema": average}, tmp_path / "upstream.pth")
    assert_same(tmp_path / "upstream.pth", published.weights())
    _, note = load_checkpoint(tmp_path / "upstream.pth").notes
    assert note.startswith("UNet: there are averaged weights (EMA), too; vaegaze convert --vae ")

    line = note.split("vaegaze convert ")[1].removesuffix(" --output PATH takes those")
    run_convert(*shlex.split(line))
    assert_same(tmp_path / "full.pth", published.weights() | prefixed(average, "unet."))


def test_averages_alone(published, files, run_convert, tmp_path):
    torch.save({"ema": published.states()["unet"]}, tmp_path / "unet.pth")
    assert "\n  averaged weights (EMA)\n" in run_convert(*flags_of(files)).out
    assert_same(tmp_path / "full.pth", published.weights())


def test_a_folder_that_diffusers_averaging_wrote(published, files, run_convert, tmp_path):
    average = diffusers.training_utils.EMAModel(
        published.unet.parameters(), model_cls=diffusers.UNet2DConditionModel, model_config=published.unet.config
    )
    average.save_pretrained(tmp_path / "unet_ema")
    assert "optimization_step" in (tmp_path / "unet_ema" / "config.json").read_text()
    run_convert(*flags_of(files | {"--unet": tmp_path / "unet_ema"}))
    assert_same(tmp_path / "full.pth", published.weights())


def test_a_checkpoint_of_ours_keeps_its_config(files, run_convert, tmp_path):
    model = make_tiny_model()  # of 4 groups, which no shape tells
    save_checkpoint(tmp_path / "ours.pth", model, {})
    del model.config["unet"]["attention_head_dim"], model.config["vae"]["scaling_factor"]
    model = make_tiny_model(model.config)
    save_checkpoint(tmp_path / "ours.pth", model, {})
    out = run_convert("--vae", tmp_path / "ours.pth", "--unet", tmp_path / "ours.pth").out
    assert "from its own model_config: " in out and "published default" not in out
    assert "the class's defaults: scaling_factor 0.18215\n" in out
    assert "model:\n  from its own model_config: image_size 32, residual false, fill_eyes false\n" in out
    assert_same(tmp_path / "full.pth", model.state_dict())
    converted = load_checkpoint(tmp_path / "full.pth").model
    latents, angles = torch.ones(1, 4, 8, 8), torch.zeros(1, 2)
    assert torch.equal(converted(latents, latents, angles, angles), model(latents, latents, angles, angles))

    assert converted.canvas == canvas_camera(SIZE_PX)


def test_flags_that_contradict_a_checkpoint_of_ours(tiny_config, run_convert, tmp_path):
    both = ("--vae", tmp_path / "ours.pth", "--unet", tmp_path / "ours.pth")
    save_checkpoint(tmp_path / "ours.pth", make_tiny_model({**tiny_config, "residual": True, "image_size": 64}), {})
    refused = run_convert(*both, "--no-residual", "--fill_eyes", "--image_size", 32, ok=False)
    for words in (
        "image_size 64 (given: 32)",
        "residual true (given: false)",
        "fill_eyes false (given: true)",
        "as its own model_config says; leave out --image_size, --residual, --fill_eyes",
    ):
        assert_one_line(refused, words)
    run_convert(*both, "--residual")
    config = load_checkpoint(tmp_path / "full.pth").model.config
    assert config["residual"] is True and config["fill_eyes"] is False and config["image_size"] == 64

    save_checkpoint(tmp_path / "ours.pth", make_tiny_model(), {})
    assert_one_line(run_convert(*both, "--residual", "--overwrite", ok=False), "residual false (given: true)")


# --- a new gaze MLP ---------------------------------------------------------------------------------------------------


def test_a_new_gaze_mlp_only_when_asked_for(published, files, run_convert, tmp_path):
    del files["--gaze_mlp"]
    assert_one_line(run_convert(*flags_of(files), ok=False), "holds no gaze MLP", "--gaze_mlp PATH", "--new_gaze_mlp")
    assert not (tmp_path / "full.pth").exists()

    states = []
    for seed in (3, 3, 4):
        out = run_convert(*flags_of(files), "--new_gaze_mlp", "--seed", seed, "--overwrite").out
        assert f"gaze_mlp: new, initialised with seed {seed}" in out
        checkpoint = load_checkpoint(tmp_path / "full.pth")
        assert f"initialised with seed {seed}" in checkpoint.info["trained_on"]
        states.append(checkpoint.model.state_dict())
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())
    for name, tensor in states[0].items():
        same = torch.equal(tensor, states[2][name])
        assert same != (name.startswith("gaze_mlp.") and name.endswith("weight")) or name.endswith("bias"), name
    with torch.no_grad():
        angles = torch.tensor([[0.0, 0.0], [0.2, 0.1]])
        tokens = checkpoint.model.gaze_mlp(angles, angles)
    assert tokens.shape == (2, 2, TOKEN) and (tokens[0] - tokens[1]).std() > 0.1, "gazes are told apart"


def test_its_absence_is_told_in_training(files, run_convert, world, tmp_path):
    del files["--gaze_mlp"]
    run_convert(*flags_of(files), "--new_gaze_mlp", "--image_size", SIZE_PX)
    outcome = command(*world.flags, "--checkpoint_path", tmp_path / "full.pth", "--save_dir", tmp_path, "--dry_run")
    assert outcome.code == 0 and "its gaze MLP is untrained (initialised with seed 0)" in outcome.out


# --- the way back -----------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_diffusers_opens_what_is_written(run_convert, tmp_path, capsys):
    model = make_tiny_model(seed=5)
    with_random_weights(model, seed=5)
    save_checkpoint(tmp_path / "ours.pth", model, {})
    out = run_convert("--checkpoint", tmp_path / "ours.pth", "--to_diffusers", tmp_path / "parts").out
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
    line = next(line for line in out.splitlines() if "to convert back: " in line)
    run_convert(*line.split("vaegaze convert ")[1].removesuffix(" --output PATH").split())
    assert_same(tmp_path / "full.pth", model.state_dict())
    assert load_checkpoint(tmp_path / "full.pth").model.canvas == canvas_camera(SIZE_PX)


def test_what_is_ours_alone_is_told_on_the_way_back(tiny_config, run_convert, tmp_path):
    model = make_tiny_model({**tiny_config, "residual": True, "fill_eyes": True})
    save_checkpoint(tmp_path / "ours.pth", model, {})
    out = run_convert("--checkpoint", tmp_path / "ours.pth", "--to_diffusers", tmp_path / "parts").out
    assert "residual: the UNet's output is to be added" in out and "fill_eyes: masked eyes" in out
    parts = ("--vae", tmp_path / "parts/vae", "--unet", tmp_path / "parts/unet")
    gaze_mlp = ("--gaze_mlp", tmp_path / "parts/gaze_mlp.safetensors")
    assert f"{shlex.join(map(str, parts + gaze_mlp))} --output PATH" in out

    out = run_convert(*parts, *gaze_mlp).out
    assert "model:\n  from vaegaze.json: image_size 32, residual true, fill_eyes true\n" in out
    config = load_checkpoint(tmp_path / "full.pth").model.config
    assert config["residual"] is True and config["fill_eyes"] is True and config["image_size"] == SIZE_PX
    wrong = run_convert(*parts, "--new_gaze_mlp", "--no-fill_eyes", "--overwrite", ok=False)
    assert_one_line(wrong, "fill_eyes true (given: false), as vaegaze.json says")

    for content, words in (
        ('{"resdual": true}', "unknown key 'resdual'"),
        ('{"residual": "yes"}', "residual is 'yes'"),
        ('{"image_size": -1}', "image_size -1"),
        ("[", "is not JSON"),
    ):
        (tmp_path / "parts/unet/vaegaze.json").write_text(content)
        assert_one_line(run_convert(*parts, *gaze_mlp, "--overwrite", ok=False), words)


@pytest.mark.parametrize("stated", [True, False])
def test_what_it_was_trained_on_and_how_goes_along(stated, published, run_convert, tmp_path):
    """`replay: auto`, what a picture is drawn from, and what is measured depend on it."""
    known = {"drops_reference": True, "draws_from_itself": True, "trained_on": "rendered persons only"}

    def assert_goes_along(path, otherwise):
        info = load_checkpoint(path).info
        assert {key: info.get(key) for key in known} == (known if stated else dict.fromkeys(known) | otherwise)

    save_checkpoint(tmp_path / "ours.pth", make_tiny_model(), known if stated else {})
    run_convert("--checkpoint", tmp_path / "ours.pth", "--to_diffusers", tmp_path / "parts")
    parts = ("--vae", tmp_path / "parts/vae", "--unet", tmp_path / "parts/unet")
    run_convert(*parts, "--gaze_mlp", tmp_path / "parts/gaze_mlp.safetensors")
    assert_goes_along(tmp_path / "full.pth", {"trained_on": "unnamed data"})

    ours = ("--vae", tmp_path / "ours.pth", "--unet", tmp_path / "ours.pth")  # also a whole checkpoint's parts
    run_convert(*ours, "--overwrite")
    assert_goes_along(tmp_path / "full.pth", {"trained_on": "unnamed data"})

    (tmp_path / "beside").mkdir()  # and in a file of all three parts, with what lies beside it
    torch.save(published.states(), tmp_path / "beside/whole.pth")
    (tmp_path / "beside/vaegaze.json").write_bytes((tmp_path / "parts/unet/vaegaze.json").read_bytes())
    assert_goes_along(tmp_path / "beside/whole.pth", {})


def test_nothing_is_replaced_unasked(files, run_convert, tmp_path):
    run_convert(*flags_of(files))
    before = (tmp_path / "full.pth").read_bytes()
    assert_one_line(run_convert(*flags_of(files), ok=False), "full.pth exists", "--overwrite")
    back = ("--checkpoint", tmp_path / "full.pth", "--to_diffusers", tmp_path / "parts")
    run_convert(*back)
    assert_one_line(run_convert(*back, ok=False), "exists", "--overwrite")
    run_convert(*back, "--overwrite")
    run_convert(*flags_of(files), "--overwrite")
    assert (tmp_path / "full.pth").read_bytes() == before


def test_what_is_read_is_never_written_to(files, run_convert, tmp_path):
    run_convert(*flags_of(files))
    whole = tmp_path / "full.pth"
    before = contents_of(tmp_path)
    again = run_convert("--checkpoint", whole, "--output", whole, "--overwrite", ok=False)
    assert_one_line(again, f"--output: {whole} is also the input --checkpoint")
    for part in ("--vae", "--unet", "--gaze_mlp"):
        outcome = run_convert(*flags_of(files | {"--output": files[part]}), "--overwrite", ok=False)
        assert_one_line(outcome, f"is also the input {part}")
    assert contents_of(tmp_path) == before


def test_without_the_safetensors_package(published, files, run_convert, tmp_path, monkeypatch):
    published.vae.save_pretrained(tmp_path / "vae")
    run_convert(*flags_of(files))
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    words = ("needs the safetensors package", "pip install safetensors")
    outcome = run_convert(*flags_of(files | {"--vae": tmp_path / "vae"}), "--overwrite", ok=False)
    assert_one_line(outcome, "reading", *words)
    back = ("--checkpoint", tmp_path / "full.pth", "--to_diffusers", tmp_path / "parts")
    assert_one_line(run_convert(*back, "--output", tmp_path / "copy.pth", ok=False), "writing", *words)
    assert not (tmp_path / "parts").exists() and not (tmp_path / "copy.pth").exists()


def test_the_hint_names_the_flag_that_was_given(run_convert, tmp_path):
    outcome = run_convert("--checkpoint", tmp_path / "none.pth", "--output", tmp_path / "copy.pth", ok=False)
    assert_one_line(outcome, "there is no file", "with --checkpoint")
    assert "--checkpoint_path" not in outcome.err
