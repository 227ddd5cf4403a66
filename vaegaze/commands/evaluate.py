"""The numbers of a model on one person's frames.

    vaegaze evaluate --checkpoint C --hdf_path F --person_id P

They are those of a run's `summary.json`: see `vaegaze.evaluation`.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from vaegaze.commands.outputs import refuse_output
from vaegaze.commands.running import run_with_settings
from vaegaze.config import shared
from vaegaze.config.tree import option
from vaegaze.data import hdf5
from vaegaze.data.rows import left_out_line
from vaegaze.data.selection import rows_left
from vaegaze.errors import UserError
from vaegaze.evaluation.eval_set import EvalSet
from vaegaze.evaluation.metrics import all_finite, evaluate
from vaegaze.files import write_text
from vaegaze.models.checkpoint import load_checkpoint
from vaegaze.models.device import find_device, to_device
from vaegaze.models.estimator import load_estimator
from vaegaze.renderer.redrawing import matching_renderer
from vaegaze.report.tables import estimator_lines, numbers_table, second_line
from vaegaze.training.provenance import fine_tuned_on
from vaegaze.training.references import references_of, spare_reference

RESULT_BEGINS = '{\n  "checkpoint": '  # how a file from --output begins; no other file is replaced


@dataclass(frozen=True)
class EvaluateParams:
    """The frames to draw, and the model that draws them"""

    checkpoint: str | None = shared.checkpoint()
    base: str | None = shared.base()
    hdf_path: str | None = shared.hdf_path()
    person_id: str | None = shared.person_id("the person whose frames to measure on")
    frames: str = option(
        "held_out", choices=("held_out", "all"), help="held_out: only those it was not trained on", metavar="NAME"
    )
    num_eval_samples: int = option(32, low=1, help="number of frames, at most, drawn by the seed")
    estimator: str = shared.estimator()
    seed: int = shared.seed("draws the frames")
    device: str = shared.device()
    output: str | None = shared.output("JSON file of the numbers; an earlier one is replaced")


@dataclass(frozen=True)
class EvaluateConfig:
    """The settings of one evaluation."""

    evaluate_params: EvaluateParams = EvaluateParams()

    def problems(self, origins):
        """What is missing; see `tree.resolve`."""
        for name in ("checkpoint", "hdf_path", "person_id"):
            if getattr(self.evaluate_params, name) is None:
                yield (f"evaluate_params.{name}",), f"needed; give --{name}"


def main(argv: list[str] | None = None) -> int:
    return run_with_settings(
        EvaluateConfig,
        lambda resolved: run(resolved.config.evaluate_params),
        argv,
        prog="vaegaze evaluate",
        description="Measure a model on one person's frames.",
        hint="nothing was written",
        less_memory="give fewer --num_eval_samples",
        advice=shared.advice(
            "checkpoint",
            "base",
            "no_adapter",
            "estimator",
            "device",
            "data_set",
            sample="fix it in the file, or measure other frames with another --seed",
        ),
    )


def run(params: EvaluateParams) -> None:
    refuse_anothers_output(params)
    checkpoint = load_checkpoint(params.checkpoint, params.base)
    for note in checkpoint.notes:
        print(note)
    estimator = None if params.estimator == "none" else load_estimator(params.estimator)
    device = torch.device(find_device(params.device))
    model = to_device(checkpoint.model, device)

    own, notes = fine_tuned_on(checkpoint, params.hdf_path, params.person_id)
    for note in notes:
        print(note)
    info = checkpoint.info if own else {}
    rows = choose_rows(params, [*info.get("trained_indices", ()), *info.get("blend_indices", ())])
    data = hdf5.read_person(params.hdf_path, params.person_id, rows, model.canvas)
    data.samples.refuse_empty_masks(params.person_id)
    references = checkpoint.references if own else references_of(params.hdf_path, params.person_id, model.canvas)
    rendered, notes = matching_renderer(data)
    for note in notes:
        print(note)
    eval_set = EvalSet.prepare(
        model,
        data.samples,
        references,
        rendered,
        spare=spare_reference(references, data.samples) if own else None,
        from_itself=checkpoint.draws_from_itself,
    )
    numbers = evaluate(model, eval_set, estimator.model.to(device) if estimator else None).numbers

    if not all_finite(numbers):
        raise UserError(f"the pictures that {params.checkpoint} draws are infinite or NaN; give another --checkpoint")
    print(f"{params.person_id}: {len(rows)} frames ({params.frames})")
    for prefix, heading in (("", None), ("redirected_", "told to look elsewhere, against the true pictures:")):
        table = numbers_table({"": numbers}, prefix)
        print("\n".join([*([heading] if heading and table else []), *table, *second_line(numbers, prefix)]))
    print("\n".join(estimator_lines(numbers, estimator.info if estimator else None)))
    if params.output is not None:
        known = {"checkpoint": params.checkpoint, "hdf_path": params.hdf_path, "person_id": params.person_id}
        content = {**known, "frames": params.frames, "indices": rows, **numbers}
        content["estimator"] = estimator.info if estimator else None
        write_text(params.output, json.dumps(content, indent=2, allow_nan=False) + "\n")


def refuse_anothers_output(params: EvaluateParams) -> None:
    """UserError if --output cannot be written, or is a file other than an earlier result."""
    if params.output is None:
        return
    read = {f"--{name}": getattr(params, name) for name in ("checkpoint", "base", "hdf_path", "estimator")}
    refuse_output(Path(params.output), "--output", earlier=RESULT_BEGINS, inputs=read)


def choose_rows(params: EvaluateParams, trained: Sequence[int]) -> list[int]:
    """The rows of the frames to draw, by default all that were not trained on. UserError if none is left."""
    with hdf5.opened_samples(params.hdf_path, params.person_id) as stored:
        passed_over = () if params.frames == "all" else trained
        rows = rows_left(stored.count, passed_over, params.num_eval_samples, params.seed, stored.has_angles)
    if stored.left_out:
        print(left_out_line(stored.left_out, params.person_id))
    if not len(rows) and stored.left_out:
        raise UserError(
            f"{stored.where}: no frame that could be drawn has usable labels; give another --person_id, or --frames all"
        )
    if not len(rows):
        raise UserError(f"{params.checkpoint} was trained on every frame of {params.person_id}; give --frames all")
    return rows.tolist()


if __name__ == "__main__":
    sys.exit(main())
