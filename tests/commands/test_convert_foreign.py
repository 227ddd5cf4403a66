"""Weights as others lay them out: split into several files, or under the first Stable Diffusion's names."""

import json
import re

import pytest
import torch
from command_runs import BASE_INFO, assert_one_line, command
from conftest import make_tiny_model
from published_weights import SIZE_PX, assert_same, flags_of, prefixed
from safetensors.torch import save_file

from vaegaze.errors import UserError
from vaegaze.models.checkpoint import load_checkpoint, save_checkpoint


def shards(state: dict[str, torch.Tensor], folder, count: int = 3) -> dict:
    """Write the state as `count` files and an index; returns the index."""
    folder.mkdir()
    names, weight_map = sorted(state), {}
    for number in range(count):
        file = f"diffusion_pytorch_model-{number + 1:05d}-of-{count:05d}.safetensors"
        part = names[number::count]
        save_file({name: state[name].contiguous() for name in part}, folder / file)
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    write_index(folder, index)
    return index


def write_index(folder, index: dict) -> None:
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))


def test_weights_in_several_files(published, files, run_convert, tmp_path):
    shards(published.unet.state_dict(), tmp_path / "unet")
    run_convert(*flags_of(files | {"--unet": tmp_path / "unet"}), "--image_size", SIZE_PX)
    assert_same(tmp_path / "full.pth", published.weights())


@pytest.mark.parametrize("change", ["a file is missing", "a tensor is missing", "outside", "no map"])
def test_an_index_that_does_not_fit_its_files(change, published, files, run_convert, tmp_path):
    folder = tmp_path / "unet"
    index = shards(published.unet.state_dict(), folder)
    first = next(iter(index["weight_map"]))
    match change:
        case "a file is missing":
            (folder / "diffusion_pytorch_model-00002-of-00003.safetensors").unlink()
            words = "00002-of-00003"
        case "a tensor is missing":
            index["weight_map"]["more.weight"] = index["weight_map"][first]
            words = "more.weight"
        case "outside":
            index["weight_map"][first] = "../unet.pth"
            words = "not a file beside it"
        case "no map":
            index["weight_map"] = [1]
            words = "weight_map"
    write_index(folder, index)
    assert_one_line(run_convert(*flags_of(files | {"--unet": folder}), ok=False), words)


def under_first_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """An autoencoder's tensors under the names of CompVis/stable-diffusion."""
    last, renamed = 3, {}
    for name, tensor in state.items():
        name = re.sub(r"down_blocks\.(\d)\.resnets\.(\d)", r"down.\1.block.\2", name)
        name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
        name = re.sub(r"up_blocks\.(\d)\.resnets\.(\d)", lambda m: f"up.{last - int(m[1])}.block.{m[2]}", name)
        name = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{last - int(m[1])}.upsample", name)
        name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
        name = name.replace("mid_block.attentions.0.group_norm", "mid.attn_1.norm")
        if found := re.search(r"mid_block\.attentions\.0\.to_(q|k|v|out\.0)\.(weight|bias)", name):
            layer = "proj_out" if found[1] == "out.0" else found[1]
            name = f"{name.split('.')[0]}.mid.attn_1.{layer}.{found[2]}"
            tensor = tensor[:, :, None, None] if found[2] == "weight" else tensor
        name = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        renamed[name] = tensor
    return renamed


@pytest.mark.parametrize("prefix", ["", "first_stage_model."])
def test_a_vae_under_the_first_stable_diffusions_names(prefix, published, files, run_convert, tmp_path):
    state = under_first_names(published.vae.state_dict())
    assert "encoder.down.0.block.0.conv1.weight" in state and "decoder.mid.attn_1.q.weight" in state
    assert not any("_block" in name.replace("block_", "") for name in state)
    state = prefixed(state | {"loss.logvar": torch.zeros(())}, prefix)
    state["model.diffusion_model.out.2.bias"] = torch.zeros(4)
    torch.save({"state_dict": state}, tmp_path / "vae.ckpt")
    out = run_convert(*flags_of(files | {"--vae": tmp_path / "vae.ckpt"}), "--image_size", SIZE_PX).out
    assert_same(tmp_path / "full.pth", published.weights())
    assert "left out: 2 other tensors" in out


def test_a_runs_folder_stands_for_its_model(finished, tmp_path, world):
    _, _, folder = finished
    given, meant = load_checkpoint(folder), load_checkpoint(folder / "finetuned_model.pth")
    weights = given.model.state_dict()
    for name, tensor in meant.model.state_dict().items():
        assert torch.equal(weights[name], tensor)


def test_other_folders_say_what_they_contain(world, tmp_path):
    save_checkpoint(tmp_path / "base.pth", make_tiny_model(), BASE_INFO)
    assert_one_line(command(*world.flags, "--checkpoint_path", tmp_path), "is a folder with base.pth")
    (tmp_path / "empty").mkdir()
    assert_one_line(command(*world.flags, "--checkpoint_path", tmp_path / "empty"), "without a file of weights")
    for part in ("vae", "unet"):
        (tmp_path / "parts" / part).mkdir(parents=True)
    with pytest.raises(UserError, match="vaegaze convert"):
        load_checkpoint(tmp_path / "parts")
