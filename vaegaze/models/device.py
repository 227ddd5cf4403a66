"""Where and in which precision a run computes."""

import os
import sys
from dataclasses import replace

import torch

from vaegaze.config.finetune import Config
from vaegaze.errors import UserError

MB = 2**20


def settle_device(config: Config) -> Config:
    """Replace `auto` by what it comes to. UserError for a GPU that is not there."""
    params = config.oneshot_params
    device = find_device(params.device)
    precision = find_precision(params.precision, device)
    return replace(config, oneshot_params=replace(params, device=device, precision=precision))


def find_device(name: str) -> str:
    """A device in place of `auto`; a GPU is made to compute alike each time. UserError for one that is not there."""
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
        torch.utils.deterministic.fill_uninitialized_memory = False  # an aid to find faults, a kernel more each time
        torch.backends.cudnn.allow_tf32 = False  # fp32 means fp32
        # Fused attention sums gradients in any order, and warn_only lets it; PyTorch's plain attention does not.
        torch.backends.cuda.enable_flash_sdp(False)
        torch.backends.cuda.enable_mem_efficient_sdp(False)
        torch.backends.cuda.enable_cudnn_sdp(False)
    return name


def find_precision(name: str, device: str) -> str:
    """A precision in place of `auto`: bf16 where the device computes it natively. Never a matter of measured speed."""
    if name != "auto":
        return name
    if device.startswith("cuda"):
        with torch.cuda.device(device):
            native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = torch.cpu._is_avx512_bf16_supported()
    return "bf16" if native else "fp32"


def autocast(device_type: str, precision: str) -> torch.autocast:
    """Weights stay float32; in bf16 what gains by it is computed so."""
    return torch.autocast(device_type, dtype=torch.bfloat16, enabled=precision == "bf16")


def reset_peak_memory(device: torch.device) -> None:
    """A GPU's `peak_memory_mb` is counted from here on; a process's cannot be."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory_mb(device: torch.device) -> float | None:
    """The most memory ever in use, in MB of 2^20 bytes: a GPU's tensors since the reset, or on a CPU the whole process.

    None where the system does not say (Windows).
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
    """In words, whose memory that is."""
    return "tensors on the GPU while training" if device.type == "cuda" else "the whole process"
