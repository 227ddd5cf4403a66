"""Measures how much k images of one person improve the model: `vaegaze benchmark`.

Fine-tunes the base model on k images of rendered test persons and redraws held-out frames of each with other gazes. The
results are pasted into frames of 512 px by the code that pastes a user's picture, and judged there against the true
pictures, beside the numbers on the model's own canvas. The full grid also compares strategies and seeds, and on val
persons changes one setting at a time, so that no setting is chosen on the test persons. Every finished cell is kept:
interrupt the command and run it again at will. At the end it writes the tables into docs/.
"""

import hashlib
import json
import sys
from collections.abc import Collection
from dataclasses import asdict, replace
from pathlib import Path

from vaegaze.commands.engines import chosen_engine, run_here, run_on_ray
from vaegaze.commands.outputs import refuse_output
from vaegaze.commands.precision import warn_if_emulated
from vaegaze.commands.progress import StopSignals, progress_bar
from vaegaze.commands.running import run_with_settings
from vaegaze.config import shared
from vaegaze.config.benchmark import PAGE, POOL, BenchmarkConfig, BenchmarkParams
from vaegaze.errors import UserError
from vaegaze.evaluation.benchmark_grid import Task, grid
from vaegaze.faces import networks
from vaegaze.files import occupied, read_text, shipped_path, write_text
from vaegaze.models.checkpoint import file_meant, load_checkpoint
from vaegaze.models.device import find_device, find_precision
from vaegaze.models.estimator import load_estimator
from vaegaze.report.benchmark import Cell, pictures_beside, write_report, written
from vaegaze.runs.cells import CellJob, CellRecord
from vaegaze.runs.cohort import FAILED, Record, Work
from vaegaze.runs.folder import check_writable

# Of a Zen 3 core, for the forecast: a picture rendered, one drawn and judged, and a step in float32.
RENDERED_SEC, JUDGED_SEC, STEP_SEC = 0.12, 0.35, 0.5


def main(argv: list[str] | None = None) -> int:
    return run_with_settings(
        BenchmarkConfig,
        lambda resolved, **switches: run(resolved.config.benchmark_params, **switches),
        argv,
        prog="vaegaze benchmark",
        description="Measure how much k images of one person improve the model.",
        switches=[("--overwrite", "discard cells made with other settings and start over")],
        hint="run it again to continue",
        advice=shared.advice("checkpoint_path", "estimator", "device", diverged="give a lower --learning_rate")
        | {
            "address": "start one with `ray start --head`, or leave --address out",
            "save_dir": "give another --work_dir",
        },
    )


def run(params: BenchmarkParams, *, overwrite: bool) -> None:
    check_writable(Path(params.work_dir))
    with occupied(Path(params.work_dir)):
        run_grid(params, overwrite=overwrite)


def run_grid(params: BenchmarkParams, *, overwrite: bool) -> None:
    work_dir = Path(params.work_dir)
    if params.output is None:
        default = (params.grid, params.persons, params.k) == ("default", None, None)
        params = replace(params, output=PAGE if default else str(work_dir / "benchmark.md"))
    if Path(params.output).suffix.lower() == ".json":
        raise UserError(f"--output: {params.output} would be the numbers beside the page; give a name that ends in .md")
    inputs = {"--checkpoint_path": params.checkpoint_path, "--estimator": params.estimator}
    for output, begins in written(Path(params.output)):
        refuse_output(output, "--output", earlier=begins, inputs=inputs)
    if not any(output.exists() for output, _ in written(Path(params.output))):
        for picture in filter(Path.exists, pictures_beside(Path(params.output))):
            raise UserError(f"--output: {picture} exists, and no page tells that it is ours; give another name")
    estimator = load_estimator(params.estimator)
    load_checkpoint(params.checkpoint_path)  # or it is refused, before cells of another are discarded
    name = find_device(params.device)
    params = replace(params, device=name, precision=find_precision(params.precision, name))
    warn_if_emulated(params.precision, name)
    engine = chosen_engine(params.engine, params.address, params.device)
    tasks = grid(params.grid, params.seed, params.persons, params.k)
    cells = finished_cells(work_dir, params, overwrite=overwrite)
    missing = {task.name: task for task in tasks if task.name not in cells}
    if missing:
        measure_cells(params, engine, missing, cells, len(tasks))
    ordered = [cells[task.name] for task in tasks]
    write_report(Path(params.output), ordered, asdict(params), estimator.info, work_dir / "pictures")
    print(f"✅ {params.output}")


