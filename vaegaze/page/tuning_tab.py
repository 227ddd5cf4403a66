"""The model fine-tuned on the photo of the first tab."""

import gradio as gr

from vaegaze.page.controls import (
    AT_ONCE,
    LONG,
    Explain,
    gaze_sliders,
    guarded,
    hint,
    line,
    message,
    picture,
    radians,
)
from vaegaze.page.studio import Studio, Visit
from vaegaze.runs.one_person import Stopped

LEAST_STEPS, MOST_STEPS, USUAL_STEPS = 20, 1000, 300  # the last as in the shipped settings for a photo


def tuning_tab(studio: Studio, explain: Explain, visit: gr.State, tuned: gr.Radio, redraw: dict) -> None:
    """`redraw` is the event that draws the first tab's preview anew."""
    hint("Trains the model on the photo of the first tab, so that it draws this person's eyes better.")
    with gr.Row():
        with gr.Column():
            steps = gr.Slider(
                LEAST_STEPS,
                MOST_STEPS,
                USUAL_STEPS,
                step=10,
                label="Steps",
                info="More take longer, and come nearer to this photo.",
                elem_id="steps",
            )
            with gr.Accordion("In the photo, the person looks elsewhere", open=False):
                hint("Where the person truly looks; 0 and 0 is into the camera.")
                pitch, yaw = gaze_sliders("true")
        with gr.Column():
            start = gr.Button("Fine-tune", variant="primary", elem_id="tune")
            stop = gr.Button("Stop", visible=False, elem_id="stop_tuning")
            report = gr.DownloadButton("Save the report (HTML)", visible=False, elem_id="saved_report")
            model = gr.DownloadButton("Save the model", visible=False, elem_id="saved_model")
    told = message("tuning")
    sheet = picture("The photo; its eyes as drawn before; and after", "before_after", visible=False, show_label=False)
    caption = gr.HTML(
        "<p>Left: the photo. Middle: its eyes as the model drew them before. Right: as it draws them now.</p>",
        elem_classes="hint",
        visible=False,
    )

    @guarded(explain, told)
    def fine_tune(visit: Visit, steps: int, pitch: float, yaw: float, progress=gr.Progress()) -> dict:  # noqa: B008
        progress(0, desc="Reading the photo and measuring the model")
        try:
            files = studio.fine_tune(
                visit,
                int(steps),
                radians(pitch, yaw),
                on_step=lambda number: progress((number, int(steps)), desc="Fine-tuning", unit="steps"),
            )
        except Stopped:
            return {told: line("Stopped. The model is what it was.")}
        choices = [("As loaded", False), (f"Fine-tuned on {visit.path.name}", True)]
        return {
            told: line("Done. Photos and videos are now drawn with the fine-tuned model; see “Draw with” above."),
            sheet: str(files.before_after),
            caption: gr.update(visible=True),
            report: gr.update(value=str(files.report), visible=True),
            model: gr.update(value=str(files.model), visible=True),
            tuned: gr.update(choices=choices, value=True, visible=True),
        }

    begun = [gr.update(visible=True), gr.update(value=None, visible=True), gr.update(visible=False), ""]
    working = start.click(lambda: begun, None, [stop, sheet, caption, told], **AT_ONCE)
    results = [told, sheet, caption, report, model, tuned]
    done = working.then(fine_tune, [visit, steps, pitch, yaw], results, show_progress_on=sheet, **LONG)
    done.then(**redraw)
    done.then(lambda: gr.update(visible=False), None, stop, **AT_ONCE)
    stop.click(lambda visit: visit and visit.stop.set(), visit, None, **AT_ONCE)
