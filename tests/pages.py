"""A page that is served for a test."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vaegaze.commands import demo_page
from vaegaze.page.folder import own_folder
from vaegaze.page.serving import serve
from vaegaze.page.studio import Studio


@dataclass(frozen=True)
class Page:
    port: int
    folder: Path  # of its files

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def served(checkpoint: str | Path) -> Iterator[Page]:
    """The page in a thread, which has ended after the block."""
    port, ready, end, folders, failed = free_port(), threading.Event(), threading.Event(), [], []

    def run() -> None:
        try:
            with own_folder() as folder:
                folders.append(folder)
                studio = Studio(str(checkpoint), None, "cpu", folder)
                serve(studio, demo_page.explain, demo_page.describe, port, lambda address: ready.set(), end.is_set)
        except BaseException as error:
            failed.append(error)
            ready.set()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert ready.wait(60) and not failed, failed
        yield Page(port, folders[0])
    finally:
        end.set()
        thread.join()
