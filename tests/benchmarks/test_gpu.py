"""The same program on a GPU; skipped where there is none."""

import json
import signal
from contextlib import ExitStack

import pytest
import torch
from command_runs import (
    FILES,
    PERSON,
    RUN,
    assert_same_weights,
    command,
    files_in,
    records_in,
    signal_at_step,
    weights_in,
)
from conftest import TINY_CONFIG, make_tiny_model, process_restored

from benchmarks import gpu
from vaegaze.config.finetune import LossParams, OneshotParams
from vaegaze.models.device import find_device, find_precision
from vaegaze.training.loop import make_optimizer, training_steps
from vaegaze.training.losses import Loss
from vaegaze.training.references import choose_references
from vaegaze.training.strategies import freeze_all_but
from vaegaze.training.tensors import prepare_frames

pytestmark = pytest.mark.gpu

CURVE_TOLERANCE = 1e-3  # relative, of the loss in fp32 on GPU and CPU, over 20 steps: both round, each in its own order
VGG = ("--vgg_loss", 0.1, "--vgg_weights", "random")


@pytest.fixture(autouse=True)
def cuda():
    """The device, set up as the commands do; afterwards PyTorch's switches are as they were."""
    switches = (
        (torch.backends.cuda.flash_sdp_enabled, torch.backends.cuda.enable_flash_sdp),
        (torch.backends.cuda.mem_efficient_sdp_enabled, torch.backends.cuda.enable_mem_efficient_sdp),
        (torch.backends.cuda.cudnn_sdp_enabled, torch.backends.cuda.enable_cudnn_sdp),
    )
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    tf32 = torch.backends.cudnn.allow_tf32
    with ExitStack() as restored:
        for enabled, enable in switches:
            restored.callback(enable, enabled())
        restored.callback(setattr, torch.backends.cudnn, "allow_tf32", tf32)
        restored.callback(torch.use_deterministic_algorithms, deterministic, warn_only=warn_only)
        yield torch.device(find_device("cuda"))


def on_gpu(world, save_dir, *more):
    """Flags of a tiny run there; VGG19 belongs to it, whose backward pass is the largest part of a step."""
    return (*world.flags, *RUN, *VGG, "--device", "cuda", "--save_dir", save_dir, *more)


def train(samples, device, params, precision, vgg_loss=0.0):
    """A tiny model after so many steps, its optimiser, and the loss of each step."""
    model = make_tiny_model().to(device)
    freeze_all_but(model, "selective", ["all"])
    frames = prepare_frames(model, samples, choose_references(samples), device)
    loss = Loss(LossParams(vgg_loss=vgg_loss, vgg_weights="random"), seed=0, device=device)
    optimizer = make_optimizer(model, params)
    steps = training_steps(model, optimizer, frames, loss, params, precision=precision)
    return model, optimizer, [step.total.item() for step in steps]


def test_auto_computes_in_bf16_over_float32_weights_and_moments(rendered_samples, cuda, monkeypatch):
    native = torch.cuda.get_device_capability() >= (8, 0)
    precision = find_precision("auto", "cuda")
    assert precision == ("bf16" if native else "fp32")

    computed_in = set()
    convolve = torch.nn.Conv2d.forward

    def watched(layer, x):
        result = convolve(layer, x)
        if torch.is_grad_enabled():  # while training; frames are encoded in fp32
            computed_in.add(result.dtype)
        return result

    monkeypatch.setattr(torch.nn.Conv2d, "forward", watched)
    params = OneshotParams(num_steps=3, learning_rate=1e-3, batch_size=2)
    model, optimizer, losses = train(rendered_samples, cuda, params, precision)
    assert computed_in == {torch.bfloat16 if native else torch.float32}
    assert all(parameter.dtype == torch.float32 and parameter.is_cuda for parameter in model.parameters())
    moments = [tensor for state in optimizer.state.values() for tensor in state.values()]
    assert len(moments) > 3 and all(tensor.dtype == torch.float32 for tensor in moments)
    assert len(set(losses)) == 3


def test_a_run_from_start_to_end(world, tmp_path, cuda):
    outcome = command(*on_gpu(world, tmp_path))
    assert outcome.code == 0, outcome
    folder = tmp_path / PERSON
    assert files_in(folder) == FILES
    summary = json.loads((folder / "summary.json").read_text())
    precision = find_precision("auto", "cuda")
    assert f"💻 Device: cuda, precision: {precision}" in outcome.out.splitlines()
    assert (summary["device"], summary["precision"]) == ("cuda", precision)
    assert summary["peak_memory_of"] == "tensors on the GPU while training"
    halved = summary["parameters"]["total"] * 2 / 2**20  # while training, frozen weights are there in bf16 alone
    assert halved < summary["peak_memory_mb"] < torch.cuda.get_device_properties(cuda).total_memory / 2**20
    assert summary["after"]["eye_l1"] < 0.8 * summary["before"]["eye_l1"]
    assert summary["after"]["outside_mask"] == 0


