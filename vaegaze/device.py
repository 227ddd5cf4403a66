"""Where and in which precision a run computes."""

import os
from dataclasses import replace

import torch

from vaegaze.config import Config, UserError


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
                f"device: {name} was asked for, but PyTorch sees {torch.cuda.device_count()} CUDA devices here; "
                "give --device cpu, or auto, or install a PyTorch build that fits the driver"
            )
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS is not deterministic
        torch.use_deterministic_algorithms(True, warn_only=True)  # a few kernels have no deterministic form
        torch.backends.cudnn.allow_tf32 = False  # fp32 means fp32
    return name


def find_precision(name: str, device: str) -> str:
    """A precision in place of `auto`: bf16 where the device computes it natively. Never a matter of measured speed."""
    if name != "auto":
        return name
    if device.startswith("cuda"):
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16" if native else "fp32"


def autocast(device_type: str, precision: str) -> torch.autocast:
    """Weights stay float32; in bf16 what gains by it is computed so."""
    return torch.autocast(device_type, dtype=torch.bfloat16, enabled=precision == "bf16")
