"""vaegaze demo_page: how it starts and how it ends."""

import re
import signal
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from command_runs import assert_one_line, invoke, start_process

from vaegaze.commands import demo_page

ROOT = Path(__file__).parents[2]
STARTED = "import sys\nfrom vaegaze.__main__ import main\nsys.exit(main(['demo_page', *sys.argv[1:]]))\n"


def test_without_its_extra_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(demo_page, "find_spec", lambda name: None)
    assert_one_line(invoke(demo_page.main), demo_page.INSTALL_PAGE)


def test_the_hint_names_what_the_extra_installs():
    (requirement,) = (ROOT / "requirements-page.txt").read_text().splitlines()
    assert requirement.split("#")[0].strip() in demo_page.INSTALL_PAGE


@pytest.mark.parametrize(
    ("flags", "words"), [(("--port", 0), ("--port",)), (("--checkpoint", "no.pth"), ("no.pth", "--checkpoint"))]
)
def test_mistakes_are_one_line(flags, words):
    pytest.importorskip("gradio")
    assert_one_line(invoke(demo_page.main, *flags), *words)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("gradio") is None, reason="Gradio is not installed")
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_and_removes_its_files(world, tmp_path, signum, code):
    from pages import free_port  # which needs Gradio

    flags = ("--checkpoint", world.base, "--port", free_port())
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = start_process(*flags, script=STARTED, env={"TMPDIR": str(tmp_path)}, **streams)
    try:
        assert re.search(rf"http://127\.0\.0\.1:{flags[-1]}\b", process.stdout.readline())
        assert list(tmp_path.glob("vaegaze-page-*"))
        time.sleep(0.5)
        process.send_signal(signum)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == code and err.count("\n") == 1 and "Traceback" not in err, err
    assert {path.name for path in tmp_path.iterdir() if "torch" not in path.name} == set()  # PyTorch keeps a folder
