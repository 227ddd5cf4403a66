"""Fine-tune a face model on each person of a data set, one after the other or many at once, and sum up."""

import shlex
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from time import monotonic

from vaegaze.commands.engines import chosen_engine, run_here, run_on_ray, threads_words
from vaegaze.commands.running import run_with_settings
from vaegaze.config.cohort import CohortConfig, CohortParams
from vaegaze.config.finetune import ADVICE, Config
from vaegaze.config.tree import Resolved, explained, settings_of
from vaegaze.errors import UserError, plain
from vaegaze.files import occupied, refuse_occupied, write_text
from vaegaze.runs.folder import check_writable

SOME_FAILED = 3


def main(argv: list[str] | None = None) -> int:
    words = sys.argv[1:] if argv is None else argv
    return run_with_settings(
        CohortConfig,
        lambda resolved, **switches: run(resolved, words, **switches),
        words,
        prog="vaegaze train_all",
        description="Fine-tune a face model on each person of a data set.",
        switches=[("--overwrite", "start over, also for people whose run is finished or interrupted")],
        hint="the same command, without --overwrite, goes on",
        less_memory="give --gradient_checkpointing, or fewer persons at once",
        advice={
            **ADVICE,
            "address": "start one with `ray start --head`, or leave --address out",
            "places": "give fewer --cpus_per_person or --gpus_per_person",
            "persons": "`vaegaze inspect PATH` lists the persons",
            "slurm": "its parameters go under cohort_params: slurm: in the settings file; --device cpu asks for no GPU",
            "other_settings": "--overwrite starts over, or give another --save_dir",
            "letter_case": "give each a --save_dir of its own, with --persons",
        },
    )


def run(resolved: Resolved, words: Sequence[str], *, overwrite: bool) -> int:
    save_dir = Path(resolved.config.oneshot_params.save_dir)
    check_writable(save_dir)
    with occupied(save_dir):
        return run_persons(resolved, words, overwrite=overwrite)


def run_persons(resolved: Resolved, words: Sequence[str], *, overwrite: bool) -> int:
    """The exit code: 0, or 3 if a person failed. UserError if nothing could start, Interrupted after a signal."""
    cohort = resolved.config.cohort_params
    engine = chosen_engine(cohort.engine, cohort.address, resolved.config.oneshot_params.device)
    # These import torch, which mistakes above need not wait for.
    from vaegaze.commands.progress import StopSignals
    from vaegaze.commands.train_run import name_base
    from vaegaze.models.estimator import load_estimator
    from vaegaze.report.cohort import CohortReport, page
    from vaegaze.runs.cohort import FAILED, FINISHED, CohortFiles, Work, finished_record
    from vaegaze.runs.folder import RunFolder
    from vaegaze.runs.one_person import load_base
    from vaegaze.runs.person_list import persons_to_run, refuse_shared_folders
    from vaegaze.runs.worker import SharedBase

    params = resolved.config.oneshot_params
    person_ids = persons_to_run(params.gazecapture_params.hdf_path, cohort)
    refuse_shared_folders(person_ids, Path(params.save_dir))
    files, base = CohortFiles(params.save_dir, person_ids), None
    if overwrite:
        base = load_base(params)
        clear_folders(
            [RunFolder(params.save_dir, each) for each in person_ids], (params.checkpoint_path, base.base.path)
        )
    job = make_job(resolved, cohort)

    def from_folders() -> list:
        """Records of those who have none yet."""
        missing = [person_id for person_id in person_ids if person_id not in files.records]
        return list(filter(None, (finished_record(job.settings_of(person_id), person_id) for person_id in missing)))

    known = from_folders()
    refused = [record for record in known if record.status == FAILED]
    if len(refused) == len(person_ids):  # before the lines of what they had are lost
        reasons = in_groups(refused)
        more = [f"{len(reasons) - 3} more reasons"] if len(reasons) > 3 else []
        raise UserError("; ".join(reasons[:3] + more), about="other_settings")
    files.add(*known)
    left = [person_id for person_id in person_ids if person_id not in files.records]
    done = files.count(FINISHED)
    print(f"👥 {len(person_ids)} persons" + (f", {done} of them finished already" if done else ""))
    for line in in_groups(refused):
        print(f"⚠️ {line}", file=sys.stderr)

    stop = StopSignals()
    if left:
        base = base or load_base(params)
        name_base(base, params.checkpoint_path)
        if params.estimator != "none":
            load_estimator(params.estimator)  # or it is refused, before any worker starts
        if params.precision == "bf16":
            warn_of_emulation(engine, cohort, params.device)
        with CohortProgress(len(person_ids), len(files.records)) as progress:

            def on_record(record) -> None:
                files.add(record)
                progress.ended(record, len(work.running), files.count(FAILED))

            def show() -> None:
                files.write_if_due()
                progress.show(len(work.running), files.count(FAILED))

            work = Work(left, cohort.retries, on_record)
            try:
                start_engine(
                    engine,
                    cohort,
                    job,
                    SharedBase.of(base),
                    work,
                    on_change=show,
                    should_stop=lambda: stop.received is not None,
                )
            finally:
                files.add(*from_folders())  # who has ended since the engine last listened
                if files.records:
                    files.write()
    files.write()
    command = shlex.join(["vaegaze", "train_all", *(word for word in words if word != "--overwrite")])
    report = CohortReport(
        records=[asdict(record) for record in files.in_order()],
        total=len(person_ids),
        folder_of=lambda person_id: RunFolder(params.save_dir, person_id).path,
        settings=explained(resolved),
        command=command,
    )
    write_text(files.page, page(report))
    failed = files.count(FAILED)
    for path in (files.csv, files.jsonl, files.page):
        print(f"✅ {path}")
    print(f"📊 {len(files.records) - failed} of {len(person_ids)} persons finished, {failed} failed")
    stop.check()
    return SOME_FAILED if failed else 0


