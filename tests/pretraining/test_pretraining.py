"""Pre-training: batches by number, and the loop, interrupted and resumed."""

import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from conftest import SIZE_PX, TINY_CONFIG, make_tiny_model
from small_pretraining import PHASES, SMALL, assert_same_model, without_seconds

from vaegaze.commands import pretrain
from vaegaze.config.pretrain import ModelParams, PretrainConfig, PretrainParams
from vaegaze.config.tree import resolve
from vaegaze.geometry.camera import camera_from_config, canvas_camera
from vaegaze.pretraining import loop
from vaegaze.pretraining.base_model import build_base_model
from vaegaze.pretraining.batches import Batches
from vaegaze.pretraining.distributed import Processes
from vaegaze.pretraining.loop import Progress, learning_rate_factor, pretraining_steps
from vaegaze.pretraining.losses import Objective, encode_batch
from vaegaze.pretraining.phases import phases
from vaegaze.pretraining.rendered import RenderedSource
from vaegaze.pretraining.sources import held_out_frames, open_sources, person_batches
from vaegaze.pretraining.waiting import WaitingTime
from vaegaze.renderer import data_set as synthetic
from vaegaze.runs.pretraining_folder import PretrainFolder

CPU = torch.device("cpu")
CANVAS = canvas_camera(SIZE_PX)
PARAMS = PretrainParams(**SMALL)
CONFIG = PretrainConfig(PARAMS, ModelParams(**TINY_CONFIG))


def steps_of(model, progress, params=PARAMS):
    """Trains on, step by step."""
    config, sources = replace(CONFIG, pretrain_params=params), open_sources(params)
    held_out, _ = held_out_frames(sources, params, CANVAS, CPU)
    return pretraining_steps(model, config, sources, held_out, progress, Processes(CPU))


def losses_of(steps):
    return [(step.phase.name, step.loss.item()) for step in steps]


@pytest.fixture(scope="module")
def uninterrupted():
    model, progress = make_tiny_model(), Progress()
    steps = losses_of(steps_of(model, progress))
    return model, progress, steps


def render_batch(split, entropy, size, persons, params=PARAMS, gazes=1, photographic=0.0):
    *entropy, step = entropy
    source = RenderedSource(
        canvas_camera(size), params.seed, params.persons, params.samples_per_person, split, photographic
    )
    batches = Batches((source,), (1.0,), tuple(entropy), persons, gazes, drop_reference=params.drop_reference)
    return batches.batch(step).to(CPU)


# --- batches ----------------------------------------------------------------------------------------------------------


def assert_same_batch(first, second):
    for field in fields(first):
        one, other = getattr(first, field.name), getattr(second, field.name)
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other, field.name


def test_batches_are_a_function_of_their_numbers():
    first, again, other = (render_batch("train", [0, 1, step], SIZE_PX, 3) for step in (5, 5, 6))
    assert_same_batch(first, again)
    assert not torch.equal(first.target, other.target)


def test_batches_hold_two_frames_of_each_person():
    batch = render_batch("train", [0, 1, 2], SIZE_PX, 6)
    for pictures in (batch.target, batch.reference):
        assert pictures.shape == (6, 3, SIZE_PX, SIZE_PX) and pictures.abs().max() <= 1
        assert pictures.std(dim=(1, 2, 3)).min() > 0.1
    for eye_masks in (batch.eye_masks, batch.reference_eye_masks):
        assert eye_masks.shape == (6, 1, SIZE_PX, SIZE_PX) and set(eye_masks.unique().tolist()) == {0.0, 1.0}
        assert eye_masks.sum(dim=(1, 2, 3)).min() > 30
    assert all(not torch.equal(a, b) for a, b in zip(batch.target, batch.reference))
    for angles in (batch.gaze, batch.head):
        assert angles.shape == (6, 2) and angles.dtype == torch.float32 and 0 < angles.abs().max() < 1.5

    # the target's gaze is the label of the picture: the frame can be found again by it
    number = int(np.random.default_rng([0, 1, 12]).integers(PARAMS.persons))
    scenes = [synthetic.scene_from_seed(0, number, i, "train") for i in range(PARAMS.samples_per_person)]
    (scene,) = [scene for scene in scenes if np.allclose(scene.gaze, batch.gaze[0], atol=1e-6)]
    image = synthetic.render(synthetic.person_from_seed(0, number, "train"), scene, CANVAS).image
    assert np.array_equal(np.rint((batch.target[0].permute(1, 2, 0).numpy() + 1) * 127.5), image)


