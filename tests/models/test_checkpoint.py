"""Checkpoints: whole when written, checked when read, and no foreign file gets further than one clear error."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import SIZE_PX, Bomb, make_tiny_model

from vaegaze.errors import UserError
from vaegaze.geometry.camera import canvas_camera
from vaegaze.models.checkpoint import (
    FORMAT,
    MAX_REFERENCES,
    Reference,
    load_checkpoint,
    save_checkpoint,
    weights_fingerprint,
)


@pytest.fixture
def reference():
    rng = np.random.default_rng(0)
    image = rng.integers(256, size=(SIZE_PX, SIZE_PX, 3), dtype=np.uint8)
    return Reference(image, np.array([0.25, -0.5], np.float32), np.array([0.125, 0.1], np.float32))


@pytest.fixture
def content(tiny_model, tmp_path):
    """What a good file holds, to be spoilt."""
    save_checkpoint(tmp_path / "good.pth", tiny_model, {"trained_on": "noise"})
    return torch.load(tmp_path / "good.pth", weights_only=True)


def refusal(path):
    """The text of the one UserError that reading the file ends in."""
    with pytest.raises(UserError) as caught:
        load_checkpoint(path)
    text = str(caught.value)
    assert "--" not in text, "which flag, the command says"
    assert str(path) in text and "\n" not in text
    return text


def refusal_of(content, tmp_path):
    torch.save(content, tmp_path / "spoilt.pth")
    return refusal(tmp_path / "spoilt.pth")


# --- good files -------------------------------------------------------------------------------------------------------


def test_round_trip(tiny_model, tiny_config, reference, tmp_path):
    path = tmp_path / "new folder" / "model.pth"
    info = {"trained_on": "noise", "steps": 3, "records": [{"psnr": 1.5}]}
    save_checkpoint(path, tiny_model, info, [reference])
    loaded = load_checkpoint(path)

    assert loaded.model.config == tiny_config and loaded.info == info
    assert loaded.model.vae.scaling_factor == 0.7 and loaded.model.canvas == canvas_camera(SIZE_PX)
    expected = tiny_model.state_dict()
    assert list(loaded.model.state_dict()) == list(expected)
    for name, tensor in loaded.model.state_dict().items():
        assert tensor.dtype == torch.float32 and torch.equal(tensor, expected[name]), name
    assert all(parameter.requires_grad for parameter in loaded.model.parameters())
    for field in ("image", "gaze", "head"):
        ours, theirs = getattr(loaded.references[0], field), getattr(reference, field)
        assert ours.dtype == theirs.dtype and np.array_equal(ours, theirs)

    angles = torch.zeros(1, 2)
    latents = torch.ones(1, 4, 8, 8)
    with torch.no_grad():
        assert torch.equal(loaded.model(latents, latents, angles, angles), tiny_model(latents, latents, angles, angles))
    assert [file.name for file in path.parent.iterdir()] == ["model.pth"]


def test_several_references(tiny_model, reference, tmp_path):
    eight = [replace(reference, head=np.array([i, 0], np.float32)) for i in range(MAX_REFERENCES)]
    save_checkpoint(tmp_path / "model.pth", tiny_model, {}, eight)
    loaded = load_checkpoint(tmp_path / "model.pth").references
    assert [each.head.tolist() for each in loaded] == [each.head.tolist() for each in eight]
    assert all(np.array_equal(each.image, reference.image) for each in loaded)
    content = torch.load(tmp_path / "model.pth", weights_only=True)
    assert content["reference"]["head"] == [0.0, 0.0], "where older versions look for the only one"
    content["references"].append(content["reference"])
    torch.save(content, tmp_path / "nine.pth")
    assert "9 reference frames" in refusal(tmp_path / "nine.pth")


def test_half_is_half_the_size_and_reads_as_float32(tiny_model, tmp_path):
    save_checkpoint(tmp_path / "whole.pth", tiny_model, {})
    save_checkpoint(tmp_path / "half.pth", tiny_model, {}, half=True)
    stored = torch.load(tmp_path / "half.pth", weights_only=True)["state_dict"]
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    loaded = load_checkpoint(tmp_path / "half.pth")
    assert loaded.references == ()
    expected = tiny_model.state_dict()
    for name, tensor in loaded.model.state_dict().items():
        assert torch.equal(tensor, expected[name].half().float()), name
    assert tiny_model.unet.conv_in.weight.dtype == torch.float32, "the model itself is untouched"


def test_the_same_content_is_the_same_file(tiny_model, reference, tmp_path):
    for name in ("a.pth", "other.pth"):
        save_checkpoint(tmp_path / name, tiny_model, {"steps": 3}, [reference])
    assert (tmp_path / "a.pth").read_bytes() == (tmp_path / "other.pth").read_bytes()


def test_a_failed_save_leaves_the_old_file(tiny_model, tmp_path):
    path = tmp_path / "model.pth"
    save_checkpoint(path, tiny_model, {"steps": 1})
    before = path.read_bytes()
    with pytest.raises((AttributeError, pickle.PicklingError, TypeError)):
        save_checkpoint(path, tiny_model, {"steps": lambda: 2})
    assert path.read_bytes() == before and [file.name for file in tmp_path.iterdir()] == ["model.pth"]


# --- files that are none ----------------------------------------------------------------------------------------------


def test_missing(tmp_path):
    assert "there is no file" in refusal(tmp_path / "none.pth")
    assert "is a folder" in refusal(tmp_path)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello world\n",
        b"pretrain_params:\n  seed: 0\n",
        b"\x89PNG\r\n\x1a\n" + bytes(50),
    ],
    ids=["empty", "text", "yaml", "png"],
)
def test_no_pytorch_file(data, tmp_path):
    (tmp_path / "other.pth").write_bytes(data)
    text = refusal(tmp_path / "other.pth")
    assert "not a PyTorch file" in text
    assert "weights_only" not in text, "torch's own advice is to load it unsafely"


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n", "Git LFS"),
        (b"<!DOCTYPE html><html>\n", "web page"),
    ],
)
def test_what_stands_in_for_a_file_is_told(data, what, tmp_path):
    (tmp_path / "other.pth").write_bytes(data)
    assert what in refusal(tmp_path / "other.pth")


@pytest.mark.parametrize("share", [0.01, 0.3, 0.6, 0.95, 0.999])
def test_truncated(share, tiny_model, tmp_path):
    save_checkpoint(tmp_path / "model.pth", tiny_model, {})
    data = (tmp_path / "model.pth").read_bytes()
    (tmp_path / "model.pth").write_bytes(data[: int(share * len(data))])
    assert "cut short" in refusal(tmp_path / "model.pth")


@pytest.mark.parametrize("writer", ["torch", "torch legacy", "pickle 2", "pickle 5"])
@pytest.mark.parametrize("place", ["alone", "in info"])
def test_code_is_never_executed(writer, place, content, tmp_path):
    mark, path = tmp_path / "executed", tmp_path / "bomb.pth"
    bomb = Bomb(mark) if place == "alone" else {**content, "info": Bomb(mark)}
    if writer.startswith("torch"):
        torch.save(bomb, path, _use_new_zipfile_serialization=writer == "torch")
    else:
        path.write_bytes(pickle.dumps(bomb, protocol=int(writer[-1])))

    assert "holds Python code" in refusal(path)
    assert not mark.exists()

    # It is live: whoever unpickles it runs it.
    if writer.startswith("torch"):
        torch.load(path, weights_only=False)
    else:
        pickle.loads(path.read_bytes())
    assert mark.exists()


# --- PyTorch files that hold something else ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [{"model_state_dict": {}}, {"conv.weight": torch.zeros(2)}, [1, 2], torch.zeros(3), None],
    ids=["family", "state dict", "list", "tensor", "none"],
)
def test_other_content(other, tmp_path):
    text = refusal_of(other, tmp_path)
    assert "not a VAE-GAZE checkpoint" in text and FORMAT in text


def test_wrong_shapes_list_both_sides(content, tmp_path):
    content["state_dict"]["unet.conv_in.weight"] = torch.zeros(8, 9, 3, 3)
    content["state_dict"]["vae.quant_conv.bias"] = torch.zeros(())
    text = refusal_of(content, tmp_path)
    assert "2 tensors do not fit" in text
    assert "unet.conv_in.weight: expected (8, 8, 3, 3), found (8, 9, 3, 3)" in text
    assert "vae.quant_conv.bias: expected (8,), found ()" in text


def test_missing_and_unknown_tensors_are_named(content, tmp_path):
    del content["state_dict"]["unet.conv_out.bias"]
    content["state_dict"]["unet.conv_last.bias"] = torch.zeros(4)
    content["state_dict"][7] = "seven"
    text = refusal_of(content, tmp_path)
    assert "3 tensors do not fit" in text
    assert "unet.conv_out.bias: expected (4,), found nothing" in text
    assert "unet.conv_last.bias: expected nothing, found (4,)" in text


@pytest.mark.parametrize(
    "value",
    [torch.zeros(3, device="meta"), torch.zeros(3, dtype=torch.int64), torch.zeros(3).to_sparse(), "text", None],
)
def test_only_plain_numbers_fit(value, content, tmp_path):
    name = next(name for name, tensor in content["state_dict"].items() if tensor.ndim == 1)
    if isinstance(value, torch.Tensor):
        value = value.new_zeros(content["state_dict"][name].shape)
    content["state_dict"][name] = value
    assert f"{name}: expected" in refusal_of(content, tmp_path)


def test_repeated_numbers_are_refused(content, tmp_path):
    """A few bytes that say they are many would be allocated in full; and what repeats them cannot be trained."""
    content["state_dict"]["unet.conv_in.bias"] = torch.zeros(1).expand(8)
    text = refusal_of(content, tmp_path)
    assert "unet.conv_in.bias: expected (8,), found (8,) of fewer numbers, repeated" in text


def test_every_tensor_gets_memory_of_its_own(content, tmp_path):
    state = content["state_dict"]
    pair = torch.ones(16)
    state["unet.conv_in.bias"], state["unet.conv_norm_out.bias"] = pair[:8], pair[8:]
    state["unet.conv_norm_out.weight"] = state["vae.quant_conv.bias"] = torch.ones(8)
    state["unet.conv_in.weight"] = state["unet.conv_in.weight"].to(memory_format=torch.channels_last)
    torch.save(content, tmp_path / "model.pth")
    tensors = load_checkpoint(tmp_path / "model.pth").model.state_dict().values()
    assert all(tensor.is_contiguous() and tensor.untyped_storage().nbytes() == 4 * tensor.numel() for tensor in tensors)
    assert len({tensor.data_ptr() for tensor in tensors}) == len(tensors)


def test_kernels_have_plain_strides(tiny_model, content, tmp_path):
    """Else one kernel of 1 × 1, which is contiguous either way, makes all convolutions behind it compute otherwise."""

    def strides(state):
        return [tensor.stride() for tensor in state.values()]

    plain = strides(tiny_model.state_dict())
    for tensor in content["state_dict"].values():
        if tensor.dim() == 4:
            tensor.data = tensor.contiguous(memory_format=torch.channels_last)
    torch.save(content, tmp_path / "a.pth")
    assert strides(torch.load(tmp_path / "a.pth")["state_dict"]) != plain
    assert strides(load_checkpoint(tmp_path / "a.pth").model.state_dict()) == plain

    save_checkpoint(tmp_path / "b.pth", tiny_model.to(memory_format=torch.channels_last), {})
    assert strides(torch.load(tmp_path / "b.pth")["state_dict"]) == plain


def test_many_mismatches_stay_one_short_line(content, tmp_path):
    content["state_dict"] = {}
    text = refusal_of(content, tmp_path)
    assert "more" in text and len(text) < 1000


@pytest.mark.parametrize("part", ["vae", "unet", "gaze_mlp"])
def test_absurd_widths_are_not_allocated(part, content, tmp_path):
    """A model of this config would need terabytes; the weights in the file say that it is not so."""
    key, value = ("num_hidden", 2**20) if part == "gaze_mlp" else ("block_out_channels", [2**20, 2**20])
    content["model_config"][part][key] = value
    assert "do not fit" in refusal_of(content, tmp_path)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: content.pop("model_config"),
        lambda content: content.pop("info"),
        lambda content: content.pop("state_dict"),
        lambda content: content.pop("reference"),
        lambda content: content["model_config"].pop("image_size"),
        lambda content: content["model_config"]["unet"].update(colour="red"),
        lambda content: content["model_config"]["unet"].update(block_out_channels=[]),
        lambda content: content["model_config"]["unet"].update(block_out_channels=[8, -8]),
        lambda content: content["model_config"]["unet"].update(block_out_channels=[2**62, 2**62]),
        lambda content: content["model_config"]["vae"].update(norm_num_groups=3),
        lambda content: content["model_config"]["vae"].update(norm_num_groups=0),
        lambda content: content["model_config"].update(vae="small"),
        lambda content: content["model_config"]["unet"].update(cross_attention_dim=9),
        lambda content: content["model_config"]["unet"].update(in_channels=4),
        lambda content: content["model_config"]["unet"].update(out_channels=3),
        lambda content: content["model_config"]["gaze_mlp"].update(num_in=3),
        lambda content: content["model_config"]["vae"].update(in_channels=1),
        lambda content: content["model_config"]["vae"].update(block_out_channels=[8] * 1000),
        lambda content: content.update(model_config=5),
        lambda content: content.update(state_dict=torch.zeros(3)),
        lambda content: content["info"].update(trained_indices=[[1]]),
        lambda content: content["info"].update(trained_indices=5),
    ],
)
def test_contents_that_describe_no_model(spoil, content, tmp_path):
    spoil(content)
    assert "do not describe a VAE-GAZE model" in refusal_of(content, tmp_path)


def test_models_of_a_newer_version(content, tmp_path):
    """What an unknown key changes would be missing from every picture, and nobody would know."""
    content["model_config"]["sharpen"] = True
    assert "unknown sharpen: it may be of a newer version" in refusal_of(content, tmp_path)
    for format_ in ("vaegaze-2", "vaegaze-adapter-2"):
        text = refusal_of({**content, "format": format_}, tmp_path)
        assert f"is of another version of this program (format '{format_}'" in text


def test_names_in_a_foreign_file_reach_the_terminal_as_plain_characters(content, tmp_path):
    content["state_dict"]["evil\n\x1b[2J"] = torch.zeros(1)
    assert "evil\\n\\x1b[2J: expected nothing" in refusal_of(content, tmp_path)


def test_a_file_that_cannot_be_read_is_not_called_damaged(tmp_path, monkeypatch):
    (tmp_path / "a.pth").write_bytes(b"x")

    def denied(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(torch, "load", denied)
    with pytest.raises(UserError, match=r"cannot be read .Permission denied."):
        load_checkpoint(tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("image", torch.zeros(16, 16, 3, dtype=torch.uint8)),
        ("image", torch.zeros(SIZE_PX, SIZE_PX, 3)),
        ("image", "picture.png"),
        ("gaze", [0.0, 0.0, 0.0]),
        ("head", ["left", "up"]),
    ],
)
def test_wrong_reference(key, value, content, tmp_path):
    content["reference"] = {
        "image": torch.zeros(SIZE_PX, SIZE_PX, 3, dtype=torch.uint8),
        "gaze": [0.0, 0.0],
        "head": [0.0, 0.0],
    }
    torch.save(content, tmp_path / "good.pth")
    assert load_checkpoint(tmp_path / "good.pth").references
    content["reference"][key] = value
    text = refusal_of(content, tmp_path)
    if key == "image" and not isinstance(value, str):
        assert f"expected ({SIZE_PX}, {SIZE_PX}, 3) uint8" in text


# --- the shape of eye masks -------------------------------------------------------------------------------------------


def test_eye_masks_travel_with_the_model(tiny_model, tiny_config, tmp_path):
    assert tiny_model.canvas.eye_masks == "squares"
    model = make_tiny_model({**tiny_config, "eye_masks": "lids"})
    save_checkpoint(tmp_path / "lids.pth", model, {})
    loaded = load_checkpoint(tmp_path / "lids.pth").model
    assert loaded.canvas.eye_masks == "lids"
    assert weights_fingerprint(loaded) == weights_fingerprint(model) != weights_fingerprint(tiny_model)


@pytest.mark.parametrize("wrong", ["circles", None, ["lids"]])
def test_a_wrong_shape_of_eye_masks_is_refused(wrong, content, tmp_path):
    content["model_config"]["eye_masks"] = wrong
    text = refusal_of(content, tmp_path)
    assert "eye_masks" in text and "squares, lids" in text
