"""The commands that write something, each as a run of a second on tiny inputs, and what must come of it."""

import copy
import functools
import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import matplotlib.backends.backend_agg
import matplotlib.figure  # noqa: F401
import numpy as np
import torch
import torchmetrics.functional.image  # noqa: F401, so that no child imports it
import yaml
from PIL import Image

from benchmarks.tiny_model import SIZE_PX, TINY_CONFIG
from vaegaze.commands import benchmark, convert, inspect, prepare, pretrain, train, train_all
from vaegaze.evaluation.benchmark_grid import AUTOENCODER, BASE, TRUE, Task
from vaegaze.models import VAEGaze
from vaegaze.models.checkpoint import save_checkpoint
from vaegaze.models.estimator import GazeEstimator, save_estimator
from vaegaze.renderer.data_set import write_hdf5

PERSON = "person_002"
REPORTS = tuple(f"{each}/{name}" for each in ("person_001", PERSON) for name in ("report.html", "before_after.jpg"))
PRETRAIN = {
    "vae_steps": 3, "vae_band_steps": 1, "latent_steps": 2, "pixel_steps": 2, "held_out": 8, "eval_every": 2,
    "min_vae_eye_psnr": 0, "threads": 1, "vae_batch_size": 1, "latent_batch_size": 1, "pixel_batch_size": 1,
    "estimator": "none", "workers": 0, "ema": 0.9,
}  # fmt: skip
CELLS = [
    *(Task("test", PERSON, each, 0, 0) for each in (TRUE, AUTOENCODER, BASE)),
    Task("test", PERSON, "selective", 1, 0),
]
TIMES = (
    "seconds",
    "sec_per_step",
    "waiting_share",
    "seconds_of",
    "total_seconds",
    "peak_memory_mb",
)  # differ from run to run


@dataclass(frozen=True)
class Command:
    """A run in a folder that holds `inputs`; it writes to `out/`."""

    name: str
    main: Callable[[list[str]], int]
    flags: Callable[[Path], Sequence]
    inputs: Callable[[Path], None]
    state: str = ""  # the file under out/ that says that --resume is needed to go on
    measured: tuple[str, ...] = ()  # files under out/ that hold times of their own: only their names are compared
    kept: tuple[str, ...] = ()  # files under out/ that are there before, and then old or new, never anything else
    partial: tuple[str, ...] = ()  # what it says when the result is of a part of its input

    def work(self, folder: Path) -> Callable[[], int]:
        flags = [str(flag) for flag in self.flags(folder)]
        resume = ["--resume"] if self.state and (folder / "out" / self.state).exists() else []
        return lambda: self.main([*flags, *resume])


def results(command: Command, folder: Path) -> dict[str, str]:
    """A checksum of each file in out/, but for times."""
    found = {}
    for path in sorted((folder / "out").rglob("*")):
        if path.is_file():
            name = path.relative_to(folder / "out").as_posix()
            found[name] = "" if name in command.measured else checksum(path, folder)
    return found


def checksum(path: Path, folder: Path) -> str:
    content = path.read_bytes().replace(bytes(folder), b"FOLDER")
    if path.suffix in (".json", ".jsonl"):
        lines = [content] if path.suffix == ".json" else content.splitlines()
        with suppress(ValueError):  # half a temporary file of a killed run
            content = json.dumps([without_times(json.loads(line)) for line in lines]).encode()
    return hashlib.sha256(content).hexdigest()


def without_times(value):
    if isinstance(value, dict):
        return {key: without_times(each) for key, each in value.items() if key not in TIMES}
    return [without_times(each) for each in value] if isinstance(value, list) else value


# --- Inputs -----------------------------------------------------------------------------------------------------------


@functools.cache
def tiny_model() -> VAEGaze:
    torch.manual_seed(0)
    return VAEGaze(copy.deepcopy(TINY_CONFIG))


def data_and_base(folder: Path) -> None:
    write_hdf5(folder / "gaze.h5", 2, size=SIZE_PX, samples=4)
    save_checkpoint(folder / "base.pth", tiny_model(), {"trained_on": "nothing", "drops_reference": True})


def pretraining(folder: Path) -> None:
    write_hdf5(folder / "gaze.h5", 9, size=SIZE_PX, samples=2, split="all")
    params = {"save_dir": str(folder / "out"), "output": str(folder / "out/model.pth"), **PRETRAIN}
    params["sources"] = [str(folder / "gaze.h5")]
    (folder / "tiny.yaml").write_text(yaml.safe_dump({"pretrain_params": params, "model_params": TINY_CONFIG}))


