"""What a command says of the number format it computes in."""

from vaegaze.models.device import emulation_words


def warn_if_emulated(precision: str, device: str) -> None:
    """Warn that bf16 is slower than float32 if it was requested and the device only emulates it."""
    words = emulation_words(precision, device)
    if words is not None:
        print(f"⚠️ {words}; give --precision fp32")
