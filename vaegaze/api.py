"""The Python API: load a model, read a person, fine-tune, evaluate, redirect, save.

In a process that was forked after this was imported PyTorch computes in one thread; one that was spawned has all.
"""

import os
import warnings
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import torch

from vaegaze.config.finetune import Config, GazeCaptureParams, PhotoParams
from vaegaze.config.tree import resolve, settings_of
from vaegaze.data.photo import load_photo
from vaegaze.errors import UserError
from vaegaze.evaluation.eval_set import EvalSet
from vaegaze.evaluation.metrics import evaluate as measure
from vaegaze.geometry.camera import BETWEEN_EYES_MM, LIDS, Camera
from vaegaze.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from vaegaze.models.cpu import forget_other_threads, own_copy
from vaegaze.models.device import emulation_words, refuse_other_dtypes, to_device
from vaegaze.models.estimator import load_estimator
from vaegaze.redirecting.asked import asked
from vaegaze.redirecting.live import Redirector
from vaegaze.redirecting.photo import redirect_photo
from vaegaze.runs.person import Person, load_person
from vaegaze.training import Step
from vaegaze.training import finetune as adapt
from vaegaze.training.losses import Loss
from vaegaze.training.provenance import fine_tuning_info, frame_checksums, stored_checksums, were_trained
from vaegaze.training.references import choose_references, spare_reference
from vaegaze.training.replay import settle_replay

__all__ = ["Redirector", "evaluate", "finetune", "load_model", "read_person", "redirect", "save_model"]

OF_SAMPLES = {"num_samples", "num_eval_samples", "mask_path", "random_person"}
OF_TRAINING = (
    {setting.name for setting in settings_of(Config).values()}
    - OF_SAMPLES
    - {
        *("blend", "keep_best", "device", "save", "save_dir", "checkpoint_path", "base", "estimator", "tracker"),
        *("log_every", "eval_every", "sample_every", "checkpoint_every", "use_gazecapture"),
        *(field.name for params in (GazeCaptureParams, PhotoParams) for field in fields(params)),
    }
)
SHIPPED_CANVAS = Camera(192, 96, 1000.0, BETWEEN_EYES_MM, eye_masks=LIDS)  # of the model that ships


def load_model(path: str | Path = "checkpoints/pretrained_model.pth", base: str | Path | None = None) -> Checkpoint:
    """A base model, a fine-tuned one, or an adapter on its base. UserError for any other file."""
    _refuse_another_kind(path=path, **({} if base is None else {"base": base}))
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
    _refuse_another_kind(canvas=canvas, hdf_path=hdf_path)
    _refuse_others(settings, OF_SAMPLES | {"seed"}, "read_person")
    given = {**settings, "hdf_path": hdf_path} | ({} if person_id is None else {"person_id": person_id})
    return load_person(resolve(Config, named=given).config.oneshot_params, canvas)


def finetune(
    model: Checkpoint, person: Person, *, on_step: Callable[[Step], None] = lambda step: None, **settings
) -> Checkpoint:
    """A copy of the model adapted to the person's training samples, with their reference frames.

    `settings` are keys of the YAML file that concern the training: num_steps, learning_rate, finetune_strategy,
    vgg_loss and so on. UserError for any other. A Python warning where bf16 is asked for and only emulated.
    """
    _refuse_others(settings, OF_TRAINING, "finetune")
    config = resolve(Config, named={"hdf_path": "-", **settings}).config
    _refuse_another_kind(model=model, person=person, on_step=on_step)
    refuse_other_dtypes(model.model)
    params = settle_replay(config.oneshot_params, "the model", model.info)
    _refuse_another_canvas(model, person)
    emulated = emulation_words(params.precision, str(next(model.model.parameters()).device))
    if emulated is not None:
        warnings.warn(f"{emulated}; give precision='fp32'", stacklevel=2)
    with torch.inference_mode(False), torch.enable_grad():  # whatever the caller's script has set
        tuned = own_copy(model.model)
        loss = Loss(config.loss_params, seed=params.seed, device=next(tuned.parameters()).device)
        result = adapt(tuned, person.train, params, loss, on_step=on_step)
    before = model.info if _is_tuned_on(model, person) else None
    info = {**model.info, **fine_tuning_info(person.name, person.train, result.references, result.state.step, before)}
    return replace(model, model=tuned, info=info, references=tuple(result.references))


