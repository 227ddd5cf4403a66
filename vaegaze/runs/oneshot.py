"""One fine-tuning run from start to end: the rooms put together, in the order in which data flows through them."""

import logging
import platform
import time
from dataclasses import replace
from importlib.metadata import version

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from vaegaze.commands.progress import StopSignals, progress_bar
from vaegaze.config.finetune import Command, describe, to_yaml
from vaegaze.config.tree import Resolved, explained
from vaegaze.data import photo
from vaegaze.errors import Interrupted, UserError, plain
from vaegaze.evaluation.metrics import all_finite, draw, evaluate, measure_baselines, paste, redirect
from vaegaze.files import write_text
from vaegaze.images.sheets import picture_sheet
from vaegaze.models import to_pixels
from vaegaze.models.checkpoint import (
    Base,
    Checkpoint,
    Reference,
    load_checkpoint,
    save_adapter,
    save_checkpoint,
    weights_fingerprint,
)
from vaegaze.models.cpu.mixed_precision import frozen_weights_in
from vaegaze.models.device import autocast, peak_memory_mb, peak_memory_of, reset_peak_memory, settle_device
from vaegaze.models.estimator import TrainedEstimator, load_estimator
from vaegaze.report.data_uris import jpeg
from vaegaze.report.figures import write_loss_curve
from vaegaze.report.page import Report, command_again, page
from vaegaze.report.pictures import gaze_sweep, photo_sized, picture_rows, thumbnails
from vaegaze.report.tables import summary_table
from vaegaze.runs.folder import Progress, RunFolder, adopt_stored_choices, already_finished, data_fingerprint
from vaegaze.runs.person import Person, load_person
from vaegaze.training.frames import (
    Frames,
    choose_references,
    fine_tuned_on,
    precompute,
    prepare_frames,
    prepare_training_frames,
)
from vaegaze.training.loop import TrainingDiverged, make_optimizer, training_steps
from vaegaze.training.losses import Loss
from vaegaze.training.strategies import Selection, freeze_all_but, parameters_by_block

log = logging.getLogger(__name__)

PICTURED_HELD_OUT, PICTURED = 4, 6  # rows of the pictures under samples/: held-out frames first, then training ones
CURVE_FRAMES = 8  # held-out frames behind a point of the loss curve
SHEET_PITCHES_RAD, SHEET_YAWS_RAD = (0.25, 0.0, -0.25), (0.4, 0.0, -0.4)  # of gazes.png
PACKAGES = ("torch", "torchvision", "numpy", "h5py", "matplotlib", "pillow", "torchmetrics")


def run(command: Command) -> None:
    """Do what the command line says. UserError for whatever its user can mend, Interrupted after a signal."""
    if command.dry_run:
        print(describe(command.resolved))

    # the base model and the person
    params = command.config.oneshot_params
    base = load_checkpoint(params.checkpoint_path, params.base)
    weights = weights_fingerprint(base.model)
    trained_on = base.info.get("trained_on", "data it does not name")
    fine_tuned_on = f", fine-tuned on {base.info['fine_tuned_on']}" if "fine_tuned_on" in base.info else ""
    on_base = f" on {base.base.path}" if base.base else ""
    print(plain(f"🧠 Base model: {params.checkpoint_path}{on_base}, trained on {trained_on}{fine_tuned_on}"))
    for note in base.notes:
        print(f"   {note}")
    base = replace(base, base=base.base or Base(params.checkpoint_path, weights))
    person = load_person(params, base.model.image_size)
    folder = RunFolder(params.save_dir, person.name)
    folder.check_writable()

    # what an earlier run left in the way
    resolved = command.resolved
    if command.resume:
        resolved = resolved.settled(adopt_stored_choices(command.config, folder), "stored by the earlier run")
    fingerprint = data_fingerprint(person.train, person.held_out, base=weights)
    needed = (params.checkpoint_path, base.base.path)
    if already_finished(
        folder, resolved.config, fingerprint, needed, resume=command.resume, overwrite=command.overwrite
    ):
        print(f"✅ The run in {folder.path} is already finished")
        return

    # where and how exactly it is computed
    resolved = resolved.settled(settle_device(resolved.config), "chosen by auto")
    config = resolved.config
    params, device = config.oneshot_params, torch.device(config.oneshot_params.device)
    print(f"💻 Device: {params.device}, precision: {params.precision}")

    # what trains
    base.model.to(device)
    gaze_mlp_layers = params.gaze_mlp_layers if params.finetune_gaze_mlp else ()
    selection = freeze_all_but(base.model, params.finetune_strategy, gaze_mlp_layers)
    print(f"🔧 Strategy: {params.finetune_strategy}\n{selection}")
    if params.gradient_checkpointing:
        base.model.enable_gradient_checkpointing()

    # what it is trained and judged by, and from where on
    estimator = None if params.estimator == "none" else load_estimator(params.estimator)
    loss = Loss(config.loss_params, seed=params.seed, device=device)
    if loss.vgg is not None:
        print(f"👁️ VGG19: {loss.vgg.source}")
    optimizer = make_optimizer(base.model, params)
    progress = folder.load_progress(base.model, optimizer, fingerprint) if command.resume else Progress()
    if command.resume:
        print(f"▶️ Going on after step {progress.step}")
    if command.dry_run:
        print(f"✅ Dry run: {params.num_steps} steps would go to {folder.path}; nothing was trained")
        return

    try:
        run = Run(resolved, base, person, selection, folder, loss, estimator, optimizer, progress, fingerprint)
        run.start()
        run.train()
        run.finish()
    except Interrupted as interrupted:
        interrupted.hint = "go on with --resume" if folder.resume.exists() else "nothing was trained yet"
        raise


