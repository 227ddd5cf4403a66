"""Which parameters train: a strategy is an ordered list of patterns over whole parameter names, first match wins."""

import logging
import re
from collections import Counter
from dataclasses import dataclass

from torch import nn

log = logging.getLogger(__name__)

OUTPUT_LAYERS = (r"unet\.conv_norm_out\..*", r"unet\.conv_out\..*")
CROSS_ATTENTION = (r"unet\..*\.attn2\..*",)

# {last} stands for the index of the UNet's last up block, so that one pattern serves every size.
STRATEGIES: dict[str, tuple[str, ...]] = {
    "selective": (*CROSS_ATTENTION, *OUTPUT_LAYERS, r"unet\.up_blocks\.{last}\..*"),
    "encoder_only": (r"unet\.down_blocks\..*",),
    "cross_attention_only": CROSS_ATTENTION,
    "minimal": OUTPUT_LAYERS,
    "full": (r"unet\..*",),
}
GAZE_MLP_LAYERS = {"last": r"gaze_mlp\.\w+\.net\.{last_layer}\..*", "all": r"gaze_mlp\..*"}


@dataclass(frozen=True)
class Selection:
    """What a strategy chose: how many parameters each pattern matched, and the sums."""

    matched: dict[str, int]
    trainable: int
    total: int

    def __str__(self) -> str:
        rows = [f"  {count:>12,}  {pattern}" for pattern, count in self.matched.items()]
        share = 100 * self.trainable / self.total
        return "\n".join([*rows, f"  {self.trainable:>12,}  trainable of {self.total:,} ({share:.1f} %)"])


def freeze_all_but(model: nn.Module, strategy: str, gaze_mlp_layers: list[str] | None = None) -> Selection:
    """Set `requires_grad` on every parameter of a VAEGaze by the strategy's name; returns what was matched.

    `gaze_mlp_layers` adds layers of the gaze MLP: ["last"], ["all"], or both, which means all.
    """
    layers = [] if gaze_mlp_layers is None else ["all"] if "all" in gaze_mlp_layers else gaze_mlp_layers
    templates = [*STRATEGIES[strategy], *(GAZE_MLP_LAYERS[layer] for layer in layers)]
    last = {"{last}": len(model.unet.up_blocks) - 1, "{last_layer}": len(model.gaze_mlp.gaze_mlp.net) - 1}
    patterns = [re.sub(r"\{\w+\}", lambda found: str(last[found[0]]), template) for template in templates]

    matched = Counter(dict.fromkeys(patterns, 0))
    for name, parameter in model.named_parameters():
        pattern = next((pattern for pattern in patterns if re.fullmatch(pattern, name)), None)
        parameter.requires_grad_(pattern is not None)
        log.debug("%s: %s", name, pattern or "frozen")
        if pattern is not None:
            matched[pattern] += parameter.numel()
    for pattern, count in matched.items():
        if count == 0:
            raise ValueError(f"strategy {strategy}: pattern {pattern} matches no parameter of this model")
    total = sum(parameter.numel() for parameter in model.parameters())
    return Selection(dict(matched), sum(matched.values()), total)


def parameters_by_block(model: nn.Module) -> dict[str, tuple[int, int]]:
    """For each block of a VAEGaze, such as unet.up_blocks.1, the numbers of trainable and of all parameters."""
    counts: dict[str, tuple[int, int]] = {}
    for name, parameter in model.named_parameters():
        block = re.match(r"unet\.\w+_blocks\.\d+|unet\.\w+|\w+", name)[0]
        trained, total = counts.get(block, (0, 0))
        counts[block] = (trained + parameter.numel() * parameter.requires_grad, total + parameter.numel())
    return counts