def test_what_a_gpu_has_trained_goes_on_on_a_cpu(world, tmp_path):
    assert command(*on_gpu(world, tmp_path / "gpu", "--save", "both")).code == 0
    folder = tmp_path / "gpu" / PERSON
    base, trained, adapted = map(weights_in, (world.base, folder / "finetuned_model.pth", folder / "adapter.pth"))
    assert all(tensor.device.type == "cpu" for tensor in trained.values())
    assert any(not torch.equal(tensor, base[name]) for name, tensor in trained.items())
    assert all(torch.equal(tensor, adapted[name]) for name, tensor in trained.items())
    flags = ("--checkpoint_path", folder / "finetuned_model.pth", "--save_dir", tmp_path / "cpu", "--num_steps", 1)
    outcome = command(*world.flags, *RUN, *flags)
    assert outcome.code == 0, outcome


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_two_runs_are_the_same_to_the_bit(precision, world, tmp_path):
    for name in ("first", "second"):
        outcome = command(*on_gpu(world, tmp_path / name, "--precision", precision))
        assert outcome.code == 0, outcome
    first, second = (tmp_path / name / PERSON for name in ("first", "second"))
    assert records_in(first) == records_in(second)
    assert_same_weights(first / "finetuned_model.pth", second / "finetuned_model.pth")


def test_resumed_equals_uninterrupted(world, tmp_path, monkeypatch):
    assert command(*on_gpu(world, tmp_path / "whole")).code == 0
    flags = on_gpu(world, tmp_path / "parts")
    with monkeypatch.context() as patched:
        signal_at_step(patched, 7, signal.SIGINT)
        assert command(*flags).code == 130
    outcome = command(*flags, "--resume")
    assert outcome.code == 0 and "▶️ Going on after step 7" in outcome.out, outcome
    whole, parts = tmp_path / "whole" / PERSON, tmp_path / "parts" / PERSON
    assert_same_weights(whole / "finetuned_model.pth", parts / "finetuned_model.pth")
    assert records_in(whole) == records_in(parts)


def test_the_loss_falls_as_on_the_cpu(rendered_samples, cuda):
    params = OneshotParams(num_steps=20, learning_rate=1e-3, batch_size=2)
    curves = [
        torch.tensor(train(rendered_samples, device, params, "fp32", vgg_loss=0.1)[2])
        for device in (cuda, torch.device("cpu"))
    ]
    assert curves[0][-5:].mean() < curves[0][:5].mean()
    difference = ((curves[0] - curves[1]).abs() / curves[1]).max().item()
    assert difference < CURVE_TOLERANCE


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_gradient_checkpointing_takes_less_memory_and_gives_the_same_gradients(precision, cuda):
    """On pictures large enough for activations to outweigh what cuBLAS and cuDNN take for themselves."""
    vae = {"block_out_channels": [32, 32, 64], "layers_per_block": 2, "norm_num_groups": 4}
    latents = torch.randn(2, 8, 4, 64, 64, generator=torch.Generator().manual_seed(0)).to(cuda)
    angles = torch.zeros(8, 2, device=cuda)
    peaks, gradients = [], []
    for checkpointing in (False, True):
        model = make_tiny_model({**TINY_CONFIG, "vae": vae}).to(cuda)
        freeze_all_but(model, "selective")
        if checkpointing:
            model.enable_gradient_checkpointing()
        for _ in range(2):  # at first the libraries allocate their own memory
            model.zero_grad(set_to_none=False)
            torch.cuda.reset_peak_memory_stats(cuda)
            before = torch.cuda.memory_allocated(cuda)
            with torch.autocast("cuda", dtype=torch.bfloat16, enabled=precision == "bf16"):
                loss = model(latents[0], latents[1], angles, angles).float().square().mean()
            loss.backward()
            peak = torch.cuda.max_memory_allocated(cuda) - before
            del loss
        peaks.append(peak)
        gradients.append({name: each.grad for name, each in model.named_parameters() if each.grad is not None})
        del model
    assert 0 < peaks[1] < 0.75 * peaks[0], peaks
    assert all(torch.equal(gradient, gradients[1][name]) for name, gradient in gradients[0].items())


def test_the_script_that_measures_a_gpu(tmp_path):
    flags = ["--size", "tiny", "--steps", "2", "--curve_steps", "20", "--output", str(tmp_path / "gpu.md")]
    with process_restored():
        assert gpu.main(flags) == 0
    content = json.loads((tmp_path / "gpu.json").read_text())
    assert content["machine"]["GPU"] in (tmp_path / "gpu.md").read_text()
    assert all(row["failure"] is None and 0 < row["peak_memory_mb"] < 1e4 for row in content["rows"])
    assert [(curve["device"], curve["precision"]) for curve in content["curves"]] == [
        ("cpu", "fp32"), ("cuda", "fp32"), ("cuda", "bf16"),
    ]  # fmt: skip
    differences = content["relative_differences"]
    assert differences["cuda fp32"]["max"] < CURVE_TOLERANCE < 0.1 > differences["cuda bf16"]["max"]
