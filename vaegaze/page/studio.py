"""What the page does with a visitor's files. It knows nothing of browsers; `layout` shows it."""

import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from vaegaze.config.finetune import Config, OneshotParams
from vaegaze.config.tree import resolve
from vaegaze.data.photo import Photo, load_photo
from vaegaze.errors import UserError
from vaegaze.faces.reader import NO_LANDMARKS, backend
from vaegaze.files import shipped_path
from vaegaze.images.animations import write_animation
from vaegaze.images.pictures import as_image, write_picture
from vaegaze.images.video import open_video, write_video
from vaegaze.models.checkpoint import Checkpoint, load_checkpoint
from vaegaze.models.cpu import own_copy
from vaegaze.models.device import find_device, to_device
from vaegaze.models.estimator import load_estimator
from vaegaze.redirecting.comparison import Compared, Comparison
from vaegaze.redirecting.drawing import is_own_reference, redraw_gazes, reference_of
from vaegaze.redirecting.photo import redirect_photo
from vaegaze.redirecting.series import Look
from vaegaze.redirecting.sweeps import FRAME_PX, close_ups, frame_ms, scaled, sweep_gazes
from vaegaze.redirecting.video import Tally, redirect_video
from vaegaze.runs.folder import RunFolder
from vaegaze.runs.one_person import load_base, run_person, settled, with_fingerprint
from vaegaze.runs.person import load_person
from vaegaze.runs.recorder import NotFinite
from vaegaze.training import TrainingDiverged
from vaegaze.training.losses import Loss
from vaegaze.training.replay import settle_replay

PREVIEW_PX = (480, 640)  # longer side, least and most
RECIPE = "configs/finetune/finetune_photo.yaml"

Gaze = tuple[float, float]  # pitch, yaw in radians


@dataclass
class Visit:
    """One browser tab: its files, its photo, its fine-tuned model, and whether its work is to stop."""

    folder: Path  # removed at its end
    offered: Path | None = None  # the photo that was chosen last, whether or not eyes were found in it
    path: Path | None = None  # of the photo in use
    photo: Photo | None = None
    face: int | None = None  # which of several in the photo
    tuned: Checkpoint | None = None
    stop: threading.Event = field(default_factory=threading.Event)

    def end(self) -> None:
        self.stop.set()
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(frozen=True)
class RedirectedVideo:
    """What a video became."""

    path: Path
    tally: Tally
    notes: list[str]  # a line about each thing that is read, or kept, in another way than one expects
    numbers: Compared


class BrokenOff(UserError):
    """A video could not be read, or written, to its end; what is finished is at `part`."""

    def __init__(self, error: UserError, part: Path):
        super().__init__(str(error), about=error.about)
        self.part = part


@dataclass(frozen=True)
class TunedFiles:
    """What a fine-tuning leaves to look at and to take along."""

    before_after: Path
    report: Path
    model: Path


