"""The folder of one run: its paths, and how each file is written."""

import hashlib
import json
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

import numpy as np

from vaegaze.config.tree import has_comments
from vaegaze.errors import UserError
from vaegaze.files import atomic_path, probe_folder, read_text, write_text
from vaegaze.images.pictures import as_image

CURVES = "tensorboard"
OTHERS = (
    "metrics.jsonl", "loss_curve.png", "gazes.png", "before_after.jpg", "photo_result.png", "person_info.json", CURVES,
)  # fmt: skip
RESERVED_NAMES = {  # of devices on Windows, with any ending
    "CON", "PRN", "AUX", "NUL", *(f"{port}{number}" for port in ("COM", "LPT") for number in range(1, 10)),
}  # fmt: skip


class RunFolder:
    """Paths and file formats of one run. Every file is written atomically."""

    def __init__(self, save_dir: str, name: str):
        self.path = Path(save_dir) / folder_name(name)
        self.model = self.path / "finetuned_model.pth"
        self.adapter = self.path / "adapter.pth"
        self.config = self.path / "config.yaml"
        self.resume = self.path / "resume.pth"
        self.summary = self.path / "summary.json"
        self.report = self.path / "report.html"

    def check_writable(self) -> None:
        """UserError if the folder, or a file in it, cannot be made. Leaves nothing behind."""
        check_writable(self.path)

    def results(self, save: str) -> list[Path]:
        """The files that mark a run as finished, in the order in which they are written."""
        return {"full": [self.model], "adapter": [self.adapter], "both": [self.adapter, self.model]}[save]

    def has_results(self) -> bool:
        return any(path.exists() for path in self.results("both"))

    def clear(self) -> None:
        """Remove what an earlier run wrote, its results first, since they mark it as finished. UserError for folders
        in the place of its files, before anything is removed.
        """
        self.refuse_folders()
        remove_written(self._written())

    def refuse_folders(self) -> None:
        """UserError if a folder has the name of a file that a run writes."""
        refuse_folders(self._written())

    def refuse_strangers(self) -> None:
        """UserError if the folder holds what a run would replace, and no run made it: that writes config.yaml first."""
        try:
            settings = read_text(self.config)
            is_a_runs = re.search("(?m)^oneshot_params:", settings) is not None and not has_comments(settings)
        except (OSError, ValueError):
            is_a_runs = False
        strangers = [] if is_a_runs else [path for path in self._written() if path.exists()]
        if strangers:
            what = strangers[0].relative_to(self.path)
            raise UserError(f"{self.path} holds {what}, which no run wrote", about="strangers")

    def _written(self) -> list[Path]:
        """All that a run writes, its results first."""
        first = (self.model, self.adapter, self.summary, self.report, self.resume)
        others = (self.path / name for name in OTHERS)
        return [*first, *others, *self.path.glob("samples/step_*.png"), self.config]

    def write_json(self, name: str, content: dict) -> None:
        write_text(self.path / name, json.dumps(content, indent=2, allow_nan=False) + "\n")

    def write_metrics(self, history: list[dict]) -> None:
        write_text(
            self.path / "metrics.jsonl", "".join(json.dumps(record, allow_nan=False) + "\n" for record in history)
        )

    def write_picture(self, name: str, pixels: np.ndarray, colour_profile: bytes | None = None) -> None:
        """Pixels (H, W, C) uint8: grey, RGB, or either with alpha."""
        with atomic_path(self.path / name) as temporary:
            as_image(pixels).save(temporary, icc_profile=colour_profile)

    def stored_fingerprint(self) -> str | None:
        """The fingerprint of base model and data that the run was started with; None if the folder has none."""
        try:
            return json.loads(read_text(self.path / "person_info.json")).get("fingerprint")
        except (OSError, ValueError, AttributeError):
            return None


def refuse_folders(written: Iterable[Path]) -> None:
    """UserError if a folder, whose content nobody knows, has the name of a file that a run writes."""
    for path in written:
        if _is_folder(path) and path.name != CURVES:
            raise UserError(f"{path} is a folder, where a run writes a file", about="in_the_way")


def remove_written(written: Iterable[Path]) -> None:
    """Remove files, and the one folder that a run writes."""
    for path in written:
        if path.name == CURVES and _is_folder(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def check_writable(folder: Path) -> None:
    """UserError if the folder, or a file in it, cannot be made. Leaves nothing behind."""
    try:
        probe_folder(folder)
    except OSError as error:
        raise UserError(f"cannot write to {folder} ({error.strerror})", about="save_dir") from error


def folder_name(name: str) -> str:
    """A person's id as a folder name for every system: letters, digits, - and _ stay, and so do inner dots."""
    quoted = quote(name, safe="", errors="surrogateescape")  # a photo's name may hold any bytes
    if len(quoted) > 150:  # ids that differ only beyond the cut still get folders of their own
        quoted = f"{quoted[:130]}-{hashlib.sha256(quoted.encode()).hexdigest()[:16]}"
    if quoted.split(".")[0].upper() in RESERVED_NAMES:
        quoted = f"%{ord(quoted[0]):02X}{quoted[1:]}"
    return re.sub(r"^\.|\.$", "%2E", quoted)
