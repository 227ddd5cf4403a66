"""What a command says of the number format it computes in."""

from vaegaze.models.device import bf16_slowdown


def warn_if_emulated(precision: str, device: str) -> None:
    """Print how much slower bf16 is than float32 if it was asked for and the device only emulates it."""
    slowdown = bf16_slowdown(device) if precision == "bf16" else None
    if slowdown is not None:
        print(
            f"⚠️ precision: this device emulates bf16: convolutions take {slowdown:.0f} times as long as in fp32; "
            "give --precision fp32"
        )
