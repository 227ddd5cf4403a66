"""The real command on a tiny model and a small rendered file: what the tests that run it have in common."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import torch
from conftest import SIZE_PX, make_tiny_model, process_restored

import oneshot_training
from vaegaze.models.checkpoint import load_checkpoint, save_checkpoint
from vaegaze.renderer import data_set as synthetic

ROOT = Path(__file__).parents[1]
SAMPLES = {1: 60, 2: 12, 3: 6, 4: 3}  # person_001 … person_004
PERSON, STEPS = "person_002", 30
RUN = ("--person_id", PERSON, "--num_steps", STEPS, "--learning_rate", 1e-2, "--log_every", 10)
FILES = {"before_after.jpg", "config.yaml", "finetuned_model.pth", "gazes.png", "loss_curve.png", "metrics.jsonl",
         "person_info.json", "report.html", "summary.json"}  # fmt: skip
NOBODY_ESTIMATES = ("--estimator", "none")  # which would take longer than all else
BASE_INFO = {"trained_on": "nothing", "drops_reference": True}

PHOTO = ("--no-use_gazecapture", "--image", ROOT / "docs/images/astronaut.png",
         "--mask", ROOT / "docs/images/astronaut_mask.png", "--gaze", 0, 0)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class World:
    """A file of rendered persons and a base model, both of 32 px."""

    hdf_path: Path
    base: Path

    @property
    def flags(self) -> list:
        """Enough for a run of its own; whatever is typed behind them wins."""
        return [*self.photo_flags, "--hdf_path", self.hdf_path, "--num_samples", 8]

    @property
    def photo_flags(self) -> list:
        """The same for one that is to be given a photo."""
        return [
            "--checkpoint_path",
            self.base,
            "--vgg_loss",
            0,
            "--device",
            "cpu",
            "--sample_every",
            0,
            *NOBODY_ESTIMATES,
        ]


def make_world(folder: Path) -> World:
    world = World(folder / "gaze.h5", folder / "base.pth")
    with contextlib.redirect_stderr(io.StringIO()):
        synthetic.write_hdf5(world.hdf_path, len(SAMPLES), size=SIZE_PX, samples=SAMPLES.__getitem__)
    save_checkpoint(world.base, make_tiny_model(), BASE_INFO)
    return world


def make_finished(world: World, save_dir: Path) -> tuple[list, Outcome, Path]:
    """A run that nothing has disturbed: its flags, its outcome, its folder."""
    flags = [*world.flags, *RUN, "--save_dir", save_dir, "--sample_every", 20, "--checkpoint_every", 12]
    outcome = command(*flags)
    assert outcome.code == 0, outcome
    return flags, outcome, save_dir / PERSON


def invoke(main: Callable[[list[str]], int], *flags, threads: int = 1, ok: bool | None = None) -> Outcome:
    """Run a command's `main` in this process; with `ok` it must end well, or must not."""
    out, err = io.StringIO(), io.StringIO()
    with process_restored(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        torch.set_num_threads(threads)
        code = main([str(flag) for flag in flags])
    outcome = Outcome(code, out.getvalue(), err.getvalue())
    assert ok is None or (code == 0) is ok, outcome
    return outcome


def command(*flags, threads: int = 1) -> Outcome:
    """Run oneshot_training.py in this process."""
    return invoke(oneshot_training.main, *flags, threads=threads)


def start_process(*flags, script="oneshot_training.py", env=None, **streams) -> subprocess.Popen:
    """Start it, or another script, as a process of its own; `env` goes over what little the process is given."""
    kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT", "LD_LIBRARY_PATH") if name in os.environ}
    env = {**kept, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1", "OMP_NUM_THREADS": "1", **(env or {})}
    arguments = ["-c", script] if "\n" in script else [script]
    return subprocess.Popen(
        [sys.executable, *arguments, *map(str, flags)], cwd=ROOT, env=env, stdin=subprocess.DEVNULL, **streams
    )


def assert_one_line(outcome: Outcome, *words: str) -> None:
    """Exit code 2 and one line on stderr, which says each of the words; no traceback, no progress."""
    assert outcome.code == 2, outcome
    assert outcome.err.startswith("error: ") and outcome.err.count("\n") == 1 and outcome.err.endswith("\n"), outcome
    for word in words:
        assert word in outcome.err, f"{word!r} is not in {outcome.err!r}"


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def contents_of(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in files_in(folder)}


def records_in(folder: Path, without=("seconds",)) -> list[dict]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key not in without} for line in lines]


def weights_in(path: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(path).model.state_dict()


def assert_same_weights(path: Path, other: Path) -> None:
    weights, others = weights_in(path), weights_in(other)
    assert weights.keys() == others.keys()
    for name, tensor in weights.items():
        assert torch.equal(tensor, others[name]), name
    assert path.read_bytes() == other.read_bytes(), "a checksum tells a base model from another"


def assert_in_order(text: str, *lines: str) -> None:
    found = text.splitlines()
    positions = [found.index(line) for line in lines]
    assert positions == sorted(positions), found


def train_rows(folder: Path) -> list[int]:
    return json.loads((folder / "person_info.json").read_text())["train_indices"]


def signal_at_step(monkeypatch, number: int, signum: int) -> None:
    module = import_module("vaegaze.training.finetune")  # the package's attribute of this name is the function
    training_steps = module.training_steps

    def steps(*args, **kwargs):
        for step in training_steps(*args, **kwargs):
            if step.number == number:
                signal.raise_signal(signum)
            yield step

    monkeypatch.setattr(module, "training_steps", steps)
