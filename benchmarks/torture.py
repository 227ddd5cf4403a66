"""Mutated input files, read as the commands read them: each must be read or refused in one line, within ten seconds.

    python -m benchmarks.torture --count 1000 --state outputs/torture.json

Case i depends on its number alone. Each runs in a process of its own, so that a crash or a hang is counted instead of
ending the campaign. Counts are saved every 50 cases; the same command goes on where it stopped.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from vaegaze.config.finetune import Config
from vaegaze.config.tree import resolve
from vaegaze.data import hdf5
from vaegaze.errors import UserError
from vaegaze.files import write_text
from vaegaze.geometry.camera import canvas_camera
from vaegaze.images.pictures import read_picture
from vaegaze.models.tensor_files import load_tensors

LIMIT_SEC = 10.0
CONFIG = Path("configs/finetune/finetune_photo.yaml")


def read_data_set(path: Path) -> None:
    for person_id, count in hdf5.person_counts(path).items():
        if count:
            hdf5.describe_person(path, person_id, 100)
            hdf5.read_person(path, person_id, range(min(count, 3)), canvas_camera(32))


READERS = {
    ".h5": read_data_set,
    ".pth": load_tensors,
    ".safetensors": load_tensors,
    ".yaml": lambda path: resolve(Config, str(path)),
    ".png": lambda path: read_picture(path, "image"),
}


def sound_files(folder: Path) -> dict[str, bytes]:
    """A small sound file of each kind, by suffix."""
    rng = np.random.default_rng(0)
    for name, libver in (("old.h5", "earliest"), ("new.h5", "latest")):
        with h5py.File(folder / name, "w", libver=libver) as file:
            for person in ("a", "b", "c"):
                group = file.create_group(person)
                pixels = rng.integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
                group.create_dataset("pixels", data=pixels, chunks=(1, 32, 32, 3), compression="lzf")
                group["labels"] = np.zeros((3, 8), np.float32)
                group.attrs["split"], group.attrs["seed"] = "train", 1
    tensors = {"a.weight": torch.ones(8, 8), "b.bias": torch.zeros(8)}
    torch.save({"format": "x", "state_dict": tensors, "info": {"steps": 3}}, folder / "a.pth")
    save_file(tensors, folder / "a.safetensors")
    Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(folder / "a.png")
    (folder / "a.yaml").write_bytes(CONFIG.read_bytes())
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


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


def outcome_of(path: Path) -> str:
    """How reading the file in a process of its own ended."""
    pid = os.fork()
    if pid == 0:
        code = 3
        try:
            READERS[path.suffix](path)
            code = 0
        except (UserError, OSError, MemoryError) as error:
            code = 2 if "\n" not in str(error) or path.suffix == ".yaml" else 4
        except BaseException:
            code = 3
        finally:
            os._exit(code)
    until = time.monotonic() + LIMIT_SEC
    while time.monotonic() < until:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            if os.WIFSIGNALED(status):
                return f"ended by signal {os.WTERMSIG(status)}"
            return {0: "read", 2: "refused", 4: "refused in several lines"}.get(os.WEXITSTATUS(status), "traceback")
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "hang"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000, help="cases in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--state", type=Path, default=Path("outputs/torture.json"), help="counts so far")
    given = parser.parse_args()
    state = {"seed": given.seed, "done": 0, "counts": {}, "bad": []}
    if given.state.is_file():
        state = json.loads(given.state.read_text())
        if state["seed"] != given.seed:
            parser.error(f"{given.state} is of seed {state['seed']}; give another --state")
    counts = Counter(state["counts"])
    with tempfile.TemporaryDirectory() as scratch:
        files = sound_files(Path(scratch))
        for number in range(state["done"], given.count):
            name = list(files)[number % len(files)]
            path = Path(scratch) / f"case{Path(name).suffix}"
            path.write_bytes(mutated(files[name], np.random.default_rng([given.seed, number])))
            outcome = outcome_of(path)
            counts[f"{path.suffix} {outcome}"] += 1
            if outcome not in ("read", "refused"):
                state["bad"].append([number, name, outcome])
            state |= {"done": number + 1, "counts": dict(sorted(counts.items()))}
            if (number + 1) % 50 == 0 or number + 1 == given.count:
                write_text(given.state, json.dumps(state, indent=2) + "\n")
    print(json.dumps(state, indent=2))
    return 1 if state["bad"] else 0


if __name__ == "__main__":
    sys.exit(main())