class Studio:
    """One loaded model and the work with it, for any number of visits. UserError if it cannot be loaded.

    Every method may be called from any thread. Its user errors name files without their folders.
    """

    def __init__(self, path: str, base: str | None, device: str, folder: Path):
        self.path, self._base, self._device = path, base, find_device(device)
        self.loaded = self._load(path, base)
        self.folder = folder  # for the files of all visits
        self.closing = threading.Event()
        self._drawing = threading.Lock()  # one picture at a time: models keep buffers
        self._working = threading.Lock()  # one video or fine-tuning at a time

    def close(self, patience_sec: float) -> None:
        """Stop the work that is going on, and wait for its end."""
        self.closing.set()
        if self._working.acquire(timeout=patience_sec):
            self._working.release()

    def begin(self) -> Visit:
        return Visit(Path(tempfile.mkdtemp(prefix="visit-", dir=self.folder)))

    def open_photo(self, visit: Visit, path: Path, face: int | None = None) -> Photo:
        """Make this the visit's photo. UserError, and the visit keeps its photo, where no eyes are found in it."""
        visit.offered = path
        with told_by_name(path), self._drawing:
            photo = load_photo(path, None, None, None, self.loaded.model.canvas, face)
        visit.path, visit.photo, visit.face = path, photo, face
        return photo

    def model_of(self, visit: Visit, tuned: bool) -> Checkpoint:
        return visit.tuned if tuned and visit.tuned is not None else self.loaded

    def preview(self, visit: Visit, gaze: Gaze, strength: float, tuned: bool) -> tuple[np.ndarray, np.ndarray]:
        """The photo's face (H, W, 3) uint8, as it is and redirected."""
        face = chosen_photo(visit).around_face()
        with self._drawing:
            redrawn = redirect_photo(self.model_of(visit, tuned), face, gaze, strength)
        return scaled(face.original, *PREVIEW_PX), scaled(redrawn, *PREVIEW_PX)

    def save_picture(self, visit: Visit, gaze: Gaze, strength: float, tuned: bool) -> Path:
        """The whole photo, redirected, as a PNG."""
        photo = chosen_photo(visit)
        with self._drawing:
            redrawn = redirect_photo(self.model_of(visit, tuned), photo, gaze, strength)
        path = visit.folder / f"{visit.path.stem}_redirected.png"
        write_picture(path, as_image(redrawn), photo.colour_profile)
        return path

    def sweep(self, visit: Visit, name: str, tuned: bool) -> Path:
        """An animation of the photo's face; `name` is one of `sweeps.SWEEPS`, but grid."""
        photo, checkpoint = chosen_photo(visit), self.model_of(visit, tuned)
        with self._drawing:
            reference = reference_of("auto", checkpoint, photo)
            gazes = sweep_gazes(name)
            drawn = redraw_gazes(checkpoint.model, photo, reference, gazes)
        path = visit.folder / f"{visit.path.stem}_{name}.gif"
        write_animation(path, close_ups(photo, drawn, gazes, *FRAME_PX), frame_ms(name))
        return path

    def redirect_video(
        self,
        visit: Visit,
        path: Path,
        gaze: Gaze,
        strength: float,
        tuned: bool,
        on_frames: Callable[[int, int | None], None] = lambda done, total: None,
        *,
        face: int | None = None,
        everyone: bool = False,
    ) -> RedirectedVideo:
        """The video, redirected, as MP4, up to where the visit stopped it. `on_frames(done, total)`, if that is known.

        `face` and `everyone` say whose eyes, as in `redirecting.video`. UserError for anything but a video that shows a
        face; BrokenOff if it is damaged.
        """
        checkpoint = self.model_of(visit, tuned)
        with self._drawing:
            model = own_copy(checkpoint.model)  # low precision changes its weights
        output, done = visit.folder / f"{path.stem}_redirected.mp4", 0
        by = backend()
        comparison = Comparison(by, thorough=False)
        output.unlink(missing_ok=True)  # an earlier one

        def count(frames: int) -> None:
            nonlocal done
            done += frames
            on_frames(done, reader.frame_count)

        with self._working, self._stoppable(visit), told_by_name(path, output), open_video(path, "video") as reader:
            size = reader.width_px, reader.height_px
            with write_video(output, *size, reader.frames_per_sec, like=reader) as writer:
                tally = redirect_video(
                    reader,
                    writer,
                    model,
                    checkpoint.references,
                    Look(gaze, strength=strength),
                    face=face,
                    everyone=everyone,
                    from_itself=is_own_reference("auto", checkpoint),
                    comparison=comparison,
                    on_frames=count,
                    should_stop=lambda: self._is_over(visit),
                )
        notes = [*([NO_LANDMARKS] if by == "cascades" else []), *reader.notes, *writer.notes]
        return RedirectedVideo(output, tally, notes, comparison.numbers())

    def fine_tune(
        self,
        visit: Visit,
        steps: int,
        gaze: Gaze,
        on_step: Callable[[int], None] = lambda number: None,
    ) -> TunedFiles:
        """Fine-tune the loaded model on the visit's photo, whose person looks at `gaze`, as docs/runs.md has it.

        `on_step` gets the number of each step. `one_person.Stopped` if the visit stopped it, whose tuned model, if any,
        stays what it was.
        """
        chosen_photo(visit)
        resolved = resolve(Config, str(shipped_path(RECIPE)), self._settings(visit, steps, gaze))
        with self._working, self._stoppable(visit), told_by_name(visit.path):
            began = time.perf_counter()
            base = load_base(resolved.config.oneshot_params)
            resolved = settled(resolved, base)
            params = resolved.config.oneshot_params
            person = with_fingerprint(load_person(params, base.model.canvas), base)
            folder = RunFolder(params.save_dir, person.name)
            folder.clear()
            device = torch.device(params.device)
            to_device(base.model, device)
            estimator = None if params.estimator == "none" else load_estimator(params.estimator)
            try:
                run_person(
                    resolved,
                    base,
                    person,
                    folder,
                    Loss(resolved.config.loss_params, seed=params.seed, device=device),
                    estimator,
                    began=began,
                    on_step=lambda number, mean_loss: on_step(number),
                    should_stop=lambda: self._is_over(visit),
                )
            except (TrainingDiverged, NotFinite) as error:
                raise UserError("the fine-tuning diverged, and is left out; try fewer steps") from error
        visit.tuned = self._load(str(folder.model), None)
        return TunedFiles(folder.path / "before_after.jpg", folder.report, folder.model)

    def _settings(self, visit: Visit, steps: int, gaze: Gaze) -> dict:
        settings = {
            "image": str(visit.path),
            "mask": "auto",
            "face": visit.face,
            "gaze": gaze,
            "num_steps": steps,
            "checkpoint_path": self.path,
            "base": self._base,
            "device": self._device,
            "save_dir": str(visit.folder / "tuned"),
        }
        if not float(settle_replay(OneshotParams(), self.path, self.loaded.info).replay):
            settings["blend"] = "auto"  # nothing else keeps the gaze
        return {name: value for name, value in settings.items() if value is not None}

    def _load(self, path: str, base: str | None) -> Checkpoint:
        checkpoint = load_checkpoint(path, base)
        to_device(checkpoint.model, torch.device(self._device)).eval()
        return checkpoint

    @contextmanager
    def _stoppable(self, visit: Visit) -> Iterator[None]:
        """Long work, whose Stop also counts while it waits for its turn, but not for what comes after it."""
        try:
            yield
        finally:
            if visit.folder.exists():  # else the visit has ended, and all of its work with it
                visit.stop.clear()

    def _is_over(self, visit: Visit) -> bool:
        return visit.stop.is_set() or self.closing.is_set()


def chosen_photo(visit: Visit) -> Photo:
    if visit.photo is None:
        raise UserError("there is no photograph yet; choose one")
    return visit.photo


@contextmanager
def told_by_name(path: Path, output: Path | None = None) -> Iterator[None]:
    """User errors within name the file, and the `output`, as the visitor knows them, and no setting.

    BrokenOff if there is an output.
    """
    try:
        yield
    except UserError as error:
        text = str(error).replace(str(path), path.name)
        if output is not None:
            text = text.replace(str(output), output.name)
        told = UserError(text.removeprefix("image: ").removeprefix("video: "), about=error.about)
        raise (BrokenOff(told, output) if output is not None and output.exists() else told) from error
