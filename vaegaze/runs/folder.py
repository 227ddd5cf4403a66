"""The folder of one run: what lies in it, each file written atomically, and what an earlier run left there."""

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote

import numpy as np
import torch
from torch import Tensor

from vaegaze.config.finetune import Config
from vaegaze.config.tree import resolve, settings_of, value_at
from vaegaze.data.samples import Samples
from vaegaze.errors import UserError
from vaegaze.files import atomic_path, probe_folder, write_text
from vaegaze.images.pictures import as_image
from vaegaze.models import VAEGaze
from vaegaze.models.tensor_files import load_tensors, save_tensors

RESUME_FORMAT = "vaegaze-resume-2"


@dataclass
class Progress:
    """How far a run has come, beside its weights: all that must survive an interruption."""

    step: int = 0
    seconds: float = 0.0
    history: list[dict] = field(default_factory=list)  # the lines of metrics.jsonl
    sums: dict[str, Tensor] = field(default_factory=dict)  # of the loss terms since the last of those lines
    before: dict[str, float] = field(default_factory=dict)  # the base model's numbers
    drawn_before: Tensor | None = None  # (N, S, S, 3) uint8, its drawings of the frames that are measured
    peak_memory_mb: float | None = None


class RunFolder:
    """The paths of one run, and the files' formats."""

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
        try:
            probe_folder(self.path)
        except OSError as error:
            raise UserError(
                f"save_dir: cannot write to {self.path} ({error.strerror}); give another --save_dir"
            ) from error

    def results(self, save: str) -> list[Path]:
        """What marks a run as finished, in the order in which it is written."""
        return {"full": [self.model], "adapter": [self.adapter], "both": [self.adapter, self.model]}[save]

    def clear(self) -> None:
        """Remove what an earlier run wrote, the results first: they mark a run as finished."""
        others = (self.path / name for name in ("metrics.jsonl", "loss_curve.png", "gazes.png", "photo_result.png"))
        pictures = self.path.glob("samples/step_*.png")
        for path in (self.model, self.adapter, self.summary, self.report, self.resume, *others, *pictures):
            path.unlink(missing_ok=True)

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

    def save_progress(
        self, progress: Progress, model: VAEGaze, optimizer: torch.optim.Optimizer, fingerprint: str
    ) -> None:
        trained = {name: parameter.detach() for name, parameter in model.named_parameters() if parameter.requires_grad}
        content = {
            "format": RESUME_FORMAT,
            "fingerprint": fingerprint,
            "threads": torch.get_num_threads(),  # with another number of them the CPU rounds otherwise
            "progress": vars(progress),
            "trained": trained,
            "optimizer": optimizer.state_dict(),
        }
        save_tensors(self.resume, content)

    def load_progress(self, model: VAEGaze, optimizer: torch.optim.Optimizer, fingerprint: str) -> Progress:
        """Bring model and optimiser to where the interrupted run was. UserError if base model or data are others."""
        content = load_tensors(self.resume, hint="start anew with --overwrite")
        if not isinstance(content, dict) or content.get("format") != RESUME_FORMAT:
            raise UserError(f"{self.resume} is no resume file of this program; start anew with --overwrite")
        self.refuse_other_data(content.get("fingerprint"), fingerprint)
        try:
            with torch.no_grad():
                parameters = dict(model.named_parameters())
                for name, tensor in content["trained"].items():
                    parameters[name].copy_(tensor)
            optimizer.load_state_dict(content["optimizer"])
            torch.set_num_threads(content["threads"])
            return Progress(**content["progress"])
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise UserError(f"{self.resume} is damaged ({error}); start anew with --overwrite") from error

    def stored_fingerprint(self) -> str | None:
        try:
            return json.loads((self.path / "person_info.json").read_text(encoding="utf-8")).get("fingerprint")
        except (OSError, ValueError, AttributeError):
            return None

    def refuse_other_data(self, stored: str | None, fingerprint: str) -> None:
        """UserError if the run was started with another base model or other data than `fingerprint` is of."""
        if stored != fingerprint:
            raise UserError(
                f"{self.path} was started with another base model or other data (checksums differ); bring those back "
                "to go on, or start anew with --overwrite"
            )


def folder_name(name: str) -> str:
    """A person's id as a folder name that every system takes: letters, digits, - and _ stay, also inner dots."""
    quoted = quote(name, safe="", errors="surrogateescape")  # a photo's name may hold any bytes
    if len(quoted) > 150:  # cut, such ids still stay apart
        quoted = f"{quoted[:130]}-{hashlib.sha256(quoted.encode()).hexdigest()[:16]}"
    return re.sub(r"^\.|\.$", "%2E", quoted)


def data_fingerprint(*samples: Samples, base: str) -> str:
    """A checksum over that of the base model's weights and everything that samples hold."""
    digest = hashlib.sha256(base.encode())
    for group in samples:
        for array in vars(group).values():
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def adopt_stored_choices(config: Config, folder: RunFolder) -> Config:
    """On resume, `auto` is what the interrupted run chose, never chosen anew."""
    if not folder.config.is_file():
        return config
    stored, params = resolve(Config, str(folder.config)).config.oneshot_params, config.oneshot_params
    auto = {name: getattr(stored, name) for name in ("device", "precision") if getattr(params, name) == "auto"}
    return replace(config, oneshot_params=replace(params, **auto))


def already_finished(
    folder: RunFolder, config: Config, fingerprint: str, needed: Iterable[str], *, resume: bool, overwrite: bool
) -> bool:
    """Look at what an earlier run left: True when nothing is to be done, UserError where the command does not fit.

    `needed` are the files of the base model, which a new run must not replace.
    """
    finished, interrupted = any(path.exists() for path in folder.results("both")), folder.resume.exists()
    if resume:
        if not (finished or interrupted):
            raise UserError(f"--resume: {folder.path} holds no interrupted run; start without --resume")
        changed = differing_keys(config, folder)
        if changed:
            raise UserError(f"--resume: the run in {folder.path} had other settings: {'; '.join(changed)}")
        finished = all(path.exists() for path in folder.results(config.oneshot_params.save))
        if finished:
            folder.refuse_other_data(folder.stored_fingerprint(), fingerprint)
        return finished
    for path in needed:
        if folder.path.resolve() in Path(path).resolve().parents:
            raise UserError(
                f"checkpoint_path: {path} lies in {folder.path}, where this run would write; give another --save_dir"
            )
    if overwrite:
        return False
    if finished:
        raise UserError(f"{folder.path} holds a finished run; give --overwrite to replace it, or another --save_dir")
    if interrupted:
        raise UserError(f"{folder.path} holds an interrupted run; give --resume to go on, or --overwrite to start anew")
    return False


def differing_keys(config: Config, folder: RunFolder) -> list[str]:
    """Each setting in which the stored run differs, with both values.

    The folder may have moved, and so may an adapter's base, which the fingerprint knows by its weights; and gradient
    checkpointing, which may be what a run that was out of memory needs, changes no result.
    """
    free = {f"oneshot_params.{name}" for name in ("save_dir", "base", "gradient_checkpointing")}
    stored = resolve(Config, str(folder.config)).config
    return [
        f"{key} was {value_at(stored, key)!r}, now {value_at(config, key)!r}"
        for key in settings_of(Config)
        if key not in free and value_at(stored, key) != value_at(config, key)
    ]
