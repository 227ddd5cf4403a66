"""Rendered persons among a person's own frames: they show, with exact truth, what each gaze looks like.

A fine-tuning that sees one person alone forgets part of that. DreamBooth's prior preservation (Ruiz et al. 2022,
arXiv:2208.12242) does alike with pictures that the base model draws.
"""

from dataclasses import replace

import numpy as np
import torch

from vaegaze.config.finetune import OneshotParams
from vaegaze.data.samples import Samples
from vaegaze.errors import UserError
from vaegaze.geometry.camera import Camera
from vaegaze.geometry.eye_regions import pose_mask
from vaegaze.images.side_by_side import side_by_side
from vaegaze.models import VAEGaze
from vaegaze.renderer import render
from vaegaze.renderer.data_set import person_from_seed, scene_from_seed
from vaegaze.renderer.persons import Person, Scene
from vaegaze.training.references import references_at
from vaegaze.training.tensors import Frames, joined, prepare_frames

SHARE = 0.5  # of the training images, where `auto` replays
MOST_PERSONS = 64  # rendered for one fine-tuning; each has one frame to draw
SAME_FRAME_SHARE = 0.5  # of the references: the drawn frame itself with another gaze; else another frame
TRAINING_PERSONS = 1000  # of the renderer's training persons, to draw these from


def settle_replay(params: OneshotParams, name: str, info: dict) -> OneshotParams:
    """`replay` as a number, for the base model of this `name`, whose checkpoint holds this `info`.

    UserError if rendered persons are asked for and the base was not trained on such.
    """
    rendered = "rendered" in str(info.get("trained_on", ""))
    if params.replay == "auto":
        return replace(params, replay=f"{SHARE if rendered else 0:g}")
    if float(params.replay) and not rendered:
        raise UserError(
            f"replay: {name} was not trained on rendered persons, and would learn to draw eyes like theirs; set "
            "replay to 0 or auto, and use blend: auto or anchor to keep control of the gaze"
        )
    return params


def rendered_frames(model: VAEGaze, persons: int, seed: int, device: torch.device) -> Frames:
    """A frame of each of so many rendered persons, as the model is given it, and the true picture."""
    canvas, rng = model.canvas, np.random.default_rng([seed, persons])
    looks = []
    for number in (1 + rng.permutation(TRAINING_PERSONS)[:persons]).tolist():
        person = person_from_seed(0, number, "train")
        scene, other = (scene_from_seed(0, number, sample, "train") for sample in (0, 1))
        if rng.random() < SAME_FRAME_SHARE:
            other = replace(scene, gaze=other.gaze)
        looks.append((person, scene, other))
    parts = []
    for drawn in side_by_side(lambda look: _frame_and_reference(*look, canvas), looks):
        parts.append(prepare_frames(model, drawn.take([0]), references_at(drawn, [1]), device))
    return joined(parts)


def _frame_and_reference(person: Person, scene: Scene, other: Scene, canvas: Camera) -> Samples:
    heads = np.array([scene.head, other.head], np.float32)
    return Samples(
        images=np.stack([render(person, look, canvas).image for look in (scene, other)]),
        eye_masks=np.stack([pose_mask(head, canvas) for head in heads]),
        valid=np.ones((2, *canvas.shape), bool),
        gaze=np.array([scene.gaze, other.gaze], np.float32),
        head=heads,
        indices=np.array([0, 1]),
        canvas=canvas,
    )
