"""Settings of pre-training, each by what it does to the numbers: loss weights, sources' shares, warm-up, compiling."""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
import yaml
from conftest import SIZE_PX, TINY_CONFIG, make_tiny_model, narrow_vgg
from small_pretraining import SMALL, UNCHANGED, assert_same_model, run_in
from torch.nn import functional as F

from vaegaze.commands import pretrain
from vaegaze.config.pretrain import ModelParams, PretrainConfig, PretrainParams
from vaegaze.config.tree import resolve
from vaegaze.geometry.camera import canvas_camera
from vaegaze.models.blocks import ResnetBlock2D
from vaegaze.models.checkpoint import load_checkpoint
from vaegaze.pretraining.distributed import Processes
from vaegaze.pretraining.loop import Progress, pretraining_steps
from vaegaze.pretraining.losses import (
    LossWeights,
    Objective,
    encode_batch,
    encode_inputs,
    pictures_of,
    redraw_eyes,
    redrawing_loss,
    sample_through_vae,
)
from vaegaze.pretraining.phases import phases
from vaegaze.pretraining.sources import open_sources, phase_batches
from vaegaze.renderer import data_set
from vaegaze.training.losses import load_vgg

CPU = torch.device("cpu")
CANVAS = canvas_camera(SIZE_PX)
VAE, LATENTS, PIXELS = range(3)
NOTHING = dict.fromkeys(
    ("l1_loss", "mask_l1_loss", "unet_mask_l1_loss", "vae_vgg_loss", "pixel_vgg_loss", "pixel_gradient_loss"), 0.0
)
PARAMS = PretrainParams(**{**SMALL, "vae_band_steps": 0, "eval_every": 100, "vgg_weights": "random", "kl_loss": 0.0})


def steps_of(model, params, progress):
    """Of a phase, without its measurement."""
    config = PretrainConfig(params, ModelParams(**TINY_CONFIG))
    return pretraining_steps(model, config, open_sources(params), [], progress, Processes(CPU))


def batch_of(params, phase, step=0):
    config = PretrainConfig(params, ModelParams(**TINY_CONFIG))
    return phase_batches(open_sources(params), params, CANVAS, phases(config)[phase])[step].to(CPU)


# --- loss weights -----------------------------------------------------------------------------------------------------


@torch.no_grad()
def terms_by_hand(phase):
    """What a phase's first step compares, term by term, each with weight 1. All pixels of rendered frames are valid."""
    model, batch = make_tiny_model(), batch_of(PARAMS, phase)
    if phase == VAE:
        target = pictures_of(batch)
        seeds = [*batch.noise_seeds, *(seed + 1 for seed in batch.noise_seeds)]
        result, _ = sample_through_vae(model, target, seeds)
        masks = torch.cat([batch.eye_masks, batch.reference_eye_masks])
    elif phase == LATENTS:
        target, result = model.encode(batch.target), model.inpaint(*encode_inputs(model, batch), batch.head, batch.gaze)
        masks = F.interpolate(batch.eye_masks, size=target.shape[-2:], mode="area")
    else:
        target, result, masks = batch.target, redraw_eyes(model, batch), batch.eye_masks
    difference = (result - target).abs()
    terms = {"l1": difference.mean(), "mask_l1": torch.stack([(d.mean(0) * m).sum() / m.sum() for d, m in
                                                              zip(difference, masks)]).mean()}  # fmt: skip
    if phase != LATENTS:
        vgg = load_vgg("random", seed=PARAMS.seed)
        terms["vgg"] = sum(F.l1_loss(a, b) for a, b in zip(vgg.taps(result), vgg.taps(target)))
    return {name: term.item() for name, term in terms.items()}


@pytest.fixture(scope="module", autouse=True)
def little_to_compute():
    with narrow_vgg():
        yield


@pytest.fixture(scope="module")
def expected():
    return [terms_by_hand(phase) for phase in (VAE, LATENTS, PIXELS)]


