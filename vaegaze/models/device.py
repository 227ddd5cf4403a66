"""Where and in which precision a run computes."""

import os
import sys
import time
from dataclasses import replace

import torch
from torch import nn
from torch.nn import functional as F

from vaegaze.config.finetune import Config
from vaegaze.errors import UserError
from vaegaze.models.cpu import use_fast_layers

MB = 2**20


def settle_device(config: Config) -> Config:
    """Resolve `auto` for device and precision. UserError for a GPU that is not there."""
    params = config.oneshot_params
    device = find_device(params.device)
    precision = find_precision(params.precision, device)
    return replace(config, oneshot_params=replace(params, device=device, precision=precision))


def find_device(name: str) -> str:
    """The device that `auto` stands for; makes a GPU deterministic. UserError for one that is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda"):
        index = int(name.partition(":")[2] or 0)
        if index >= torch.cuda.device_count():
            raise UserError(
                f"device: {name} was requested, but PyTorch sees {torch.cuda.device_count()} CUDA devices",
                about="device",
            )
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS is not deterministic
        torch.use_deterministic_algorithms(True, warn_only=True)  # a few kernels have no deterministic form
        torch.utils.deterministic.fill_uninitialized_memory = False  # a debugging aid that costs kernels
        torch.backends.cudnn.allow_tf32 = False  # fp32 means fp32
        # Fused attention sums gradients in any order, which warn_only permits; plain attention sums in one order.
        torch.backends.cuda.enable_flash_sdp(False)
        torch.backends.cuda.enable_mem_efficient_sdp(False)
        torch.backends.cuda.enable_cudnn_sdp(False)
    return name


def cap_memory(device: torch.device, share: float | None) -> None:
    """Let this process take no more than its share of the memory of its GPU, the only one that it sees."""
    if device.type == "cuda" and share is not None and share < 1:
        torch.cuda.set_per_process_memory_fraction(share)  # which refuses a device without an index


def to_device(module: nn.Module, device: torch.device) -> nn.Module:
    """Move a module to a device in place; on a CPU alone, its layers take their fast forms."""
    return use_fast_layers(module.to(device), on=device.type == "cpu")


def refuse_other_dtypes(model: nn.Module) -> None:
    """UserError for a model whose weights a script has converted: low precision is a setting, see `autocast`."""
    others = {str(each.dtype).removeprefix("torch.") for each in model.parameters()} - {"float32"}
    if others:
        raise UserError(
            f"model: its weights are {', '.join(sorted(others))}; expected float32, as after model.model.float()"
        )


def find_precision(name: str, device: str) -> str:
    """The precision that `auto` stands for: bf16 where the device computes it natively, never by measured speed."""
    if name != "auto":
        return name
    return "bf16" if has_native_bf16(device) else "fp32"


def has_native_bf16(device: str) -> bool:
    """Whether a device computes in bf16, where others emulate it, many times slower than float32."""
    if device.startswith("cuda"):
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    # The processor has the instructions, and oneDNN uses them (not so under ONEDNN_MAX_CPU_ISA=AVX2).
    return torch.cpu._is_avx512_bf16_supported() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def bf16_slowdown(device: str) -> float | None:
    """How many times longer one convolution takes in bf16 than in float32 if the device emulates bf16, else None.

    In two digits. None also where it takes no longer: `has_native_bf16` does not know every processor.
    """
    if has_native_bf16(device):
        return None
    ratio = _convolution_sec(device, torch.bfloat16) / _convolution_sec(device, torch.float32)
    slowdown = float(f"{ratio:.2g}")
    return slowdown if slowdown > 1 else None


def emulation_words(precision: str, device: str) -> str | None:
    """What to know about bf16 that was requested where the device emulates it, slower than float32; else None."""
    slowdown = bf16_slowdown(device) if precision == "bf16" else None
    if slowdown is None:
        return None
    return f"precision: this device emulates bf16: convolutions take {slowdown:g} times as long as in fp32"


@torch.no_grad()
def _convolution_sec(device: str, dtype: torch.dtype, tries: int = 3) -> float:
    """The fastest of a few 3 × 3 convolutions of 32 channels, 32 × 32 pixels, after one to warm up."""
    x = torch.zeros(1, 32, 32, 32, dtype=dtype, device=device)
    kernel = torch.zeros(32, 32, 3, 3, dtype=dtype, device=device)
    seconds = []
    for _ in range(1 + tries):
        started = time.perf_counter()
        F.conv2d(x, kernel, padding=1).sum().item()  # waits for the device
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:])


def autocast(device_type: str, precision: str) -> torch.autocast:
    """Weights stay float32; under bf16, autocast converts the operations that gain by it."""
    return torch.autocast(device_type, dtype=torch.bfloat16, enabled=precision == "bf16")


def reset_peak_memory(device: torch.device) -> None:
    """Reset a GPU's `peak_memory_mb`; that of a CPU process cannot be reset."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory_mb(device: torch.device) -> float | None:
    """The most memory in use, in MB of 2^20 bytes: a GPU's tensors since the reset, or on a CPU the whole process.

    None where the system does not report it (Windows).
    """
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / MB, 1)
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024  # bytes
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MB, 1)


def peak_memory_of(device: torch.device) -> str:
    """What `peak_memory_mb` counts, in words."""
    return "tensors on the GPU while training" if device.type == "cuda" else "the whole process"