def evaluate(
    model: Checkpoint, person: Person, estimator: str | Path | None = "checkpoints/gaze_estimator/gaze_estimator.pth"
) -> dict[str, float | None]:
    """The numbers of docs/runs.md on the person's held-out samples that the model was not trained on either.

    If there are none, those on the training samples. An `estimator` of None skips the gaze.
    """
    _refuse_another_kind(model=model, person=person, **({} if estimator is None else {"estimator": estimator}))
    refuse_other_dtypes(model.model)
    _refuse_another_canvas(model, person)
    tuned = _is_tuned_on(model, person)
    info = model.info if tuned else {}
    seen = were_trained(info, person.held_out) | np.isin(person.held_out.indices, list(info.get("blend_indices", ())))
    samples = person.train if seen.all() else person.held_out.take(~seen)
    references = model.references if tuned else choose_references(person.train)
    eval_set = EvalSet.prepare(
        model.model,
        samples,
        references,
        person.rendered,
        spare=spare_reference(references, samples),
        from_itself=model.draws_from_itself,
    )
    reader = None
    if estimator is not None and estimator != "none":
        reader = load_estimator(estimator).model.to(next(model.model.parameters()).device)
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
    move only part of the way from where they look. UserError for angles beyond ±π/2, and other values out of range.
    """
    look = asked(gaze, head, face, strength)
    _refuse_another_kind(model=model)
    refuse_other_dtypes(model.model)
    mask_path = None if isinstance(mask_path, str) and mask_path == "auto" else mask_path
    photo = load_photo(image_path, mask_path, None, look.head, model.model.canvas, look.face)
    return redirect_photo(model, photo, look.gaze, look.strength, reference)


def save_model(model: Checkpoint, path: str | Path) -> None:
    """Write the whole model with its reference frames, atomically. UserError for a path that cannot be a file's."""
    _refuse_another_kind(model=model, path=path)
    if Path(path).is_dir():
        raise UserError(f"path: {path} is a folder; give the path of a file")
    with torch.no_grad():
        save_checkpoint(path, model.model, model.info, model.references)


def _refuse_another_kind(**arguments: object) -> None:
    """UserError for an argument that is not what its name says."""
    kinds = {
        "model": (Checkpoint, "what `load_model` or `finetune` returns"),
        "person": (Person, "what `read_person` returns"),
        "canvas": (Camera, "that of a model: `model.model.canvas`"),
        "on_step": (Callable, "a function that takes a `Step`"),
    }
    for name, value in arguments.items():
        kind, expected = kinds.get(name, ((str, os.PathLike), "the path of a file"))
        empty = isinstance(value, str) and not value
        if not isinstance(value, kind) or empty:
            got = "an empty text" if empty else type(value).__name__
            raise UserError(f"{name}: got {got}; expected {expected}")


def _refuse_others(settings: dict, allowed: set[str], function: str) -> None:
    """UserError for settings of the YAML file that this function would ignore."""
    others = {setting.name for setting in settings_of(Config).values()} - allowed
    for name in sorted(settings.keys() & others):
        whose = "`read_person`" if name in OF_SAMPLES else "`finetune`" if name in OF_TRAINING else "`vaegaze train`"
        raise UserError(f"{name}: no setting of `{function}`; it is one of {whose}")


def _refuse_another_canvas(model: Checkpoint, person: Person) -> None:
    if person.train.canvas != model.model.canvas:
        raise UserError(
            f"person: {person.name} was read for a model of {person.train.canvas.size_text}, this one has "
            f"{model.model.canvas.size_text}; give `read_person(..., canvas=model.model.canvas)`"
        )


def _is_tuned_on(model: Checkpoint, person: Person) -> bool:
    """Whether it was fine-tuned on this person: by the id, unless it knows other frames of that id."""
    frames = {**frame_checksums(person.train), **frame_checksums(person.held_out)}
    known = stored_checksums(model.info)
    same_frames = all(known.get(index, checksum) == checksum for index, checksum in frames.items())
    return model.info.get("fine_tuned_on") == person.name and same_frames


def _compute_after_a_fork() -> None:
    """A forked process lacks its parent's threads, and would wait without end for them: PyTorch gets one here."""
    torch.set_num_threads(1)
    forget_other_threads()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_compute_after_a_fork)
