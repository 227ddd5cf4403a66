"""The loss: terms by hand, pixels that must not count, and where VGG's weights come from."""

import hashlib
import pickle

import pytest
import torch
import torchvision
from conftest import Bomb
from torch import nn
from torch.nn import functional as F

from vaegaze.config.finetune import ADVICE, LossParams
from vaegaze.errors import UserError
from vaegaze.training.losses import Loss, load_vgg, masked_mean_l1

CPU = torch.device("cpu")
CONV_LAYERS = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28)


@pytest.fixture(scope="module")
def vgg():
    return load_vgg("random", seed=1)


@pytest.fixture(scope="module")
def vgg_state(vgg):
    """In torchvision's names, with weights that no seed gives."""
    return {f"features.{name}": tensor * 0.5 + 0.01 for name, tensor in vgg.features.state_dict().items()}


def pictures(seed, batch=1, size=32):
    return torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def loss_with(network, **weights):
    """All weights 0 but those given (l1, mask_l1, vgg); VGG's network is put in, since loading one takes long."""
    l1, mask_l1 = weights.get("l1", 0.0), weights.get("mask_l1", 0.0)
    loss = Loss(LossParams(l1_loss=l1, mask_l1_loss=mask_l1, vgg_loss=0.0), seed=0, device=CPU)
    if "vgg" in weights:
        loss.weights["vgg"], loss.vgg = weights["vgg"], network
    return loss


def square(size=32, *, rows, columns):
    mask = torch.zeros(1, 1, size, size)
    mask[:, :, slice(*rows), slice(*columns)] = 1
    return mask


# --- L1 ---------------------------------------------------------------------------------------------------------------


def test_masked_mean_l1_by_hand():
    result, target = torch.zeros(2, 3, 2, 2), torch.zeros(2, 3, 2, 2)
    result[0, :, 0, 0] = torch.tensor([0.5, 1.0, 1.5])
    target[0, :, 1, 1] = -9.0  # outside the mask
    result[1, :, 0, 1] = 0.25
    result[1, :, 1, 0] = 0.75
    weights = torch.tensor([[[[1.0, 0], [0, 0]]], [[[0, 1.0], [1.0, 1.0]]]])
    first = (0.5 + 1.0 + 1.5) / 3
    second = (0.25 + 0.75 + 0.0) / 3
    # of each picture first: an eye of few pixels counts as much as a large one
    assert masked_mean_l1(result, target, weights).item() == pytest.approx((first + second) / 2)
    assert masked_mean_l1(target, result, weights).item() == pytest.approx((first + second) / 2)


def test_terms_and_their_weighted_sum():
    loss = Loss(LossParams(l1_loss=1.5, mask_l1_loss=4.0, vgg_loss=0.0), seed=0, device=CPU)
    result, target = torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4)
    eyes = square(4, rows=(0, 1), columns=(0, 4))
    valid = square(4, rows=(0, 3), columns=(0, 2))
    result[:, :, 0, 0] = 1.0  # in the eye, valid
    result[:, :, 0, 3] = 50.0  # in the eye, not valid
    result[:, :, 2, 1] = 2.0  # valid alone
    terms = loss.terms(result, target, eyes, valid)
    assert list(terms) == ["l1", "mask_l1"]
    assert terms["l1"].item() == pytest.approx((1.0 + 2.0) / 6)
    assert terms["mask_l1"].item() == pytest.approx(1.0 / 2)
    assert loss.total(terms).item() == pytest.approx(1.5 * 0.5 + 4.0 * 0.5)


