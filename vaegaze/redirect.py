"""A photo, or a frame of a data set, with the person looking elsewhere.

    python -m vaegaze.redirect --checkpoint C --image me.jpg --gaze 0 0 --output me_looking.png
    python -m vaegaze.redirect --checkpoint C --image me.jpg --sweep circle --output me.gif
    python -m vaegaze.redirect --checkpoint C --hdf_path F --person_id P --index 3 --sweep grid --output grid.png

The result is the picture with the eyes drawn in; a sweep shows the face with many gazes, as an animation or a sheet.
"""

import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from vaegaze import animations
from vaegaze.animations import captioned, write_animation
from vaegaze.command import run_command
from vaegaze.config_flags import FlagParser, read_command
from vaegaze.config_tree import UserError, option, plain
from vaegaze.data import hdf5
from vaegaze.data.geometry import rolled
from vaegaze.data.photo import Photo, eyes_text, load_photo, paste, photo_of_frame
from vaegaze.data.pictures import as_image, rgb_over_white
from vaegaze.data.safe_hdf5 import path_given_by
from vaegaze.device import find_device
from vaegaze.files import atomic_path, probe_folder
from vaegaze.frames import fine_tuned_on, references_of
from vaegaze.models import VAEGaze, to_pixels, to_unit_range
from vaegaze.models.checkpoint import Checkpoint, Reference, load_checkpoint
from vaegaze.progress import progress_bar
from vaegaze.sheets import picture_sheet
from vaegaze.sweeps import GRID_PITCHES_RAD, GRID_YAWS_RAD, SWEEPS, frame_ms, sweep_gazes

AT_ONCE = 8  # gazes that are drawn in one batch

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")
FRAME_PX, CELL_PX = (320, 512), (224, 224)  # longer side, at least and at most: of a frame, of a picture in the grid


@dataclass(frozen=True)
class RedirectParams:
    """Whose eyes are drawn, by which model, and where they look. Angles are those seen in the upright picture"""

    checkpoint: str | None = option(None, help="the model: a base, a fine-tuned one, or an adapter", metavar="PATH")
    base: str | None = option(None, help="of an adapter: its base, where that has moved", metavar="PATH")
    image: str | None = option(None, help="the photo", metavar="PATH")
    mask: str | None = option(
        None,
        help="its eye mask, an image of its size, white on the eyes; without it they are found, if OpenCV is there",
        metavar="PATH",
    )
    face: int | None = option(None, low=1, help="whose eyes are to be found, of several faces, from left to right")
    head: tuple[float, float] = option(
        (0.0, 0.0),
        low=-math.pi / 2,
        high=math.pi / 2,
        unit="rad",
        help="how the head in the photo is turned",
        metavar=("PITCH", "YAW"),
    )
    hdf_path: str | None = option(None, help="in place of a photo: HDF5 file, or a folder of them", metavar="PATH")
    person_id: str | None = option(None, help="whose frame in there", metavar="ID")
    index: int | None = option(None, low=0, help="which of the person's frames")
    gaze: tuple[float, float] | None = option(
        None,
        low=-math.pi / 2,
        high=math.pi / 2,
        unit="rad",
        help="where to look: 0 0 into the camera; up and to the picture's left are positive",
        metavar=("PITCH", "YAW"),
    )
    sweep: str | None = option(
        None, legal=f"{' | '.join(SWEEPS)} | P,Y;P,Y;...", help="in place of --gaze: many gazes", metavar="SWEEP"
    )
    label: bool = option(False, help="write the angles below each frame of an animation")
    output: str | None = option(
        None, help="the picture: PNG or JPEG; of a sweep other than grid: GIF, WebP or APNG", metavar="PATH"
    )
    device: str = option(
        "auto", choices=("auto", "cpu", "cuda"), help="what to compute on; auto takes a GPU", metavar="NAME"
    )


