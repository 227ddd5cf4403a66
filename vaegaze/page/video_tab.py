"""A video in, the redirected video out."""

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
    message,
    radians,
    strength_slider,
)
from vaegaze.page.studio import Studio, Visit


def video_tab(studio: Studio, explain: Explain, visit: gr.State, tuned: gr.Radio) -> None:
    hint("The person is made to look into the camera. Blinks, covered eyes and heads turned far away stay as they are.")
    with gr.Row():
        source = gr.Video(label="Video", sources=["upload"], elem_id="video", height=280, buttons=[])
        result = gr.Video(label="Redirected", interactive=False, elem_id="video_result", height=280, buttons=[])
    told = message("video")
    with gr.Row():
        with gr.Column():
            strength = strength_slider("video")
            with gr.Accordion("Look elsewhere than into the camera", open=False):
                pitch, yaw = gaze_sliders("video")
        with gr.Column():
            start = gr.Button("Redirect the video", variant="primary", elem_id="redirect_video")
            stop = gr.Button("Stop", visible=False, elem_id="stop_video")
            saved = gr.DownloadButton("Save the video (MP4)", visible=False, elem_id="saved_video")

    @guarded(explain, told, emptied=[result])
    def redirect(visit: Visit, video: dict | None, pitch, yaw, strength, tuned, progress=gr.Progress()) -> dict:  # noqa: B008
        if video is None:
            raise UserError("there is no video yet; choose one")

        def show(done: int, total: int | None) -> None:
            progress((done, total), desc="Redrawing", unit="frames")

        progress((0, None), desc="Redrawing", unit="frames")
        path, gaze = Path(video["path"]), radians(pitch, yaw)
        output, tally = studio.redirect_video(visit, path, gaze, strength / 100, tuned, show)
        text = f"{'Stopped after' if tally.stopped else 'Done:'} {tally.frames} frames: {tally.in_words()}"
        return {
            result: str(output),
            told: line(text),
            saved: gr.update(value=str(output), visible=True),
        }

    inputs = [visit, source, pitch, yaw, strength, tuned]
    # Without Gradio's own preprocessing, which might convert the file: vaegaze reads it as it is.
    working = start.click(lambda: [gr.update(visible=True), ""], None, [stop, told], **AT_ONCE)
    done = working.then(redirect, inputs, [result, told, saved], preprocess=False, show_progress_on=result, **LONG)
    done.then(lambda: gr.update(visible=False), None, stop, **AT_ONCE)
    stop.click(lambda visit: visit and visit.stop.set(), visit, None, **AT_ONCE)
