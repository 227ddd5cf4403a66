"""Mutated files, read as the commands read them: each must be used or refused in a line, within ten seconds."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import ai_edge_litert.interpreter  # noqa: F401, as in `commands`: so that no child imports it
import numpy as np

from benchmarks.torture.children import Ending, Worker, run
from benchmarks.torture.commands import COMMANDS, PERSON, converting, quick, training
from benchmarks.torture.sound_files import sound_files
from vaegaze.commands import check, convert, inspect, prepare, pretrain, train, train_all
from vaegaze.commands import train_run as _train_run  # noqa: F401
from vaegaze.commands.running import run_command
from vaegaze.config.finetune import Config
from vaegaze.config.pretrain import PretrainConfig
from vaegaze.config.tree import resolve
from vaegaze.data import hdf5
from vaegaze.data.facts import describe_person
from vaegaze.data.frame_labels import read_labels
from vaegaze.geometry.camera import canvas_camera
from vaegaze.images.pictures import read_grey, read_picture
from vaegaze.images.video import open_video
from vaegaze.models.checkpoint import load_checkpoint
from vaegaze.models.diffusers.files import open_source
from vaegaze.models.diffusers.parts import config_of
from vaegaze.models.estimator import load_estimator
from vaegaze.models.tensor_files import load_tensors
from vaegaze.pretraining.splits import read_split
from vaegaze.report import cohort as _cohort  # noqa: F401
from vaegaze.runs import worker as _worker  # noqa: F401
from vaegaze.runs.resume import Progress, load_resume

LIMIT_SEC, MEMORY_BYTES = 10.0, 4 * 2**30


@dataclass(frozen=True)
class Reading:
    """A command, and the file under its folder that it gets in a mutated form."""

    file: str
    main: Callable[[list[str]], int]
    flags: Callable[[Path], list]


def dry_training(folder: Path, *flags) -> list:
    return [*training(folder), "--person_id", PERSON, "--dry_run", *flags]


def photo(folder: Path, image: str, mask: str) -> list:
    own = ["--no-use_gazecapture", "--image", folder / image, "--mask", folder / mask, "--gaze", 0, 0]
    return [*quick(folder), *own, "--dry_run"]


def checked(flags: list[str]) -> int:
    """A check that fails, with exit code 1, is an answer as well."""
    code = check.main(flags)
    return 0 if code == 1 else code


def planned(flags: list[str]) -> int:
    """Without counting the arithmetic, which takes seconds and reads nothing."""
    pretrain.plan = lambda config, sources, **processes: "\n".join(source.describe() for source in sources)
    return pretrain.main(flags)


def pretraining(folder: Path, *flags) -> list:
    return ["--config", folder / "pretrain.yaml", "--dry_run", *flags]


def data_set(path: Path) -> None:
    for person_id, count in hdf5.person_counts(path).items():
        if count:
            describe_person(path, person_id, 100)
            hdf5.read_person(path, person_id, range(min(count, 3)), canvas_camera(32))


def parts(folder: Path) -> None:
    for part in ("vae", "unet"):
        source = open_source(folder / part, [part])
        config_of(str(source.file), part, source.contents.parts[part], source.configs.get(part))


def resume_file(path: Path) -> None:
    stored = load_tensors(path, about="resume")
    load_resume(path, Progress, ("trained", "optimizer"), stored.get("fingerprint") if isinstance(stored, dict) else "")


def video(path: Path) -> None:
    with open_video(path, "--video") as reader:
        for _frame in reader:
            pass


READERS = {
    ".h5": data_set,
    "base.pth": load_checkpoint,
    "adapter.pth": load_checkpoint,
    "estimator.pth": load_estimator,
    "resume.pth": resume_file,
    "train.yaml": lambda path: resolve(Config, str(path)),
    "config.yaml": lambda path: resolve(Config, str(path)),
    "pretrain.yaml": lambda path: resolve(PretrainConfig, str(path)),
    "split.json": lambda path: read_split(path.with_name("texts.h5"), str(path), val_share=0.1, seed=0),
    "texts.h5": lambda path: (data_set(path), read_split(path, "file", val_share=0.1, seed=0)),
    "labels.csv": read_labels,
    "mask.png": lambda path: read_grey(path, "mask"),
    "diffusion_pytorch_model.safetensors": lambda path: parts(path.parents[1]),
    "config.json": lambda path: parts(path.parents[1]),
    "vaegaze.json": lambda path: parts(path.parents[1]),
    "diffusion_pytorch_model.safetensors.index.json": lambda path: open_source(path.parent, ["vae"]),
    **dict.fromkeys((".png", ".jpg", ".webp", ".gif", ".tif"), lambda path: read_picture(path, "image")),
    **dict.fromkeys((".mp4", ".mkv", ".avi", ".ts"), video),
}  # by name, or else by suffix


READINGS = (
    Reading("gaze.h5", inspect.main, lambda folder: [folder / "gaze.h5", "--output", folder / "out/sheet.png"]),
    Reading("new.h5", train.main, lambda folder: dry_training(folder, "--hdf_path", folder / "new.h5")),
    Reading("texts.h5", planned, lambda folder: pretraining(folder, "--sources", folder / "texts.h5")),
    Reading("strips.h5", checked, lambda folder: ["--hdf_path", folder / "strips.h5", "--num_samples", 2]),
    Reading("persons/b.h5", inspect.main, lambda folder: [folder / "persons", "--output", folder / "out/sheet.png"]),
    Reading("base.pth", convert.main,
            lambda folder: ["--checkpoint", folder / "base.pth", "--to_diffusers", folder / "out/parts"]),
    Reading("adapter.pth", convert.main,
            lambda folder: ["--checkpoint", folder / "adapter.pth", "--output", folder / "out/full.pth"]),
    Reading("estimator.pth", train.main, lambda folder: dry_training(folder, "--estimator", folder / "estimator.pth")),
    Reading(f"run/{PERSON}/resume.pth", train.main,
            lambda folder: dry_training(folder, "--save_dir", folder / "run", "--resume")),
    Reading(f"run/{PERSON}/config.yaml", train.main,
            lambda folder: dry_training(folder, "--save_dir", folder / "run", "--resume")),
    Reading(f"run/{PERSON}/person_info.json", train.main,
            lambda folder: dry_training(folder, "--save_dir", folder / "run", "--resume")),
    Reading("parts/vae/diffusion_pytorch_model.safetensors", convert.main, converting),
    Reading("parts/unet/config.json", convert.main, converting),
    Reading("parts/unet/vaegaze.json", convert.main, converting),
    Reading("sharded/diffusion_pytorch_model.safetensors.index.json", convert.main,
            lambda folder: [*converting(folder), "--vae", folder / "sharded"]),
    Reading("train.yaml", train.main, lambda folder: dry_training(folder, "--config", folder / "train.yaml")),
    Reading("pretrain.yaml", planned, pretraining),
    Reading("split.json", planned, lambda folder: pretraining(folder, "--split", folder / "split.json")),
    Reading("labels.csv", prepare.main, COMMANDS["prepare"].flags),
    Reading("frames/0.png", prepare.main, COMMANDS["prepare"].flags),
    Reading("photo.png", train.main, lambda folder: photo(folder, "photo.png", "mask.png")),
    Reading("photo.jpg", train.main, lambda folder: photo(folder, "photo.jpg", "mask.png")),
    Reading("photo.webp", train.main, lambda folder: photo(folder, "photo.webp", "mask.png")),
    Reading("photo.gif", train.main, lambda folder: photo(folder, "photo.gif", "mask.png")),
    Reading("photo.tif", train.main, lambda folder: photo(folder, "photo.tif", "mask.png")),
    Reading("mask.png", train.main, lambda folder: photo(folder, "photo.png", "mask.png")),
    *(Reading(f"talk{suffix}", prepare.main,
              lambda folder, name=f"talk{suffix}": [
                  *COMMANDS["prepare"].flags(folder), "--frames", folder / name, "--labels", folder / "times.csv"])
      for suffix in (".mp4", ".mkv", ".avi", ".ts")),
    Reading("cohort/cohort.jsonl", train_all.main, lambda folder: [
        *training(folder), "--engine", "none", "--max_persons", 1, "--save_dir", folder / "cohort"]),
    Reading(f"cohort/{PERSON}/summary.json", train_all.main, lambda folder: [
        *training(folder), "--engine", "none", "--persons", PERSON, "--save_dir", folder / "cohort"]),
    Reading("persons.txt", train_all.main, lambda folder: [
        *training(folder), "--engine", "none", "--persons_file", folder / "persons.txt",
        "--save_dir", folder / "cohort"]),
)  # fmt: skip


# --- The campaign -----------------------------------------------------------------------------------------------------


def reader_of(reading: Reading) -> Callable[[Path], object] | None:
    path = Path(reading.file)
    return READERS.get(path.name) or READERS.get(path.suffix)


class Hostile:
    """A part of the campaign, see `disturbed`: `by` "readers", the functions that read such files, or "commands"."""

    def __init__(self, scratch: Path, by: str, total: int, seed: int):
        self.name, self.by, self.total, self.seed = f"hostile files, {by}", by, total, seed
        self.folder = scratch / by
        self.folder.mkdir()
        made = run(lambda: sound_files(self.folder) or 0, self.folder, limit_sec=300)
        assert made.code == 0, made.text
        self.worker = Worker(self._read, self.folder, limit_sec=LIMIT_SEC, memory_bytes=MEMORY_BYTES)
        self.readings = [each for each in READINGS if by == "commands" or reader_of(each) is not None]
        for reading in self.readings:
            sound = self._outcome(reading)
            assert sound.code == 0, f"{reading.file}: {sound}"
        self.contents = {reading.file: (self.folder / reading.file).read_bytes() for reading in self.readings}

    def run(self, number: int) -> tuple[str, str | None]:
        reading = self.readings[number % len(self.readings)]
        path, content = self.folder / reading.file, self.contents[reading.file]
        path.write_bytes(mutated(content, np.random.default_rng([self.seed, number])))
        try:
            ending = self._outcome(reading)
            left = [found.name for found in path.parent.glob(".vaegaze-*")]
        finally:
            path.write_bytes(content)
        how = {0: "used", 2: "refused in a line", 3: "one person failed"}.get(ending.code, "other")
        wrong = ending.fault or (f"{left[0]} is left behind" if left else None)
        return how, wrong and f"{reading.file}: {wrong}"

    def _outcome(self, reading: Reading) -> Ending:
        if self.by == "readers":
            return self.worker.do(self.readings.index(reading))
        out = self.folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        flags = [str(flag) for flag in reading.flags(self.folder)]
        return run(lambda: reading.main(flags), self.folder, limit_sec=LIMIT_SEC, memory_bytes=MEMORY_BYTES)

    def _read(self, number: int) -> int:
        reading = self.readings[number]
        read, path = reader_of(reading), self.folder / reading.file
        return run_command(lambda: print(type(read(path))))


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """A few bytes changed, a piece cut out, repeated or moved, or the end cut off."""
    data = bytearray(content)
    for _ in range(int(rng.geometric(0.6))):
        at = int(rng.integers(len(data))) if rng.random() < 0.5 else int(rng.integers(min(len(data), 2048)))
        length = int(rng.integers(1, 32))
        match int(rng.integers(6)):
            case 0 | 1:
                data[at] = int(rng.integers(256))
            case 2:
                data[at : at + length] = bytes([int(rng.choice([0, 0x7F, 0xFF]))]) * length
            case 3:
                data[at:at] = data[at : at + length]
            case 4:
                del data[at : at + length]
            case 5 if rng.random() < 0.2:
                del data[at:]
        data = data or bytearray(b"\0")
    return bytes(data)