@pytest.mark.parametrize("name", ["l1", "mask_l1", "vgg"])
def test_invalid_pixels_have_no_influence(name, vgg):
    loss = loss_with(vgg, **{name: 1.0})
    valid = square(rows=(8, 32), columns=(0, 28))
    eyes = square(rows=(4, 20), columns=(4, 31))
    result, target = pictures(1).requires_grad_(), pictures(2)
    elsewhere = torch.where(valid.bool(), target, pictures(3))
    value = loss.terms(result, target, eyes, valid)[name]
    assert torch.equal(loss.terms(result, elsewhere, eyes, valid)[name], value)
    changed = torch.where(valid.bool(), result, pictures(4))
    assert torch.equal(loss.terms(changed, target, eyes, valid)[name], value)
    (gradient,) = torch.autograd.grad(value, result)
    assert (gradient * valid).abs().max() > 0 and (gradient * (1 - valid)).abs().max() == 0
    within = torch.where(eyes.bool() & valid.bool(), pictures(3), target)
    assert not torch.equal(loss.terms(result, within, eyes, valid)[name], value)


@pytest.mark.parametrize("name", ["l1", "mask_l1", "vgg"])
def test_gradient_flows_to_the_result_alone(name, vgg):
    loss = loss_with(vgg, **{name: 1.0})
    result, target = pictures(1).requires_grad_(), pictures(2)
    everywhere = torch.ones(1, 1, 32, 32)
    loss.total(loss.terms(result, target, everywhere, everywhere)).backward()
    assert result.grad.abs().max() > 0 and target.grad is None
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in vgg.parameters())


def test_equal_pictures_have_no_loss(vgg):
    loss = loss_with(vgg, l1=1.0, mask_l1=1.0, vgg=1.0)
    everywhere = torch.ones(1, 1, 32, 32)
    terms = loss.terms(pictures(1), pictures(1), everywhere, everywhere)
    assert {name: value.item() for name, value in terms.items()} == {"l1": 0.0, "mask_l1": 0.0, "vgg": 0.0}


# --- VGG --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", ["/no/such/file.pth", "imagenet"])
def test_weight_zero_never_loads_vgg(weights):
    loss = Loss(LossParams(vgg_loss=0.0, vgg_weights=weights), seed=0, device=CPU)
    assert loss.vgg is None and "vgg" not in loss.weights


def test_vgg_loss_by_the_facts(vgg):
    """Five layers, weight 1 each, at four sizes, written out without the module's own forward."""
    result, target = pictures(1, size=128), pictures(2, size=128)
    weights = dict(vgg.features.state_dict())

    def taps(images):
        mean = torch.tensor([0.485, 0.456, 0.406]).reshape(1, 3, 1, 1)
        std = torch.tensor([0.229, 0.224, 0.225]).reshape(1, 3, 1, 1)
        found = []
        for halvings in range(4):
            level = images
            for _ in range(halvings):
                level = F.avg_pool2d(level, 2)
            x = (level / 2 + 0.5 - mean) / std
            for number, convolutions in enumerate((2, 2, 4, 4, 1)):
                x = F.max_pool2d(x, 2) if number else x
                for i in range(convolutions):
                    layer = CONV_LAYERS[(0, 2, 4, 8, 12)[number] + i]
                    x = F.relu(F.conv2d(x, weights[f"{layer}.weight"], weights[f"{layer}.bias"], padding=1))
                    if i == 0:
                        found.append(x)  # relu1_1, relu2_1, relu3_1, relu4_1, relu5_1
        return found

    with torch.no_grad():
        expected = sum((got - want).abs().mean() for got, want in zip(taps(result), taps(target)))
        assert vgg(result, vgg.taps(target)).item() == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize(("size", "levels"), [(32, 2), (64, 3), (96, 3)])
def test_small_pictures_have_fewer_levels(size, levels, vgg):
    with torch.no_grad():
        assert len(vgg.taps(pictures(1, size=size))) == 5 * levels


def test_a_flat_picture_has_the_levels_of_its_shorter_side(vgg):
    with torch.no_grad():
        assert len(vgg.taps(pictures(1, size=64)[..., :32, :])) == 5 * 2


