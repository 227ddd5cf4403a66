"""Adapters: what fine-tuning changed, for use on the same base and on no other."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from command_runs import (
    FILES,
    PERSON,
    RUN,
    assert_one_line,
    assert_same_weights,
    command,
    contents_of,
    files_in,
    invoke,
    weights_in,
)
from conftest import make_tiny_model, process_restored

from vaegaze.commands import convert, evaluate
from vaegaze.errors import UserError
from vaegaze.models import VAEGaze
from vaegaze.models.checkpoint import (
    ADAPTER_FORMAT,
    Base,
    Reference,
    load_checkpoint,
    save_adapter,
    save_checkpoint,
    weights_fingerprint,
)
from vaegaze.training.strategies import freeze_all_but

BOTH = (FILES - {"finetuned_model.pth"}) | {"finetuned_model.pth", "adapter.pth"}


@pytest.fixture(scope="module")
def both(world, tmp_path_factory):
    """A finished run that saved both: its flags and folder. To be looked at only."""
    save_dir = tmp_path_factory.mktemp("both")
    flags = [*world.flags, *RUN, "--num_steps", 4, "--save_dir", save_dir, "--save", "both"]
    outcome = command(*flags)
    assert outcome.code == 0, outcome
    lines = outcome.out.splitlines()
    assert lines[-2:] == [f"✅ {save_dir / PERSON / name}" for name in ("adapter.pth", "finetuned_model.pth")]
    return flags, save_dir / PERSON


def stored(path):
    return torch.load(path, weights_only=True)


def evaluated(world, output, *flags):
    flags = ("--hdf_path", world.hdf_path, "--person_id", PERSON, "--estimator", "none", "--output", output, *flags)
    with process_restored():
        torch.set_num_threads(1)
        assert evaluate.main([str(flag) for flag in flags]) == 0
    return {k: v for k, v in json.loads(output.read_text()).items() if k != "checkpoint"}


# --- what a run writes ------------------------------------------------------------------------------------------------


def test_it_holds_the_trained_tensors_and_no_more(both, world):
    _, folder = both
    assert files_in(folder) == BOTH
    content, base, tuned = (
        stored(folder / "adapter.pth"),
        weights_in(world.base),
        weights_in(folder / "finetuned_model.pth"),
    )
    assert content.keys() == {"format", "base", "state_dict", "info", "reference", "references"}
    assert content["format"] == ADAPTER_FORMAT and content["base"]["path"] == str(world.base)
    model = make_tiny_model()
    freeze_all_but(model, "selective")
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert set(content["state_dict"]) == trained
    assert all(torch.equal(tensor, tuned[name]) for name, tensor in content["state_dict"].items())
    assert any(not torch.equal(tensor, base[name]) for name, tensor in content["state_dict"].items())
    assert all(torch.equal(tuned[name], base[name]) for name in tuned.keys() - trained)


def test_on_its_base_it_is_the_whole_model(both, world, tmp_path):
    _, folder = both
    whole, adapter = load_checkpoint(folder / "finetuned_model.pth"), load_checkpoint(folder / "adapter.pth")
    weights = adapter.model.state_dict()
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(weights[name], tensor), name
    assert adapter.info == whole.info and adapter.info["fine_tuned_on"] == PERSON
    for field in ("image", "gaze", "head"):
        assert np.array_equal(getattr(adapter.references[0], field), getattr(whole.references[0], field))
    assert adapter.base.path == str(world.base) and whole.base is None

    numbers = [
        evaluated(world, tmp_path / f"{name}.json", "--checkpoint", folder / name, *more)
        for name, more in (("finetuned_model.pth", ()), ("adapter.pth", ()), ("adapter.pth", ("--base", world.base)))
    ]
    assert numbers[0] == numbers[1] == numbers[2]


def test_adapter_alone(both, world, tmp_path):
    _, folder = both
    flags = [*world.flags, *RUN, "--num_steps", 4, "--save_dir", tmp_path, "--save", "adapter"]
    outcome = command(*flags)
    assert outcome.code == 0 and outcome.out.splitlines()[-1] == f"✅ {tmp_path / PERSON / 'adapter.pth'}"
    assert files_in(tmp_path / PERSON) == BOTH - {"finetuned_model.pth"}
    assert (tmp_path / PERSON / "adapter.pth").read_bytes() == (folder / "adapter.pth").read_bytes()

    assert_one_line(command(*flags), "finished run", "--overwrite")
    before = contents_of(tmp_path)
    outcome = command(*flags, "--resume")
    assert outcome.code == 0 and "already finished" in outcome.out and contents_of(tmp_path) == before
    flags[flags.index("adapter")] = "full"
    assert_one_line(command(*flags, "--resume"), "save was 'adapter', now 'full'")
    assert command(*flags, "--overwrite").code == 0
    assert files_in(tmp_path / PERSON) == FILES, "the other run's adapter is gone"


def test_a_run_that_saved_but_one_of_two_goes_on(both, tmp_path, monkeypatch):
    """Killed between the two files: the run is not finished."""
    flags, folder = both
    flags = [*flags, "--save_dir", tmp_path]

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("vaegaze.runs.recorder.save_checkpoint", full)
        outcome = command(*flags)
        assert outcome.code == 2 and outcome.err.splitlines()[-1] == "error: No space left on device"
    assert {"adapter.pth", "resume.pth"} <= files_in(tmp_path / PERSON)
    assert command(*flags, "--resume").code == 0
    assert files_in(tmp_path / PERSON) == BOTH
    assert_same_weights(tmp_path / PERSON / "finetuned_model.pth", folder / "finetuned_model.pth")
    assert_same_weights(tmp_path / PERSON / "adapter.pth", folder / "adapter.pth")


# --- as the next run's base -------------------------------------------------------------------------------------------


def test_the_next_run_starts_from_it(both, world, tmp_path):
    """Its adapter holds what both runs trained, and belongs to the first base."""
    _, folder = both
    more = (*world.flags, *RUN, "--num_steps", 2, "--finetune_strategy", "encoder_only", "--save", "both")
    ends = {}
    for name in ("adapter.pth", "finetuned_model.pth"):
        outcome = command(*more, "--checkpoint_path", folder / name, "--save_dir", tmp_path / name)
        assert outcome.code == 0, outcome
        assert f"fine-tuned on {PERSON}" in outcome.out
        assert (f" on {world.base}" in outcome.out) == (name == "adapter.pth")
        ends[name] = tmp_path / name / PERSON
    assert_same_weights(*(end / "finetuned_model.pth" for end in ends.values()))

    second, first = stored(ends["adapter.pth"] / "adapter.pth"), stored(folder / "adapter.pth")
    assert second["base"] == first["base"]
    assert set(second["state_dict"]) > set(first["state_dict"])
    assert any(name.startswith("unet.down_blocks.") for name in second["state_dict"])
    own = stored(ends["finetuned_model.pth"] / "adapter.pth")
    assert own["base"]["path"] == str(folder / "finetuned_model.pth")
    tuned = weights_in(ends["finetuned_model.pth"] / "finetuned_model.pth")
    for end in ends.values():
        loaded = weights_in(end / "adapter.pth")
        assert all(torch.equal(loaded[name], tensor) for name, tensor in tuned.items())


def test_neither_it_nor_its_base_is_overwritten(both, world, tmp_path):
    _, folder = both
    shutil.copytree(folder, tmp_path / "a" / PERSON)
    base = tmp_path / "a" / PERSON / "finetuned_model.pth"
    flags = [*world.flags, *RUN, "--num_steps", 1, "--save", "adapter"]
    assert command(*flags, "--checkpoint_path", base, "--save_dir", tmp_path / "b").code == 0
    adapter = tmp_path / "b" / PERSON / "adapter.pth"
    for save_dir, path in ((tmp_path / "a", base), (tmp_path / "b", adapter)):
        outcome = command(*flags, "--checkpoint_path", adapter, "--save_dir", save_dir, "--overwrite")
        assert_one_line(outcome, str(path), "where this run would write", "--save_dir")
        assert path.exists()


def test_resuming_notices_another_base(both, world, tmp_path):
    """The fingerprint is of the weights, so the same file stored otherwise is the same base."""
    flags, folder = both
    shutil.copytree(folder, tmp_path / PERSON)
    base = tmp_path / "base.pth"
    config = tmp_path / PERSON / "config.yaml"
    config.write_text(config.read_text().replace(str(world.base), str(base)))
    flags = [*flags, "--checkpoint_path", base, "--save_dir", tmp_path, "--resume"]
    save_checkpoint(base, make_tiny_model(), {"trained_on": "told otherwise"})
    assert "already finished" in command(*flags).out
    save_checkpoint(base, make_tiny_model(seed=1), {})
    assert_one_line(command(*flags), "another base model or other data")


# --- its base ---------------------------------------------------------------------------------------------------------


def refusal(path, base=None):
    with pytest.raises(UserError) as caught:
        load_checkpoint(path, base)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_on_another_base_it_is_refused(both, world, tmp_path):
    _, folder = both
    adapter, other = folder / "adapter.pth", tmp_path / "other.pth"
    changed = make_tiny_model()
    with torch.no_grad():
        changed.vae.quant_conv.bias[0] += 1e-6
    scaled = make_tiny_model()
    scaled.config["vae"]["scaling_factor"] = 0.71
    for model in (changed, scaled, make_tiny_model(seed=1), load_checkpoint(folder / "finetuned_model.pth").model):
        save_checkpoint(other, model, {})
        text = refusal(adapter, other)
        assert "an adapter of another base" in text and str(other) in text and str(world.base) in text
        outcome = command(*world.flags, "--checkpoint_path", adapter, "--base", other, "--save_dir", tmp_path)
        assert_one_line(outcome, "an adapter of another base", "--base PATH")


def test_a_base_that_has_moved(both, world, tmp_path):
    _, folder = both
    shutil.copy(folder / "adapter.pth", tmp_path / "adapter.pth")
    content = stored(tmp_path / "adapter.pth")
    content["base"]["path"] = "gone\n/base.pth"
    torch.save(content, tmp_path / "adapter.pth")
    text = refusal(tmp_path / "adapter.pth")
    assert "trained on gone\\n/base.pth, which is not there" in text
    assert "there is no file nowhere.pth" in refusal(tmp_path / "adapter.pth", "nowhere.pth")
    moved = load_checkpoint(tmp_path / "adapter.pth", world.base)
    assert moved.base.path == str(world.base)
    assert "is itself an adapter" in refusal(tmp_path / "adapter.pth", folder / "adapter.pth")
    assert "is not an adapter, so it has no base" in refusal(world.base, world.base)


def test_a_base_in_half_precision_is_the_same(tiny_model, tmp_path):
    half = make_tiny_model()
    with torch.no_grad():
        for parameter in half.parameters():
            parameter.copy_(parameter.half())
    save_checkpoint(tmp_path / "whole.pth", half, {})
    save_checkpoint(tmp_path / "half.pth", half, {}, half=True)
    base = Base(str(tmp_path / "whole.pth"), weights_fingerprint(half))
    save_adapter(tmp_path / "adapter.pth", half, ["unet.conv_out.bias"], base, {})
    assert load_checkpoint(tmp_path / "adapter.pth", tmp_path / "half.pth").references == ()


def test_a_base_by_a_path_that_no_file_can_have(both, tmp_path):
    content = stored(both[1] / "adapter.pth")
    for path in ("a" * 5000, "a\0b"):
        content["base"]["path"] = path
        torch.save(content, tmp_path / "adapter.pth")
        assert "which is not there" in refusal(tmp_path / "adapter.pth")
        assert "there is no file" in refusal(tmp_path / "adapter.pth", path)
        assert "there is no file" in refusal(path)


@pytest.mark.parametrize("place", ["base.pth", "checkpoints/base.pth"])
def test_a_relative_base_is_also_looked_for_beside_the_adapter(place, both, world, tmp_path, monkeypatch):
    content = stored(both[1] / "adapter.pth")
    content["base"]["path"] = "checkpoints/base.pth"
    torch.save(content, tmp_path / "adapter.pth")
    assert "which is not there, nor beside the adapter" in refusal(tmp_path / "adapter.pth")
    (tmp_path / "checkpoints").mkdir()
    shutil.copy(world.base, tmp_path / place)
    assert load_checkpoint(tmp_path / "adapter.pth").base.path == str(tmp_path / place)


def test_resuming_with_the_base_elsewhere(both, world, tmp_path):
    """Its weights are the same, which the fingerprint proves."""
    flags = [*world.flags, *RUN, "--num_steps", 1, "--save", "adapter", "--save_dir", tmp_path]
    flags += ["--checkpoint_path", both[1] / "adapter.pth"]
    assert command(*flags).code == 0
    shutil.copy(world.base, tmp_path / "moved.pth")
    assert "already finished" in command(*flags, "--base", tmp_path / "moved.pth", "--resume").out


def test_a_base_that_went_through_diffusers_is_the_same(tiny_config, tmp_path):
    """However its config is spelled: what is left out, tuples, whole numbers in place of floats."""
    tiny_config["vae"] |= {"scaling_factor": 1, "block_out_channels": (8, 8, 16)}
    model = make_tiny_model(tiny_config)
    save_checkpoint(tmp_path / "base.pth", model, {})
    base = Base(str(tmp_path / "base.pth"), weights_fingerprint(load_checkpoint(tmp_path / "base.pth").model))
    save_adapter(tmp_path / "adapter.pth", model, ["unet.conv_out.bias"], base, {})
    parts = tmp_path / "parts"
    there = ["--checkpoint", tmp_path / "base.pth", "--to_diffusers", parts]
    back = ["--vae", parts / "vae", "--unet", parts / "unet", "--gaze_mlp", parts / "gaze_mlp.safetensors"]
    with process_restored():
        assert convert.main([*map(str, there)]) == 0
        assert convert.main([*map(str, back), "--output", str(tmp_path / "back.pth")]) == 0
    assert load_checkpoint(tmp_path / "adapter.pth", tmp_path / "back.pth").base.fingerprint == base.fingerprint


# --- files that are none ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: content.pop("base"),
        lambda content: content.update(base="here"),
        lambda content: content["base"].pop("fingerprint"),
        lambda content: content.pop("state_dict"),
        lambda content: content.update(state_dict=[1]),
        lambda content: content.update(info=None),
        lambda content: content["info"].update(trained_indices=[[1]]),
        lambda content: content.pop("reference"),
        lambda content: content["reference"].update(image=torch.zeros(2, 2, 3, dtype=torch.uint8)),
    ],
)
def test_contents_that_are_no_adapter(spoil, both, tmp_path):
    content = stored(both[1] / "adapter.pth")
    spoil(content)
    torch.save(content, tmp_path / "spoilt.pth")
    assert "spoilt.pth: the contents are no adapter" in refusal(tmp_path / "spoilt.pth")


def test_tensors_that_fit_nothing_are_named(both, tmp_path):
    content = stored(both[1] / "adapter.pth")
    content["state_dict"] |= {"unet.conv_out.bias": torch.zeros(5), "unet.more": torch.zeros(1), 7: "seven"}
    torch.save(content, tmp_path / "spoilt.pth")
    text = refusal(tmp_path / "spoilt.pth")
    assert "3 tensors do not fit" in text and "unet.conv_out.bias: expected (4,), found (5,)" in text
    assert "unet.more: expected nothing, found (1,)" in text


def test_an_adapter_of_itself(both, tmp_path):
    content = stored(both[1] / "adapter.pth")
    content["base"]["path"] = str(tmp_path / "spoilt.pth")
    torch.save(content, tmp_path / "spoilt.pth")
    assert "is itself an adapter" in refusal(tmp_path / "spoilt.pth")


# --- converted --------------------------------------------------------------------------------------------------------


def test_an_adapter_becomes_a_whole_checkpoint(both, tmp_path, capsys):
    _, folder = both
    with process_restored():
        flags = ["--checkpoint", folder / "adapter.pth", "--output", tmp_path / "whole.pth"]
        assert convert.main([*map(str, flags), "--to_diffusers", str(tmp_path / "parts")]) == 0
    assert "reference frames are not exported" in capsys.readouterr().out
    assert_same_weights(tmp_path / "whole.pth", folder / "finetuned_model.pth")
    assert (tmp_path / "parts/unet/config.json").exists()


# --- tensors that share memory ---------------------------------------------------------------------------------------


def test_a_base_of_views_of_one_storage(both, world, tmp_path):
    """The file holds each tensor as a piece of one; the adapter and the resume file hold but their own."""
    content = stored(world.base)
    flat, start = torch.cat([tensor.flatten() for tensor in content["state_dict"].values()]), 0
    for name, tensor in content["state_dict"].items():
        content["state_dict"][name] = flat[start : start + tensor.numel()].view(tensor.shape)
        start += tensor.numel()
    torch.save(content, tmp_path / "views.pth")
    flags = [*world.flags, *RUN, "--num_steps", 4, "--save", "adapter", "--save_dir", tmp_path]
    assert command(*flags, "--checkpoint_path", tmp_path / "views.pth").code == 0
    size = (tmp_path / PERSON / "adapter.pth").stat().st_size
    assert abs(size - (both[1] / "adapter.pth").stat().st_size) < 1000  # for the base's path


# --- sizes ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def full_size():
    """Upstream's model, without its weights."""
    with torch.device("meta"):
        return VAEGaze({"image_size": 256, "vae": {}, "unet": {}, "gaze_mlp": {}})