def measure_cells(
    params: BenchmarkParams, engine: str, missing: dict[str, Task], cells: dict[str, Cell], total: int
) -> None:
    """Adds the missing cells to `cells` and to the work folder. UserError for the first that fails."""
    print(forecast(params, engine, missing.values(), total), file=sys.stderr)
    stop, failed = StopSignals(), []
    job = CellJob(params, missing, str(Path.cwd()))
    with progress_bar("benchmark", total, initial=total - len(missing)) as bar:

        def on_record(record: CellRecord | Record) -> None:
            if record.status == FAILED:
                failed.append(record)
                return
            cells[record.id] = record.cell
            content = json.dumps({name: asdict(cell) for name, cell in cells.items()}, indent=1)
            write_text(Path(params.work_dir) / "cells.json", content)
            bar.update()

        work = Work(missing, 0, on_record, lambda name: (missing[name].split, missing[name].person))
        callbacks = {"should_stop": lambda: stop.received is not None or bool(failed)}
        if engine == "none":
            run_here(job, None, work, **callbacks)
        else:
            where = {"address": params.address, "device": params.device, "cpus": params.workers}
            run_on_ray(job, None, work, gpus=1 / params.workers, **where, **callbacks)
    stop.check()
    for record in failed:
        raise getattr(record, "error", None) or UserError(f"{record.id}: {record.reason}")


def forecast(params: BenchmarkParams, engine: str, missing: Collection[Task], total: int) -> str:
    """What is left to do, and about how long that takes."""
    persons = len({(task.split, task.person) for task in missing})
    steps = sum({"num_steps": params.num_steps, **dict(task.changed)}["num_steps"] for task in missing if task.k)
    pictures = params.held_out * (1 + params.gazes)  # of a person and of a cell
    rendered, judged = persons * (pictures + POOL), len(missing) * pictures
    at_once = params.workers if engine == "ray" else 1
    seconds = (rendered * RENDERED_SEC + judged * JUDGED_SEC + steps * STEP_SEC) / at_once
    counts = f"{persons} persons, {steps:,} steps, {judged:,} pictures to judge"
    minutes = max(1, round(seconds / 60))
    side_by_side = f", {at_once} cells at once" if at_once > 1 else ""
    return f"⏳ {len(missing)} of {total} cells: {counts}: about {minutes:,} min on a CPU{side_by_side}"


def finished_cells(work_dir: Path, params: BenchmarkParams, *, overwrite: bool) -> dict[str, Cell]:
    """Cells from an earlier run. UserError if its settings or files differ from these."""
    settings = {
        name: value
        for name, value in asdict(params).items()
        if name not in ("work_dir", "output", "grid", "persons", "k", "engine", "workers", "address")
    }
    # How pasting puts irises back, and what it takes off a drawing: cells of another way are not mixed with these.
    settings["own_irises"] = "from where they look" if networks.installed() else None
    settings["own_error"] = "where the frame looks"
    for name in ("checkpoint_path", "estimator"):
        settings[name] = hashlib.sha256(shipped_path(file_meant(settings[name])).read_bytes()).hexdigest()
    stored, cells = work_dir / "settings.json", work_dir / "cells.json"
    if cells.exists() and not stored.exists() and not overwrite:
        raise UserError(f"{cells} is of unknown settings; give --overwrite to replace it, or another --work_dir")
    if overwrite or not stored.exists():
        cells.unlink(missing_ok=True)  # before the settings: a kill in between must not leave cells of other settings
        write_text(stored, json.dumps(settings, indent=1))
    try:
        if json.loads(read_text(stored)) != settings:
            raise UserError(f"{work_dir} was made with other settings; give --overwrite, or another --work_dir")
        known = json.loads(read_text(cells)) if cells.exists() else {}
        return {name: Cell(**cell) for name, cell in known.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{work_dir} holds damaged cells ({error}); give --overwrite, or another --work_dir") from error


if __name__ == "__main__":
    sys.exit(main())
