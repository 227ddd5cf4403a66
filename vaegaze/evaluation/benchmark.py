"""One cell of the benchmark: a person's frames, a fine-tuning on some of them, and the numbers of the others."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vaegaze.config.benchmark import POOL, BenchmarkParams
from vaegaze.config.finetune import LossParams, OneshotParams
from vaegaze.data.photo import Photo, own_irises, paste, without_own_error
from vaegaze.data.samples import Samples
from vaegaze.errors import UserError
from vaegaze.evaluation.benchmark_grid import AUTOENCODER, TRUE, UNTRAINED, Task
from vaegaze.evaluation.eval_set import EvalSet
from vaegaze.evaluation.full_size import judge
from vaegaze.evaluation.gaze import Estimator
from vaegaze.evaluation.metrics import Drawing, all_finite, draw, evaluate, eye_l1
from vaegaze.evaluation.rendered_faces import RenderedFace, joined, rendered_face, rendered_photo
from vaegaze.files import atomic_path
from vaegaze.geometry.camera import BETWEEN_EYES_MM, Camera
from vaegaze.models import VAEGaze, to_pixels
from vaegaze.models.checkpoint import Checkpoint, Reference, load_checkpoint
from vaegaze.models.device import to_device
from vaegaze.renderer.data_set import person_from_seed
from vaegaze.training import Step, TrainingDiverged, finetune
from vaegaze.training.losses import Loss
from vaegaze.training.replay import settle_replay

EYES_OF_FACE = (0.2, 0.64)  # height and width of the pictures of the eyes / side of the frame
FULL = "full_"  # begins the names of numbers at the frames' own size
_HELD_OUT_STREAM, _TRAIN_STREAM = 0, 1


@dataclass(frozen=True)
class BenchmarkPerson:
    """A rendered person's frames: the held-out ones with their true redirections, and the pool for training."""

    number: int
    glasses: bool
    held_out: list[RenderedFace]
    photos: list[Photo]  # to train on
    pool: Samples  # the same on the canvas

    @classmethod
    def render(
        cls, split: str, number: int, params: BenchmarkParams, canvas: Camera, check: Callable[[], None]
    ) -> "BenchmarkPerson":
        total = params.held_out + POOL
        rows = np.random.default_rng([params.seed, _HELD_OUT_STREAM, number]).permutation(total).tolist()
        held_out, photos = [], []
        for sample in rows[: params.held_out]:
            check()
            where = (split, params.seed, number, sample, canvas)
            held_out.append(rendered_face(*where, gazes=params.gazes, face_px=params.face_px))
        for sample in rows[params.held_out :]:
            check()
            photos.append(rendered_photo(split, params.seed, number, sample, canvas, face_px=params.face_px))
        glasses = person_from_seed(params.seed, number, split).glasses
        return cls(number, glasses, held_out, photos, joined([photo.samples for photo in photos]))

    def train(self, k: int, seed: int, of_all: int) -> Samples:
        """k frames of the pool; more hold the fewer. `of_all` seeds the whole benchmark."""
        rng = np.random.default_rng([of_all, _TRAIN_STREAM, self.number, seed])
        return self.pool.take(np.sort(rng.permutation(POOL)[:k]))


@dataclass(frozen=True)
class Measured:
    """What came of a cell."""

    numbers: dict[str, float | None]
    seconds: float  # of fine-tuning
    worst_frame: int | None  # held-out frame whose eyes are redrawn worst
    strip: np.ndarray  # (N·h, w, 3): of each held-out frame the eyes in one other direction, one below the other


def measure(
    task: Task, person: BenchmarkPerson, params: BenchmarkParams, estimator: Estimator, check: Callable[[], None]
) -> Measured:
    """Fine-tune the base model as the task says, redraw the held-out frames, and judge them."""
    faces = person.held_out
    if task.strategy == TRUE:
        numbers = judge([face.pictures for face in faces], faces, estimator, check)
        return Measured(at_full_size(numbers), 0.0, None, eyes_strip([face.pictures for face in faces], faces))

    base = load_checkpoint(params.checkpoint_path)
    model = to_device(base.model, torch.device(params.device))
    train = person.train(task.k, task.seed, params.seed) if task.k else None
    started = time.perf_counter()
    references: list[Reference] = []
    if task.strategy not in UNTRAINED:
        references = fine_tune(task, base, train, params, check)
    seconds = time.perf_counter() - started

    samples = joined([face.photo.samples for face in faces])
    eval_set = EvalSet.prepare(model, samples, references)
    own = eval_set.drawn_from_itself(model) if train is None or (base.draws_from_itself and references) else eval_set
    eval_set = own if train is None else eval_set
    eval_set = replace(eval_set, redirections=own.redirected(joined([face.redirected for face in faces])))
    drawing: Drawing = model
    if task.strategy == AUTOENCODER:
        eval_set, drawing = unmasked(model, eval_set), decoding(model)

    redirected = draw(drawing, eval_set.redirections.frames, check)
    numbers = evaluate(drawing, eval_set, estimator, check, redirected=redirected).numbers
    if not all_finite(numbers):
        raise UserError(f"{task.name}: the model draws infinite or NaN pictures", about="diverged")
    drawn = to_pixels(redirected).reshape(len(faces), params.gazes, *samples.images.shape[1:])
    alone = task.strategy == AUTOENCODER
    if not alone:  # as photos are redirected
        as_they_are = to_pixels(draw(drawing, own.frames, check))
        drawn = [
            without_own_error(face.photo, few, face.gazes, each) for face, few, each in zip(faces, drawn, as_they_are)
        ]
    pasted = [np.stack(pasted_gazes(face, few, alone=alone)) for face, few in zip(faces, drawn)]
    numbers |= at_full_size(judge(pasted, faces, estimator, check))
    return Measured(
        numbers, seconds, worst_frame(redirected, eval_set.redirections, len(faces)), eyes_strip(pasted, faces)
    )