class Run:
    """A run under way: what is the same at every step, and how far it has come."""

    def __init__(
        self,
        resolved: Resolved,
        base: Checkpoint,
        person: Person,
        selection: Selection,
        folder: RunFolder,
        loss: Loss,
        estimator: TrainedEstimator | None,
        optimizer: torch.optim.Optimizer,
        progress: Progress,
        fingerprint: str,
    ):
        self.resolved, self.params = resolved, resolved.config.oneshot_params
        self.base, self.model = base, base.model
        self.person, self.selection, self.folder, self.loss = person, selection, folder, loss
        self.optimizer, self.progress, self.fingerprint = optimizer, progress, fingerprint
        data = self.params.gazecapture_params
        before = self.params.use_gazecapture and fine_tuned_on(base, data.hdf_path, person.name)
        self.trained_before = set(base.info.get("trained_indices", ())) if before else set()  # samples of this person
        self.references = choose_references(person.train)
        self.device = device = torch.device(self.params.device)
        self.training_frames = prepare_training_frames(self.model, person.train, device, mirror=self.params.mirror)
        self.frames = self.training_frames.take(slice(len(person.train)))  # those that are no mirror image
        self.held_out, self.judged, self.judged_samples = self.frames.take(slice(0)), self.frames, person.train
        if len(person.held_out):
            self.held_out = prepare_frames(self.model, person.held_out, self.references, device)
            self.judged, self.judged_samples = self.held_out, person.held_out
        self.redirections = None
        if person.rendered is not None and len(person.held_out):
            true = person.rendered.redirected(person.held_out)
            self.redirections = redirect(self.held_out, person.held_out, true)
        self.estimator_info = {"path": self.params.estimator, **estimator.info} if estimator else None
        self.estimator = estimator.model.to(device) if estimator else None
        self.stop = StopSignals()  # till now there was nothing to save, and a signal ended the program at once

    def start(self) -> None:
        """Write what is known before training. What an overwritten run left goes first: none may outlive its run."""
        if not self.progress.before:
            self.folder.clear()
        write_text(self.folder.config, to_yaml(self.resolved.config))
        self.folder.write_json("person_info.json", {**self.person.info, "fingerprint": self.fingerprint})
        if not self.references and not self.base.info.get("drops_reference"):
            print("⚠️ The base model never saw a dropped reference frame: with a single image, expect less of it")
        if self.seen_by_base:
            print(f"⚠️ The base model was trained on {self.seen_by_base} of the held-out frames: their numbers flatter")
        if self.progress.before:
            return
        print(f"📏 Measuring the base model on {self.judged_words}")
        self.progress.before, drawn = self.measure()
        if not all_finite(self.progress.before):
            path = self.params.checkpoint_path
            raise UserError(f"checkpoint_path: the pictures that {path} draws are infinite or NaN; give another")
        # For the report. Kept, since after the last step the base's weights are gone, and its file may be, too.
        self.progress.drawn_before = torch.from_numpy(to_pixels(drawn))
        self.look()
        self.draw_samples()

    @property
    def judged_words(self) -> str:
        if len(self.held_out):
            return f"{len(self.held_out)} held-out frames"
        return f"the training frames themselves ({len(self.frames)}): nothing is left to hold out"

    @property
    def seen_by_base(self) -> int:
        """How many held-out frames the base, itself fine-tuned, has been trained on."""
        return len(self.trained_before & set(self.person.held_out.indices.tolist()))

    def train(self) -> None:
        """The remaining steps; meanwhile frozen weights are in the precision that is computed in."""
        if self.progress.step == self.params.num_steps:  # stopped after the last step
            return
        modules = (self.model, self.loss.vgg)
        with frozen_weights_in(self.params.precision, modules, self.folder.path):
            frames, computed_once = precompute(
                self.model,
                self.training_frames,
                self.loss,
                precision=self.params.precision,
                memory_mb=self.params.cache_memory_mb,
                check=self.stop.check,
            )
            for what in computed_once:
                print(f"⚡ {what}")
            self.train_on(frames)

    def train_on(self, frames: Frames) -> None:
        params, progress = self.params, self.progress
        bar = progress_bar("training", params.num_steps, initial=progress.step)
        started = time.perf_counter() - progress.seconds
        reset_peak_memory(self.device)
        steps = training_steps(
            self.model,
            self.optimizer,
            frames,
            self.loss,
            params,
            precision=params.precision,
            first_step=progress.step,
        )
        try:
            for step in steps:
                progress.step, progress.seconds = step.number, time.perf_counter() - started
                for name, value in {"loss": step.total, **step.terms, "grad_norm": step.grad_norm}.items():
                    progress.sums[name] = progress.sums.get(name, 0) + value

                last = step.number == params.num_steps
                to_log = last or step.number % params.log_every == 0
                to_look = not last and step.number % params.eval_every == 0  # after the last one, see `finish`
                to_draw = not last and params.sample_every and step.number % params.sample_every == 0
                to_save = last or (params.checkpoint_every and step.number % params.checkpoint_every == 0)
                if to_log or to_look or to_draw:
                    step.refuse_bad()
                if to_log:
                    self.log(bar)
                with autocast(self.device.type, params.precision):
                    if to_look:
                        self.look()
                    if to_draw:
                        self.draw_samples()
                bar.update()
                if to_save or self.stop.received is not None:
                    step.refuse_bad()
                    peaks_mb = progress.peak_memory_mb, peak_memory_mb(self.device)
                    progress.peak_memory_mb = max(filter(None, peaks_mb), default=None)
                    self.folder.save_progress(progress, self.model, self.optimizer, self.fingerprint)
                    self.stop.check()  # only here, where nothing is lost by it
        except TrainingDiverged as error:
            kept = f"{self.folder.resume} is the last good state" if self.folder.resume.exists() else "none was saved"
            raise UserError(f"{error}; {self.anew} ({kept})") from error
        finally:
            bar.close()

    @property
    def anew(self) -> str:
        return f"start anew with --overwrite and a lower --learning_rate than {self.params.learning_rate:g}"

    def finish(self) -> None:
        """Measure, draw, and write the result; the model comes last, since it marks the run as finished."""
        self.look()
        self.draw_samples()
        after, drawn = self.measure()
        if not all_finite(after):  # by the very last update; the steps before it were checked
            raise UserError(f"the last step made the model's pictures infinite or NaN; {self.anew}")
        baselines = measure_baselines(
            self.person.train, self.person.held_out, self.held_out, self.reference, self.estimator
        )
        summary = {
            "person": self.person.name,
            "before": self.progress.before,
            "after": after,
            "baselines": baselines,
            "held_out": len(self.held_out),
            "held_out_but_seen_by_base": self.seen_by_base,
            "evaluated_on": self.judged_words,
            "redirected": len(self.redirections.frames) if self.redirections else 0,
            "estimator": self.estimator_info,
            "steps": self.progress.step,
            "seconds": round(self.progress.seconds, 2),
            "sec_per_step": round(self.progress.seconds / self.progress.step, 4),
            "peak_memory_mb": self.progress.peak_memory_mb,
            "peak_memory_of": peak_memory_of(self.device),
            "strategy": self.params.finetune_strategy,
            "parameters": {"total": self.selection.total, "trainable": self.selection.trainable},
            "device": self.params.device,
            "precision": self.params.precision,
            "threads": torch.get_num_threads(),
            "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        }
        write_loss_curve(self.folder.path / "loss_curve.png", self.progress.history, f"{self.person.name}: loss")
        self.draw_gazes()
        picture, photos = self.person.photo, ()
        if picture is not None:
            photos = picture.original, photo.paste(picture, to_pixels(drawn)[0])
            self.folder.write_picture("photo_result.png", photos[1], picture.colour_profile)
        self.folder.write_json("summary.json", summary)
        self.write_report(summary, to_pixels(drawn), [photo_sized(each, picture.colour_profile) for each in photos])
        self.save_result()
        self.folder.resume.unlink(missing_ok=True)
        print(f"📄 {self.folder.report}")
        print(f"📊 On {self.judged_words}")
        print(summary_table(summary))
        for path in self.folder.results(self.params.save):
            print(f"✅ {path}")

    def save_result(self) -> None:
        """The whole model, an adapter, or both."""
        added = {
            "fine_tuned_on": self.person.name,
            "fine_tuned_steps": self.progress.step,
            "trained_indices": sorted({*self.trained_before, *self.person.train.indices.tolist()}),
        }
        trained = {name for name, parameter in self.model.named_parameters() if parameter.requires_grad}
        for path in self.folder.results(self.params.save):
            if path == self.folder.model:
                save_checkpoint(path, self.model, {**self.base.info, **added}, self.reference)
            else:  # with what an adapter had brought before: both belong to the same base
                names = trained | self.base.adapted
                save_adapter(path, self.model, names, self.base.base, added, self.reference)

    @property
    def reference(self) -> Reference | None:
        return self.references[0] if self.references else None

    def measure(self) -> tuple[dict[str, float], Tensor]:
        """All numbers of the model as it is, and its drawings (N, 3, S, S) of the frames that they are of."""
        check = self.stop.check
        drawn = draw(self.model, self.judged, check)
        judged = self.judged, self.judged_samples
        return evaluate(self.model, *judged, self.estimator, self.redirections, check, drawn), drawn

    def log(self, bar: tqdm) -> None:
        """The means since the last line of metrics.jsonl become the next one."""
        progress, log_every = self.progress, self.params.log_every
        steps = progress.step % log_every or log_every
        means = {name: float(value) / steps for name, value in progress.sums.items()}
        progress.sums.clear()
        progress.history.append({"step": progress.step, **means, "seconds": round(progress.seconds, 3)})
        self.folder.write_metrics(progress.history)
        log.debug("%s", progress.history[-1])
        bar.set_postfix(loss=f"{means['loss']:.4f}", refresh=False)

    @torch.no_grad()
    def look(self) -> None:
        """The loss terms on a few held-out frames, for the curve."""
        if not len(self.held_out):
            return
        few = self.held_out.take(slice(CURVE_FRAMES))
        sums: dict[str, float] = {}
        for i in range(len(few)):
            frame = few.take(slice(i, i + 1))
            result = draw(self.model, frame)
            terms = self.loss.terms(result, frame.target, frame.eye_masks, frame.valid)
            for name, value in {"loss": self.loss.total(terms), **terms}.items():
                sums[name] = sums.get(name, 0.0) + value.item()
        means = {f"held_out_{name}": value / len(few) for name, value in sums.items()}
        self.progress.history.append({"step": self.progress.step, **means})
        self.folder.write_metrics(self.progress.history)

    def draw_samples(self) -> None:
        """samples/step_….png: the same frames every time, held-out ones first."""
        if not self.params.sample_every:
            return
        held_out = min(PICTURED_HELD_OUT, len(self.held_out))
        rows = []
        for frames, samples, kind in (
            (self.held_out.take(slice(held_out)), self.person.held_out, "held out"),
            (self.frames.take(slice(PICTURED - held_out)), self.person.train, "training"),
        ):
            if len(frames):
                samples = samples.take(slice(len(frames)))
                results = to_pixels(draw(self.model, frames))
                masked = to_pixels(self.model.mask(frames.target, frames.eye_masks))
                pictures = zip(samples.images, masked, results, paste(results, samples))
                rows += [(f"{kind}\n{index}", row) for index, row in zip(samples.indices, pictures)]
        sheet = picture_sheet(("target", "masked input", "result", "pasted result"), rows)
        self.folder.write_picture(f"samples/step_{self.progress.step:06d}.png", sheet)

    def draw_gazes(self) -> None:
        """gazes.png: one frame, told to look elsewhere, pasted."""
        frame, sample = self.judged.take(slice(1)), self.judged_samples.take(slice(1))
        rows = []
        for pitch in SHEET_PITCHES_RAD:
            drawn = [to_pixels(draw(self.model, frame.looking((pitch, yaw)))) for yaw in SHEET_YAWS_RAD]
            rows.append((f"pitch\n{pitch:+.2f}", [paste(result, sample)[0] for result in drawn]))
        columns = [f"yaw {yaw:+.2f}" for yaw in SHEET_YAWS_RAD]
        self.folder.write_picture("gazes.png", picture_sheet(columns, rows))

    def write_report(self, summary: dict, drawn: np.ndarray, photos: list[str]) -> None:
        """report.html: the run on one page. `drawn` (N, S, S, 3) is what the result makes of the measured frames."""
        first, worst = picture_rows(self.judged_samples, self.progress.drawn_before.numpy(), drawn)
        one = self.judged.take(slice(1)), self.judged_samples.take(slice(1))
        threads = summary["threads"] if self.params.device == "cpu" else None
        report = Report(
            summary=summary,
            person=self.person.info,
            history=self.progress.history,
            settings=explained(self.resolved),
            settings_file=self.resolved.path,
            blocks=parameters_by_block(self.model),
            first=first,
            worst=worst,
            sweep=gaze_sweep(self.model, *one, self.person.rendered),
            thumbnails=thumbnails(self.person.train.images),
            reference=jpeg(self.reference.image) if self.reference else None,
            photos=photos,
            command=command_again(self.folder.config, threads),
        )
        write_text(self.folder.report, page(report))
