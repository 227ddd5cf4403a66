"""The page's server: only for this computer, nothing from anywhere else, no file left behind."""

import asyncio
import logging
import os
import socket

import pytest
from conftest import make_tiny_model

from vaegaze.errors import UserError
from vaegaze.models.checkpoint import save_checkpoint

pytest.importorskip("cv2")
pytest.importorskip("gradio")
import httpx
from pages import served

from vaegaze.page import serving
from vaegaze.page.controls import guarded, line, message
from vaegaze.page.studio import Studio


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    path = tmp_path_factory.mktemp("base") / "base.pth"
    save_checkpoint(path, make_tiny_model(), {"drops_reference": True})
    return path


def test_it_answers_this_computer_alone_and_leaves_nothing(base):
    with served(base) as page:
        answer = httpx.get(page.address)
        assert answer.status_code == 200 and "default-src 'self'" in answer.headers["content-security-policy"]
        for headers in ({"host": f"elsewhere.example:{page.port}"}, {"origin": "http://elsewhere.example"}):
            assert httpx.get(page.address, headers=headers).status_code == 403
            assert httpx.post(f"{page.address}/gradio_api/upload", headers=headers).status_code == 403
        with pytest.raises(OSError), socket.socket() as elsewhere:
            elsewhere.connect(("127.0.0.2", page.port))  # another of its addresses
        uploaded = httpx.post(f"{page.address}/gradio_api/upload", files={"files": ("me.png", b"a picture")}).json()
        assert uploaded[0].startswith(str(page.folder))
    assert not page.folder.exists()
    assert not any(name.startswith("GRADIO_") for name in os.environ)
    with pytest.raises(httpx.ConnectError):
        httpx.get(page.address)


def gatekeepers_answer(kind: str, port: int, **headers: str) -> list[str]:
    """What comes back of a request through the gatekeeper of a page on `port`; "passed" if it lets it through."""
    sent = []

    async def page(scope, receive, send):
        sent.append("passed")

    async def send(message):
        sent.append(message["type"])

    async def receive():
        return {"type": f"{kind}.connect"}

    scope = {"type": kind, "headers": [(name.encode(), value.encode()) for name, value in headers.items()]}
    asyncio.run(serving.Gatekeeper(page, port)(scope, receive, send))
    return sent


@pytest.mark.parametrize("port", [80, 7860])
@pytest.mark.parametrize(
    ("kind", "refusal"), [("http", ["http.response.start", "http.response.body"]), ("websocket", ["websocket.close"])]
)
def test_who_is_let_in(port, kind, refusal):
    own = [f"{name}:{port}" for name in ("127.0.0.1", "localhost")] + (["127.0.0.1", "localhost"] if port == 80 else [])
    for host in own:
        assert gatekeepers_answer(kind, port, host=host) == ["passed"]
        assert gatekeepers_answer(kind, port, host=host, origin=f"http://{host}") == ["passed"]
        assert gatekeepers_answer(kind, port, host=host, origin="http://elsewhere.example") == refusal
    for host in ("elsewhere.example", f"elsewhere.example:{port}", "127.0.0.1:81"):
        assert gatekeepers_answer(kind, port, host=host) == refusal
    assert gatekeepers_answer(kind, port) == refusal, "without a host"
    assert port == 80 or gatekeepers_answer(kind, port, host="127.0.0.1") == refusal


def test_a_foreign_websocket_is_refused_by_the_page_itself(base):
    request = (
        "GET /gradio_api/queue/join HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    with served(base) as page, socket.create_connection(("127.0.0.1", page.port), timeout=30) as wire:
        wire.sendall(request.format(f"elsewhere.example:{page.port}").encode())
        assert wire.recv(1000).split()[1] == b"403"


def test_files_that_are_too_large_are_refused(base, monkeypatch):
    monkeypatch.setattr(serving, "MAX_UPLOAD", "1kb")
    with served(base) as page:
        for size, code in ((1000, 200), (2000, 413)):
            files = {"files": ("me.png", bytes(size))}
            assert httpx.post(f"{page.address}/gradio_api/upload", files=files).status_code == code


def test_a_taken_port_is_a_users_error(base, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port} is taken") as error:
            serving.serve(Studio(str(base), None, "cpu", tmp_path), str, list, port, print)
        assert error.value.about == "port"


def test_what_goes_wrong_is_one_plain_line(caplog):
    told, result = message("test"), message("result")

    def explain(error: Exception) -> str | None:
        return f"{error}; choose another" if isinstance(error, UserError) else None

    def fails(visit, error):
        raise error

    handle = guarded(explain, told, emptied=[result])(fails)
    update = handle("visit", UserError("<b>.png\nshows no face"))
    assert update[result] is None
    assert update[told].count("<p") == 1 and "&lt;b&gt;.png\\nshows no face; choose another" in update[told]
    with caplog.at_level(logging.ERROR):
        update = handle("visit", ZeroDivisionError("inside"))
    assert "inside" not in update[told] and "ZeroDivisionError" in caplog.text
    assert "reload" in handle(None, ZeroDivisionError())[told]
    assert line("") == ""
