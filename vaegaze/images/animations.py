"""Animations: frames, with a caption if wanted, written as GIF, WebP or APNG."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vaegaze.files import atomic_path

SUFFIXES = (".gif", ".webp", ".apng")
CAPTION_PX = 24
PALETTE_FRAMES = 6  # evenly spread, from which a GIF's colours are chosen


def captioned(frame: np.ndarray, caption: str) -> np.ndarray:
    """A frame (H, W, 3) uint8 with a caption below it."""
    height, width = frame.shape[:2]
    larger = Image.new("RGB", (width, height + CAPTION_PX), "white")
    larger.paste(Image.fromarray(frame))
    font = ImageFont.load_default(size=15)
    place = (width / 2, height + CAPTION_PX / 2)
    ImageDraw.Draw(larger).text(place, caption, fill="black", font=font, anchor="mm")
    return np.asarray(larger)


def write_animation(
    path: str | Path, frames: Sequence[np.ndarray], frame_ms: int, colour_profile: bytes | None = None
) -> None:
    """Write frames (H, W, 3) uint8 as an endless loop of `frame_ms` each; `path` ends in one of SUFFIXES.

    WebP and APNG keep every pixel and the ICC profile; a GIF has 256 colours and no profile.
    """
    is_gif, is_webp = (Path(path).suffix.lower() == suffix for suffix in SUFFIXES[:2])
    first, *others = _with_one_palette(frames) if is_gif else map(Image.fromarray, frames)
    options = {} if is_gif else {"icc_profile": colour_profile, **({"lossless": True} if is_webp else {})}
    with atomic_path(path) as temporary:
        first.save(temporary, save_all=True, append_images=others, duration=frame_ms, loop=0, **options)


def _with_one_palette(frames: Sequence[np.ndarray]) -> list[Image.Image]:
    """The frames in the same 256 colours, dithered; pixels that equal the first frame's get the first frame's colour.

    Dithering carries each error on to the next pixels; otherwise the moving eyes would make the whole face shimmer.
    """
    spread = np.unique(np.linspace(0, len(frames) - 1, PALETTE_FRAMES).round().astype(int))
    palette = Image.fromarray(np.vstack([frames[i] for i in spread])).quantize(256)
    indices = [np.asarray(Image.fromarray(frame).quantize(palette=palette)) for frame in frames]
    images = []
    for frame, own in zip(frames, indices):
        stable = np.where((frame == frames[0]).all(axis=-1), indices[0], own)
        image = Image.frombytes("P", stable.shape[::-1], stable.tobytes())
        image.putpalette(palette.getpalette())
        images.append(image)
    return images