def test_a_minimal_adapter_of_the_full_size_model_is_small(full_size, tmp_path):
    """Under 100 KB beside its reference frame, with the file's own overhead and what a long run adds."""
    freeze_all_but(full_size, "minimal")
    names = [name for name, parameter in full_size.named_parameters() if parameter.requires_grad]
    state = {name: torch.zeros(full_size.get_parameter(name).shape) for name in names}
    full_size.load_state_dict(state, strict=False, assign=True)
    frame = Reference(np.zeros((256, 256, 3), np.uint8), np.zeros(2, np.float32), np.zeros(2, np.float32))
    info = {"fine_tuned_on": "00002", "fine_tuned_steps": 500, "trained_indices": list(range(1000))}
    save_adapter(tmp_path / "a.pth", full_size, names, Base("checkpoints/full.pth", "0" * 64), info, [frame])
    assert (tmp_path / "a.pth").stat().st_size - frame.image.nbytes < 100_000


def test_a_cross_attention_adapter_of_the_full_size_model_is_under_140_mb(full_size):
    trainable = freeze_all_but(full_size, "cross_attention_only").trainable
    assert 100e6 < 4 * trainable < 140e6 - 100_000  # which is for all that is no tensor


def test_converting_it_never_replaces_its_base(both, world, tmp_path):
    """Which the command reads without being told."""
    base = tmp_path / "base.pth"
    os.link(world.base, base)
    flags = ("--checkpoint", both[1] / "adapter.pth", "--overwrite", "--output")
    assert_one_line(invoke(convert.main, *flags, base), "base.pth is also the input", "the adapter's base")
    assert base.samefile(world.base)
    assert invoke(convert.main, *flags, tmp_path / "whole.pth").code == 0


def test_another_model_of_the_bases_name_is_passed_over(both, world, tmp_path, monkeypatch):
    """Where one works; the base lies beside the adapter."""
    content = stored(both[1] / "adapter.pth")
    content["base"]["path"] = "base.pth"
    (tmp_path / "copied").mkdir()
    torch.save(content, tmp_path / "copied/adapter.pth")
    monkeypatch.chdir(tmp_path)
    save_checkpoint("base.pth", make_tiny_model(seed=1), {})
    with pytest.raises(UserError, match=r"an adapter of another base than base\.pth"):
        load_checkpoint("copied/adapter.pth")
    shutil.copy(world.base, tmp_path / "copied/base.pth")
    assert load_checkpoint("copied/adapter.pth").base.path == str(Path("copied/base.pth"))
    Path("base.pth").write_text("no model at all")
    assert load_checkpoint("copied/adapter.pth").base.path == str(Path("copied/base.pth"))
