"""One fine-tuning run from start to end: the rooms put together, in the order in which data flows through them."""

import time
from dataclasses import replace
from pathlib import Path

import torch

from vaegaze.commands.earlier_run import adopt_stored_choices, already_finished
from vaegaze.commands.precision import warn_if_emulated
from vaegaze.commands.progress import StopSignals, progress_callback
from vaegaze.commands.train_steps import diverged, train
from vaegaze.config.finetune import Command, OneshotParams, describe
from vaegaze.errors import Interrupted, UserError, plain
from vaegaze.evaluation.blend_choice import BlendChoice
from vaegaze.models.checkpoint import Base, Checkpoint, load_checkpoint, weights_fingerprint
from vaegaze.models.device import settle_device, to_device
from vaegaze.models.estimator import load_estimator
from vaegaze.report.tables import summary_table
from vaegaze.runs.folder import RunFolder, check_writable
from vaegaze.runs.person import load_person
from vaegaze.runs.recorder import NotFinite, Recorder
from vaegaze.runs.resume import (
    Progress,
    damaged,
    data_fingerprint,
    load_resume,
    network_checksum,
    refuse_other_networks,
)
from vaegaze.training import StateMismatch, TrainingDiverged, TrainingState
from vaegaze.training.finetune import select_trainable
from vaegaze.training.losses import Loss
from vaegaze.training.provenance import fine_tuned_on


def run(command: Command) -> None:
    """Run what the command line asks for. UserError for whatever its user can mend, Interrupted after a signal."""
    started = time.perf_counter()
    if command.dry_run:
        print(describe(command.resolved))

    # the base model and the person
    params = command.config.oneshot_params
    check_writable(Path(params.save_dir))  # before anything is read
    base = load_base(params)
    with progress_callback("rendering demo.h5") as on_sample:
        person = load_person(params, base.model.canvas, print, on_sample)
    folder = RunFolder(params.save_dir, person.name)
    folder.check_writable()

    # an earlier run in the same folder
    resolved = command.resolved
    if command.resume:
        resolved = resolved.settled(adopt_stored_choices(command.config, folder), "stored by the earlier run")
    fingerprint = data_fingerprint(person.train, person.held_out, base=base.base.fingerprint, photo=person.photo)
    person = replace(person, info={**person.info, "fingerprint": fingerprint})
    if already_finished(folder, resolved.config, fingerprint, (params.checkpoint_path, base.base.path), command):
        print(f"✅ The run in {folder.path} is already finished")
        return

    # device, precision, and what trains
    resolved = resolved.settled(settle_device(resolved.config), "chosen by auto")
    params, device = resolved.config.oneshot_params, torch.device(resolved.config.oneshot_params.device)
    print(f"💻 Device: {params.device}, precision: {params.precision}")
    warn_if_emulated(params.precision, params.device)
    to_device(base.model, device)
    selection = select_trainable(base.model, params)
    print(f"🔧 Strategy: {params.finetune_strategy}\n{selection}")

    # estimator, loss, and where to start from
    estimator = None if params.estimator == "none" else load_estimator(params.estimator)
    loss = Loss(resolved.config.loss_params, seed=params.seed, device=device)
    if loss.vgg is not None:
        print(f"👁️ VGG19: {loss.vgg.source}")
    networks = {"estimator": estimator and estimator.model, "VGG19 loss": loss.vgg}
    checksums = {name: network_checksum(network) for name, network in networks.items() if network is not None}
    progress, state = Progress(checksums=checksums), None
    if command.resume:
        resumed = load_resume(folder.resume, Progress, ("trained", "optimizer"), fingerprint)
        refuse_other_networks(folder.path, resumed.progress.checksums, checksums)
        torch.set_num_threads(resumed.threads)
        progress, state = resumed.progress, TrainingState(resumed.progress.step, **resumed.tensors)
        print(f"▶️ Going on after step {progress.step}")
    if command.dry_run:
        print(f"✅ Dry run: {params.num_steps} steps would go to {folder.path}; nothing was trained")
        return

    # measure, train, measure again
    notes, knows_person = [], False
    if params.use_gazecapture:
        knows_person, notes = fine_tuned_on(base, params.gazecapture_params.hdf_path, person.name)
    for note in notes:
        print(note)
    recorder = Recorder(folder, resolved, base, person, loss, estimator, progress, base_knows_person=knows_person)
    stop = StopSignals()  # until here there was nothing to save, and a signal ended the program at once
    progress.spend("loading", time.perf_counter() - started)
    try:
        prepare(recorder, stop)
        selection = train(recorder, state, stop).selection
        blend = recorder.keep_blend(stop.check)
        if blend is not None:
            print(blend_words(blend))
        summary = recorder.finish(selection, stop.check)
    except Interrupted as interrupted:
        interrupted.hint = "go on with --resume" if folder.resume.exists() else "nothing was trained yet"
        raise
    except StateMismatch as error:
        raise damaged(folder.resume, error) from error
    except (TrainingDiverged, NotFinite) as error:
        raise diverged(error, recorder) from error
    print(f"📄 {folder.report}\n📊 On {recorder.measured_words}\n{summary_table(summary)}")
    for path in folder.results(params.save):
        print(f"✅ {path}")


def load_base(params: OneshotParams) -> Checkpoint:
    """The model to start from, named in a line; an adapter's base, or the whole checkpoint itself, is its `base`."""
    base = load_checkpoint(params.checkpoint_path, params.base)
    trained_on = base.info.get("trained_on", "data it does not name")
    tuned_on = f", fine-tuned on {base.info['fine_tuned_on']}" if "fine_tuned_on" in base.info else ""
    on_base = f" on {base.base.path}" if base.base else ""
    print(plain(f"🧠 Base model: {params.checkpoint_path}{on_base}, trained on {trained_on}{tuned_on}"))
    for note in base.notes:
        print(f"   {note}")
    return replace(base, base=base.base or Base(params.checkpoint_path, weights_fingerprint(base.model)))


def prepare(recorder: Recorder, stop: StopSignals) -> None:
    """The run's first files, warnings about the base model, and its numbers, unless a resumed run has them."""
    recorder.begin()
    if recorder.reference is None and not recorder.base.info.get("drops_reference"):
        print("⚠️ The base model never saw a dropped reference frame: with a single image, expect less of it")
    if recorder.seen_by_base:
        print(f"⚠️ The base model was trained on {recorder.seen_by_base} of the held-out frames: their numbers flatter")
    if recorder.progress.before:
        return
    print(f"📏 Measuring the base model on {recorder.measured_words}")
    try:
        recorder.measure_base(stop.check)
    except NotFinite as error:
        path = recorder.params.checkpoint_path
        raise UserError(f"checkpoint_path: the pictures that {path} draws are infinite or NaN; give another") from error


def blend_words(blend: BlendChoice) -> str:
    frames = f"{blend.frames} {'held-out' if blend.held_out else 'training'} frame{'s' if blend.frames > 1 else ''}"
    how = f", chosen on {frames}" if blend.frames else ""
    return f"⚖️ Kept {blend.alpha:.0%} of the fine-tuning{how}".replace("%", " %")
