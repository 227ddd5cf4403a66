"""Where the page's files lie."""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def own_folder() -> Iterator[Path]:
    """A folder for uploads and results, which is removed at the end.

    Gradio puts its files there, and sends nothing home. It must not be imported before: it makes folders as it is.
    """
    with tempfile.TemporaryDirectory(prefix="vaegaze-page-", ignore_cleanup_errors=True) as folder:
        settings = {"GRADIO_TEMP_DIR": f"{folder}/uploads", "GRADIO_ANALYTICS_ENABLED": "False"}
        with in_environment(settings):
            yield Path(folder)


@contextmanager
def in_environment(settings: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
