"""How a small trained model draws in float32, without gradients: channels last.

Training computes in other forms, whose losses must stay the same to the bit. What is drawn here differs by rounding.
Measured on processors with AVX2 and with AVX-512; elsewhere a model draws in its usual forms.
"""

import copy
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vaegaze.models import blocks

MEASURED_ON = ("AVX2", "AVX512")
MOST_WEIGHTS = 2**25  # of a model; a larger one would be copied for little gain
_changing = threading.Lock()
_changed: WeakKeyDictionary[nn.Module, list[nn.Module]] = WeakKeyDictionary()  # layers, of models in a block
_blocks: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()  # that each is in, in several threads


@contextmanager
def drawing_forms(model) -> Iterator[None]:
    """Inside the block the model only draws, and its weights do not change. Any other function stays as it is.

    Several threads may draw with one model.
    """
    if not isinstance(model, nn.Module):
        yield
        return
    with _changing:
        if not _blocks.get(model):
            _changed[model] = use_drawing_forms(model)
        _blocks[model] = _blocks.get(model, 0) + 1
    try:
        yield
    finally:
        with _changing:
            _blocks[model] -= 1
            if not _blocks[model]:
                _use_usual_forms(_changed.pop(model))


def own_copy(model: nn.Module) -> nn.Module:
    """A copy in the usual forms, also of a model that another thread draws with: its forms hold the other's weights."""
    with _changing:
        copied = copy.deepcopy(model)
    _use_usual_forms(copied.modules())
    return copied


def forget_other_threads() -> None:
    """In a forked process, which has none: one that held the lock can no longer let go of it."""
    global _changing
    _changing = threading.Lock()


def _use_usual_forms(layers: Iterable[nn.Module]) -> None:
    for layer in layers:
        vars(layer).pop("forward", None)


def use_drawing_forms(model: nn.Module) -> list[nn.Module]:
    """From now on the model only draws, and its weights do not change; returns the layers that compute otherwise."""
    weights = list(model.parameters())
    suits = all(each.device.type == "cpu" and each.dtype == torch.float32 for each in weights)
    known = torch.backends.cpu.get_cpu_capability() in MEASURED_ON and not torch.is_autocast_enabled("cpu")
    if not (suits and known and sum(each.numel() for each in weights) <= MOST_WEIGHTS):
        return []
    changed = []
    for layer in model.modules():
        form = _form_of(layer)
        if form is not None and "forward" not in vars(layer):
            layer.forward = form
            changed.append(layer)
    return changed


def _form_of(layer: nn.Module) -> Callable[[Tensor], Tensor] | None:
    if isinstance(layer, blocks.Upsample2D):
        return doubled(layer.conv)
    if isinstance(layer, nn.Conv2d):
        return channels_last(layer)
    return None


def channels_last(layer: nn.Conv2d) -> Callable[[Tensor], Tensor]:
    """The layer's forward pass in that layout, which each layer passes on to those behind it."""
    weight = layer.weight.detach().contiguous(memory_format=torch.channels_last)
    return lambda x: F.conv2d(x, weight, layer.bias, layer.stride, layer.padding)


def doubled(conv: nn.Conv2d) -> Callable[[Tensor], Tensor]:
    """(B, C, H, W) → (B, C, 2 H, 2 W): repetition and a 3 × 3 convolution as one 2 × 2 convolution.

    After repetition a 3 × 3 kernel covers only four different pixels, and one of four sets of summed weights serves
    each pixel of the result (Shi et al. 2016, arXiv:1609.05158).
    """
    sums = F.avg_pool2d(F.pad(conv.weight.detach(), (1, 1, 1, 1)), 2, stride=1, divisor_override=1)  # (C, C, 4, 4)
    # Row 2 i + a of the result sees rows i + a − 1 and i + a of x, with the sums 0 and 2 (a = 0) or 1 and 3 (a = 1).
    # Shuffling puts the part computed there in row 2 (i + a) + 1 − a, so all rows are moved by one alike.
    parts = [sums[:, :, a::2, b::2] for a in (1, 0) for b in (1, 0)]
    kernel = torch.stack(parts, dim=1).flatten(0, 1).contiguous(memory_format=torch.channels_last)  # (4 C, C, 2, 2)
    bias = conv.bias.detach().repeat_interleave(4)
    return lambda x: F.pixel_shuffle(F.conv2d(x, kernel, bias, padding=1), 2)[..., 1:-1, 1:-1]
