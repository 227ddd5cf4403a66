"""The Python API: load a model, read a person, fine-tune, evaluate, redirect, save."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from vaegaze.config.finetune import Config
from vaegaze.config.tree import resolve
from vaegaze.data.photo import load_photo
from vaegaze.errors import UserError
from vaegaze.evaluation.eval_set import EvalSet
from vaegaze.evaluation.metrics import evaluate as measure
from vaegaze.geometry.camera import BETWEEN_EYES_MM, LIDS, Camera
from vaegaze.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from vaegaze.models.device import to_device
from vaegaze.models.estimator import load_estimator
from vaegaze.redirecting.live import Redirector
from vaegaze.redirecting.photo import redirect_photo
from vaegaze.runs.person import Person, load_person
from vaegaze.training import Step
from vaegaze.training import finetune as adapt
from vaegaze.training.losses import Loss
from vaegaze.training.provenance import fine_tuning_info
from vaegaze.training.references import choose_references, spare_reference
from vaegaze.training.replay import settle_replay

__all__ = ["Redirector", "evaluate", "finetune", "load_model", "read_person", "redirect", "save_model"]

SETTINGS_OF_A_RUN = {
    "blend",
    "keep_best",
    "device",
    "save",
    "save_dir",
    "checkpoint_path",
    "base",
    "estimator",
    "tracker",
}
SHIPPED_CANVAS = Camera(192, 96, 1000.0, BETWEEN_EYES_MM, eye_masks=LIDS)  # of the model that ships


def load_model(path: str | Path = "checkpoints/pretrained_model.pth", base: str | Path | None = None) -> Checkpoint:
    """A base model, a fine-tuned one, or an adapter on its base. UserError for any other file."""
    checkpoint = load_checkpoint(path, base)
    to_device(checkpoint.model, torch.device("cpu"))
    return checkpoint


def read_person(
    hdf_path: str | Path, person_id: str | None = None, *, canvas: Camera = SHIPPED_CANVAS, **settings
) -> Person:
    """One person's samples of a data set, those to train on and those held out.

    `canvas` is the model's: `model.model.canvas`. `settings` are keys of the YAML file: num_samples, num_eval_samples,
    seed, mask_path. Without `person_id` the seed chooses one. UserError for whatever is wrong with file, person or
    settings.
    """
    given = {**settings, "hdf_path": str(hdf_path)} | ({} if person_id is None else {"person_id": person_id})
    return load_person(resolve(Config, named=given).config.oneshot_params, canvas)


def finetune(
    model: Checkpoint, person: Person, *, on_step: Callable[[Step], None] = lambda step: None, **settings
) -> Checkpoint:
    """A copy of the model adapted to the person's training samples, with their reference frames.

    `settings` are keys of the YAML file that concern the training: num_steps, learning_rate, finetune_strategy,
    vgg_loss and so on. UserError for any other.
    """
    of_a_run = sorted(settings.keys() & SETTINGS_OF_A_RUN)
    if of_a_run:
        raise UserError(f"{', '.join(of_a_run)}: a setting of a whole run; use `vaegaze train` for it")
    config = resolve(Config, named={"hdf_path": "-", **settings}).config
    params = settle_replay(config.oneshot_params, "the model", model.info)
    tuned = copy.deepcopy(model.model)
    loss = Loss(config.loss_params, seed=params.seed, device=next(tuned.parameters()).device)
    result = adapt(tuned, person.train, params, loss, on_step=on_step)
    before = model.info if model.info.get("fine_tuned_on") == person.name else None
    info = {**model.info, **fine_tuning_info(person.name, person.train, result.references, result.state.step, before)}
    return replace(model, model=tuned, info=info, references=tuple(result.references))


def evaluate(
    model: Checkpoint, person: Person, estimator: str | Path | None = "checkpoints/gaze_estimator/gaze_estimator.pth"
) -> dict[str, float | None]:
    """The numbers of docs/runs.md on the person's held-out samples, or on the training ones if none are held out."""
    samples = person.held_out if len(person.held_out) else person.train
    tuned = model.info.get("fine_tuned_on") == person.name
    references = model.references if tuned else choose_references(person.train)
    eval_set = EvalSet.prepare(
        model.model,
        samples,
        references,
        person.rendered,
        spare=spare_reference(references, samples),
        from_itself=model.draws_from_itself,
    )
    reader = load_estimator(estimator).model.to(next(model.model.parameters()).device) if estimator else None
    return measure(model.model, eval_set, reader).numbers


def redirect(
    model: Checkpoint,
    image_path: str | Path,
    gaze: tuple[float, float],
    *,
    head: tuple[float, float] | None = None,
    mask_path: str | Path | None = None,
    face: int | None = None,
    reference: str = "auto",
    strength: float = 1.0,
) -> np.ndarray:
    """The photo (H, W, C) uint8 with the eyes looking at `gaze`, (pitch, yaw) in radians; see docs/redirecting.md.

    Without `mask_path` the eyes are found, which needs the extra `vision`; without `head` it is read from the picture
    where the face landmarks are installed, see docs/faces.md. The eyes are drawn from the model's reference frames;
    with a base model from the photo itself. `reference` chooses: own, model or none. With a `strength` below 1 the eyes
    move only part of the way from where they look.
    """
    photo = load_photo(image_path, mask_path, (0.0, 0.0), head, model.model.canvas, face)
    return redirect_photo(model, photo, gaze, strength, reference)


def save_model(model: Checkpoint, path: str | Path) -> None:
    """Write the whole model with its reference frames, atomically."""
    with torch.no_grad():
        save_checkpoint(path, model.model, model.info, model.references)
