"""The page's recurring controls, and how its events run and fail."""

import functools
import html
import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from vaegaze.errors import UserError, plain

PITCH_DEG, YAW_DEG = 25, 30  # farthest that the sliders go

# How events run. Those of a kind wait for each other; all are the page's own, not an interface for programs.
QUICK = {"concurrency_id": "quick", "concurrency_limit": 1, "api_visibility": "private", "show_progress": "hidden"}
LONG = {"concurrency_id": "long", "concurrency_limit": 1, "api_visibility": "private", "show_progress": "full"}
AT_ONCE = {"queue": False, "api_visibility": "private", "show_progress": "hidden"}

Explain = Callable[[Exception], str | None]

log = logging.getLogger(__name__)


def guarded(explain: Explain, message: gr.HTML, emptied: Sequence[Any] = ()) -> Callable[[Callable], Callable]:
    """Decorates an event's function, which returns a dictionary of changes.

    What goes wrong becomes the one line of `message`, in the words of `explain`, and `emptied` are emptied. A bug, for
    which that has no words, goes to the terminal.
    """

    def decorate(function: Callable[..., dict]) -> Callable[..., dict]:
        @functools.wraps(function)
        def handle(*inputs) -> dict:
            try:
                if inputs and inputs[0] is None:  # the visit
                    raise UserError("the server was started anew; reload this page")
                return function(*inputs)
            except Exception as error:
                words = explain(error)
                if words is None:
                    log.exception("a bug in the page")
                    words = "something went wrong that should not; the terminal says what"
                return {message: line(words, is_error=True), **dict.fromkeys(emptied)}

        return handle

    return decorate


def line(text: str, *, is_error: bool = False) -> str:
    """The content of a message: text from untrusted files, as one plain line."""
    if not text:
        return ""
    shown = html.escape(plain(text))
    return f'<p class="{"error" if is_error else "note"}" role="{"alert" if is_error else "status"}">{shown}</p>'


def listed(texts: Sequence[str]) -> str:
    """The content of a list: each text is one plain line."""
    return f"<ul>{''.join(f'<li>{html.escape(plain(text))}</li>' for text in texts)}</ul>" if texts else ""


def message(name: str) -> gr.HTML:
    return gr.HTML("", elem_id=f"{name}_message", elem_classes="message")


def hint(text: str) -> gr.HTML:
    return gr.HTML(f"<p>{html.escape(text)}</p>", elem_classes="hint", min_width=240)


def picture(label: str, name: str, **options) -> gr.Image:
    """A picture to look at."""
    settings = {"format": "png", "interactive": False, "buttons": [], "min_width": 140, **options}
    return gr.Image(label=label, elem_id=name, **settings)


def gaze_sliders(name: str) -> tuple[gr.Slider, gr.Slider]:
    """Pitch and yaw in degrees. The second runs from right to left, as yaw does: see style.css."""
    pitch = gr.Slider(
        -PITCH_DEG,
        PITCH_DEG,
        0,
        step=0.5,
        label="Down or up: pitch in degrees",
        elem_id=f"{name}_pitch",
        elem_classes="angle",
    )
    yaw = gr.Slider(
        -YAW_DEG,
        YAW_DEG,
        0,
        step=0.5,
        label="Left or right: yaw in degrees",
        elem_id=f"{name}_yaw",
        elem_classes=["angle", "leftwards"],
    )
    return pitch, yaw


def strength_slider(name: str) -> gr.Slider:
    return gr.Slider(
        0,
        100,
        100,
        step=5,
        label="Strength in percent",
        info="Less than 100: only part of the way from where the eyes look now.",
        elem_id=f"{name}_strength",
    )


def radians(pitch_deg: float, yaw_deg: float) -> tuple[float, float]:
    return math.radians(pitch_deg), math.radians(yaw_deg)
