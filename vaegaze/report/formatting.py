"""Numbers as the pages print them: fixed digits, a true minus sign, a dash where there is no value."""

import math

MISSING = "–"


def number(value: float | None, metric: str, signed: bool = False) -> str:
    """A metric's value with the digits that suit it; `metric` is its key in summary.json."""
    if value is None or not math.isfinite(value):
        return MISSING
    form = "g" if metric.endswith("outside_mask") else ".2f" if metric.endswith(("psnr", "deg", "travel")) else ".4f"
    return _true_minus(f"{value:{'+' if signed else ''}{form}}")


def percent(share: float) -> str:
    """A change, 0.1 being +10 %."""
    return _true_minus(f"{100 * share:+.0f} %")


def degrees(angle_rad: float) -> str:
    rounded = round(math.degrees(angle_rad), 1) + 0.0  # no −0.0
    return _true_minus(f"{rounded:+.1f}°")


def direction(angles_rad: tuple[float, float]) -> str:
    """Pitch and yaw in degrees."""
    pitch, yaw = map(degrees, angles_rad)
    return f"pitch {pitch}, yaw {yaw}"


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def _true_minus(text: str) -> str:
    return text.replace("-", "−")
