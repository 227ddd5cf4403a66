"""Strategies: what trains does train, what is frozen stays to the last bit, and the printed counts are right."""

import pytest
import torch
from conftest import make_tiny_model

from vaegaze.config.finetune import LossParams, OneshotParams
from vaegaze.models import VAEGaze
from vaegaze.training.loop import make_optimizer, training_steps
from vaegaze.training.losses import Loss
from vaegaze.training.references import choose_references
from vaegaze.training.strategies import STRATEGIES, freeze_all_but
from vaegaze.training.tensors import prepare_frames

CPU = torch.device("cpu")


def expected(strategy, name, last_up_block=1):
    """The issue's words for each strategy, by plain text tests."""
    cross = name.startswith("unet.") and ".attn2." in name
    output = name.startswith(("unet.conv_norm_out.", "unet.conv_out."))
    return {
        "selective": cross or output or name.startswith(f"unet.up_blocks.{last_up_block}."),
        "encoder_only": name.startswith("unet.down_blocks."),
        "cross_attention_only": cross,
        "minimal": output,
        "full": name.startswith("unet."),
    }[strategy]


def expected_of_gaze_mlp(layers, name, last_layer=4):
    last = name.startswith((f"gaze_mlp.head_mlp.net.{last_layer}.", f"gaze_mlp.gaze_mlp.net.{last_layer}."))
    return bool(layers) and name.startswith("gaze_mlp.") and (last or "all" in layers)


def test_the_strategies_are_those_of_the_config():
    choices = OneshotParams.__dataclass_fields__["finetune_strategy"].metadata["choices"]
    assert sorted(STRATEGIES) == sorted(choices)


@pytest.mark.parametrize("layers", [None, ["last"], ["all"], ["last", "all"], ("last",), []], ids=str)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_selection_by_name(strategy, layers, tiny_model):
    selection = freeze_all_but(tiny_model, strategy, layers)
    wanted = {
        name
        for name, _ in tiny_model.named_parameters()
        if expected(strategy, name) or expected_of_gaze_mlp(layers, name)
    }
    assert {name for name, parameter in tiny_model.named_parameters() if parameter.requires_grad} == wanted
    sizes = {name: parameter.numel() for name, parameter in tiny_model.named_parameters()}
    assert selection.trainable == sum(sizes[name] for name in wanted) == sum(selection.matched.values())
    assert selection.total == sum(sizes.values())


def test_a_later_choice_undoes_an_earlier_one(tiny_model):
    freeze_all_but(tiny_model, "full", ["all"])
    selection = freeze_all_but(tiny_model, "minimal")
    assert (
        sum(parameter.numel() for parameter in tiny_model.parameters() if parameter.requires_grad) == 16 + 8 * 4 * 9 + 4
    )
    assert selection.trainable == 16 + 8 * 4 * 9 + 4


@pytest.mark.parametrize("layers", [None, ["last"], ["all"]], ids=str)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_training_moves_all_of_it_and_nothing_else(strategy, layers, rendered_samples):
    model = make_tiny_model()
    freeze_all_but(model, strategy, layers)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    trainable = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    # no weight decay: a tensor that changes does so by its gradient
    params = OneshotParams(num_steps=3, learning_rate=1e-3, weight_decay=0.0, batch_size=2)
    optimizer = make_optimizer(model, params)
    frames = prepare_frames(model, rendered_samples, choose_references(rendered_samples), CPU)
    loss = Loss(LossParams(vgg_loss=0.0), seed=0, device=CPU)

    had_gradient = set()
    for _ in training_steps(model, optimizer, frames, loss, params, precision="fp32"):
        had_gradient |= {name for name, parameter in trainable.items() if parameter.grad.abs().max() > 0}
        assert all(p.grad is None for name, p in model.named_parameters() if name not in trainable)

    assert had_gradient == set(trainable)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]) == (name not in trainable), name
    assert {id(p) for group in optimizer.param_groups for p in group["params"]} == {id(p) for p in trainable.values()}
    assert {id(p) for p in optimizer.state} == {id(p) for p in trainable.values()}


@pytest.mark.parametrize(
    ("strategy", "spoil", "pattern"),
    [
        ("minimal", lambda model: setattr(model.unet, "conv_norm_out", torch.nn.Identity()), "conv_norm_out"),
        ("selective", lambda model: setattr(model.unet.up_blocks, "1", torch.nn.Identity()), r"up_blocks\.1"),
        ("encoder_only", lambda model: setattr(model.unet, "down_blocks", torch.nn.ModuleList()), "down_blocks"),
    ],
)
def test_a_pattern_that_matches_nothing_is_an_error(strategy, spoil, pattern, tiny_model):
    spoil(tiny_model)
    with pytest.raises(ValueError, match="matches no parameter") as caught:
        freeze_all_but(tiny_model, strategy)
    assert strategy in str(caught.value) and pattern in str(caught.value)


def test_counts_are_printed_and_the_first_match_wins(tiny_model):
    selection = freeze_all_but(tiny_model, "selective", ["last"])
    sizes = {name: parameter.numel() for name, parameter in tiny_model.named_parameters()}
    cross = sum(size for name, size in sizes.items() if ".attn2." in name)
    in_last_block = sum(
        size for name, size in sizes.items() if name.startswith("unet.up_blocks.1.") and ".attn2." not in name
    )
    assert list(selection.matched.values()) == [cross, 16, 8 * 4 * 9 + 4, in_last_block, 2 * (8 * 8 + 8)]
    text = str(selection)
    for pattern, count in selection.matched.items():
        assert f"{count:,}  {pattern}" in text
    share = 100 * selection.trainable / sum(sizes.values())
    assert f"{selection.trainable:,}  trainable of {sum(sizes.values()):,} ({share:.1f} %)" in text
    assert "{" not in text


def test_the_same_patterns_fit_the_full_size():
    with torch.device("meta"):
        model = VAEGaze({"image_size": 256, "vae": {}, "unet": {}, "gaze_mlp": {}})
    millions = {}
    for strategy in STRATEGIES:
        selection = freeze_all_but(model, strategy, ["last"])
        wanted = {
            name
            for name, _ in model.named_parameters()
            if expected(strategy, name, last_up_block=3) or expected_of_gaze_mlp(["last"], name, last_layer=6)
        }
        assert {name for name, parameter in model.named_parameters() if parameter.requires_grad} == wanted
        assert freeze_all_but(model, strategy, ["last"]).trainable == selection.trainable
        millions[strategy] = freeze_all_but(model, strategy).trainable / 1e6
    assert millions["selective"] == pytest.approx(51.1, abs=0.05)
    assert millions["cross_attention_only"] == pytest.approx(34.4, abs=0.05)
    assert millions["full"] == pytest.approx(849.9, abs=0.05)
    assert millions["minimal"] == (2 * 320 + 320 * 4 * 9 + 4) / 1e6
