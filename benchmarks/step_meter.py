"""What a training step costs: seconds, operations, memory, and where they go; and what the machine reaches at most."""

import math
import statistics
import time
from collections.abc import Callable

DTYPES = {"fp32": "float32", "bf16": "bfloat16"}
CONV = (1, 256, 64, 64)  # the shape of a typical convolution at full size: 256 channels, 64 × 64
MATMUL = 2048
KINDS = {  # of PyTorch's operations, by what is in their names
    "convolutions": ("conv",),
    "products and attention": ("::mm", "::bmm", "::addmm", "attention", "softmax"),
    "normalisation": ("group_norm", "layer_norm", "FrozenGroupNorm"),
    "optimiser": ("Optimizer.step",),
    "copies": ("copy", "::cat", "::index", "::flip", "im2col", "col2im"),
}
MADE_OF_OTHERS = ("Optimizer.step", "FrozenGroupNorm")  # of operations of many kinds, which belong to these
OTHER, OUTSIDE = "element by element", "outside PyTorch's operations"


class Meter:
    """Listens to a training loop: times its steps, then counts the operations of one and profiles the one after it.

    Beyond the timed steps a loop has to make two more.
    """

    def __init__(self, steps: int, device, started: float):
        self.steps, self.device, self.started = steps, device, started
        self.losses: list[float] = []
        self.seconds: list[float] = []
        self.first_sec = self.memory_mb = self.tflop = None
        self.spent: dict[str, float] = {}
        self._before = 0.0

    def on_start(self, *_) -> None:
        self._before = time.perf_counter()

    def on_step(self, loss) -> None:
        from vaegaze.models.device import peak_memory_mb

        self.losses.append(float(loss))  # waits for the device
        now = time.perf_counter()
        done = len(self.losses)
        if done <= self.steps:
            self.seconds.append(now - self._before)
            self.first_sec = self.first_sec or time.time() - self.started
        if done == self.steps:
            self.memory_mb = peak_memory_mb(self.device)
            self._counter = flop_counter().__enter__()
        elif done == self.steps + 1:
            self._counter.__exit__(None, None, None)
            self.tflop = self._counter.get_total_flops() / 1e12
            self._profiler = profiler_for(self.device).__enter__()
        elif done == self.steps + 2:
            whole_sec = now - self._before
            self._profiler.__exit__(None, None, None)
            self.spent = seconds_by_kind(self._profiler, self.device, whole_sec)
        self._before = time.perf_counter()


def flop_counter():
    """Counts operations, also those of fused kernels that PyTorch's own counter does not know."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    attention = "_scaled_dot_product_flash_attention_for_cpu"
    fused = {
        getattr(torch.ops.mkldnn, "_convolution_pointwise", None): flop_of_packed_convolution,
        getattr(torch.ops.aten, attention, None): flop_of_attention,
        getattr(torch.ops.aten, f"{attention}_backward", None): flop_of_attention_backward,
    }
    known = {operation: count for operation, count in fused.items() if operation is not None}
    return FlopCounterMode(display=False, custom_mapping=known)


def flop_of_packed_convolution(x: tuple, kernel: tuple, *_, out_shape: tuple, **__) -> int:
    """Of shapes (B, C_in, H, W), (C_out, C_in, k, k) and (B, C_out, H, W); PyTorch's counter does not know it."""
    return 2 * math.prod(out_shape) * math.prod(kernel[1:])


def flop_of_attention(query: tuple, key: tuple, value: tuple, *_, **__) -> int:
    """Of shapes (B, heads, T, D), (B, heads, T', D) and (B, heads, T', D'): the weights, and what they weigh."""
    return 2 * math.prod(query[:3]) * key[2] * (query[3] + value[3])


def flop_of_attention_backward(grad: tuple, query: tuple, key: tuple, value: tuple, *_, **__) -> int:
    """Without the weights, which the kernel computes anew and plain products keep."""
    return 2 * flop_of_attention(query, key, value)


def profiler_for(device):
    import torch
    from torch.profiler import ProfilerActivity

    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device.type == "cuda" else [])
    return torch.profiler.profile(activities=activities)


def seconds_by_kind(profiler, device, whole_sec: float) -> dict[str, float]:
    """The seconds of one step by kind of operation; on a GPU those of the kernels that an operation has started."""
    from torch.autograd import DeviceType

    spent = dict.fromkeys((*KINDS, OTHER), 0.0)
    for event in profiler.events():
        if event.device_type != DeviceType.CPU:
            continue  # a kernel, which its operation's time has in it
        name, above = event.name, event
        while above := above.cpu_parent:
            # Not where it stands elsewhere in the name: the engine adds gradients up under a node's name as well.
            name = above.name if above.name.startswith(MADE_OF_OTHERS) else name
        kinds = (kind for kind, parts in KINDS.items() if any(part in name for part in parts))
        microseconds = event.self_device_time_total if device.type == "cuda" else event.self_cpu_time_total
        spent[next(kinds, OTHER)] += microseconds / 1e6
    return {**spent, OUTSIDE: max(0.0, whole_sec - sum(spent.values()))}


def rates(device: str, precisions: set[str]) -> dict[str, dict[str, float]]:
    """What the machine reaches in TFLOP/s at one large product and at one typical convolution, by precision."""
    found = {"matmul": {}, "conv": {}}
    for precision in sorted(precisions):
        found["matmul"][precision] = matmul_rate(device, precision)
        found["conv"][precision] = conv_rate(device, precision, CONV)
    return found


def matmul_rate(device: str, precision: str) -> float:
    import torch

    square = torch.randn(MATMUL, MATMUL, dtype=getattr(torch, DTYPES[precision]), device=device)
    return rate(2 * MATMUL**3, lambda: square @ square)


def conv_rate(
    device: str, precision: str, shape: tuple[int, int, int, int], tries: int = 7, of: Callable = statistics.median
) -> float:
    """Of a 3 × 3 convolution that keeps the shape (B, C, H, W)."""
    import torch

    kind = {"dtype": getattr(torch, DTYPES[precision]), "device": device}
    pictures, kernels = torch.randn(shape, **kind), torch.randn(shape[1], shape[1], 3, 3, **kind)
    flop = 2 * 9 * shape[1] * math.prod(shape)
    return rate(flop, lambda: torch.nn.functional.conv2d(pictures, kernels, padding=1), tries, of)


def rate(flop: float, work: Callable, tries: int = 7, of: Callable = statistics.median) -> float:
    """TFLOP/s, by the median time (or what `of` makes of them) of a few tries after one to warm up."""
    times = []
    for _ in range(1 + tries):
        started = time.perf_counter()
        work().flatten()[0].item()  # waits for the device
        times.append(time.perf_counter() - started)
    return flop / of(times[1:]) / 1e12
