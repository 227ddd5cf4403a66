"""Files of published weights as base models, without being converted."""

import json

import pytest
import torch
from command_runs import assert_one_line, command
from published_weights import UNET, assert_same

from vaegaze.models.checkpoint import load_checkpoint

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
    flags = (*flags, "--num_eval_samples", 0, "--person_id", "person_004", "--num_steps", 1)
    outcome = command(*flags, "--finetune_strategy", "minimal")
    assert outcome.code == 0, outcome
    assert "   config inferred from the tensors' shapes; as published: image_size 256" in outcome.out
    tuned = load_checkpoint(tmp_path / "person_004/finetuned_model.pth").model
    weights = tuned.state_dict()
    frozen = {name: tensor for name, tensor in published.weights().items() if "unet.conv_" not in name}
    assert all(torch.equal(weights[name], tensor) for name, tensor in frozen.items())
    assert not torch.equal(tuned.unet.conv_out.weight, published.unet.conv_out.weight)


def test_a_part_of_one_points_to_convert(published, world, tmp_path):
    states = published.states()
    for parts, words in (
        (("unet", "gaze_mlp"), "a UNet and a gaze MLP, but no VAE;"),
        (("vae",), "a VAE, but no UNet and no gaze MLP;"),
    ):
        torch.save({part: states[part] for part in parts}, tmp_path / "part.pth")
        outcome = command(*world.flags, "--checkpoint_path", tmp_path / "part.pth", "--save_dir", tmp_path)
        assert_one_line(outcome, "part.pth holds", words, "vaegaze convert")
