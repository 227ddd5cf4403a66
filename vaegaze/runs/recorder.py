"""The recorder of one run: it listens to the training and writes the run's folder."""

import logging
import platform
from collections.abc import Callable
from importlib.metadata import version

import numpy as np
import torch
from torch import Tensor

from vaegaze.config.finetune import to_yaml
from vaegaze.config.tree import Resolved, explained
from vaegaze.data import photo
from vaegaze.evaluation.baselines import measure_baselines
from vaegaze.evaluation.eval_set import EvalSet
from vaegaze.evaluation.metrics import DRAWN_AT_ONCE, Evaluation, all_finite, draw, evaluate, two_standard_errors
from vaegaze.files import write_text
from vaegaze.models import to_pixels
from vaegaze.models.checkpoint import Checkpoint, save_adapter, save_checkpoint
from vaegaze.models.device import autocast, peak_memory_mb, peak_memory_of, reset_peak_memory
from vaegaze.models.estimator import TrainedEstimator
from vaegaze.report.figures import write_loss_curve
from vaegaze.report.page import Report, command_again, page
from vaegaze.report.pictures import gaze_sweep, photo_sized, picture_rows, thumbnails
from vaegaze.runs.folder import RunFolder
from vaegaze.runs.kept_weights import KeptWeights, set_aside
from vaegaze.runs.laps import Laps
from vaegaze.runs.person import Person
from vaegaze.runs.pictures import before_after, gazes_sheet, results_sheet
from vaegaze.runs.resume import save_resume
from vaegaze.runs.tracker import open_tracker
from vaegaze.training import Step, TrainingState
from vaegaze.training.decoder import decoder_parameters
from vaegaze.training.losses import Loss
from vaegaze.training.provenance import count_trained, fine_tuning_info
from vaegaze.training.references import choose_references, spare_reference
from vaegaze.training.strategies import Selection, parameters_by_block

log = logging.getLogger(__name__)

PICTURED_HELD_OUT, PICTURED = 4, 6  # rows of the pictures under samples/: held-out frames first, then training ones
CURVE_FRAMES = 8  # held-out frames measured for each point of the loss curve
PACKAGES = ("torch", "torchvision", "numpy", "h5py", "matplotlib", "pillow", "torchmetrics")


class NotFinite(Exception):
    """The model's pictures are infinite or NaN."""