def in_groups(records: Iterable) -> list[str]:
    """A line for each reason that failures have."""
    groups = defaultdict(list)
    for record in records:
        groups[record.reason].append(record.id)
    return [
        plain(ids[0]) + (f" and {len(ids) - 1} more" if len(ids) > 1 else "") + f": {reason}"
        for reason, ids in groups.items()
    ]


def make_job(resolved: Resolved, cohort: CohortParams):
    """What all workers share, with the settings of a run alone."""
    from vaegaze.runs.worker import Job

    origins = {key: resolved.origins[key] for key in settings_of(Config)}
    of_a_run = replace(resolved, config=resolved.config.of_a_run, origins=origins)
    return Job(of_a_run, cohort.cpus_per_person, str(Path.cwd()))


def clear_folders(folders: Sequence, base_files: Sequence[str]) -> None:
    """Remove earlier results. UserError if a base model is among them."""
    for path in base_files:
        meant = Path(path).resolve()
        for folder in folders:
            if folder.path.resolve() in (meant, *meant.parents):
                raise UserError(f"checkpoint_path: {path} lies in {folder.path}, which --overwrite would clear")
    for folder in folders:
        refuse_occupied(folder.path)
        folder.refuse_folders()
    for folder in folders:
        folder.clear()


def start_engine(engine: str, cohort: CohortParams, job, base, work, **callbacks: Callable) -> None:
    """Run the persons. UserError if nothing could start."""
    device = job.resolved.config.oneshot_params.device
    if engine == "none":
        run_here(job, base, work, **callbacks)
    elif engine == "slurm":
        from vaegaze.runs.engines import on_slurm

        print(f"⚙️ SLURM: {cohort.jobs} jobs at once, of {cohort.persons_per_job} persons; {threads_words(job)}")
        on_slurm.run_all(job, work, cohort, **callbacks)
    else:
        gpus = cohort.gpus_per_person
        run_on_ray(job, base, work, address=cohort.address, device=device, gpus=gpus, **callbacks)


def warn_of_emulation(engine: str, cohort: CohortParams, device: str) -> None:
    """Warn once that this machine emulates bf16; others cannot be asked.

    With Ray its GPUs are not tried either, because this process would take memory of them.
    """
    from vaegaze.commands.precision import warn_if_emulated
    from vaegaze.models.device import find_device

    if engine == "none":
        warn_if_emulated("bf16", find_device(device))
    elif engine == "ray" and cohort.address is None and (device == "cpu" or find_device("auto") == "cpu"):
        warn_if_emulated("bf16", "cpu")


class CohortProgress:
    """Persons done, failed and running, and the time left: a bar in a terminal, elsewhere a line for each person."""

    def __init__(self, total: int, done: int):
        self.total, self.done, self.done_before = total, done, done
        self.started = monotonic()
        self.bar = None

    def __enter__(self) -> "CohortProgress":
        if sys.stderr.isatty():
            from vaegaze.commands.progress import progress_bar

            self.bar = progress_bar("persons", self.total, initial=self.done, unit="person")
        return self

    def __exit__(self, *error) -> None:
        if self.bar is not None:
            self.bar.close()

    def show(self, running: int, failed: int) -> None:
        if self.bar is not None:
            self.bar.set_postfix(failed=failed, running=running)

    def ended(self, record, running: int, failed: int) -> None:
        self.done += 1
        if self.bar is not None:
            self.bar.update()
            self.show(running, failed)
            if record.status == "failed":
                self.bar.write(f"{plain(record.id)}: {record.reason}", file=sys.stderr)
            return
        from vaegaze.report.formatting import duration

        elapsed, to_do = monotonic() - self.started, self.total - self.done
        left = f", about {duration(elapsed / (self.done - self.done_before) * to_do)} left" if to_do else ""
        what = record.reason or f"{record.status}, {duration(record.seconds)}"
        print(
            f"{plain(record.id)}: {what} · {self.done} of {self.total} done, {failed} failed, {running} running{left}",
            file=sys.stderr,
        )


if __name__ == "__main__":
    sys.exit(main())
