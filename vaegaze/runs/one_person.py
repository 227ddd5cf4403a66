"""The run of one person: measure the base model, fine-tune it, measure again, write the folder."""

import time
from collections.abc import Callable
from dataclasses import replace

from vaegaze.config.finetune import OneshotParams
from vaegaze.config.tree import Resolved
from vaegaze.errors import UserError
from vaegaze.evaluation.best_step import BestStep
from vaegaze.evaluation.blend_choice import BlendChoice
from vaegaze.files import occupied
from vaegaze.models.checkpoint import Base, Checkpoint, load_checkpoint, weights_fingerprint
from vaegaze.models.device import settle_device
from vaegaze.models.estimator import TrainedEstimator
from vaegaze.runs.folder import RunFolder
from vaegaze.runs.laps import Laps
from vaegaze.runs.person import Person
from vaegaze.runs.recorder import NotFinite, Recorder
from vaegaze.runs.resume import (
    Progress,
    Resumed,
    damaged,
    data_fingerprint,
    network_checksum,
    refuse_other_networks,
)
from vaegaze.training import FineTuned, StateMismatch, Step, TrainingState, finetune
from vaegaze.training.finetune import select_trainable
from vaegaze.training.losses import Loss
from vaegaze.training.provenance import fine_tuned_on
from vaegaze.training.replay import settle_replay


def settled(resolved: Resolved, base: Checkpoint) -> Resolved:
    """The settings with every `auto` replaced that this machine or the base model decides. UserError as they refuse."""
    config = settle_device(resolved.config)
    params = settle_replay(config.oneshot_params, config.oneshot_params.checkpoint_path, base.info)
    return resolved.settled(replace(config, oneshot_params=params), "chosen by auto")


class Stopped(Exception):
    """`should_stop` ended the run. What was trained is saved."""


def load_base(params: OneshotParams) -> Checkpoint:
    """The model to start from, with its `base` (an adapter's own, else the checkpoint itself) and its `fingerprint`."""
    path = params.checkpoint_path
    checkpoint = load_checkpoint(path, params.base)
    settle_replay(params, path, checkpoint.info)  # or it is refused
    fingerprint = weights_fingerprint(checkpoint.model)
    return replace(checkpoint, base=checkpoint.base or Base(path, fingerprint), fingerprint=fingerprint)


def with_fingerprint(person: Person, base: Checkpoint) -> Person:
    """The person, with a checksum of the samples and the base model in its `info`."""
    if base.fingerprint is None:  # else two bases would look equal
        raise ValueError("the base has no fingerprint: load it with load_base")
    fingerprint = data_fingerprint(person.train, person.held_out, base=base.fingerprint, photo=person.photo)
    return replace(person, info={**person.info, "fingerprint": fingerprint})