def test_some_persons_look_like_photographs():
    """All pictures of a person alike: what the reference says of the skin still holds for the target."""
    always = replace(PARAMS, drop_reference=0)
    plain, other = (render_batch("train", [0, 1, 2], SIZE_PX, 1, always, 2, photographic=share) for share in (0.0, 1.0))
    for name in ("eye_masks", "gaze", "head", "reference_eye_masks", "keep_reference"):
        assert torch.equal(getattr(plain, name), getattr(other, name)), name
    assert not torch.equal(plain.target, other.target) and not torch.equal(plain.reference, other.reference)
    means = [batch.mean(dim=(2, 3)) for batch in (plain.target, other.target, plain.reference, other.reference)]
    assert torch.allclose(means[1][0] - means[0][0], means[3][0] - means[2][0], atol=0.1)


def test_the_band_holds_the_eyes():
    for step in range(5):
        batch = render_batch("train", [0, 1, step], 128, 2)
        band = batch.eye_band()
        assert band.target.shape == (2, 3, 64, 128)
        assert band.eye_masks.sum() == batch.eye_masks.sum() and torch.equal(band.gaze, batch.gaze)


def test_workers_render_the_same(uninterrupted):
    assert losses_of(steps_of(make_tiny_model(), Progress(), replace(PARAMS, workers=2))) == uninterrupted[2]


def test_the_reference_is_dropped_as_often_as_asked():
    keep = render_batch("train", [0, 0, 0], 16, 100).keep_reference
    assert keep.shape == (100, 1, 1, 1) and 0.55 < keep.mean() < 0.85
    for share, kept in ((0.0, 1.0), (1.0, 0.0)):
        params = PretrainParams(drop_reference=share)
        assert render_batch("train", [0, 0, 0], 16, 4, params).keep_reference.unique().tolist() == [kept]


def test_splits_show_different_persons():
    persons = {repr(synthetic.person_from_seed(0, i, split)) for split in synthetic.SPLITS for i in range(40)}
    assert len(synthetic.SPLITS) == 4 and len(persons) == 160
    train, val = (render_batch(split, [0, 0, 0], SIZE_PX, 2) for split in ("train", "val"))
    assert not torch.equal(train.target, val.target)


def test_two_processes_see_what_one_with_twice_the_persons_sees():
    source = RenderedSource(CANVAS, 0, 50, 8)
    whole = Batches((source,), (1.0,), (0, 1), 4, 2, drop_reference=0.5).batch(7).to(CPU)
    halves = [
        Batches((source,), (1.0,), (0, 1), 2, 2, drop_reference=0.5, process=i, processes=2).batch(7).to(CPU)
        for i in range(2)
    ]
    for name in ("target", "gaze", "reference", "keep_reference"):
        assert torch.equal(getattr(whole, name), torch.cat([getattr(half, name) for half in halves])), name
    assert whole.noise_seeds == halves[0].noise_seeds + halves[1].noise_seeds


# --- the loop ---------------------------------------------------------------------------------------------------------


def test_learning_rate_warms_up_and_falls():
    factors = [learning_rate_factor(step, 100) for step in range(100)]
    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0]) and max(factors) == pytest.approx(1.0)
    assert (np.diff(factors[5:]) < 0).all() and 0.009 < factors[-1] < 0.02
    assert 0 < learning_rate_factor(0, 1) <= 1


