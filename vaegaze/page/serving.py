"""The page on this computer's own address, until it is interrupted."""

import time
from collections.abc import Callable
from pathlib import Path

import gradio as gr
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from vaegaze.errors import UserError
from vaegaze.page.controls import Explain
from vaegaze.page.layout import draw_page
from vaegaze.page.studio import Studio
from vaegaze.page.video_tab import Describe

ADDRESS = "127.0.0.1"
MAX_UPLOAD = "500mb"
HTTP_PORT = 80  # which a browser leaves out of the address
LAST_WORK_SEC = 30  # that work may take to end
# Nothing is loaded from anywhere else, whatever Gradio's own files ask for, and no other page may hold this one.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "connect-src 'self' blob:; img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; "
    "worker-src 'self' blob:; frame-ancestors 'none'; form-action 'self'"
)


def serve(
    studio: Studio,
    explain: Explain,
    describe: Describe,
    port: int,
    on_ready: Callable[[str], None],
    should_end: Callable[[], bool] = lambda: False,
) -> None:
    """Show the page until `should_end()`, or an exception such as KeyboardInterrupt.

    It must run within `own_folder`. `on_ready` gets the page's address. UserError, about the port, if it is taken.
    """
    page = draw_page(studio, explain, describe)
    try:
        launch(page, port)
        on_ready(f"http://{ADDRESS}:{port}")
        while not should_end():
            time.sleep(0.2)
    finally:
        studio.close(LAST_WORK_SEC)
        page.close(verbose=False)


def launch(page: gr.Blocks, port: int) -> None:
    """Start the server, in a thread of its own."""
    system_fonts = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
    theme = gr.themes.Base(primary_hue="blue", neutral_hue="slate", font=system_fonts, font_mono=["monospace"])
    theme.set(
        body_text_color_subdued="*neutral_500",  # its own is too pale to read
        body_text_color_subdued_dark="*neutral_400",
        button_large_text_weight="500",
        button_large_padding="*spacing_md *spacing_lg",
        button_large_text_size="*text_md",
    )
    try:
        page.queue().launch(
            server_name=ADDRESS,
            server_port=port,
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            inbrowser=False,
            show_error=False,
            max_file_size=MAX_UPLOAD,
            footer_links=[],
            run_history=False,
            enable_monitoring=False,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            theme=theme,
            css_paths=Path(__file__).parent / "style.css",
            app_kwargs={
                "middleware": [Middleware(Gatekeeper, port=port)],
                "docs_url": None,
                "redoc_url": None,
                "openapi_url": None,
            },
        )
    except OSError as error:
        raise UserError(f"port {port} is taken", about="port") from error


class Gatekeeper:
    """Answers only this page, opened under its own address, and tells the browser to load nothing from elsewhere.

    Any page that is open in the browser can send requests to this computer, also under a name of its own that it has
    pointed here (DNS rebinding).
    """

    def __init__(self, app: ASGIApp, port: int):
        self._app = app
        names = (ADDRESS, "localhost")
        self._hosts = {f"{name}:{port}" for name in names} | (set(names) if port == HTTP_PORT else set())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):  # the server's own start and end
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        if headers.get("host") not in self._hosts or (origin and origin.partition("://")[2] not in self._hosts):
            refusal = WebSocketClose() if scope["type"] == "websocket" else PlainTextResponse("not from this page", 403)
            await refusal(scope, receive, send)
            return

        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["content-security-policy"] = POLICY
            await send(message)

        await self._app(scope, receive, send_with_policy)
