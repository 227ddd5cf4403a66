"""The numbers of a model on one person's frames.

    vaegaze evaluate --checkpoint C --hdf_path F --person_id P

They are those of a run's `summary.json`: see `vaegaze.evaluation`.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from vaegaze.commands.outputs import refuse_output
from vaegaze.commands.running import run_command
from vaegaze.config.flags import FlagParser, read_command
from vaegaze.config.tree import option
from vaegaze.data import hdf5
from vaegaze.data.safe_hdf5 import path_given_by
from vaegaze.data.samples import Samples
from vaegaze.data.selection import rows_left
from vaegaze.errors import UserError
from vaegaze.evaluation.eval_set import EvalSet
from vaegaze.evaluation.metrics import all_finite, evaluate
from vaegaze.files import write_text
from vaegaze.models.checkpoint import Checkpoint, Reference, load_checkpoint
from vaegaze.models.device import find_device
from vaegaze.models.estimator import load_estimator
from vaegaze.renderer.redrawing import matching_renderer
from vaegaze.report.tables import estimator_lines, numbers_table, second_line
from vaegaze.training.provenance import fine_tuned_on
from vaegaze.training.references import choose_references, references_of

RESULT_BEGINS = '{\n  "checkpoint": '  # what --output holds; no other file is replaced


@dataclass(frozen=True)
class EvaluateParams:
    """Whose frames are drawn, by which model"""

    checkpoint: str | None = option(None, help="the model: a base, a fine-tuned one, or an adapter", metavar="PATH")
    base: str | None = option(None, help="of an adapter: its base, where that has moved", metavar="PATH")
    hdf_path: str | None = option(None, help="the HDF5 file, or a folder of them", metavar="PATH")
    person_id: str | None = option(None, help="whose frames", metavar="ID")
    frames: str = option(
        "held_out", choices=("held_out", "all"), help="held_out: those it was not trained on", metavar="NAME"
    )
    num_eval_samples: int = option(32, low=1, help="at most so many, drawn by the seed")
    estimator: str = option(
        "./checkpoints/gaze_estimator/gaze_estimator.pth",
        legal="none | PATH",
        help="what reads gaze off the results",
        metavar="PATH",
    )
    seed: int = option(0, low=0, high=2**32 - 1, help="draws the frames")
    device: str = option("auto", choices=("auto", "cpu", "cuda"), help="what to compute on; auto takes a GPU")
    output: str | None = option(None, help="JSON file of the numbers; an earlier one is replaced", metavar="PATH")


@dataclass(frozen=True)
class EvaluateConfig:
    """The settings of one evaluation."""

    evaluate_params: EvaluateParams = EvaluateParams()

    def problems(self, origins):
        """What is missing; see `config_tree.resolve`."""
        for name in ("checkpoint", "hdf_path", "person_id"):
            if getattr(self.evaluate_params, name) is None:
                yield (f"evaluate_params.{name}",), f"needed; give --{name}"


def main(argv: list[str] | None = None) -> int:
    parser = FlagParser(prog="vaegaze evaluate", description=__doc__.splitlines()[0])
    return run_command(
        lambda: run(read_command(parser, EvaluateConfig, argv)[0].config.evaluate_params),
        hint="nothing was written",
        less_memory="give fewer --num_eval_samples",
    )


@path_given_by("--hdf_path")
def run(params: EvaluateParams) -> None:
    refuse_anothers_output(params)
    checkpoint = load_checkpoint(params.checkpoint, params.base, flag="--checkpoint")
    for note in checkpoint.notes:
        print(note)
    estimator = None if params.estimator == "none" else load_estimator(params.estimator)
    device = torch.device(find_device(params.device))
    model = checkpoint.model.to(device)

    own, notes = fine_tuned_on(checkpoint, params.hdf_path, params.person_id)
    for note in notes:
        print(note)
    rows = choose_rows(params, checkpoint.info.get("trained_indices", ()) if own else ())
    data = hdf5.read_person(params.hdf_path, params.person_id, rows, model.image_size)
    data.samples.refuse_empty_masks(params.person_id)
    if own:
        references = own_references(checkpoint, data.samples)
    else:
        references = references_of(params.hdf_path, params.person_id, model.image_size)
    rendered, notes = matching_renderer(data)
    for note in notes:
        print(note)
    eval_set = EvalSet.prepare(model, data.samples, references, rendered)
    numbers = evaluate(model, eval_set, estimator.model.to(device) if estimator else None)

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
    """UserError where --output cannot be written, or is anything but an earlier result."""
    if params.output is None:
        return
    output = Path(params.output)
    read = {f"--{name}": getattr(params, name) for name in ("checkpoint", "base", "hdf_path", "estimator")}
    refuse_output(output, "--output", overwrite=True, inputs=read)
    if output.exists() and not (output.is_file() and begins_with(output, RESULT_BEGINS)):
        raise UserError(f"--output: {output} is no earlier result, and never replaced; give another name")


def begins_with(path: Path, text: str) -> bool:
    with open(path, "rb") as file:
        return file.read(len(text)) == text.encode()


def choose_rows(params: EvaluateParams, trained: Sequence[int]) -> list[int]:
    """The rows of the person's frames that are drawn, by default those not trained on. UserError when none is left."""
    total = hdf5.sample_count(params.hdf_path, params.person_id)
    rows = rows_left(total, () if params.frames == "all" else trained, params.num_eval_samples, params.seed)
    if not len(rows):
        raise UserError(f"{params.checkpoint} was trained on every frame of {params.person_id}; give --frames all")
    return rows.tolist()


def own_references(checkpoint: Checkpoint, samples: Samples) -> list[Reference]:
    """The frame that the model was fine-tuned with, and another for that frame itself."""
    own = checkpoint.reference
    if own is None:  # fine-tuned on a single frame
        return []
    others = [other for other in choose_references(samples) if not np.array_equal(other.image, own.image)]
    return [own, *others[:1]]


if __name__ == "__main__":
    sys.exit(main())