@dataclass(frozen=True)
class RedirectConfig:
    """The settings of one redirection."""

    redirect_params: RedirectParams = RedirectParams()

    def problems(self, origins: Mapping[str, str]) -> Iterator[tuple[tuple[str, ...], str]]:
        """What is missing or does not go together; see `config_tree.resolve`."""
        params = self.redirect_params

        def about(*names: str) -> tuple[str, ...]:
            return tuple(f"redirect_params.{name}" for name in names)

        def given(name: str) -> bool:
            value = getattr(params, name)  # 0 may be given, null and false may not
            return origins[f"redirect_params.{name}"] != "default" and value is not None and value is not False

        for name in ("checkpoint", "output"):
            if not given(name):
                yield about(name), f"needed; give --{name} PATH"

        if given("image") and given("hdf_path"):
            yield about("image", "hdf_path"), "has no use with --hdf_path; leave out one of them"
        elif not given("image") and not given("hdf_path"):
            yield about("image", "hdf_path"), "needed; give --image PATH, or --hdf_path, --person_id and --index"
        elif given("image"):
            for name in ("person_id", "index"):
                if given(name):
                    yield about(name, "image"), "has no use with --image"
            if given("face") and given("mask"):
                yield about("face", "mask"), "has no use with --mask, which says where the eyes are"
        else:
            for name in ("person_id", "index"):
                if not given(name):
                    yield about(name, "hdf_path"), f"needed with --hdf_path; give --{name}"
            for name in ("mask", "face", "head"):
                if given(name):
                    yield about(name, "hdf_path"), "has no use with --hdf_path: the data set says it"

        if given("gaze") == given("sweep"):
            text = "has no use with --sweep; leave out one of them" if given("gaze") else "needed; or give --sweep"
            yield about("gaze", "sweep"), text
            return
        if given("sweep"):
            try:
                sweep_gazes(params.sweep)
            except ValueError as error:
                yield about("sweep"), str(error)
                return
        if given("output"):
            animated = params.sweep not in (None, "grid")
            sweep = f"--sweep {params.sweep}" if params.sweep in SWEEPS else "a --sweep of listed gazes"
            what = sweep if given("sweep") else "--gaze"
            fitting = animations.SUFFIXES if animated else PICTURE_SUFFIXES
            if Path(params.output).suffix.lower() not in fitting:
                fit = f"{', '.join(fitting[:-1])} or {fitting[-1]}"
                yield about("output", "sweep"), f"{params.output} does not fit {what}; give a name that ends in {fit}"
            if given("label") and not animated:
                yield about("label", "sweep"), f"has no use with {what}; it is for animations"


def main(argv: list[str] | None = None) -> int:
    parser = FlagParser(prog="python -m vaegaze.redirect", description=__doc__.splitlines()[0])
    parser.add_argument("--overwrite", action="store_true", help="replace what was written before")

    def work() -> None:
        resolved, switches = read_command(parser, RedirectConfig, argv)
        run(resolved.config.redirect_params, **switches)

    return run_command(work, way_on="nothing was written", less_memory="give a smaller picture")


@path_given_by("--hdf_path")
def run(params: RedirectParams, *, overwrite: bool) -> None:
    output = Path(params.output)
    refuse_output(output, params, overwrite=overwrite)
    checkpoint = load_checkpoint(params.checkpoint, params.base, flag="--checkpoint")
    for note in checkpoint.notes:
        print(note)
    photo = load_subject(params, checkpoint.model.image_size)
    if photo.original.shape[-1] in (2, 4) and params.gaze is not None and output.suffix.lower() != ".png":
        raise UserError(
            f"--output: JPEG holds no transparency, which {params.image} has; give a name that ends in .png"
        )
    reference = reference_for(checkpoint, params, photo)
    device = torch.device(find_device(params.device))
    model = checkpoint.model.to(device)

    gazes = np.array([params.gaze]) if params.sweep is None else sweep_gazes(params.sweep)
    drawn = draw_gazes(model, photo, reference, gazes)
    if params.sweep is None:
        write_picture(output, as_image(paste(photo, drawn[0])), photo.colour_profile)
        print(f"✅ {output}")
        return
    write_sweep(
        output, params, gazes, close_ups(photo, drawn, *(CELL_PX if params.sweep == "grid" else FRAME_PX)), photo
    )


def refuse_output(output: Path, params: RedirectParams, *, overwrite: bool) -> None:
    """UserError where something is there that was not to be replaced, above all what is read."""
    for name in ("image", "mask", "checkpoint", "base", "hdf_path"):
        path = getattr(params, name)
        if path is not None and output.exists() and Path(path).exists() and output.samefile(path):
            raise UserError(f"--output: {output} is what --{name} gives; it is never written to: give another name")
    if output.is_dir():
        raise UserError(f"--output: {output} is a folder; give the path of a file")
    if output.exists() and not overwrite:
        raise UserError(f"--output: {output} exists; give --overwrite to replace it, or another name")
    try:
        probe_folder(output.parent)
    except OSError as error:
        raise UserError(f"--output: cannot write to {output.parent} ({error.strerror}); give another place") from error


def load_subject(params: RedirectParams, size_px: int) -> Photo:
    """The photo, or the data set's frame; what was found is printed."""
    if params.image is not None:
        photo = load_photo(params.image, params.mask, (0, 0), params.head, size_px, params.face)
        height, width = photo.mask.shape
        found = "found" if params.mask is None else "by the mask"
        print(plain(f"{params.image}: {width}×{height} px, eyes {found} {eyes_text(photo)}"))
        if photo.ignored_specks:
            print(f"⚠️ Ignored {photo.ignored_specks} specks of the mask")
        return photo
    total = hdf5.sample_count(params.hdf_path, params.person_id)
    if params.index >= total:
        raise UserError(f"--index: {params.person_id} has {total} frames; give 0 to {total - 1}, not {params.index}")
    data = hdf5.read_person(params.hdf_path, params.person_id, [params.index], size_px)
    data.samples.refuse_empty_masks(params.person_id)
    print(plain(f"{params.hdf_path}: frame {params.index} of {params.person_id}, eye masks: {data.mask_source}"))
    return photo_of_frame(data.samples)


