"""The training of a run in the terminal: a progress bar, and the words for what can go wrong."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from vaegaze.commands.progress import progress_bar
from vaegaze.errors import UserError
from vaegaze.runs.recorder import NotFinite


class TrainingBar:
    """The callbacks of `run_person` as a progress bar, which ends with the last step."""

    def __init__(self, num_steps: int):
        self.num_steps = num_steps
        self.bar: tqdm | None = None

    def on_start(self, first_step: int, precomputed: list[str]) -> None:
        for line in precomputed:
            print(f"⚡ {line}")
        self.bar = progress_bar("training", self.num_steps, initial=first_step)

    def on_step(self, number: int, mean_loss: float | None) -> None:
        if mean_loss is not None:
            self.bar.set_postfix(loss=f"{mean_loss:.4f}", refresh=False)
        self.bar.update()
        if number == self.num_steps:
            self.bar.close()


@contextmanager
def training_bar(num_steps: int) -> Iterator[TrainingBar]:
    """A progress bar that closes however the block ends."""
    made = TrainingBar(num_steps)
    try:
        yield made
    finally:
        if made.bar is not None:
            made.bar.close()


def diverged(error: Exception, resume: Path, learning_rate: float) -> UserError:
    """The error for diverged training: what is left, and what to do."""
    restart = f"start over with --overwrite and a lower --learning_rate than {learning_rate:g}"
    if isinstance(error, NotFinite):
        return UserError(f"training diverged at the last step (infinite or NaN output); {restart}")
    kept = f"{resume} is the last good state" if resume.exists() else "none was saved"
    return UserError(f"{error}; {restart} ({kept})")
