"""Weights that cannot be converted: one line says why not, and nothing is written."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from command_runs import assert_one_line, files_in
from conftest import Bomb, process_restored
from published_weights import UNET, flags_of, prefixed

from vaegaze.commands import convert
from vaegaze.models import GazeMLP


@pytest.fixture
def refused(files, run_convert, tmp_path):
    """Spoils a part's file, and runs the command, which must refuse in one line, having written nothing."""

    def refused(part, content, *words, flags=()):
        torch.save(content, tmp_path / "spoilt.pth")
        before = files_in(tmp_path)
        spoilt = flags_of(files | {f"--{part}": tmp_path / "spoilt.pth"})
        assert_one_line(run_convert(*spoilt, *flags, ok=False), "spoilt.pth", *words)
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


def test_the_wrong_part(published, files, run_convert):
    swapped = files | {"--vae": files["--unet"]}
    assert_one_line(run_convert(*flags_of(swapped), ok=False), "unet.pth holds a UNet, but no VAE; see --vae")


def test_two_of_a_part(published, refused):
    state = published.states()["unet"]
    refused("unet", {"a": state, "b": dict(state)}, "more than one UNet, under a., b.")
    refused("unet", {"a": dict(state), "b": dict(state)}, "more than one UNet", flags=["--ema"])
    refused(
        "unet", {str(i): {"time_embedding.linear_1.weight": torch.zeros(1)} for i in range(99)}, "99 copies of a UNet"
    )
    refused("unet", {"a": {"b": torch.zeros(1)}, "a.b": torch.zeros(1), **state}, "two tensors named a.b")


def test_no_average(files, run_convert):
    assert_one_line(run_convert(*flags_of(files), "--ema", ok=False), "none of the files holds averaged weights")


def test_dictionaries_within_themselves(published, refused, files, run_convert, tmp_path):
    knot = {}
    knot["knot"] = knot
    for _ in range(200):
        knot = {"a": knot, "b": knot}
    refused("unet", knot, "no part")
    torch.save({"unet": published.states()["unet"], "more": knot}, tmp_path / "unet.pth")
    run_convert(*flags_of(files))


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
def test_damaged_configs(content, files, run_convert, tmp_path):
    content = CONFIGS[content]
    (tmp_path / "config.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    assert_one_line(run_convert(*flags_of(files), ok=False), "config.json", "fix or remove it")


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
def test_configs_that_are_not_covered(change, words, files, run_convert, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "UNet2DConditionModel", **UNET, **change}))
    outcome = run_convert(*flags_of(files), ok=False)
    assert_one_line(outcome, "unet.pth", words)
    assert "\x1b" not in outcome.err


def test_parts_that_do_not_fit_together(published, files, run_convert, tmp_path):
    torch.save(GazeMLP(num_out=17).state_dict(), tmp_path / "gaze_mlp.pth")
    assert_one_line(run_convert(*flags_of(files), ok=False), "gaze_mlp.num_out is 17, needs 16")
    assert_one_line(run_convert(*flags_of(files), "--image_size", 33, ok=False), "image_size 33 cannot be halved")


@pytest.mark.parametrize("suffix", [".safetensors", ".bin", ".pth"])
def test_files_that_are_none(suffix, published, files, run_convert, tmp_path):
    path = tmp_path / f"other{suffix}"
    flags = flags_of(files | {"--unet": path})
    assert_one_line(run_convert(*flags, ok=False), "there is no file", path.name)
    for content in (b"", b"hello", b"\xff" * 100, b"\x10\0\0\0\0\0\0\0" + b'{"a": {"dtype":"F32"', bytes(1000)):
        path.write_bytes(content)
        assert_one_line(run_convert(*flags, ok=False), path.name, "damaged or cut short")
    torch.save(Bomb(tmp_path / "executed"), path)
    run_convert(*flags, ok=False)
    assert not (tmp_path / "executed").exists()


def test_safetensors_cut_short(published, files, run_convert, tmp_path):
    published.unet.save_pretrained(tmp_path / "unet")
    path = tmp_path / "unet" / convert.WEIGHTS
    path.write_bytes(path.read_bytes()[:-100])
    outcome = run_convert(*flags_of(files | {"--unet": tmp_path / "unet"}), ok=False)
    assert_one_line(outcome, path.name, "not a safetensors file")


def test_a_folder_without_weights(files, run_convert, tmp_path):
    (tmp_path / "empty").mkdir()
    flags = flags_of(files | {"--vae": tmp_path / "empty"})
    outcome = run_convert(*flags, ok=False)
    assert_one_line(outcome, "empty holds no diffusion_pytorch_model.safetensors", "give the file itself")


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
        (["--to_diffusers", "d"], ["error: command line: convert_params.checkpoint: needed", "give --checkpoint PATH"]),
        (["--checkpoint", "a", "--output", "x", "--to_diffusers", "x"], ["--output", "x is where --to_diffusers"]),
        (["--checkpoint", "a", "--output", "x/unet", "--to_diffusers", "x"], ["x/unet is where --to_diffusers"]),
        (["--checkpoint", "a", "--output", "./x", "--to_diffusers", "x/parts"], ["./x is where --to_diffusers"]),
        (["--checkpoint", "a", "--vae", "b", "--output", "c"], ["vae", "cannot be combined with --checkpoint"]),
        (["--vae", "a", "--unet", "b", "--output", "c", "--to_diffusers", "d"], ["applies only to --checkpoint"]),
        (["--vae", "a", "--unet", "b", "--output", "c", "--gaze_mlp", "d", "--new_gaze_mlp"], ["leave out one"]),
        (["--vea", "a"], ["did you mean --vae?"]),
    ],
)
def test_flags_that_do_not_go_together(flags, words, capsys):
    with process_restored():
        assert convert.main(flags) == 2
    err = capsys.readouterr().err
    assert "Traceback" not in err and all(word in err for word in words), err


def test_places_that_cannot_be_written_to(files, run_convert, tmp_path):
    (tmp_path / "file").write_text("in the way")
    for place, words in ((tmp_path / "file" / "x.pth", "cannot write to"), (tmp_path, "is a folder")):
        assert_one_line(run_convert(*flags_of(files), "--output", place, ok=False), words)


def test_as_a_process(files, tmp_path):
    root = Path(convert.__file__).parents[2]
    flags = [
        sys.executable,
        "-m",
        "vaegaze",
        "convert",
        *map(str, flags_of(files)),
        "--output",
        str(tmp_path / "full.pth"),
    ]
    done = subprocess.run(flags, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "" and done.stdout.splitlines()[-1].startswith("✅"), done