def reference_for(checkpoint: Checkpoint, params: RedirectParams, photo: Photo) -> Reference | None:
    """The frame that the model was fine-tuned with; of another person's frames in a data set, the most frontal one."""
    if params.hdf_path is None or fine_tuned_on(checkpoint, params.hdf_path, params.person_id):
        info = checkpoint.info
        if checkpoint.reference is None and "fine_tuned_on" not in info and not info.get("drops_reference"):
            print("⚠️ The model never saw a dropped reference frame, and there is none here: expect less of it")
        return checkpoint.reference
    others = references_of(params.hdf_path, params.person_id, checkpoint.model.image_size)
    return next((each for each in others if not np.array_equal(each.image, photo.picture)), None)


@torch.no_grad()
def draw_gazes(model: VAEGaze, photo: Photo, reference: Reference | None, gazes: np.ndarray) -> np.ndarray:
    """The photo's canvas drawn anew with each of the gazes (K, 2), as seen in the photo → (K, S, S, 3) uint8."""
    device, samples = next(model.parameters()).device, photo.samples
    eye_mask = torch.from_numpy(samples.eye_masks)[:, None].float().to(device)
    masked = model.encode(model.mask(to_unit_range(samples.images).to(device), eye_mask))  # (1, 4, S / f, S / f)
    referred = torch.zeros_like(masked)
    if reference is not None:
        referred = model.encode(to_unit_range(reference.image[None]).to(device))
    head = torch.from_numpy(samples.head).to(device)

    different, position = np.unique(gazes, axis=0, return_inverse=True)  # a sweep there and back draws each once
    told = torch.from_numpy(rolled(different, photo.roll_rad).astype(np.float32)).to(device)
    drawn = []
    with progress_bar("drawing", len(told)) if len(told) > AT_ONCE else nullcontext() as bar:
        for few in told.split(AT_ONCE):
            parts = (part.expand(len(few), *part.shape[1:]) for part in (masked, referred, head))
            result = model(*parts, few)  # (B, 3, S, S)
            if not torch.isfinite(result).all():
                raise UserError("the pictures that the model draws are infinite or NaN; give another --checkpoint")
            drawn.append(to_pixels(result))
            if bar is not None:
                bar.update(len(few))
    return np.concatenate(drawn)[position.ravel()]


def close_ups(photo: Photo, drawn: np.ndarray, least_px: int, most_px: int) -> list[np.ndarray]:
    """Each drawing (K, S, S, 3) pasted into the photo, of which the face's surroundings are shown: (H, W, 3) uint8.

    The longer side is brought into the range from `least_px` to `most_px`.
    """
    face = photo.around_face()
    height, width = face.mask.shape
    factor = min(max(height, width, least_px), most_px) / max(height, width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    if face.mask.shape != photo.mask.shape:
        print(f"Shown is the face: {width}×{height} of the photo's {photo.mask.shape[1]}×{photo.mask.shape[0]} px")
    frames = []
    for each in drawn:
        frame = Image.fromarray(rgb_over_white(paste(face, each)))
        frames.append(np.asarray(frame.resize(size, Image.Resampling.LANCZOS)))
    return frames


def write_sweep(
    output: Path, params: RedirectParams, gazes: np.ndarray, frames: list[np.ndarray], photo: Photo
) -> None:
    """The frames (H, W, 3) uint8, one for each of the gazes (K, 2), as a sheet or an animation."""
    height, width = frames[0].shape[:2]
    profile = photo.colour_profile if photo.original.shape[-1] >= 3 else None  # these pictures are RGB
    if params.sweep == "grid":
        columns, count = [f"yaw {yaw:+.2f}" for yaw in GRID_YAWS_RAD], len(GRID_YAWS_RAD)
        rows = [
            (f"pitch\n{pitch:+.2f}", frames[row * count : (row + 1) * count])
            for row, pitch in enumerate(GRID_PITCHES_RAD)
        ]
        write_picture(output, Image.fromarray(picture_sheet(columns, rows)), profile)
        print(f"✅ {output}: {len(frames)} gazes, {width}×{height} px each")
        return
    if params.label:
        captions = [f"pitch {pitch:+.2f}, yaw {yaw:+.2f}" for pitch, yaw in gazes.round(2) + 0.0]  # −0 + 0 is 0
        frames = [captioned(frame, caption) for frame, caption in zip(frames, captions)]
    each_ms = frame_ms(params.sweep)
    write_animation(output, frames, each_ms, profile)
    print(f"✅ {output}: {len(frames)} frames of {width}×{height} px, {len(frames) * each_ms / 1000:.1f} s")


def write_picture(output: Path, picture: Image.Image, colour_profile: bytes | None) -> None:
    """A still picture; JPEG as good as it can be."""
    options = {} if output.suffix.lower() == ".png" else {"quality": 95, "subsampling": 0}
    with atomic_path(output) as temporary:
        picture.save(temporary, icc_profile=colour_profile, **options)


if __name__ == "__main__":
    sys.exit(main())
