"""A page in the browser to try it: a photo or a video looks elsewhere, a model is fine-tuned on a photo.

vaegaze demo_page
vaegaze demo_page --checkpoint outputs/photo_oneshot/astronaut/finetuned_model.pth --port 8000
"""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from vaegaze.commands.compare import comparison_lines
from vaegaze.commands.frame_report import reason_lines
from vaegaze.commands.running import in_words, run_with_settings
from vaegaze.config import shared
from vaegaze.config.tree import option
from vaegaze.errors import UserError
from vaegaze.redirecting.comparison import Compared
from vaegaze.redirecting.fading import Fate

INSTALL_PAGE = "pip install 'gradio>=6.31,<7'"
LESS_MEMORY = "give a smaller picture or video"
ADVICE = shared.advice("checkpoint", "base", "no_adapter", "device", port="give another with --port")
ADVICE_ON_PAGE = {
    "eyes": "choose another photo",
    "faces": "choose one of them by its number",
    "face": "give another number",
    "video": "choose a photo here, and take the video to its own tab",
    "picture": "photos have a tab of their own",
}


@dataclass(frozen=True)
class PageParams:
    """The model and the address"""

    checkpoint: str = option(
        shared.PRETRAINED_MODEL, help="the model: a base, a fine-tuned one, or an adapter", metavar="PATH"
    )
    base: str | None = shared.base()
    port: int = option(7860, low=1, high=65535, help="of the page's address, http://127.0.0.1:PORT")
    device: str = shared.device()


@dataclass(frozen=True)
class PageConfig:
    """The settings of the page."""

    page_params: PageParams = PageParams()


def main(argv: list[str] | None = None) -> int:
    return run_with_settings(
        PageConfig,
        lambda resolved: run(resolved.config.page_params),
        argv,
        prog="vaegaze demo_page",
        description="Try it in the browser: photos, videos and fine-tuning, on this computer alone.",
        hint="the page is gone, and so are its files",
        less_memory=LESS_MEMORY,
        advice=ADVICE,
    )


def run(params: PageParams) -> None:
    if find_spec("gradio") is None:
        raise UserError(f"the page needs Gradio: {INSTALL_PAGE}")
    from vaegaze.faces.reader import backend
    from vaegaze.images.video.container import pyav
    from vaegaze.page.folder import own_folder
    from vaegaze.page.studio import Studio

    backend(), pyav()  # or the user is told what finding eyes and reading videos needs
    with own_folder() as folder:
        studio = Studio(params.checkpoint, params.base, params.device, folder)
        from vaegaze.page.serving import serve  # and Gradio with it, see own_folder

        serve(
            studio,
            explain,
            describe,
            params.port,
            lambda address: print(f"✅ The page is at {address} until you press Ctrl-C here", flush=True),
        )


def explain(error: Exception) -> str | None:
    """What went wrong, for a visitor who can do something about it; None for a bug."""
    return in_words(error, LESS_MEMORY, ADVICE_ON_PAGE)


def describe(numbers: Compared, fates: Sequence[Fate]) -> list[str]:
    """What `redirect` prints at a video's end, without its columns."""
    lines = [(": ", line) for line in comparison_lines(numbers)] + [(" × ", line) for line in reason_lines(fates)]
    return [between.join(re.split(" {2,}", line.strip(), maxsplit=1)) for between, line in lines]


if __name__ == "__main__":
    sys.exit(main())
