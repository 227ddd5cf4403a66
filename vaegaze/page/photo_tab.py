"""A photo, and sliders whose effect shows at once."""

from pathlib import Path

import gradio as gr

from vaegaze.errors import UserError
from vaegaze.files import shipped_path
from vaegaze.page.controls import (
    AT_ONCE,
    LONG,
    QUICK,
    Explain,
    gaze_sliders,
    guarded,
    hint,
    line,
    message,
    picture,
    radians,
    strength_slider,
)
from vaegaze.page.studio import Studio, Visit

EXAMPLE = "docs/images/astronaut.png"
SUFFIXES = [".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp"]
SWEEPS = [("In a circle", "circle"), ("Left and right", "horizontal"), ("Up and down", "vertical")]
DOWNLOAD = "() => setTimeout(() => document.querySelector('#saved').click(), 150)"  # once the page knows the file


def photo_tab(studio: Studio, explain: Explain, page: gr.Blocks, visit: gr.State, tuned: gr.Radio) -> dict:
    """Returns the event that draws the preview anew."""
    with gr.Row(elem_classes="centred"):
        upload = gr.UploadButton(
            "Choose a photo", file_types=SUFFIXES, variant="primary", min_width=240, elem_id="upload"
        )
        hint("JPEG, PNG, WebP, TIFF or BMP; one face with open eyes, not turned far away.")
    face = gr.Number(
        None, label="Which face, from left to right", minimum=1, precision=0, visible=False, elem_id="face"
    )
    told = message("photo")
    with gr.Row(elem_classes="pictures"):
        before, after = picture("As it is", "before"), picture("Redirected", "after")
    with gr.Row():
        with gr.Column():
            pitch, yaw = gaze_sliders("photo")
            strength = strength_slider("photo")
            ahead = gr.Button("Look into the camera", elem_id="ahead")
        with gr.Column():
            save = gr.Button("Save the photo (PNG)", elem_id="save")
            saved = gr.DownloadButton(visible="hidden", elem_id="saved")
            sweep = gr.Dropdown(SWEEPS, value="circle", label="Animation: the eyes go", elem_id="sweep")
            animate = gr.Button("Make the animation (GIF)", elem_id="animate")
            animation = picture("Animation", "animation", visible=False)
            saved_animation = gr.DownloadButton("Save the animation (GIF)", visible=False, elem_id="saved_animation")
    looks = [pitch, yaw, strength, tuned]
    shown = [before, after, told, face]

    def pictures(visit: Visit, pitch: float, yaw: float, strength: float, tuned: bool) -> dict:
        as_it_is, redirected = studio.preview(visit, radians(pitch, yaw), strength / 100, tuned)
        return {before: as_it_is, after: redirected}

    def opened(visit: Visit, path: Path, number: int | None, *looks) -> dict:
        photo = studio.open_photo(visit, path, number)
        told_now = line(f"{path.name}: {' '.join(photo.notes)}" if photo.notes else "")
        return {**pictures(visit, *looks), told: told_now}

    def begin() -> dict:
        new = studio.begin()

        @guarded(explain, told)
        def example(visit: Visit) -> dict:
            return opened(visit, shipped_path(EXAMPLE), None, 0, 0, 100, False)

        return {visit: new, **example(new)}

    @guarded(explain, told)
    def open_upload(visit: Visit, path: str, *looks) -> dict:
        try:
            return {**opened(visit, Path(path), None, *looks), face: gr.update(visible=False)}
        except UserError as error:
            several = error.about == "faces"
            return {told: line(explain(error), is_error=True), face: gr.update(visible=several, value=None)}

    @guarded(explain, told)
    def open_face(visit: Visit, number: float | None, *looks) -> dict:
        return {told: ""} if number is None else opened(visit, visit.offered, int(number), *looks)

    @guarded(explain, told)
    def look(visit: Visit, *looks) -> dict:
        return {after: pictures(visit, *looks)[after]}

    @guarded(explain, told, emptied=[saved])
    def save_photo(visit: Visit, pitch: float, yaw: float, strength: float, tuned: bool) -> dict:
        return {saved: str(studio.save_picture(visit, radians(pitch, yaw), strength / 100, tuned))}

    @guarded(explain, told)
    def animate_photo(visit: Visit, name: str, tuned: bool) -> dict:
        path = str(studio.sweep(visit, name, tuned))
        return {animation: path, saved_animation: gr.update(value=path, visible=True)}

    page.load(begin, None, [visit, *shown], **QUICK)
    upload.upload(open_upload, [visit, upload, *looks], shown, **QUICK)
    face.input(open_face, [visit, face, *looks], shown, **QUICK)
    redraw = {"fn": look, "inputs": [visit, *looks], "outputs": [after, told], **QUICK}
    moved = [pitch.change, yaw.change, strength.change, tuned.input]
    gr.on(moved, **redraw, trigger_mode="always_last")
    ahead.click(lambda: (0, 0), None, [pitch, yaw], **QUICK)
    save.click(save_photo, [visit, *looks], [saved, told], **QUICK).then(None, js=DOWNLOAD)
    animate.click(lambda: gr.update(visible=True), None, animation, **AT_ONCE).then(
        animate_photo, [visit, sweep, tuned], [animation, saved_animation, told], **LONG
    )
    return redraw