def test_each_phase_trains_its_own_parts():
    model, progress = make_tiny_model(), Progress()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    seen = []
    for step in steps_of(model, progress):
        phase, loss = step.phase, step.loss.item()
        seen.append(phase.name)
        assert math.isfinite(loss) and loss > 0
        now = model.state_dict()
        moved = {name.split(".")[0] for name, tensor in now.items() if not torch.equal(tensor, before[name])}
        assert moved == ({"vae"} if phase.name == "autoencoder" else {"unet", "gaze_mlp"})
        before = {name: tensor.clone() for name, tensor in now.items()}
    assert seen == [PHASES[0]] * 3 + [PHASES[1]] * 2 + [PHASES[2]] * 2
    assert [(record["phase"], record["step"]) for record in progress.records] == [
        (PHASES[0], 2), (PHASES[0], 3), (PHASES[1], 2), (PHASES[2], 2),
    ]  # fmt: skip
    assert all(5 < record["held_out_eye_psnr"] < 40 for record in progress.records)


def test_targets_are_encoded_only_where_latents_are_compared(monkeypatch):
    batch, model, encoded = render_batch("train", [0, 1, 0], SIZE_PX, 2, gazes=2), make_tiny_model(), {}
    encode = model.encode

    def counted(images):
        encoded[phase.name].append(len(images))
        return encode(images)

    monkeypatch.setattr(model, "encode", counted)
    for phase in phases(CONFIG)[1:]:
        encoded[phase.name] = []
        Objective(model, phase.loss, phase.weights, None, encode_batch)(batch)
    assert encoded == {PHASES[1]: [4, 2, 4], PHASES[2]: [4, 2]}, "masked targets, references, targets"


@torch.no_grad()
def test_latents_of_train_persons_have_unit_spread_after_the_autoencoder(uninterrupted):
    """Also of others, nearly."""
    model, _, _ = uninterrupted
    seen = person_batches(open_sources(PARAMS), PARAMS, CANVAS, phases(CONFIG)[1], 8)
    train, val = (
        torch.cat([model.encode(batch.target) for batch in batches]).std().item()
        for batches in (
            [seen.batch(step).to(CPU) for step in range(10**9, 10**9 + 8)],
            [render_batch("val", [0, 99, step], SIZE_PX, 8) for step in range(8)],
        )
    )
    assert train == pytest.approx(1.0, rel=1e-4) and val == pytest.approx(1.0, rel=0.2)
    assert model.config["vae"]["scaling_factor"] == model.vae.scaling_factor != TINY_CONFIG["vae"]["scaling_factor"]


def test_held_out_frames_change_nothing_that_is_trained():
    """Other ones are measured, and the weights and the latents' scale stay."""
    models = []
    for frames in (8, 16):
        models.append(make_tiny_model())
        list(steps_of(models[-1], Progress(), replace(PARAMS, held_out=frames)))
    assert_same_model(*models)


@pytest.mark.parametrize("stop_after", [1, 3, 4, 5, 7])
def test_interrupted_anywhere_and_resumed_equals_uninterrupted(stop_after, uninterrupted, tmp_path):
    """Also where one phase ends and the next has not begun."""
    model, progress = make_tiny_model(), Progress()
    seen = losses_of(step for _, step in zip(range(stop_after), steps_of(model, progress)))
    folder = PretrainFolder(str(tmp_path))
    config = resolve(PretrainConfig, None, SMALL).config
    folder.config.write_text(pretrain.to_yaml(config), encoding="utf-8")
    folder.save(model, progress)
    assert (progress.optimizer is None) == (stop_after in (3, 5, 7)), "a finished phase needs none"

    model = make_tiny_model(seed=5)
    progress = folder.load(config, model, Progress(data="data", content="content"))
    assert (progress.data, progress.content) == ("data", "content"), "a run without checksums has them from now on"
    seen += losses_of(steps_of(model, progress))

    assert seen == uninterrupted[2]
    assert_same_model(model, uninterrupted[0])
    assert without_seconds(progress.records) == without_seconds(uninterrupted[1].records)


