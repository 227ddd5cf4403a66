"""The folder of one pre-training: metrics, curve, pictures, resume file."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image

from vaegaze.config.pretrain import PretrainConfig
from vaegaze.config.tree import resolve, to_yaml
from vaegaze.errors import UserError
from vaegaze.files import atomic_path, write_text
from vaegaze.images.sheets import picture_sheet
from vaegaze.models import VAEGaze, to_pixels
from vaegaze.models.tensor_files import save_tensors, state_of
from vaegaze.pretraining.batches import Batch, Skipped
from vaegaze.pretraining.model_card import best_record
from vaegaze.pretraining.phases import phases
from vaegaze.pretraining.progress import Progress, note
from vaegaze.report.figures import write_loss_curve
from vaegaze.runs.folder import CURVES, refuse_folders, remove_written
from vaegaze.runs.resume import damaged, load_resume, save_resume

PICTURED = 6  # held-out frames


class PretrainFolder:
    """The folder's paths and file formats."""

    def __init__(self, save_dir: str):
        self.path = Path(save_dir)
        self.state, self.best = self.path / "resume.pth", self.path / "best.pth"
        self.config = self.path / "config.yaml"

    def clear(self) -> None:
        """Remove an earlier run's files, so that they do not mix with those of other settings. UserError for folders in
        the place of its files, before anything is removed.
        """
        self.refuse_folders()
        remove_written(self._written())

    def refuse_folders(self) -> None:
        """UserError if a folder has the name of a file that a run writes."""
        refuse_folders(self._written())

    def refuse_strangers(self) -> None:
        """UserError if the folder holds a file that a run would replace, and no pre-training made the folder.

        A run writes its config.yaml first.
        """
        strangers = self._written()  # before the settings, which another process of this run may be writing
        if strangers and not re.search("(?m)^pretrain_params:", self.stored_settings()):
            raise UserError(
                f"{self.path} holds {strangers[0].relative_to(self.path)}, which no pre-training wrote",
                about="strangers",
            )

    def _written(self) -> list[Path]:
        names = ("resume.pth", "best.pth", "metrics.jsonl", "curves.png", "skipped.json", CURVES)
        paths = [*(self.path / name for name in names), *self.path.glob("samples/step_*.png"), self.config]
        return [path for path in paths if path.exists()]

    def stored_settings(self) -> str:
        """The run's config.yaml; empty if there is none."""
        return self.config.read_text(encoding="utf-8", errors="replace") if self.config.is_file() else ""

    def with_choices_of_run(self, config: PretrainConfig) -> PretrainConfig:
        """On resume, `auto` means the interrupted run's choice, which does not change."""
        params = config.pretrain_params
        if params.precision != "auto":
            return config
        try:
            stored = resolve(PretrainConfig, str(self.config)).config.pretrain_params
        except UserError:  # no run, or a damaged one, which `load` refuses
            return config
        return replace(config, pretrain_params=replace(params, precision=stored.precision))

    def save(self, model: VAEGaze, progress: Progress) -> None:
        tensors = {"model": state_of(model), "model_config": model.config}
        save_resume(self.state, progress, tensors, settings_checksum(self.stored_settings()))

    def load(self, config: PretrainConfig, model: VAEGaze, fresh: Progress) -> Progress:
        """Restores the model from the interrupted run with these settings; only `output` may differ.

        UserError if there is no such run, or if it had another number of processes or other data than `fresh`, the
        progress of a run that begins now.
        """
        checksum = settings_checksum(to_yaml(config))
        if not self.state.is_file() or settings_checksum(self.stored_settings()) != checksum:
            raise UserError(f"{self.path} holds no interrupted run with exactly these settings", about="resume")
        resumed = load_resume(self.state, Progress, ("model", "model_config"), checksum)
        if resumed.progress.processes != fresh.processes:
            raise UserError(
                f"the run in {self.path} used {resumed.progress.processes} processes, not {fresh.processes}; resume it "
                "with as many, since each step's data depends on their number"
            )
        if resumed.progress.data not in ("", fresh.data):
            raise UserError(
                f"{self.path} was started with other persons, photographs or numbers of frames, or split otherwise",
                about="other_data",
            )
        if resumed.progress.content not in ("", fresh.content):
            raise UserError(
                f"{self.path} was started with other pixels, masks, labels or photographs in the same data (checksums "
                "differ)",
                about="other_data",
            )
        try:
            model.load_state_dict(resumed.tensors["model"])
            stored = resumed.tensors["model_config"]["vae"].get("scaling_factor", model.vae.scaling_factor)
            model.vae.scaling_factor = model.config["vae"]["scaling_factor"] = stored
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise damaged(self.state, error) from error
        # A run of an older version has none; from now on they are compared.
        resumed.progress.data, resumed.progress.content = fresh.data, fresh.content
        return resumed.progress

    def report(
        self,
        config: PretrainConfig,
        model: VAEGaze,
        progress: Progress,
        few: Batch,
        empty: Sequence[Skipped] = (),
    ) -> dict:
        """Writes metrics, curve, who and what was left out, and a sheet of held-out frames.

        `empty` are the persons that were left out before training. Returns the newest record, with overall steps.
        """
        write_text(self.path / "metrics.jsonl", "".join(json.dumps(record) + "\n" for record in progress.records))
        skipped: dict[str, dict] = {}
        note(skipped, empty)
        if skipped := skipped | progress.skipped:
            write_text(self.path / "skipped.json", json.dumps(skipped, indent=2) + "\n")
        history = steps_in_all(config, progress.records)
        write_loss_curve(self.path / "curves.png", history, "pre-training", names=("loss", "eye_l1", "eye_psnr"))
        write_sheet(self.path / "samples" / f"step_{history[-1]['step']:06d}.png", config, model, progress, few)
        if progress.records[-1] is best_record(progress, phases(config)[-1].name):
            save_tensors(self.best, shipped_state(model, progress))
        return history[-1]


def settings_checksum(settings: str) -> str:
    """A checksum of a config.yaml, whatever its `output`."""
    return hashlib.sha256(re.sub("(?m)^  output: .*$", "", settings).encode()).hexdigest()


def steps_in_all(config: PretrainConfig, records: list[dict]) -> list[dict]:
    """The records with steps counted over all phases."""
    todo = phases(config)
    before = {phase.name: sum(other.steps for other in todo[:i]) for i, phase in enumerate(todo)}
    return [record | {"step": before.get(record["phase"], 0) + record["step"]} for record in records]


def shipped_state(model: VAEGaze, progress: Progress) -> dict[str, torch.Tensor]:
    with progress.shipped_weights(model):
        return state_of(model)


@torch.no_grad()
def write_sheet(path: Path, config: PretrainConfig, model: VAEGaze, progress: Progress, few: Batch) -> None:
    """Writes held-out frames: target, masked input and result."""
    with progress.shipped_weights(model):
        result = phases(config)[progress.phase].redraw(model, few)
    pictures = [few.target, model.mask(few.target, few.eye_masks), result]
    rows = [(str(i), row) for i, row in enumerate(zip(*(to_pixels(picture[:PICTURED]) for picture in pictures)))]
    with atomic_path(path) as temporary:
        Image.fromarray(picture_sheet(("target", "masked input", "result"), rows)).save(temporary)
