"""The resume file: how far a run has come, and the tensors to continue from.

`save_resume` and `load_resume` serve any run: `progress` is a dataclass of plain values and tensors, `tensors` whatever
else the run needs back, `fingerprint` a checksum of everything that must be the same when it continues.
"""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from vaegaze.data.photo import Photo
from vaegaze.data.samples import ARRAYS, Samples
from vaegaze.errors import UserError
from vaegaze.models.tensor_files import load_tensors, save_tensors

RESUME_FORMAT = "vaegaze-resume-2"

Kind = TypeVar("Kind")


@dataclass
class Progress:
    """How far a fine-tuning run has come, apart from weights and optimiser."""

    step: int = 0  # finished steps
    seconds: float = 0.0  # of training
    history: list[dict] = field(default_factory=list)  # the lines of metrics.jsonl
    sums: dict[str, Tensor] = field(default_factory=dict)  # of the loss terms since the last of those lines
    before: dict[str, float] = field(default_factory=dict)  # the base model's numbers
    before_per_frame: dict[str, Tensor] = field(default_factory=dict)  # (N,), see `evaluation.metrics.Evaluation`
    drawn_before: Tensor | None = None  # (N, S, S, 3) uint8, the base model's drawings of the measured frames
    peak_memory_mb: float | None = None
    seconds_of: dict[str, float] = field(default_factory=dict)  # of the phases beside training, by name
    judged: list[dict] = field(default_factory=list)  # with keep_best: step, and a judgement of its weights
    best: dict[str, Tensor] = field(default_factory=dict)  # the best of these weights; none while the base's are
    checksums: dict[str, str] = field(default_factory=dict)  # of the networks beside the model, such as "estimator"

    def spend(self, phase: str, seconds: float) -> None:
        """Add to a phase's seconds; those of training have a field of their own, since older files do."""
        if phase == "training":
            self.seconds += seconds
            return
        self.seconds_of[phase] = self.seconds_of.get(phase, 0.0) + seconds


@dataclass(frozen=True)
class Resumed(Generic[Kind]):
    """What a resume file holds."""

    progress: Kind
    tensors: dict[str, Any]
    threads: int  # CPU threads of the interrupted run; with another number the CPU rounds differently


def save_resume(path: Path, progress: Any, tensors: dict[str, Any], fingerprint: str) -> None:
    content = {
        "format": RESUME_FORMAT,
        "fingerprint": fingerprint,
        "threads": torch.get_num_threads(),
        "progress": vars(progress),
    }
    save_tensors(path, content | tensors)


def load_resume(path: Path, kind: type[Kind], tensors: tuple[str, ...], fingerprint: str) -> Resumed[Kind]:
    """UserError if the file is damaged, or if the run had another base model or other data."""
    content = load_tensors(path, about="resume")
    if not isinstance(content, dict) or content.get("format") != RESUME_FORMAT:
        raise UserError(f"{path} is not a resume file of this program", about="resume")
    refuse_other_data(path.parent, content.get("fingerprint"), fingerprint)
    try:
        return Resumed(kind(**content["progress"]), {name: content[name] for name in tensors}, int(content["threads"]))
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(path, error) from error


def damaged(path: Path, error: Exception) -> UserError:
    return UserError(f"{path} is damaged ({error})", about="resume")


def refuse_other_data(folder: Path, stored: str | None, fingerprint: str) -> None:
    """UserError if the run in `folder` was started with another base model or other data than `fingerprint` is of."""
    if stored != fingerprint:
        raise UserError(
            f"{folder} was started with another base model or other data (checksums differ)", about="other_data"
        )


def refuse_other_networks(folder: Path, stored: dict[str, str], checksums: dict[str, str]) -> None:
    """UserError if a network beside the model, such as the estimator, is not the one that the run started with."""
    for name, checksum in checksums.items():
        if stored and stored.get(name) != checksum:
            raise UserError(
                f"{folder} was started with another file for the {name} (checksums differ)", about="other_data"
            )


def network_checksum(network: nn.Module) -> str:
    """A checksum of a network's weights, whatever device they are on."""
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy())
    return digest.hexdigest()


def data_fingerprint(*samples: Samples, base: str, photo: Photo | None = None) -> str:
    """A checksum over the base model's own and all arrays of the samples; their canvas belongs to the base model.

    Eye masks are among the arrays. Of a photo, its full-size pixels and mask count too: drawings are pasted into them.
    """
    digest = hashlib.sha256(base.encode())
    for group in samples:
        for name in ARRAYS:
            digest.update(np.ascontiguousarray(getattr(group, name)).tobytes())
    if photo is not None:
        digest.update(np.ascontiguousarray(photo.original))
        digest.update(np.ascontiguousarray(photo.mask))
    return digest.hexdigest()