def pasted_gazes(face: RenderedFace, drawn: np.ndarray, *, alone: bool) -> list[np.ndarray]:
    """A frame (H, W, 3) with each of K drawings; without the frame's own detail and irises, if judged `alone`."""
    if alone:
        return [paste(face.photo, each, detail=False) for each in drawn]
    told = zip(drawn, face.gazes)
    return [paste(face.photo, each, irises=own_irises(face.photo, each, gaze)) for each, gaze in told]


def at_full_size(numbers: dict[str, float | None]) -> dict[str, float | None]:
    return {FULL + name: value for name, value in numbers.items()}


def worst_frame(redirected: Tensor, eval_set: EvalSet, frames: int) -> int:
    errors = eye_l1(redirected, eval_set.frames.target, eval_set.frames.eye_masks * eval_set.frames.valid)
    return int(errors.reshape(frames, -1).mean(dim=1).argmax())


def fine_tune(
    task: Task, base: Checkpoint, train: Samples, params: BenchmarkParams, check: Callable[[], None]
) -> list[Reference]:
    """Fine-tune the base's model in place; returns the references that belong to it from now on."""

    def on_step(step: Step) -> None:
        check()
        step.refuse_bad()

    settings = OneshotParams(
        num_steps=params.num_steps,
        learning_rate=params.learning_rate,
        mirror=params.mirror,
        finetune_strategy=task.strategy,
        precision=params.precision,
        seed=task.seed,
        replay=params.replay,
    )
    settings = settle_replay(settings, params.checkpoint_path, base.info)
    loss_params = LossParams(params.l1_loss, params.mask_l1_loss, params.vgg_loss, params.vgg_weights)
    loss = Loss(loss_params, seed=0, device=torch.device(params.device))
    try:
        result = finetune(base.model, train, settings, loss, on_step=on_step, scratch_dir=params.work_dir)
    except TrainingDiverged as error:
        raise UserError(f"{task.name}: {error}", about="diverged") from error
    return result.references


@torch.no_grad()
def unmasked(model: VAEGaze, eval_set: EvalSet) -> EvalSet:
    """The set with latents of the whole pictures in place of the masked ones, so that nothing is left to draw."""
    frames = eval_set.frames
    latents = torch.cat([model.encode(target) for target in frames.target.split(1)])
    redirections = None if eval_set.redirections is None else unmasked(model, eval_set.redirections)
    return replace(eval_set, frames=replace(frames, masked_latents=latents), redirections=redirections)


def decoding(model: VAEGaze) -> Drawing:
    """A stand-in for a model that only decodes its input."""
    return lambda masked_latents, *_: model.decode(masked_latents)


def eyes_strip(pictures: list[np.ndarray], faces: list[RenderedFace]) -> np.ndarray:
    """Of each frame's K pictures one, a different one from frame to frame: both eyes, one frame below the other."""
    return np.concatenate([eyes_of(each[i % len(each)], faces[i]) for i, each in enumerate(pictures)])


def eyes_of(picture: np.ndarray, face: RenderedFace) -> np.ndarray:
    """The part of a frame around the eyes, of the same size for every head."""
    size = np.rint(np.multiply(EYES_OF_FACE, face.camera.width_px)).astype(int)
    x, y = face.camera.project(np.array(BETWEEN_EYES_MM), face.photo.head)
    top, left = np.clip(np.rint((y, x) - size / 2).astype(int), 0, np.array(picture.shape[:2]) - size)
    return picture[top : top + size[0], left : left + size[1]]


def save_strip(path: Path, strip: np.ndarray) -> None:
    with atomic_path(path) as temporary:
        Image.fromarray(strip).save(temporary, "PNG")
