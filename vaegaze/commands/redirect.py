"""A photo, a video, or a frame of a data set in which the person looks elsewhere.

    vaegaze redirect --checkpoint C --image me.jpg --gaze 0 0 --output me_looking.png
    vaegaze redirect --checkpoint C --image me.jpg --sweep circle --output me.gif
    vaegaze redirect --checkpoint C --hdf_path F --person_id P --index 3 --sweep grid --output grid.png
    vaegaze redirect --checkpoint C --video talk.mp4 --gaze camera --output talk_looking.mp4

The result is the picture with its eyes redrawn; a sweep shows the face with many gazes, as an animation or a sheet.
"""

import math
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from vaegaze.commands.angle_words import with_camera_in_angles
from vaegaze.commands.compare import comparison_lines
from vaegaze.commands.frame_report import BEGINS, REPORT_SUFFIX, reason_lines, report_text
from vaegaze.commands.outputs import refuse_output
from vaegaze.commands.progress import StopSignals, progress_bar, progress_callback
from vaegaze.commands.redirect_settings import EVERYONE, RedirectConfig, RedirectParams
from vaegaze.commands.running import run_with_settings
from vaegaze.config import shared
from vaegaze.data import hdf5
from vaegaze.data.photo import Photo, eyes_text, load_photo, own_irises, paste, photo_of_frame
from vaegaze.errors import Interrupted, UserError, plain
from vaegaze.faces.cascades import opencv
from vaegaze.faces.reader import NO_LANDMARKS, backend
from vaegaze.files import write_text
from vaegaze.geometry.camera import FARTHEST_GAZE_RAD, Camera
from vaegaze.images.animations import captioned, write_animation
from vaegaze.images.pictures import as_image, write_picture
from vaegaze.images.sheets import picture_sheet
from vaegaze.images.video import VideoReader, open_video, write_video
from vaegaze.images.video.reading import MAX_SIDE_PX
from vaegaze.models.checkpoint import Checkpoint, Reference, load_checkpoint
from vaegaze.models.device import find_device, to_device
from vaegaze.redirecting.comparison import Comparison
from vaegaze.redirecting.drawing import is_own_reference, redraw_gazes, reference_of
from vaegaze.redirecting.series import Look
from vaegaze.redirecting.sweeps import (
    CELL_PX,
    FRAME_PX,
    GRID_PITCHES_RAD,
    GRID_YAWS_RAD,
    close_ups,
    frame_ms,
    sweep_gazes,
)
from vaegaze.redirecting.video import NothingDrawn, redirect_video
from vaegaze.training.provenance import fine_tuned_on
from vaegaze.training.references import references_of

ADVICE = shared.advice(
    "checkpoint",
    "base",
    "no_adapter",
    "device",
    "data_set",
    "eyes",
    "opencv",
    "face",
    faces="say which with --face N; of a video, --faces all redraws every one",
    reference="give --reference own or none",
    sample="fix it in the file, or give another --index",
    video="give it with --video",
    picture="or give the picture with --image",
)


def main(argv: list[str] | None = None) -> int:
    return run_with_settings(
        RedirectConfig,
        lambda resolved, **switches: run(resolved.config.redirect_params, **switches),
        argv,
        prog="vaegaze redirect",
        description="Make a photo, a video or a frame of a data set look elsewhere.",
        switches=[shared.OVERWRITE],
        rewrite=with_camera_in_angles,
        hint="nothing was written",
        less_memory="give a smaller picture",
        advice=ADVICE,
    )


def run(params: RedirectParams, *, overwrite: bool) -> None:
    output = Path(params.output)
    read = {f"--{name}": getattr(params, name) for name in ("image", "video", "checkpoint", "base", "hdf_path")}
    read["--mask"] = params.mask_path
    refuse_output(output, "--output", overwrite=overwrite, inputs=read)
    if params.video is not None:
        report = output.with_suffix(REPORT_SUFFIX)
        refuse_output(report, "--output", earlier=BEGINS, inputs=read)  # whoever wants it replaced
        refuse_output(report, "--output", overwrite=overwrite)  # of a video of the same name with another ending
        opencv()
    checkpoint = load_checkpoint(params.checkpoint, params.base)
    for note in checkpoint.notes:
        print(note)
    if params.video is not None:
        redirect_the_video(params, checkpoint)
    else:
        redirect_the_picture(params, checkpoint)


def redirect_the_video(params: RedirectParams, checkpoint: Checkpoint) -> None:
    """Write the video of `params`, and print what became of its frames. Interrupted after a signal."""
    output, stop, began = Path(params.output), StopSignals(), time.perf_counter()
    from_itself = is_own_reference(params.reference, checkpoint)
    model = to_device(checkpoint.model, torch.device(find_device(params.device)))
    if params.reference == "none":
        warn_without_reference(checkpoint)
    if params.head is None and backend() == "cascades":
        print(NO_LANDMARKS)
    comparison = Comparison(backend(), thorough=False)
    look_away = params.seed if params.look_away else None
    look = Look(params.gaze, params.head, params.strength, params.fades, look_away)
    try:
        with open_video(params.video, "--video") as reader:
            print(plain(f"{params.video}: {described(reader)}"))
            width_px = reader.width_px * (2 if params.compare else 1)
            if width_px > MAX_SIDE_PX:
                raise UserError(
                    f"--compare: side by side, two pictures {reader.width_px} px wide make {width_px} px; at most "
                    f"{MAX_SIDE_PX} can be read again; leave out --compare"
                )
            with write_video(output, width_px, reader.height_px, reader.frames_per_sec, like=reader) as writer:
                early_notes = [*reader.notes, *writer.notes]
                for note in early_notes:
                    print(plain(note))
                with progress_bar("redrawing", reader.frame_count, unit=" frames") as bar:
                    tally = redirect_video(
                        reader,
                        writer,
                        model,
                        () if params.reference == "none" else checkpoint.references,
                        look,
                        face=params.face,
                        everyone=params.faces == EVERYONE,
                        compare=params.compare,
                        from_itself=from_itself,
                        comparison=comparison,
                        on_frames=bar.update,
                        should_stop=lambda: stop.received is not None,
                    )
    except NothingDrawn:
        raise Interrupted(stop.received, "nothing was written") from None
    for note in (*reader.notes, *writer.notes):
        if note not in early_notes:
            print(plain(note))
    report = output.with_suffix(REPORT_SUFFIX)
    write_text(report, report_text(tally.fates))
    if tally.stopped:
        raise Interrupted(stop.received, f"{output} holds the first {tally.frames} frames")
    per_sec = tally.frames / (time.perf_counter() - began)
    print(f"✅ {output}: {tally.frames} frames, {per_sec:.1f} a second: {tally.in_words()}")
    if params.faces == EVERYONE:
        print("   Measured on one face of each frame, the one that was found first:")
    print("\n".join(comparison_lines(comparison.numbers())))
    print("\n".join([*reason_lines(tally.fates), plain(f"   {report}: what became of each frame")]))


