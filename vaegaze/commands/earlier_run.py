"""What an earlier run left in the folder, and whether a command fits it."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from vaegaze.config.finetune import Command, Config
from vaegaze.config.tree import resolve, settings_of, value_at
from vaegaze.errors import UserError
from vaegaze.runs.folder import RunFolder
from vaegaze.runs.resume import refuse_other_data


def adopt_stored_choices(config: Config, folder: RunFolder) -> Config:
    """On resume, `auto` means what the interrupted run chose; it is never chosen anew."""
    if not folder.config.is_file():
        return config
    stored, params = resolve(Config, str(folder.config)).config.oneshot_params, config.oneshot_params
    auto = {name: getattr(stored, name) for name in ("device", "precision") if getattr(params, name) == "auto"}
    return replace(config, oneshot_params=replace(params, **auto))


def already_finished(
    folder: RunFolder, config: Config, fingerprint: str, base_files: Iterable[str], command: Command
) -> bool:
    """True if nothing is left to do. UserError if the command does not fit what the earlier run left.

    A new run must not replace the `base_files`.
    """
    finished, interrupted = any(path.exists() for path in folder.results("both")), folder.resume.exists()
    if command.resume:
        if not (finished or interrupted):
            raise UserError(f"--resume: {folder.path} holds no interrupted run; start without --resume")
        changed = differing_keys(config, folder)
        if changed:
            raise UserError(f"--resume: the run in {folder.path} had other settings: {'; '.join(changed)}")
        finished = all(path.exists() for path in folder.results(config.oneshot_params.save))
        if finished:
            refuse_other_data(folder.path, folder.stored_fingerprint(), fingerprint)
        return finished
    for path in base_files:
        if folder.path.resolve() in Path(path).resolve().parents:
            raise UserError(
                f"checkpoint_path: {path} lies in {folder.path}, where this run would write; give another --save_dir"
            )
    if command.overwrite:
        return False
    if finished:
        raise UserError(f"{folder.path} holds a finished run; give --overwrite to replace it, or another --save_dir")
    if interrupted:
        raise UserError(f"{folder.path} holds an interrupted run; give --resume to go on, or --overwrite to start anew")
    return False


def differing_keys(config: Config, folder: RunFolder) -> list[str]:
    """Each setting in which the stored run differs, with both values.

    Three may differ: the folder may have moved, and so may an adapter's base, whose weights the fingerprint covers; and
    gradient checkpointing changes no result, but may be what a run that ran out of memory needs.
    """
    free = {f"oneshot_params.{name}" for name in ("save_dir", "base", "gradient_checkpointing")}
    stored = resolve(Config, str(folder.config)).config
    return [
        f"{key} was {value_at(stored, key)!r}, now {value_at(config, key)!r}"
        for key in settings_of(Config)
        if key not in free and value_at(stored, key) != value_at(config, key)
    ]
