"""The page: what stands where. Gradio draws it."""

import html

import gradio as gr

from vaegaze.errors import plain
from vaegaze.page.controls import Explain
from vaegaze.page.photo_tab import photo_tab
from vaegaze.page.studio import Studio, Visit
from vaegaze.page.tuning_tab import tuning_tab
from vaegaze.page.video_tab import Describe, video_tab

CLEAN_UP_SEC = (3600, 86400)  # how often uploads are removed, and from which age on
TITLE = """
<h1>Make eyes look elsewhere</h1>
<p>Choose a photo or a video of a face and say where it is to look. Everything is computed on this computer.</p>
"""


def draw_page(studio: Studio, explain: Explain, describe: Describe) -> gr.Blocks:
    """The page as Gradio's blocks.

    `explain` puts an error that a visitor can do something about into words, `describe` how a video
    differs from its redirected one, and what became of each frame.
    """
    with gr.Blocks(title="vaegaze", analytics_enabled=False, delete_cache=CLEAN_UP_SEC) as page:
        visit = gr.State(None, delete_callback=end)
        gr.HTML(TITLE, elem_id="title")
        tuned = gr.Radio([("As loaded", False)], value=False, label="Draw with", visible=False, elem_id="model")
        with gr.Tab("Photo"):
            redraw = photo_tab(studio, explain, page, visit, tuned)
        with gr.Tab("Video"):
            video_tab(studio, explain, describe, visit, tuned)
        with gr.Tab("Fine-tune"):
            tuning_tab(studio, explain, visit, tuned, redraw)
        gr.HTML(f"<p>Model: {html.escape(plain(studio.path))}</p>", elem_classes="hint")
    return page


def end(visit: Visit | None) -> None:
    if visit is not None:
        visit.end()