def described(reader: VideoReader) -> str:
    count = f"about {reader.frame_count}" if reader.frame_count else "an unknown number of"
    return f"{count} frames of {reader.width_px}×{reader.height_px} px, {reader.frames_per_sec:.4g} a second"


def redirect_the_picture(params: RedirectParams, checkpoint: Checkpoint) -> None:
    """Write the photo or frame of `params` with its gaze, or a sweep of gazes."""
    output, photo = Path(params.output), load_subject(params, checkpoint.model.canvas)
    if photo.original.shape[-1] in (2, 4) and params.gaze is not None and output.suffix.lower() != ".png":
        raise UserError(
            f"--output: JPEG holds no transparency, which {params.image} has; give a name that ends in .png"
        )
    reference = reference_for(checkpoint, params, photo)
    model = to_device(checkpoint.model, torch.device(find_device(params.device)))

    gazes = np.array([params.gaze]) if params.sweep is None else sweep_gazes(params.sweep)
    if (turned_rad := abs(gazes - photo.head).max()) > FARTHEST_GAZE_RAD:
        print(
            f"⚠️ Eyes do not turn {math.degrees(turned_rad):.0f}° away from where the head points: expect a bad drawing"
        )
    with progress_callback("drawing") as show:
        redrawn = redraw_gazes(model, photo, reference, gazes, on_batch=show)
    if params.sweep is None:
        irises = own_irises(photo, redrawn[0], gazes[0])
        write_picture(output, as_image(paste(photo, redrawn[0], irises=irises)), photo.colour_profile)
        print(f"✅ {output}")
        return
    say_what_is_shown(photo)
    sides = CELL_PX if params.sweep == "grid" else FRAME_PX
    write_sweep(output, params, gazes, close_ups(photo, redrawn, gazes, *sides), photo)


def load_subject(params: RedirectParams, canvas: Camera) -> Photo:
    """The photo, or the data set's frame; prints what was found."""
    if params.image is not None:
        photo = load_photo(params.image, params.mask_path, None, params.head, canvas, params.face)
        height, width = photo.mask.shape
        found = "found" if params.mask_path is None else "by the mask"
        print(plain(f"{params.image}: {width}×{height} px, eyes {found} {eyes_text(photo)}"))
        for note in photo.notes:
            print(note)
        return photo
    total = hdf5.sample_count(params.hdf_path, params.person_id)
    if params.index >= total:
        raise UserError(f"--index: {params.person_id} has {total} frames; give 0 to {total - 1}, not {params.index}")
    data = hdf5.read_person(params.hdf_path, params.person_id, [params.index], canvas)
    data.samples.refuse_empty_masks(params.person_id)
    print(plain(f"{params.hdf_path}: frame {params.index} of {params.person_id}, eye masks: {data.mask_source}"))
    return photo_of_frame(data.samples)


def reference_for(checkpoint: Checkpoint, params: RedirectParams, photo: Photo) -> Reference | None:
    """What --reference says. Under auto, a model that never learnt to draw from the frame itself takes another of the
    data set's person.
    """
    notes = []
    if params.hdf_path is not None and params.reference == "auto":
        own, notes = fine_tuned_on(checkpoint, params.hdf_path, params.person_id)
        if not own and not checkpoint.draws_from_itself:
            others = references_of(params.hdf_path, params.person_id, checkpoint.model.canvas)
            checkpoint = replace(checkpoint, references=tuple(others))
    for note in notes:
        print(note)
    reference = reference_of(params.reference, checkpoint, photo)
    if reference is None:
        warn_without_reference(checkpoint)
    return reference


def warn_without_reference(checkpoint: Checkpoint) -> None:
    if "fine_tuned_on" not in checkpoint.info and not checkpoint.drops_reference:
        print("⚠️ The model never saw a dropped reference frame, and there is none here: expect worse results")


def say_what_is_shown(photo: Photo) -> None:
    face = photo.around_face()
    height, width = face.mask.shape
    if face.mask.shape != photo.mask.shape:
        print(f"Shown is the face: {width}×{height} of the photo's {photo.mask.shape[1]}×{photo.mask.shape[0]} px")


def write_sweep(
    output: Path, params: RedirectParams, gazes: np.ndarray, frames: list[np.ndarray], photo: Photo
) -> None:
    """Write the frames (H, W, 3) uint8, one for each of the gazes (K, 2), as a sheet or an animation."""
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


if __name__ == "__main__":
    sys.exit(main())
