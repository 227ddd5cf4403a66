"""What a command says of the number format it computes in."""

from vaegaze.models.device import bf16_slowdown


def warn_if_emulated(precision: str, device: str) -> None:
    """Warn that bf16 is slower than float32 if it was requested and the device only emulates it."""
    slowdown = bf16_slowdown(device) if precision == "bf16" else None
    if slowdown is not None:
        print(
            f"⚠️ precision: this device emulates bf16: convolutions take {slowdown:.0f} times as long as in fp32; "
            "give --precision fp32"
        )