def frames(folder: Path) -> None:
    (folder / "frames").mkdir()
    face = np.asarray(Image.open("docs/images/astronaut.png").convert("RGB"))[20:190, 130:330]
    for number in range(2):
        Image.fromarray(face + np.uint8(number)).save(folder / f"frames/{number}.png")
    lines = ["file_or_time,pitch_deg,yaw_deg,head_pitch_deg,head_yaw_deg", "0.png,1,2,0,0", "1.png,3,4,0,0"]
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    earlier(folder, "me.h5")
    (folder / "out/me.frames.csv").write_text(",".join(prepare.COLUMNS))


def published(folder: Path) -> None:
    data_and_base(folder)
    assert convert.main(["--checkpoint", str(folder / "base.pth"), "--to_diffusers", str(folder / "parts")]) == 0
    earlier(folder, "full.pth")


def for_sheet(folder: Path) -> None:
    data_and_base(folder)
    earlier(folder, "sheet.png")


def for_benchmark(folder: Path) -> None:
    data_and_base(folder)
    estimator(folder)


def estimator(folder: Path) -> None:
    torch.manual_seed(0)
    save_estimator(folder / "estimator.pth", GazeEstimator(), {"own_error_deg": {"all": 1.0}})


def earlier(folder: Path, *names: str) -> None:
    (folder / "out").mkdir()
    for name in names:
        (folder / "out" / name).write_text("of an earlier run")


# --- Flags ------------------------------------------------------------------------------------------------------------


def training(folder: Path) -> list:
    return [
        *quick(folder), "--hdf_path", folder / "gaze.h5", "--num_samples", 3, "--num_eval_samples", 1,
    ]  # fmt: skip


def quick(folder: Path) -> list:
    """A training of a second."""
    return [
        "--checkpoint_path", folder / "base.pth", "--vgg_loss", 0, "--device", "cpu", "--estimator", "none",
        "--num_steps", 4, "--checkpoint_every", 2, "--sample_every", 2, "--log_every", 1, "--learning_rate", 1e-2,
        "--save_dir", folder / "out",
    ]  # fmt: skip


def benchmark_main(flags: list[str]) -> int:
    benchmark.grid = lambda *asked: CELLS
    return benchmark.main(flags)


def benchmarking(folder: Path) -> list:
    return [
        "--checkpoint_path", folder / "base.pth", "--estimator", folder / "estimator.pth", "--work_dir", folder / "out",
        "--output", folder / "out/b.md", "--held_out", 1, "--gazes", 2, "--face_px", 64, "--num_steps", 1,
        "--workers", 1, "--device", "cpu",
    ]  # fmt: skip


def converting(folder: Path) -> list:
    parts = [word for part in ("vae", "unet") for word in (f"--{part}", folder / "parts" / part)]
    return [*parts, "--gaze_mlp", folder / "parts/gaze_mlp.safetensors", "--output", folder / "out/full.pth"]


COMMANDS = {  # the quick ones first
    command.name: command
    for command in (
        Command(
            "inspect", inspect.main,
            lambda folder: [folder / "gaze.h5", "--output", folder / "out/sheet.png", "--overwrite"],
            for_sheet, kept=("sheet.png",), partial=("\nproblem ", "unreadable"),
        ),
        Command(
            "convert", convert.main, lambda folder: [*converting(folder), "--overwrite"], published, kept=("full.pth",),
        ),
        Command(
            "prepare", prepare.main,
            lambda folder: ["--frames", folder / "frames", "--labels", folder / "labels.csv", "--person_id", "me",
                            "--output", folder / "out/me.h5", "--size", 64, "--overwrite"],
            frames, kept=("me.h5",), partial=("unreadable",),
        ),
        Command("benchmark", benchmark_main, benchmarking, for_benchmark, measured=("b.md",)),
        Command(
            "train", train.main, lambda folder: [*training(folder), "--person_id", PERSON], data_and_base,
            state=f"{PERSON}/resume.pth",
            measured=REPORTS,
        ),
        Command(
            "pretrain", pretrain.main, lambda folder: ["--config", folder / "tiny.yaml"], pretraining,
            state="resume.pth", measured=("model.pth", "model.md", "resume.pth"),
        ),
        Command(
            "train_all", train_all.main,
            lambda folder: [*training(folder), "--engine", "none", "--max_persons", 2, "--retries", 0],
            data_and_base, measured=("cohort.csv", "cohort.html", *REPORTS),
        ),
    )
}  # fmt: skip
