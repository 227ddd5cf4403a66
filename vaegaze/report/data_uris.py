"""Pictures as data URIs, so that a page needs no other file."""

import base64
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

JPEG = {"quality": 93, "subsampling": 0}  # a third of a PNG's size, with no visible difference


def jpeg(pixels: np.ndarray, colour_profile: bytes | None = None) -> str:
    """A picture (H, W, 3) uint8 RGB; its ICC profile, if any, goes with it."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", icc_profile=colour_profile, **JPEG)
    return data_uri("image/jpeg", file.getvalue())


def animation(pictures: Sequence[np.ndarray], frame_ms: int) -> str:
    """Pictures (K, H, W, 3) uint8 RGB in an endless loop.

    An animated PNG: it is lossless, and stores only the pixels that change from frame to frame. After pasting these
    are the eyes.
    """
    first, *others = map(Image.fromarray, pictures)
    file = io.BytesIO()
    first.save(file, "PNG", save_all=True, append_images=others, duration=frame_ms, loop=0)
    return data_uri("image/png", file.getvalue())


def data_uri(media_type: str, content: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
