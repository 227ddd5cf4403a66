"""The forms in which a model draws: the same pictures but for rounding, inside the block alone."""

import pytest
import torch
from conftest import TINY_CONFIG, make_tiny_model

from vaegaze.models.cpu import drawing, drawing_forms, own_copy, use_drawing_forms
from vaegaze.models.device import to_device


@pytest.fixture(autouse=True)
def measured_there(monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")


@pytest.fixture
def model():
    return to_device(make_tiny_model({**TINY_CONFIG, "image_size": 64}), torch.device("cpu"))


def inputs(model, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(3, 3, 64, 64, generator=generator) * 2 - 1
    latents = model.encode(images)
    return latents, latents.flip(0), *torch.rand(2, 3, 2, generator=generator)


@torch.no_grad()
def test_it_draws_the_same_and_afterwards_to_the_bit(model):
    given = inputs(model)
    plain = model(*given)
    with drawing_forms(model):
        torch.testing.assert_close(model(*given), plain, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(inputs(model)[0], given[0], rtol=1e-5, atol=1e-5)
        assert torch.equal(model(*given), model(*given))
    assert torch.equal(model(*given), plain)
    assert not any("forward" in vars(layer) for layer in model.modules())


@torch.no_grad()
def test_each_block_draws_with_the_weights_of_its_time(model):
    given = inputs(model)
    with drawing_forms(model):
        before = model(*given)
    for parameter in model.parameters():
        parameter.mul_(0.9)
    with drawing_forms(model):
        torch.testing.assert_close(after := model(*given), model(*given))
    assert not torch.allclose(after, before)
    torch.testing.assert_close(model(*given), after, rtol=1e-5, atol=1e-5)


def test_after_the_block_it_trains(model):
    with torch.no_grad(), drawing_forms(model):
        given = inputs(model)
    model(*given).sum().backward()
    assert all(parameter.grad is not None for parameter in model.unet.parameters())


def test_a_copy_of_a_model_that_draws_meanwhile_has_weights_of_its_own(model):
    with drawing_forms(model):
        copied = own_copy(model)
    copied(*inputs(copied)).sum().backward()
    assert all(parameter.grad is not None for parameter in copied.unet.parameters())


@torch.no_grad()
def test_each_thread_draws_in_these_forms_to_its_end(model):
    given, first = inputs(model), drawing_forms(model)
    first.__enter__()
    with drawing_forms(model):
        drawn = model(*given)
        first.__exit__(None, None, None)
        assert torch.equal(model(*given), drawn)
    assert not any("forward" in vars(layer) for layer in model.modules())


def test_other_models_stay_as_they_are(model, monkeypatch):
    assert use_drawing_forms(make_tiny_model().double()) == []
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert use_drawing_forms(model) == []
    monkeypatch.setattr(drawing, "MOST_WEIGHTS", 1000)
    assert use_drawing_forms(model) == []
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    assert use_drawing_forms(model) == []
    with drawing_forms(lambda latents: latents):
        pass