def run_person(
    resolved: Resolved,
    base: Checkpoint,
    person: Person,
    folder: RunFolder,
    loss: Loss,
    estimator: TrainedEstimator | None,
    resumed: Resumed[Progress] | None = None,
    *,
    began: float | None = None,
    say: Callable[[str], None] = lambda line: None,
    on_start: Callable[[int, list[str]], None] = lambda first_step, precomputed: None,
    on_step: Callable[[int, float | None], None] = lambda number, mean_loss: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict:
    """Fine-tune `base.model` in place and write the run's folder; returns the content of summary.json.

    `resolved` comes from `settled`, the model and the loss are on that device, `base.base` is set, and
    `person` comes from `with_fingerprint`. `resumed` continues an interrupted run; the caller has set its number of
    threads. `on_start` gets the number of finished steps and a list of the precomputed parts, `on_step` each step's
    number and the latest mean loss. `began` is the moment, by `time.perf_counter`, from which on seconds count: before
    all that was loaded.

    Stopped if `should_stop` ended it; TrainingDiverged or NotFinite if training went wrong; UserError for a base model
    that draws no usable pictures, a damaged resume file, or another process that writes to the folder.
    """
    began = time.perf_counter() if began is None else began
    networks = {"estimator": estimator and estimator.model, "VGG19 loss": loss.vgg}
    checksums = {name: network_checksum(network) for name, network in networks.items() if network is not None}
    if resumed is not None:
        refuse_other_networks(folder.path, resumed.progress.checksums, checksums)
    progress = resumed.progress if resumed else Progress(checksums=checksums)
    state = TrainingState(progress.step, **resumed.tensors) if resumed else None
    params = resolved.config.oneshot_params

    def check() -> None:
        if should_stop():
            raise Stopped

    notes, knows_person = [], False
    if params.use_gazecapture:
        knows_person, notes = fine_tuned_on(base, params.gazecapture_params.hdf_path, person.name)
    for note in notes:
        say(note)
    select_trainable(base.model, params)  # what a blend interpolates
    with occupied(folder.path):
        laps = Laps(progress, began)
        laps.end("loading")
        recorder = Recorder(folder, resolved, base, person, loss, estimator, laps, base_knows_person=knows_person)
        share = float(recorder.params.replay)
        if share:
            say(f"🔁 {share:.0%} of the training images will show rendered people, so that the gaze survives")
        elif len(person.train) == 1 and params.blend == "1" and not params.anchor:
            say("⚠️ Nothing keeps the gaze while a single image is trained on; the setting blend: auto would")
        try:
            _measure_base(recorder, say, check)
            trained = _train(recorder, state, on_start, on_step, should_stop)
            if trained.stopped:
                raise Stopped
            best = recorder.kept.keep_best()
            if best is not None:
                say(best_words(best))
            blend = recorder.kept.keep_blend(check)
            if blend is not None:
                say(blend_words(blend))
            return recorder.finish(trained.selection, check)
        except StateMismatch as error:
            raise damaged(folder.resume, error) from error
        finally:
            recorder.close()


def _measure_base(recorder: Recorder, say: Callable[[str], None], check: Callable[[], None]) -> None:
    """The run's first files, warnings about the base model, and its numbers, unless a resumed run has them."""
    recorder.begin()
    if not recorder.references and not recorder.base.drops_reference:
        say("⚠️ The base model never saw a dropped reference frame: with a single image, expect worse results")
    if recorder.seen_by_base:
        seen = recorder.seen_by_base
        say(f"⚠️ The base model was trained on {seen} of the held-out frames: their numbers are too good")
    if recorder.progress.before_per_frame:
        return
    say(f"📏 Measuring the base model on {recorder.measured_words}")
    try:
        recorder.measure_base(check)
    except NotFinite as error:
        path = recorder.params.checkpoint_path
        raise UserError(f"checkpoint_path: the pictures that {path} draws are infinite or NaN; give another") from error


def _train(
    recorder: Recorder,
    state: TrainingState | None,
    on_start: Callable[[int, list[str]], None],
    on_step: Callable[[int, float | None], None],
    should_stop: Callable[[], bool],
) -> FineTuned:
    """Fine-tune the base model in place. If it was stopped, the state is saved."""
    first_step = recorder.progress.step

    def start(precomputed: list[str], seconds: float) -> None:
        on_start(first_step, precomputed)
        recorder.on_start()

    def record(step: Step) -> None:
        recorder.on_step(step)
        on_step(step.number, recorder.last_loss)

    result = finetune(
        recorder.model,
        recorder.person.train,
        recorder.params,
        recorder.loss,
        state=state,
        on_start=start,
        on_step=record,
        should_stop=should_stop,
        scratch_dir=recorder.folder.path,
    )
    recorder.laps.end("training")
    if result.stopped and result.state.step > first_step:
        recorder.save(result.state)
    return result


def best_words(best: BestStep) -> str:
    kept = f"the weights of step {best.step}" if best.step else "the base model's weights"
    return f"🏅 Kept {kept}, of {best.of} steps, chosen on {frames_words(best)}"


def frames_words(choice: BestStep | BlendChoice) -> str:
    kind = "held-out" if choice.held_out else "training"
    return f"{choice.frames} {kind} frame{'s' if choice.frames > 1 else ''}"


def blend_words(blend: BlendChoice) -> str:
    how = f", chosen on {frames_words(blend)}" if blend.frames else ""
    return f"⚖️ Kept {blend.alpha:.0%} of the fine-tuning{how}".replace("%", " %")
