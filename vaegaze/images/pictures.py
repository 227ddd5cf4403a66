"""Picture files: those that cameras and paint programs write, read upright and within a size limit; and our own."""

import logging
import warnings
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from vaegaze.errors import UserError
from vaegaze.files import address_words, atomic_path, shipped_path, stand_in_words

log = logging.getLogger(__name__)

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM")  # none whose decoder starts another program
OTHER_FORMATS = {  # by where a mark stands in the file, and the mark
    (4, b"ftyphei"): "HEIC", (4, b"ftyphev"): "HEIC", (4, b"ftypmif1"): "HEIC", (4, b"ftypavi"): "AVIF",
    (4, b"JXL "): "JPEG XL", (0, b"\xff\x0a"): "JPEG XL", (4, b"jP  "): "JPEG 2000", (0, b"8BPS"): "Photoshop",
    (0, b"gimp xcf"): "GIMP", (0, b"%PDF"): "PDF", (0, b"<svg"): "SVG",
}  # fmt: skip
VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mts", ".mpg", ".mpeg", ".wmv", ".3gp")
MAX_PIXELS, MAX_SIDE_PX = 100_000_000, 20_000
LIMIT = f"at most {MAX_PIXELS // 10**6} million pixels and {MAX_SIDE_PX} a side are read: make it smaller"


@dataclass(frozen=True)
class Picture:
    """An upright picture with its decoded channels."""

    pixels: np.ndarray  # (H, W, C) uint8: grey; grey and alpha; RGB; or RGB and alpha
    colour_profile: bytes | None  # ICC; without it a phone's colours look dull
    first_of_several: bool = False  # frames or pages

    def rgb(self) -> np.ndarray:
        """(H, W, 3) uint8, transparent parts over white."""
        return self.pixels if self.pixels.shape[-1] == 3 else rgb_over_white(self.pixels)


def read_picture(path: str | Path, key: str) -> Picture:
    """A picture at 8 bits a channel, turned upright by its EXIF data; other colour spaces are converted to RGB.

    `key` names the setting in errors. UserError if there is no file, if it is damaged or of no known format, or if it
    has more than 100 million pixels or a side of more than 20,000.
    """
    picture, first_of_several = _open_upright(path, key)
    is_grey = picture.mode in ("1", "L", "LA", "La", "F")
    has_alpha = picture.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info
    converted = picture.convert(("L" if is_grey else "RGB") + ("A" if has_alpha else ""))
    profile = picture.info.get("icc_profile") if picture.mode in ("RGB", "RGBA", "P", "L", "LA") else None
    return Picture(np.array(converted).reshape(*converted.size[::-1], -1), profile, first_of_several)


def read_grey(path: str | Path, key: str) -> np.ndarray:
    """A picture, such as a mask, as (H, W) uint8 grey, upright, transparent parts black. Errors as `read_picture`."""
    return np.array(_over(_open_upright(path, key)[0], "black").convert("L"))


def picture_format(path: str | Path) -> str | None:
    """Which of FORMATS a file seems to be; None if it is none. Its pixels are not read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as picture:
                return picture.format
    except Exception:  # as below
        return None


def as_image(pixels: np.ndarray) -> Image.Image:
    """Pixels (H, W, C) uint8, as `Picture` has them, for Pillow."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def write_picture(path: str | Path, picture: Image.Image, colour_profile: bytes | None) -> None:
    """Write a still picture, by the ending of `path`; JPEG at high quality."""
    options = {} if Path(path).suffix.lower() == ".png" else {"quality": 95, "subsampling": 0}
    with atomic_path(path) as temporary:
        picture.save(temporary, icc_profile=colour_profile, **options)


def rgb_over_white(pixels: np.ndarray) -> np.ndarray:
    """Pixels (H, W, C) uint8, as `Picture` has them, as (H, W, 3) RGB, transparent parts over white."""
    return np.array(_over(as_image(pixels), "white").convert("RGB"))


def _over(picture: Image.Image, background: str) -> Image.Image:
    """The picture with the background behind its transparent parts."""
    if picture.mode not in ("RGBA", "LA", "PA") and "transparency" not in picture.info:
        return picture
    picture = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, background), picture)


def _open_upright(path: str | Path, key: str) -> tuple[Image.Image, int]:
    """The picture, and whether it is the first of several frames or pages."""
    if not isinstance(path, str | PathLike):
        raise UserError(f"{key}: got {type(path).__name__}; expected the path of a picture")
    path = shipped_path(path)
    if not Path(path).is_file():
        if words := address_words(path):
            raise UserError(f"{key}: {path} {words}")
        what = "is a folder" if Path(path).is_dir() else "is no plain file" if Path(path).exists() else "does not exist"
        raise UserError(f"{key}: {path} {what}; give the path of a picture ({', '.join(FORMATS)})")
    if Path(path).suffix.lower() in VIDEO_SUFFIXES:
        raise UserError(f"{key}: {path} is a video, not a picture", about="video")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the size is checked below
            with Image.open(path, formats=FORMATS) as picture:
                width, height = picture.size
                if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE_PX:
                    raise UserError(f"{key}: {path} has {width}×{height} pixels; {LIMIT}")
                log.debug("%s: %s, %d×%d, %s", path, picture.format, width, height, picture.mode)
                # A phone's JPEG may hold the picture a second time, in another size or light (MPO).
                # To count them would read a file of a million.
                several = picture.format != "MPO" and _is_animated(picture)
                return ImageOps.exif_transpose(_eight_bit(picture)), several
    except (UserError, MemoryError):
        raise
    except Image.DecompressionBombError as error:  # Pillow's own limit, from about 180 million pixels on
        raise UserError(f"{key}: {path} is far too large; {LIMIT}") from error
    except Exception as error:  # Pillow's decoders raise nearly anything on a damaged file
        if words := stand_in_words(path) or _other_format_words(path):
            raise UserError(f"{key}: {path} {words}") from error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{key}: {path} cannot be read as a picture ({reason}); give an undamaged {', '.join(FORMATS)} file"
        ) from error


def _other_format_words(path: str | Path) -> str:
    """What to do about a sound picture of a format that is not read; empty for anything else."""
    try:
        with open(path, "rb") as file:
            begin = file.read(32)
    except OSError:
        return ""
    kind = next((kind for (at, mark), kind in OTHER_FORMATS.items() if begin[at:].startswith(mark)), None)
    return f"is {kind}, which is not read here; save it as JPEG or PNG" if kind else ""


def _is_animated(picture: Image.Image) -> bool:
    try:
        return getattr(picture, "is_animated", False)
    except Exception:  # a damaged second frame: the first may be whole
        return False


def _eight_bit(picture: Image.Image) -> Image.Image:
    """Grey of 16 bits or of floats scaled to 8 bits, which Pillow would clip at 255; LAB as RGB, its only way out.

    Of 16 bits that use only the lower 8, those are taken; floats of at most 1 ×255. Other pictures are unchanged.
    """
    if picture.mode == "LAB":
        scaled = picture.convert("RGB")
    elif picture.mode.startswith(("I", "F")):
        pixels = np.nan_to_num(np.asarray(picture)).clip(0, 65535)
        most = pixels.max()
        scale = 255 if picture.mode == "F" and most <= 1 else 1 / 257 if most > 255 else 1
        scaled = Image.fromarray((pixels * scale).round().astype(np.uint8))
        scaled.info = {key: value for key, value in picture.info.items() if key != "transparency"}
    else:
        return picture
    scaled.getexif().update(picture.getexif())
    return scaled
