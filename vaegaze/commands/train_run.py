"""One fine-tuning run from start to end: the rooms put together, in the order in which data flows through them."""

from pathlib import Path

import torch

from vaegaze.commands.earlier_run import already_finished, refuse_new_run, settings_to_resume
from vaegaze.commands.outputs import refuse_own_settings
from vaegaze.commands.precision import warn_if_emulated
from vaegaze.commands.progress import StopSignals, progress_callback
from vaegaze.commands.train_steps import diverged, training_bar
from vaegaze.config.finetune import Command
from vaegaze.errors import Interrupted, plain
from vaegaze.models.checkpoint import Checkpoint
from vaegaze.models.device import to_device
from vaegaze.models.estimator import load_estimator
from vaegaze.report.tables import summary_table
from vaegaze.runs.earlier import with_choices_of
from vaegaze.runs.folder import RunFolder, check_writable
from vaegaze.runs.one_person import Stopped, load_base, run_person, settled, with_fingerprint
from vaegaze.runs.person import load_person
from vaegaze.runs.recorder import NotFinite
from vaegaze.runs.resume import Progress, load_resume
from vaegaze.training import TrainingDiverged
from vaegaze.training.finetune import select_trainable
from vaegaze.training.losses import Loss


def run(command: Command, began: float) -> None:
    """Run the command. UserError for any error that the user can fix, Interrupted after a signal.

    `began` is when the command did, by `time.perf_counter`: to import this module takes its time, too.
    """
    # the base model and the person
    params = command.config.oneshot_params
    check_writable(Path(params.save_dir))  # before anything is read
    base = load_base(params)
    name_base(base, params.checkpoint_path)
    with progress_callback("rendering demo.h5") as on_sample:
        person = load_person(params, base.model.canvas, print, on_sample)
    folder = RunFolder(params.save_dir, person.name)
    folder.check_writable()
    refuse_own_settings(command.resolved.path, folder.config)

    # an earlier run in the same folder
    resolved, person = command.resolved, with_fingerprint(person, base)
    if command.resume:
        stored = settings_to_resume(folder)
        resolved = resolved.settled(with_choices_of(stored, command.config), "stored by the earlier run")
        if already_finished(folder, stored, resolved.config, person.info["fingerprint"]):
            if not command.dry_run:
                folder.resume.unlink(missing_ok=True)  # left by a run that was killed right before it removed it
            print(f"✅ The run in {plain(str(folder.path))} is already finished")
            return
    else:
        refuse_new_run(folder, (params.checkpoint_path, base.base.path), overwrite=command.overwrite)

    # device, precision, and what trains
    resolved = settled(resolved, base)
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
    resumed = None
    if command.resume:
        resumed = load_resume(folder.resume, Progress, ("trained", "optimizer"), person.info["fingerprint"])
        torch.set_num_threads(resumed.threads)
        print(f"▶️ Going on after step {resumed.progress.step}")
    if command.dry_run:
        print(f"✅ Dry run: {params.num_steps} steps would go to {plain(str(folder.path))}; nothing was trained")
        return

    # measure, train, measure again
    stop = StopSignals()  # until here there was nothing to save, and a signal ended the program at once
    try:
        with training_bar(params.num_steps) as bar:
            summary = run_person(
                resolved,
                base,
                person,
                folder,
                loss,
                estimator,
                resumed,
                began=began,
                say=print,
                on_start=bar.on_start,
                on_step=bar.on_step,
                should_stop=lambda: stop.received is not None,
            )
    except Stopped:
        hint = "go on with --resume" if folder.resume.exists() else "nothing was trained yet"
        raise Interrupted(stop.received, hint) from None
    except (TrainingDiverged, NotFinite) as error:
        raise diverged(error, folder.resume, params.learning_rate) from error
    print(f"📄 {folder.report}\n📊 On {summary['evaluated_on']}\n{summary_table(summary)}")
    for path in folder.results(params.save):
        print(f"✅ {path}")


def name_base(base: Checkpoint, path: str) -> None:
    """Print a line about the base model, and its notes."""
    trained_on = base.info.get("trained_on", "unnamed data")
    tuned_on = f", fine-tuned on {base.info['fine_tuned_on']}" if "fine_tuned_on" in base.info else ""
    on_base = f" on {base.base.path}" if base.base.path != path else ""
    print(plain(f"🧠 Base model: {path}{on_base}, trained on {trained_on}{tuned_on}"))
    for note in base.notes:
        print(f"   {note}")
