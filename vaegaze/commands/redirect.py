"""A photo, a video, or a frame of a data set, with the person looking elsewhere.

    vaegaze redirect --checkpoint C --image me.jpg --gaze 0 0 --output me_looking.png
    vaegaze redirect --checkpoint C --image me.jpg --sweep circle --output me.gif
    vaegaze redirect --checkpoint C --hdf_path F --person_id P --index 3 --sweep grid --output grid.png
    vaegaze redirect --checkpoint C --video talk.mp4 --gaze camera --output talk_looking.mp4

The result is the picture with the eyes drawn in; a sweep shows the face with many gazes, as an animation or a sheet.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from vaegaze.commands.outputs import refuse_output
from vaegaze.commands.redirect_settings import RedirectConfig, RedirectParams, with_camera_in_angles
from vaegaze.commands.running import run_command
from vaegaze.config.flags import FlagParser, read_command
from vaegaze.data import hdf5
from vaegaze.data.photo import Photo, eyes_text, load_photo, paste, photo_of_frame
from vaegaze.data.safe_hdf5 import path_given_by
from vaegaze.errors import UserError, plain
from vaegaze.faces.cascades import opencv
from vaegaze.files import atomic_path
from vaegaze.images.animations import captioned, write_animation
from vaegaze.images.pictures import as_image, rgb_over_white
from vaegaze.images.sheets import picture_sheet
from vaegaze.models.checkpoint import Checkpoint, Reference, load_checkpoint
from vaegaze.models.device import find_device
from vaegaze.redirecting.drawing import draw_gazes
from vaegaze.redirecting.sweeps import GRID_PITCHES_RAD, GRID_YAWS_RAD, frame_ms, sweep_gazes
from vaegaze.redirecting.video import redirect_video
from vaegaze.training.provenance import fine_tuned_on
from vaegaze.training.references import references_of

FRAME_PX, CELL_PX = (320, 512), (224, 224)  # longer side, at least and at most: of a frame, of a picture in the grid


def main(argv: list[str] | None = None) -> int:
    parser = FlagParser(prog="vaegaze redirect", description=__doc__.splitlines()[0])
    parser.add_argument("--overwrite", action="store_true", help="replace what was written before")

    def work() -> None:
        typed = with_camera_in_angles(sys.argv[1:] if argv is None else argv)
        resolved, switches = read_command(parser, RedirectConfig, typed)
        run(resolved.config.redirect_params, **switches)

    return run_command(work, hint="nothing was written", less_memory="give a smaller picture")


@path_given_by("--hdf_path")
def run(params: RedirectParams, *, overwrite: bool) -> None:
    output = Path(params.output)
    read = {f"--{name}": getattr(params, name) for name in ("image", "video", "mask", "checkpoint", "base", "hdf_path")}
    refuse_output(output, "--output", overwrite=overwrite, inputs=read)
    if params.video is not None:
        opencv(instead="")  # a mask is of no use there
    checkpoint = load_checkpoint(params.checkpoint, params.base, flag="--checkpoint")
    for note in checkpoint.notes:
        print(note)
    if params.video is not None:
        model = checkpoint.model.to(find_device(params.device))
        reference = reference_for(checkpoint, params)
        how = {"gaze": params.gaze, "head": params.head, "face": params.face, "compare": params.compare}
        redirect_video(params.video, output, model, reference, **how)
        return
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


def load_subject(params: RedirectParams, size_px: int) -> Photo:
    """The photo, or the data set's frame; what was found is printed."""
    if params.image is not None:
        photo = load_photo(params.image, params.mask, (0, 0), params.head, size_px, params.face)
        height, width = photo.mask.shape
        found = "found" if params.mask is None else "by the mask"
        print(plain(f"{params.image}: {width}×{height} px, eyes {found} {eyes_text(photo)}"))
        for note in photo.notes:
            print(note)
        return photo
    total = hdf5.sample_count(params.hdf_path, params.person_id)
    if params.index >= total:
        raise UserError(f"--index: {params.person_id} has {total} frames; give 0 to {total - 1}, not {params.index}")
    data = hdf5.read_person(params.hdf_path, params.person_id, [params.index], size_px)
    data.samples.refuse_empty_masks(params.person_id)
    print(plain(f"{params.hdf_path}: frame {params.index} of {params.person_id}, eye masks: {data.mask_source}"))
    return photo_of_frame(data.samples)


def reference_for(checkpoint: Checkpoint, params: RedirectParams, photo: Photo | None = None) -> Reference | None:
    """The frame that the model was fine-tuned with; of another person's frames in a data set, the most frontal one."""
    own, notes = True, []
    if params.hdf_path is not None:
        own, notes = fine_tuned_on(checkpoint, params.hdf_path, params.person_id)
    for note in notes:
        print(note)
    if own:
        info = checkpoint.info
        if checkpoint.reference is None and "fine_tuned_on" not in info and not info.get("drops_reference"):
            print("⚠️ The model never saw a dropped reference frame, and there is none here: expect less of it")
        return checkpoint.reference
    others = references_of(params.hdf_path, params.person_id, checkpoint.model.image_size)
    return next((each for each in others if not np.array_equal(each.image, photo.picture)), None)


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
        columns, count = [f"yaw {yaw:+.2f} rad" for yaw in GRID_YAWS_RAD], len(GRID_YAWS_RAD)
        rows = [
            (f"pitch\n{pitch:+.2f} rad", frames[row * count : (row + 1) * count])
            for row, pitch in enumerate(GRID_PITCHES_RAD)
        ]
        write_picture(output, Image.fromarray(picture_sheet(columns, rows)), profile)
        print(f"✅ {output}: {len(frames)} gazes, {width}×{height} px each")
        return
    if params.label:
        captions = [f"pitch {pitch:+.2f}, yaw {yaw:+.2f} rad" for pitch, yaw in gazes.round(2) + 0.0]  # −0 + 0 is 0
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
