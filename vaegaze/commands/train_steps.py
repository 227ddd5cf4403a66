"""The training of a run: a progress bar, a clean stop, and the words for what can go wrong."""

from vaegaze.commands.progress import StopSignals, progress_bar
from vaegaze.errors import UserError
from vaegaze.runs.recorder import NotFinite, Recorder
from vaegaze.training import FineTuned, Step, TrainingState, finetune


def train(recorder: Recorder, state: TrainingState | None, stop: StopSignals) -> FineTuned:
    """Fine-tune the base model in place, with a progress bar. Interrupted after a signal, once the state is saved."""
    first_step, bar = recorder.progress.step, None

    def on_start(precomputed: list[str], seconds: float) -> None:
        nonlocal bar
        for line in precomputed:
            print(f"⚡ {line}")
        bar = progress_bar("training", recorder.params.num_steps, initial=first_step)
        recorder.on_start(seconds)

    def on_step(step: Step) -> None:
        recorder.on_step(step)
        if recorder.last_loss is not None:
            bar.set_postfix(loss=f"{recorder.last_loss:.4f}", refresh=False)
        bar.update()

    try:
        result = finetune(
            recorder.model,
            recorder.person.train,
            recorder.params,
            recorder.loss,
            state=state,
            on_start=on_start,
            on_step=on_step,
            should_stop=lambda: stop.received is not None,
            scratch_dir=recorder.folder.path,
        )
    finally:
        if bar is not None:
            bar.close()
    if result.stopped:
        if result.state.step > first_step:
            recorder.save(result.state)
        stop.check()
    return result


def diverged(error: Exception, recorder: Recorder) -> UserError:
    """The error for a training that went wrong, with what is left and what to do."""
    anew = f"start anew with --overwrite and a lower --learning_rate than {recorder.params.learning_rate:g}"
    if isinstance(error, NotFinite):
        return UserError(f"the last step made the model's pictures infinite or NaN; {anew}")
    resume = recorder.folder.resume
    kept = f"{resume} is the last good state" if resume.exists() else "none was saved"
    return UserError(f"{error}; {anew} ({kept})")