def test_random_vgg_is_seeded(vgg):
    before = torch.random.get_rng_state()
    again, other = load_vgg("random", seed=1), load_vgg("random", seed=2)
    assert torch.equal(torch.random.get_rng_state(), before), "the run's own random numbers are not used up"
    for name, tensor in vgg.features.state_dict().items():
        assert torch.equal(tensor, again.features.state_dict()[name])
        assert name.endswith("bias") or not torch.equal(tensor, other.features.state_dict()[name])
    assert all(torch.isfinite(tensor).all() for tensor in vgg.state_dict().values())


@pytest.mark.parametrize("names", ["torchvision", "bare"])
def test_vgg_from_a_file(names, vgg_state, tmp_path):
    if names == "torchvision":  # a whole VGG19 has a classifier, too
        state = {**vgg_state, "features.34.bias": torch.zeros(512), "classifier.0.bias": torch.zeros(4096)}
    else:
        state = {name.removeprefix("features."): tensor for name, tensor in vgg_state.items()}
    torch.save(state, tmp_path / "vgg19.pth")
    params = LossParams(vgg_weights=str(tmp_path / "vgg19.pth"))
    vgg = Loss(params, seed=0, device=CPU).vgg
    checksum = hashlib.sha256((tmp_path / "vgg19.pth").read_bytes()).hexdigest()
    assert f"vgg19.pth (sha256 {checksum[:16]}…, not torchvision's file)" in vgg.source
    loaded = vgg.features.state_dict()
    assert len(loaded) == 26
    assert all(torch.equal(tensor, vgg_state[f"features.{name}"]) for name, tensor in loaded.items())


def test_names_and_shapes_are_torchvisions(vgg_state):
    with torch.device("meta"):
        theirs = torchvision.models.vgg19().state_dict()
    assert all(theirs[name].shape == tensor.shape for name, tensor in vgg_state.items())
    layers = [f"features.{layer}.{kind}" for layer in CONV_LAYERS for kind in ("weight", "bias")]
    assert sorted(vgg_state) == sorted(layers)


# --- VGG weights that cannot be had -----------------------------------------------------------------------------------


def vgg_refusal(weights):
    with pytest.raises(UserError) as caught:
        load_vgg(weights, seed=0)
    text = str(caught.value)
    assert caught.value.about == "vgg" and "--vgg_loss 0" in ADVICE["vgg"]
    assert "\n" not in text
    return text


def test_imagenet_weights_without_cache_or_network(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # where nothing answers, so that no test downloads anything
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert "ImageNet" in vgg_refusal("imagenet")


@pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\x03\x04 cut short", "bomb"])
def test_imagenet_weights_from_a_damaged_cache(content, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    content = pickle.dumps(Bomb(tmp_path / "executed"), protocol=2) if content == "bomb" else content
    (tmp_path / "hub" / "checkpoints" / "vgg19-dcbb9e9d.pth").write_bytes(content)
    vgg_refusal("imagenet")
    assert not (tmp_path / "executed").exists()


def test_missing_file(tmp_path):
    path = str(tmp_path / "none.pth")
    assert path in vgg_refusal(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"some text\n",
        pickle.dumps(nn.ReLU()),
        {"a": torch.zeros(2)},
        [torch.zeros(2)],
        torch.zeros(2),
        nn.ReLU(),
    ],
    ids=["empty", "text", "pickle", "other dict", "list", "tensor", "module"],
)
def test_wrong_file(content, tmp_path):
    path = tmp_path / "wrong.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    assert str(path) in vgg_refusal(str(path))


def test_file_of_another_network(vgg_state, tmp_path):
    spoilt = {**vgg_state, "features.28.weight": torch.zeros(512, 256, 3, 3), "features.0.bias": 5}
    torch.save(spoilt, tmp_path / "vgg16.pth")
    text = vgg_refusal(str(tmp_path / "vgg16.pth"))
    assert "2 of 26" in text and "features.0.bias" in text