class Recorder:
    """Writes config.yaml, person_info.json, metrics.jsonl, samples/, resume.pth, and in the end all other files."""

    def __init__(
        self,
        folder: RunFolder,
        resolved: Resolved,
        base: Checkpoint,
        person: Person,
        loss: Loss,
        estimator: TrainedEstimator | None,
        laps: Laps,
        *,
        base_knows_person: bool = False,
    ):
        """`person.info` holds the fingerprint; `base_knows_person`: the base was fine-tuned on this very person."""
        self.folder, self.resolved, self.params = folder, resolved, resolved.config.oneshot_params
        self.base, self.model, self.person, self.loss = base, base.model, person, loss
        self.laps, self.progress = laps, laps.progress
        self.device = torch.device(self.params.device)
        self.estimator = estimator.model.to(self.device) if estimator else None
        self.estimator_info = {"path": self.params.estimator, **estimator.info} if estimator else None
        self.base_info = base.info if base_knows_person else {}
        self.last_loss: float | None = None  # mean since the line before, of the last line of metrics.jsonl
        self.tracker = open_tracker("none", folder.path)

        self.person, choosing, choosing_is_held_out = set_aside(person, self.params)
        person = self.person
        self.seen_by_base = count_trained(self.base_info, person.held_out)

        self.references = references = choose_references(person.train, sole=float(self.params.replay) > 0)
        held_out = min(PICTURED_HELD_OUT, len(person.held_out))
        few = person.train.take(slice(PICTURED - held_out)) if held_out else person.train
        training = EvalSet.prepare(self.model, few, references, spare=spare_reference(references, few))
        self.held_out = training.take(slice(0))
        if held_out:
            self.held_out = EvalSet.prepare(
                self.model,
                person.held_out,
                references,
                person.rendered,
                from_itself=base.draws_from_itself,
            )
        self.measured = self.held_out if held_out else training
        spare = spare_reference(references, choosing) if len(choosing) else None
        self.kept = KeptWeights(
            self.model,
            self.params,
            EvalSet.prepare(self.model, choosing, references, spare=spare) if len(choosing) else training.take([]),
            self.estimator,
            self.progress,
            held_out=choosing_is_held_out,
        )
        self.pictured = {
            "held out": self.held_out.take(slice(held_out)),
            "training": training.take(slice(PICTURED - held_out)),
        }

    @property
    def measured_words(self) -> str:
        if len(self.held_out):
            return f"{len(self.held_out)} held-out frames"
        return f"the training frames themselves ({len(self.measured)}): nothing is left to hold out"

    # ----------------------------------------------------------------------------------------------- before training

    def begin(self) -> None:
        """Write the files known before training, after removing all files of an overwritten run."""
        if not self.progress.before:
            self.folder.clear()
        write_text(self.folder.config, to_yaml(self.resolved.config))
        self.folder.write_json("person_info.json", self.person.info)
        logged = self.progress.history[-1]["step"] if self.progress.history else 0
        self.tracker = open_tracker(self.params.tracker, self.folder.path, after=logged)
        self.laps.end("preparing")

    def close(self) -> None:
        """End what is open beside the files, however the run ended."""
        self.tracker.close()

    def measure_base(self, check: Callable[[], None]) -> None:
        """The numbers and drawings before training. NotFinite if the base model draws no usable pictures."""
        found, drawn = self.measure(check)
        resumed, self.progress.before = bool(self.progress.before), found.numbers
        self.progress.before_per_frame = found.per_frame
        # Kept for the report: after the last step the base's weights are gone, and so may be its file.
        self.progress.drawn_before = torch.from_numpy(to_pixels(drawn))
        if not resumed:  # by an earlier version, which kept no values of single frames
            self.look()
            self.draw_samples()
        self.laps.end("measuring_before")

    def measure(self, check: Callable[[], None]) -> tuple[Evaluation, Tensor]:
        """The current model's numbers, and its drawings (N, 3, S, S) of the measured frames; or NotFinite."""
        drawn = draw(self.model, self.measured.frames, check, batch_size=DRAWN_AT_ONCE)
        found = evaluate(self.model, self.measured, self.estimator, check, drawn)
        if not all_finite(found.numbers):
            raise NotFinite("the model's pictures are infinite or NaN")
        return found, drawn

    # ----------------------------------------------------------------------------------------------- while training

    def on_start(self) -> None:
        """After precomputing, before the first step."""
        self.laps.end("precomputing")
        if not self.progress.judged:
            self.kept.judge_step()
            self.laps.end("measuring_before")
        reset_peak_memory(self.device)

    def on_step(self, step: Step) -> None:
        """After each step: metrics, curve, pictures and resume file, each when it is due."""
        params, progress = self.params, self.progress
        progress.step = step.number
        self.laps.end("training")
        for name, value in {"loss": step.total, **step.terms, "grad_norm": step.grad_norm}.items():
            progress.sums[name] = progress.sums.get(name, 0) + value

        last = step.number == params.num_steps
        to_log = last or step.number % params.log_every == 0
        to_look = not last and step.number % params.eval_every == 0  # after the last step, `finish` does both
        to_judge = last or step.number % params.eval_every == 0
        to_draw = not last and params.sample_every and step.number % params.sample_every == 0
        to_save = last or (params.checkpoint_every and step.number % params.checkpoint_every == 0)
        if to_log or to_judge or to_draw or to_save:
            step.refuse_bad()
        if to_log:
            self.log()
        with autocast(self.device.type, params.precision):
            if to_look:
                self.look()
            if to_judge:
                self.kept.judge_step()
            if to_draw:
                self.draw_samples()
        if to_save:
            self.save(step.state())

    def log(self) -> None:
        """The means since the last line of metrics.jsonl become the next one."""
        progress, log_every = self.progress, self.params.log_every
        steps = progress.step % log_every or log_every
        means = {name: float(value) / steps for name, value in progress.sums.items()}
        progress.sums.clear()
        progress.history.append({"step": progress.step, **means, "seconds": round(progress.seconds, 3)})
        self._write_metrics()
        self.last_loss = means["loss"]
        log.debug("%s", progress.history[-1])

    @torch.no_grad()
    def look(self) -> None:
        """The loss terms on a few held-out frames, for the curve."""
        few = self.held_out.frames.take(slice(CURVE_FRAMES))
        if not len(few):
            return
        sums: dict[str, float] = {}
        for i in range(len(few)):
            frame = few.take(slice(i, i + 1))
            terms = self.loss.terms(draw(self.model, frame), frame.target, frame.eye_masks, frame.valid)
            for name, value in {"loss": self.loss.total(terms), **terms}.items():
                sums[name] = sums.get(name, 0.0) + value.item()
        means = {f"held_out_{name}": value / len(few) for name, value in sums.items()}
        self.progress.history.append({"step": self.progress.step, **means})
        self._write_metrics()

    def _write_metrics(self) -> None:
        self.folder.write_metrics(self.progress.history)
        self.tracker.log(self.progress.step, self.progress.history[-1])

    def draw_samples(self) -> None:
        """samples/step_….png: the same frames every time, held-out ones first."""
        if self.params.sample_every:
            sheet = results_sheet(self.model, self.pictured)
            self.folder.write_picture(f"samples/step_{self.progress.step:06d}.png", sheet)

    def save(self, state: TrainingState) -> None:
        """resume.pth: all that is needed to continue after this step."""
        self.laps.end("training")
        peaks_mb = self.progress.peak_memory_mb, peak_memory_mb(self.device)
        self.progress.peak_memory_mb = max(filter(None, peaks_mb), default=None)
        tensors = {"trained": state.trained, "optimizer": state.optimizer}
        save_resume(self.folder.resume, self.progress, tensors, self.person.info["fingerprint"])

    # ----------------------------------------------------------------------------------------------- after training

    def finish(self, selection: Selection, check: Callable[[], None]) -> dict:
        """Measure, draw, and write everything; returns the summary. The model comes last: it marks the run as finished.

        Only the seconds in summary.json are brought up to date after it.
        NotFinite if the last update, the only unchecked one, made the model's output infinite or NaN.
        """
        check()  # now and then, since all this takes a slow machine a while
        self.look()
        check()
        self.draw_samples()
        after, drawn = self.measure(check)
        baselines = measure_baselines(self.person.train, self.held_out, self.references, self.estimator)
        check()
        self.laps.end("measuring_after")

        one, picture = self.measured.take(slice(1)), self.person.photo
        write_loss_curve(self.folder.path / "loss_curve.png", self.progress.history, f"{self.person.name}: loss")
        self.folder.write_picture("gazes.png", gazes_sheet(self.model, one, check))
        photos = ()
        if picture is not None:
            redrawn = to_pixels(drawn)[0]
            irises = photo.own_irises(picture, redrawn, picture.gaze)
            photos = picture.original, photo.paste(picture, redrawn, irises=irises)
            self.folder.write_picture("photo_result.png", photos[1], picture.colour_profile)
        drawings = self.progress.drawn_before.numpy(), to_pixels(drawn)
        first, worst = picture_rows(self.measured.samples, *drawings)
        self.folder.write_picture("before_after.jpg", before_after(self.measured.samples, *drawings))
        sweep = gaze_sweep(self.model, one.frames, one.samples, self.person.rendered, check)
        check()

        self.laps.end("writing")  # so far, for the report
        summary = self.summary(after, baselines, selection)
        self.folder.write_json("summary.json", summary)
        report = Report(
            summary=summary,
            person=self.person.info,
            history=self.progress.history,
            settings=explained(self.resolved),
            settings_file=self.resolved.path,
            blocks=parameters_by_block(self.model),
            first=first,
            worst=worst,
            sweep=sweep,
            thumbnails=thumbnails(self.person.train.images),
            references=thumbnails(np.stack([each.image for each in self.references])) if self.references else None,
            photos=[photo_sized(each, picture.colour_profile) for each in photos],
            command=command_again(self.folder.config, summary["threads"] if self.params.device == "cpu" else None),
        )
        write_text(self.folder.report, page(report))
        self.save_result()
        self.laps.end("writing")
        summary |= self.laps.summary()
        self.folder.write_json("summary.json", summary)
        self.folder.resume.unlink(missing_ok=True)
        return summary

    def summary(self, after: Evaluation, baselines: dict, selection: Selection) -> dict:
        """The content of summary.json."""
        progress = self.progress
        errors = two_standard_errors(progress.before_per_frame, after.per_frame) if len(self.held_out) else {}
        return {
            "person": self.person.name,
            "before": progress.before,
            "after": after.numbers,
            "two_standard_errors": errors,
            "baselines": baselines,
            "held_out": len(self.held_out),
            "held_out_but_seen_by_base": self.seen_by_base,
            "evaluated_on": self.measured_words,
            "redirected": len(self.measured.redirections) if self.measured.redirections else 0,
            "estimator": self.estimator_info,
            "steps": progress.step,
            **self.laps.summary(),
            "peak_memory_mb": progress.peak_memory_mb,
            "peak_memory_of": peak_memory_of(self.device),
            "strategy": self.params.finetune_strategy,
            "blend": self.kept.blend.summary() if self.kept.blend else {"alpha": 1.0},
            **({"keep_best": self.kept.best.summary()} if self.kept.best else {}),
            "parameters": {"total": selection.total, "trainable": selection.trainable},
            "device": self.params.device,
            "precision": self.params.precision,
            "threads": torch.get_num_threads(),
            "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        }

    def save_result(self) -> None:
        """The whole model, an adapter, or both."""
        added = fine_tuning_info(
            self.person.name, self.person.train, self.references, self.progress.step, self.base_info
        )
        if "blend_indices" in self.person.info:
            added["blend_indices"] = self.person.info["blend_indices"]
        if self.kept.best is not None:
            added["kept_step"] = self.kept.best.step
        trained = {name for name, parameter in self.model.named_parameters() if parameter.requires_grad}
        if self.params.finetune_decoder:
            trained |= {name for name, _ in decoder_parameters(self.model)}
        for path in self.folder.results(self.params.save):
            if path == self.folder.model:
                save_checkpoint(path, self.model, {**self.base.info, **added}, self.references)
            else:  # with what the base's own adapter had brought: both belong to the same base
                names = trained | self.base.adapted
                save_adapter(path, self.model, names, self.base.base, added, self.references)
