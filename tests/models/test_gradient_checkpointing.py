"""Activations computed again in the backward pass: the same numbers to the bit, in less memory."""

import json
from collections import Counter
from contextlib import contextmanager

import pytest
import torch
from command_runs import assert_same_weights, command
from conftest import TINY_CONFIG, make_tiny_model

from vaegaze.config.finetune import LossParams
from vaegaze.models import AutoencoderKL, UNet2DConditionModel, VAEGaze, blocks
from vaegaze.models.blocks import GradientCheckpointingLayer
from vaegaze.training.losses import Loss
from vaegaze.training.references import choose_references
from vaegaze.training.strategies import STRATEGIES, freeze_all_but
from vaegaze.training.tensors import prepare_frames


def set_up(samples, strategy, *, checkpointing):
    """A tiny model, and a function that computes its loss on all samples."""
    model = make_tiny_model()
    freeze_all_but(model, strategy, ["last"] if strategy == "selective" else None)
    frames = prepare_frames(model, samples, choose_references(samples), torch.device("cpu"))
    loss = Loss(LossParams(vgg_loss=0.0), seed=0, device=torch.device("cpu"))
    if checkpointing:
        model.enable_gradient_checkpointing()

    def forward(precision="fp32"):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
            result = model(frames.masked_latents, frames.reference_latents, frames.head, frames.gaze)
            return loss.total(loss.terms(result.float(), frames.target, frames.eye_masks, frames.valid))

    return model, forward


@contextmanager
def activations_kept(model):
    """The memory of what is kept for the backward pass, weights aside: each piece once, and held, so that it stays."""
    weights = {each.untyped_storage()._cdata for each in model.parameters()}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield kept


def layers_of(model):
    return {name: each for name, each in model.named_modules() if isinstance(each, GradientCheckpointingLayer)}


def count_calls(monkeypatch, model):
    """How often each layer computes, by name."""
    calls = Counter()
    for name, layer in layers_of(model).items():

        def counted(*inputs, name=name, forward=layer.forward):
            calls[name] += 1
            return forward(*inputs)

        monkeypatch.setattr(layer, "forward", counted)
    return calls


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_loss_and_gradients_are_the_same_to_the_bit(strategy, precision, rendered_samples):
    losses, gradients = [], []
    for checkpointing in (False, True):
        model, forward = set_up(rendered_samples, strategy, checkpointing=checkpointing)
        loss = forward(precision)
        loss.backward()
        losses.append(loss.detach())
        gradients.append({name: each.grad for name, each in model.named_parameters() if each.grad is not None})
    assert torch.equal(*losses)
    plain, recomputed = gradients
    assert plain.keys() == recomputed.keys() == {n for n, each in model.named_parameters() if each.requires_grad}
    for name, gradient in plain.items():
        assert gradient.dtype == torch.float32 and gradient.abs().max() > 0, name
        assert torch.equal(gradient, recomputed[name]), name


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_fewer_activations_are_kept(strategy, precision, rendered_samples):
    kept_bytes = []
    for checkpointing in (False, True):
        model, forward = set_up(rendered_samples, strategy, checkpointing=checkpointing)
        with activations_kept(model) as kept:
            loss = forward(precision)
        kept_bytes.append(sum(storage.nbytes() for storage in kept.values()))
        loss.backward()
    assert 0 < kept_bytes[1] < 0.6 * kept_bytes[0], kept_bytes


@pytest.mark.parametrize("checkpointing, expected_gb", [(False, 1.9), (True, 0.4)])
def test_of_the_full_size_model_as_much_is_kept_as_the_readme_says(checkpointing, expected_gb):
    with torch.device("meta"):  # shapes alone
        model = VAEGaze({"image_size": 256, "vae": {}, "unet": {}, "gaze_mlp": {}})
        freeze_all_but(model, "selective")
        if checkpointing:
            model.enable_gradient_checkpointing()
        with activations_kept(model) as kept:
            model(torch.zeros(1, 4, 32, 32), torch.zeros(1, 4, 32, 32), torch.zeros(1, 2), torch.zeros(1, 2))
    assert sum(storage.nbytes() for storage in kept.values()) / 2**30 == pytest.approx(expected_gb, abs=0.05)


def test_only_what_a_gradient_passes_is_computed_again(rendered_samples, monkeypatch):
    model, forward = set_up(rendered_samples, "minimal", checkpointing=True)
    calls = count_calls(monkeypatch, model)
    forward().backward()
    expected = {name: 2 if name.startswith("vae.decoder.") else 1 for name in layers_of(model)}
    expected = {name: count for name, count in expected.items() if not name.startswith("vae.encoder.")}
    assert calls == expected and set(expected.values()) == {1, 2}


def test_it_is_without_effect_where_no_gradient_is_wanted(rendered_samples, monkeypatch):
    model, forward = set_up(rendered_samples, "full", checkpointing=True)
    calls = count_calls(monkeypatch, model)
    monkeypatch.delattr(blocks, "checkpoint")
    with torch.no_grad():
        forward()
    assert set(calls.values()) == {1}
    with pytest.raises(NameError):
        forward()


def test_each_part_has_the_method_of_diffusers(tiny_model):
    parts = UNet2DConditionModel(**TINY_CONFIG["unet"]), AutoencoderKL(**TINY_CONFIG["vae"]), tiny_model
    for part in parts:
        layers = layers_of(part).values()
        assert len(layers) > 5 and not any(layer.gradient_checkpointing for layer in layers)
        part.enable_gradient_checkpointing()
        assert all(layer.gradient_checkpointing for layer in layers)
    assert not GradientCheckpointingLayer.gradient_checkpointing


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_key_reaches_the_model_and_changes_no_result(precision, world, tmp_path, monkeypatch):
    checkpoint, calls = blocks.checkpoint, []

    def counted(*args, **kwargs):
        calls.append(args)
        return checkpoint(*args, **kwargs)

    monkeypatch.setattr(blocks, "checkpoint", counted)
    flags = (*world.flags, "--person_id", "person_003", "--num_samples", 4, "--num_steps", 3, "--learning_rate", 1e-2)
    flags = (*flags, "--precision", precision)
    used = []
    for name, more in (("plain", ()), ("recomputed", ("--gradient_checkpointing",))):
        outcome = command(*flags, *more, "--save_dir", tmp_path / name)
        assert outcome.code == 0, outcome
        used.append(len(calls))
    per_step = len([name for name in layers_of(make_tiny_model()) if not name.startswith("vae.encoder.")])
    assert used == [0, 3 * per_step]
    plain, recomputed = (tmp_path / name / "person_003" for name in ("plain", "recomputed"))
    assert_same_weights(plain / "finetuned_model.pth", recomputed / "finetuned_model.pth")
    numbers = [json.loads((folder / "summary.json").read_text())["after"] for folder in (plain, recomputed)]
    assert numbers[0] == numbers[1]
    assert "gradient_checkpointing: true" in (recomputed / "config.yaml").read_text()
