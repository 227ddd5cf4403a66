"""Faster forms of the models' formulas, for CPUs alone: each was measured there, none on a GPU."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from torch import nn

from vaegaze.models.cpu import mixed_precision, packed_convolutions
from vaegaze.models.cpu.drawing import drawing_forms, forget_other_threads, own_copy, use_drawing_forms
from vaegaze.models.cpu.layers import use_fast_layers

__all__ = ["drawing_forms", "fast_forms", "forget_other_threads", "own_copy", "use_drawing_forms", "use_fast_layers"]


@contextmanager
def fast_forms(modules: Iterable[nn.Module | None], precision: str, scratch_dir: str | Path | None) -> Iterator[None]:
    """Inside the block, `modules` compute as suits training; those not on a CPU in the plain forms. None is skipped.

    Layers take their fast forms and keep them. In `bf16`, inside the block only, frozen weights are bf16 (see
    `mixed_precision` for `scratch_dir` and OSError) and frozen convolutions use packed kernels.
    """
    modules = [use_fast_layers(module, on=is_on_cpu(module)) for module in modules if module is not None]
    modules = [module for module in modules if is_on_cpu(module)]
    with ExitStack() as stack:
        if modules and precision == "bf16":
            stack.enter_context(mixed_precision.frozen_weights_in_bf16(modules, scratch_dir))
            stack.enter_context(packed_convolutions.packed_convolutions(modules))
        yield


def is_on_cpu(module: nn.Module) -> bool:
    return all(parameter.device.type == "cpu" for parameter in module.parameters())