@pytest.mark.parametrize(
    ("phase", "settings", "weights"),
    [
        (VAE, {"l1_loss": 2}, {"l1": 2}),
        (VAE, {"l1_loss": 2, "vae_l1_loss": 0.5}, {"l1": 0.5}),
        (VAE, {"mask_l1_loss": 3, "unet_mask_l1_loss": 5}, {"mask_l1": 3}),
        (VAE, {"vae_vgg_loss": 0.5, "pixel_vgg_loss": 7, "latent_l1_loss": 7, "pixel_l1_loss": 7}, {"vgg": 0.5}),
        (LATENTS, {"l1_loss": 2, "vae_l1_loss": 7, "pixel_l1_loss": 7, "vae_vgg_loss": 7}, {"l1": 2}),
        (LATENTS, {"l1_loss": 2, "latent_l1_loss": 0.5, "pixel_vgg_loss": 7}, {"l1": 0.5}),
        (LATENTS, {"mask_l1_loss": 7, "unet_mask_l1_loss": 3}, {"mask_l1": 3}),
        (LATENTS, {"unet_mask_l1_loss": 3, "latent_mask_l1_loss": 1, "latent_l1_loss": 2}, {"mask_l1": 1, "l1": 2}),
        (PIXELS, {"l1_loss": 2, "latent_l1_loss": 7, "vae_l1_loss": 7, "vae_vgg_loss": 7}, {"l1": 2}),
        (PIXELS, {"l1_loss": 2, "pixel_l1_loss": 0.5}, {"l1": 0.5}),
        (PIXELS, {"unet_mask_l1_loss": 3, "latent_mask_l1_loss": 7}, {"mask_l1": 3}),
        (PIXELS, {"unet_mask_l1_loss": 3, "pixel_mask_l1_loss": 0, "pixel_l1_loss": 1}, {"l1": 1}),
        (PIXELS, {"pixel_vgg_loss": 0.5, "pixel_mask_l1_loss": 1}, {"vgg": 0.5, "mask_l1": 1}),
    ],
)
def test_a_phase_minimises_what_its_weights_say(phase, settings, weights, expected):
    progress = Progress(phase=phase)
    step = next(steps_of(make_tiny_model(), replace(PARAMS, **{**NOTHING, **settings}), progress))
    by_hand = sum(weight * expected[phase][name] for name, weight in weights.items())
    assert step.loss.item() == pytest.approx(by_hand, rel=1e-4) and by_hand > 0


@pytest.mark.parametrize(("phase", "setting"), [(VAE, "vae_vgg_loss"), (PIXELS, "pixel_vgg_loss")])
def test_vgg_alone_trains_a_phase(phase, setting):
    """By gradients through VGG19."""
    model = make_tiny_model()
    params = replace(
        PARAMS, **{**NOTHING, setting: 1.0}, persons=2, samples_per_person=2, drop_reference=0.0, vae_photographic=0.0,
        unet_photographic=0.0, warmup_share=0.0, vae_learning_rate=5e-3, pixel_learning_rate=5e-3,
    )  # fmt: skip
    params = replace(params, vae_steps=20, pixel_steps=20)
    losses = [step.loss.item() for _, step in zip(range(12), steps_of(model, params, Progress(phase=phase)))]
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4]), losses
    name = "vae.decoder.conv_out.weight" if phase == VAE else "unet.conv_out.weight"
    assert not torch.equal(model.state_dict()[name], make_tiny_model().state_dict()[name])


