"""A video in, the redirected video out."""

from collections.abc import Callable, Sequence
from pathlib import Path

import gradio as gr

from vaegaze.errors import UserError
from vaegaze.page.controls import (
    AT_ONCE,
    LONG,
    Explain,
    gaze_sliders,
    guarded,
    hint,
    line,
    listed,
    message,
    radians,
    strength_slider,
)
from vaegaze.page.studio import BrokenOff, Studio, Visit
from vaegaze.redirecting.comparison import Compared
from vaegaze.redirecting.fading import Fate

SHOW_RESULT = "() => document.querySelector('#video_result').scrollIntoView({behavior: 'smooth', block: 'nearest'})"

Describe = Callable[[Compared, Sequence[Fate]], list[str]]  # in words


def video_tab(studio: Studio, explain: Explain, describe: Describe, visit: gr.State, tuned: gr.Radio) -> None:
    hint("The person is made to look into the camera. Blinks, covered eyes and heads turned far away stay as they are.")
    with gr.Row():  # on a phone, one below the other in this order
        with gr.Column():
            source = gr.Video(label="Video", sources=["upload"], elem_id="video", height=280, buttons=[])
            strength = strength_slider("video")
            with gr.Accordion("Look elsewhere than into the camera", open=False):
                pitch, yaw = gaze_sliders("video")
            with gr.Row(visible=False, elem_id="whose") as whose:
                number = gr.Number(
                    None, label="Which person, from left to right", minimum=1, precision=0, elem_id="person"
                )
                everyone = gr.Checkbox(False, label="Everyone", elem_id="everyone")
            start = gr.Button("Redirect the video", variant="primary", elem_id="redirect_video")
            stop = gr.Button("Stop", visible=False, elem_id="stop_video")
            told = message("video")
        with gr.Column():
            result = gr.Video(label="Redirected", interactive=False, elem_id="video_result", height=280, buttons=[])
            saved = gr.DownloadButton("Save the video (MP4)", visible=False, elem_id="saved_video")
            details = gr.HTML("", elem_id="video_details", elem_classes="details")

    def finished(path: Path) -> dict:
        return {result: str(path), saved: gr.update(value=str(path), visible=True)}

    @guarded(explain, told)
    def redirect(
        visit: Visit,
        video: dict | None,
        wanted: float | None,
        all_of_them: bool,
        pitch: float,
        yaw: float,
        strength: float,
        tuned: bool,
        progress=gr.Progress(),  # noqa: B008
    ) -> dict:
        if video is None:
            raise UserError("there is no video yet; choose one")
        if wanted is not None and wanted < 1:
            raise UserError("persons are counted from 1", about="face")

        def show(done: int, total: int | None) -> None:
            progress((done, total), desc="Redrawing", unit="frames")

        show(0, None)
        path, gaze = Path(video["path"]), radians(pitch, yaw)
        whom = {"everyone": True} if all_of_them else {"face": None if wanted is None else int(wanted)}
        try:
            redirected = studio.redirect_video(visit, path, gaze, strength / 100, tuned, show, **whom)
        except BrokenOff as error:
            return {told: line(explain(error), is_error=True), **finished(error.part)}
        except UserError as error:
            if error.about != "faces":
                raise
            choose = {whose: gr.update(visible=True), number: 1}
            return {told: line(f"{explain(error)}, or everyone", is_error=True), **choose}
        tally = redirected.tally
        text = f"{'Stopped after' if tally.stopped else 'Done:'} {tally.frames} frames: {tally.in_words()}"
        more = listed([*redirected.notes, *describe(redirected.numbers, tally.fates)])
        return {told: line(text), details: more, **finished(redirected.path)}

    emptied = {told: "", result: None, saved: gr.update(visible=False), details: ""}
    outputs = [*emptied, whose, number, everyone]
    gr.on(
        [source.upload, source.clear],
        lambda: emptied | {whose: gr.update(visible=False), number: None, everyone: False},
        None,
        outputs,
        **AT_ONCE,
    )
    working = start.click(lambda: emptied | {stop: gr.update(visible=True)}, None, [*emptied, stop], **AT_ONCE)
    working.then(None, js=SHOW_RESULT)
    inputs = [visit, source, number, everyone, pitch, yaw, strength, tuned]
    # Without Gradio's own preprocessing, which might convert the file: vaegaze reads it as it is.
    done = working.then(redirect, inputs, outputs, preprocess=False, show_progress_on=result, **LONG)
    done.then(lambda: gr.update(visible=False), None, stop, **AT_ONCE)
    stop.click(lambda visit: visit and visit.stop.set(), visit, None, **AT_ONCE)
