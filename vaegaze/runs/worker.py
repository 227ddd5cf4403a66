"""A worker: loads base model, estimator and loss once, then runs one person after the other."""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from vaegaze.config.finetune import Config
from vaegaze.config.tree import Resolved
from vaegaze.errors import UserError, plain
from vaegaze.models import VAEGaze
from vaegaze.models.checkpoint import Checkpoint
from vaegaze.models.device import cap_memory, settle_device, to_device
from vaegaze.models.estimator import load_estimator
from vaegaze.runs.cohort import FAILED, Record, finished_record
from vaegaze.runs.earlier import difference_words, differing_keys, stored_settings, with_choices_of
from vaegaze.runs.folder import RunFolder
from vaegaze.runs.one_person import Stopped, load_base, run_person, settled, with_fingerprint
from vaegaze.runs.person import load_person
from vaegaze.runs.resume import Progress, load_resume
from vaegaze.training.losses import Loss


@dataclass(frozen=True)
class SharedBase:
    """A base model as plain arrays, which an object store shares between the processes of a machine."""

    checkpoint: Checkpoint  # without its model
    config: dict
    weights: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, base: Checkpoint) -> "SharedBase":
        weights = {name: tensor.numpy() for name, tensor in base.model.state_dict().items()}
        return cls(replace(base, model=None), base.model.config, weights)


@dataclass(frozen=True)
class Job:
    """What all workers of a cohort share beside the base model."""

    resolved: Resolved  # of a run, without a person
    threads: int
    folder: str  # that relative paths start from
    gpu_share: float | None = None  # caps the memory on the GPU

    def worker(self, base: SharedBase | None = None) -> "Worker":
        """A worker with the shared base, or with one that it loads itself. UserError if it cannot start."""
        os.chdir(self.folder)  # that a relative path of the base starts from
        return Worker(self, base or SharedBase.of(load_base(self.resolved.config.oneshot_params)))

    def settings_of(self, person_id: str) -> Config:
        """The settings of one person's run."""
        params = self.resolved.config.oneshot_params
        data = replace(params.gazecapture_params, person_id=person_id)
        return replace(self.resolved.config, oneshot_params=replace(params, gazecapture_params=data))


class Worker:
    """Runs persons with one set of loaded models. UserError if one of these cannot be loaded."""

    def __init__(self, job: Job, base: SharedBase):
        torch.set_num_threads(job.threads)
        self.job, self.base = job, base
        config = settle_device(job.resolved.config)
        self.params = config.oneshot_params
        self.device = torch.device(self.params.device)
        cap_memory(self.device, job.gpu_share)
        with torch.device("meta"):
            model = VAEGaze(base.config)
        self.model = to_device(model.to_empty(device=self.device), self.device).eval()
        self.estimator = None if self.params.estimator == "none" else load_estimator(self.params.estimator)
        self.loss = Loss(config.loss_params, seed=self.params.seed, device=self.device)

    def run(self, person_id: str, should_stop: Callable[[], bool] = lambda: False) -> Record | None:
        """Run a person, or go on with an interrupted run; a finished one is left alone. None if it was stopped.

        Whatever goes wrong with this person is in the record: the other persons are to go on.
        """
        try:
            return self._run(person_id, should_stop)
        except Stopped:
            return None
        except Exception as error:
            return Record(person_id, FAILED, reason_of(error))
        finally:
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _run(self, person_id: str, should_stop: Callable[[], bool]) -> Record:
        began = time.perf_counter()
        torch.set_num_threads(self.job.threads)  # a setting of the thread that calls
        config = self.job.settings_of(person_id)
        done = finished_record(config, person_id)
        if done is not None:
            return done

        person = with_fingerprint(load_person(config.oneshot_params, self.model.canvas), self.base.checkpoint)
        folder = RunFolder(self.params.save_dir, person.name)
        folder.check_writable()
        folder.refuse_folders()
        resumed = None
        if not folder.resume.exists():
            folder.refuse_strangers()
        else:
            stored = stored_settings(folder)
            config = with_choices_of(stored, config)
            changed = differing_keys(stored, config, may_have_moved=True)
            if changed:
                raise UserError(f"the interrupted run in {folder.path} had other settings: {difference_words(changed)}")
            resumed = load_resume(folder.resume, Progress, ("trained", "optimizer"), person.info["fingerprint"])
            torch.set_num_threads(resumed.threads)
        resolved = self.job.resolved.settled(config, "chosen by train_all")
        resolved = settled(resolved, self.base.checkpoint)
        run_person(
            resolved,
            replace(self.base.checkpoint, model=self._fresh_model()),
            person,
            folder,
            self.loss,
            self.estimator,
            resumed,
            began=began,
            should_stop=should_stop,
        )
        return finished_record(config, person_id)

    @torch.no_grad()
    def _fresh_model(self) -> VAEGaze:
        """The one model of this worker with the base's weights."""
        for name, tensor in self.model.state_dict().items():
            tensor.copy_(torch.tensor(self.base.weights[name]))  # a copy: the arrays may be read-only
        self.model.requires_grad_(True)
        return self.model


def reason_of(error: Exception) -> str:
    """What went wrong, on one line."""
    lines = str(error).strip().splitlines()
    first = lines[0] if lines else ""
    if isinstance(error, UserError):
        return first
    return plain(f"{type(error).__name__}: {first}" if first else type(error).__name__)
