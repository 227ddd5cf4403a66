"""Colours as people see them differ."""

import numpy as np

# sRGB's primaries in XYZ (IEC 61966-2-1), divided by its white point D65.
_TO_XYZ = np.array(
    [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
) / np.array([[0.9505], [1.0], [1.089]])  # fmt: skip


def lab(srgb: np.ndarray) -> np.ndarray:
    """sRGB (..., 3) in 0..255 → CIELAB (..., 3) under D65 (CIE 15:2004, section 8.2.1)."""
    srgb = np.asarray(srgb, dtype=np.float64) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    share = linear @ _TO_XYZ.T
    x, y, z = np.moveaxis(np.where(share > (6 / 29) ** 3, np.cbrt(share), share / (3 * (6 / 29) ** 2) + 4 / 29), -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def colour_shift(first: np.ndarray, second: np.ndarray) -> float:
    """ΔE*ab (CIE 1976) between the median colours of pixels (P, 3) and (Q, 3) uint8; about 2.3 is just noticeable."""
    return float(np.linalg.norm(lab(np.median(first, axis=0)) - lab(np.median(second, axis=0))))