def test_the_average_begins_with_the_weights_that_all_processes_get(monkeypatch):
    """Those of the first process, which arrive while the phase is set up."""

    class Second(Processes):
        def together(self, module):
            module.model.vae.decoder.conv_out.bias.data.fill_(7.0)
            return module

    monkeypatch.setattr(loop, "update_average", lambda *about: None)
    params, progress = replace(PARAMS, ema=0.9), Progress()
    sources = open_sources(params)
    held_out, _ = held_out_frames(sources, params, CANVAS, CPU)
    config = replace(CONFIG, pretrain_params=params)
    next(pretraining_steps(make_tiny_model(), config, sources, held_out, progress, Second(CPU)))
    assert (progress.average["vae.decoder.conv_out.bias"] == 7).all()


class TwoProcesses(Processes):
    """The first of two, the other of which skipped a person and lost 1 more at each step."""

    def gather(self, value):
        return [value, {"data: other": {"rows": [], "left_out": True, "why": "damaged"}}]

    def mean(self, value):
        return value + 0.5


def test_what_is_saved_between_two_measurements_is_whole(monkeypatch):
    """Seconds without data, what other processes skipped, the loss of all; and once only."""
    monkeypatch.setattr(WaitingTime, "seconds", lambda self: 3.0)
    model, progress, sources = make_tiny_model(), Progress(), open_sources(PARAMS)
    held_out, _ = held_out_frames(sources, PARAMS, CANVAS, CPU)
    step = next(pretraining_steps(model, CONFIG, sources, held_out, progress, TwoProcesses(CPU)))
    assert not step.measured and progress.waited == 0 and not progress.skipped
    step.settle()
    assert progress.waited == 3 and progress.skipped["data: other"]["left_out"]
    assert progress.loss_sum.item() == pytest.approx(step.loss.item() + 0.5)


def test_a_reference_of_the_same_frame_differs_in_the_eyes_alone():
    source = RenderedSource(CANVAS, 0, 50, 8, same_frame=1.0)
    for seed in range(3):
        example = source.example(0, 0, np.random.default_rng(seed), 1)
        difference = np.abs(example.target[0].astype(float) - example.reference).mean(axis=-1)
        eyes = example.eye_masks[0]
        assert difference[eyes].mean() > 4 * difference[~eyes].mean() and difference[~eyes].mean() < 4  # noise, JPEG


@pytest.mark.parametrize("same_frame", [0.0, 1.0])
def test_gazes_painted_together_are_those_painted_alone(same_frame):
    source = RenderedSource(CANVAS, 0, 50, 1000, same_frame=same_frame)
    for seed in range(3):
        alone, together = (source.example(0, 0, np.random.default_rng(seed), gazes) for gazes in (1, 3))
        assert np.array_equal(together.target[0], alone.target[0])
        assert np.array_equal(together.reference, alone.reference)
        assert len({picture.tobytes() for picture in together.target}) == 3


def test_a_canvas_that_is_a_band():
    band = {"width_px": 64, "height_px": 32, "focal_px": 333, "looks_at": "eyes"}
    parts = {name: TINY_CONFIG[name] for name in ("vae", "unet", "gaze_mlp")}
    config = PretrainConfig(PARAMS, ModelParams(canvas=band, **parts))
    model, sources = build_base_model(config.model_params).model, open_sources(PARAMS)
    assert model.canvas == camera_from_config(band)
    held_out, _ = held_out_frames(sources, PARAMS, model.canvas, CPU)
    first = held_out[0].batches[0]
    assert first.target.shape[1:] == (3, 32, 64) and first.eye_masks.amax(dim=(1, 2, 3)).eq(1).all()
    losses = losses_of(pretraining_steps(model, config, sources, held_out, Progress(), Processes(CPU)))
    assert len(losses) == 7 and np.isfinite([loss for _, loss in losses]).all()