def test_what_is_not_valid_counts_in_no_term():
    """Of a strip, say. The eyes' mask never covers such pixels."""
    model, batch = make_tiny_model(), batch_of(PARAMS, PIXELS)
    valid = batch.valid.clone()
    valid[..., : SIZE_PX // 4] = 0
    masks = batch.eye_masks * valid
    result, target = torch.rand(2, *batch.target.shape)
    vgg = load_vgg("random", seed=0)
    objective = Objective(model, redrawing_loss, LossWeights(l1=1, mask_l1=1, vgg=1), vgg, encode_batch)
    loss, elsewhere = objective.compare(result, target, masks, valid), torch.where(valid > 0, result, result + 1)
    assert objective.compare(elsewhere, target, masks, valid).item() == pytest.approx(loss.item())
    inside = torch.where(valid > 0, result + 1, result)
    assert objective.compare(inside, target, masks, valid) > loss + 0.5


# --- the other settings -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("share", "rising"), [(0.0, [1.0]), (0.5, [0.25, 0.5, 0.75, 1.0])])
def test_the_learning_rate_rises_for_the_warm_up_s_share(share, rising):
    """Then half a cosine, down to a hundredth."""
    params, progress, rates = replace(PARAMS, warmup_share=share, latent_steps=8), Progress(phase=LATENTS), []
    for _, _ in zip(range(7), steps_of(make_tiny_model(), params, progress)):
        rates.append(progress.optimizer["param_groups"][0]["lr"])
    left = 8 - len(rising)
    falling = [0.01 + 0.99 * (1 + math.cos(math.pi * k / left)) / 2 for k in range(left)]
    assert rates == pytest.approx([params.latent_learning_rate * factor for factor in (rising + falling)[:7]])


def test_sources_are_drawn_from_by_their_weights(tmp_path):
    data_set.write_hdf5(tmp_path / "data.h5", 4, size=SIZE_PX, samples=2, split="all")
    one_turn = {"frames_per_person": 2, "gazes_per_person": 2}  # every lane changes its person at every step
    for weights, steps, expected in ((None, 2, 10), ([3, 1], 10, 75), ([18, 2], 10, 90)):
        settings = {
            "sources": [str(tmp_path / "data.h5"), "rendered"],
            "source_weights": weights,
            "augmentation": UNCHANGED,
        }
        content = {"pretrain_params": {**SMALL, **settings, **one_turn, "latent_batch_size": 10}}
        (tmp_path / "weights.yaml").write_text(yaml.safe_dump({**content, "model_params": TINY_CONFIG}))
        config = resolve(PretrainConfig, str(tmp_path / "weights.yaml")).config
        sources, phase = open_sources(config.pretrain_params), phases(config)[LATENTS]
        batches = phase_batches(sources, config.pretrain_params, CANVAS, phase)
        from_file = sum(int((batches[step].frames >= 0).all(dim=1).sum()) for step in range(steps))
        assert from_file == expected, weights


def test_compiled_steps_are_the_same(monkeypatch):
    """Traced, and the graph run as it is: to compile it takes minutes. The autoencoder's steps are left as they are."""
    graphs = []

    def run_as_it_is(graph, inputs):
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=run_as_it_is))
    for phase in (VAE, LATENTS):
        losses = []
        for compiled in (False, True):
            params = replace(PARAMS, compile=compiled, latent_steps=9)
            steps = steps_of(make_tiny_model(), params, Progress(phase=phase))
            losses.append([step.loss.item() for _, step in zip(range(2), steps)])
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)
        assert bool(graphs) is (phase != VAE)
    torch._dynamo.reset()


def test_gradient_checkpointing_computes_the_same_again(tmp_path, monkeypatch):
    """Each block of the UNet runs a second time in the backward pass; the weights are those without."""
    calls = []

    def watched(model, *about, **others):
        for module in model.unet.modules():
            if isinstance(module, ResnetBlock2D):
                module.register_forward_pre_hook(lambda *_: calls.append(1) if torch.is_grad_enabled() else None)
        return pretraining_steps(model, *about, **others)

    monkeypatch.setattr(pretrain, "pretraining_steps", watched)
    models, counts = [], []
    for name, flags in (("plain", []), ("again", ["--gradient_checkpointing"])):
        run_in(tmp_path / name, *flags)
        models.append(load_checkpoint(tmp_path / name / "model.pth").model)
        counts.append(len(calls))
        calls.clear()
    assert_same_model(*models)
    assert counts[1] == 2 * counts[0] > 0
