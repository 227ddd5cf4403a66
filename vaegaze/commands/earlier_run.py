"""Whether a command fits what an earlier run left in the folder."""

import shlex
from collections.abc import Iterable
from pathlib import Path

from vaegaze.config.finetune import Config
from vaegaze.errors import UserError
from vaegaze.files import refuse_occupied
from vaegaze.runs.earlier import difference_words, differing_keys, is_finished, stored_settings
from vaegaze.runs.folder import RunFolder
from vaegaze.runs.resume import refuse_other_data


def settings_to_resume(folder: RunFolder) -> Config:
    """The settings of the run that is to go on. UserError if there is none, or if it cannot."""
    refuse_occupied(folder.path)
    if not (folder.has_results() or folder.resume.exists()):
        raise UserError(f"--resume: {folder.path} holds no interrupted run; start without --resume")
    folder.refuse_folders()
    return stored_settings(folder)


def already_finished(folder: RunFolder, stored: Config, config: Config, fingerprint: str) -> bool:
    """Whether nothing of the run is left to do. UserError if `config` or the data are not the `stored` run's."""
    changed = differing_keys(stored, config, may_have_moved=True)  # fingerprints are compared below, or on loading
    only_steps = [key for key, _, _ in changed] == ["oneshot_params.num_steps"]
    if only_steps and folder.has_results() and not folder.resume.exists():
        _, steps, _ = changed[0]
        raise UserError(
            f"--resume: the run in {folder.path} is finished after {steps} steps, and what it would need to go on "
            f"was removed; train its result further as a new run: --checkpoint_path "
            f"{shlex.quote(str(folder.results(config.oneshot_params.save)[-1]))}, with another --save_dir and the "
            "steps to add as --num_steps"
        )
    if changed:
        raise UserError(
            f"--resume: the run in {folder.path} had other settings: {difference_words(changed)}; give those, or "
            "start over with --overwrite"
        )
    finished = is_finished(folder, config.oneshot_params.save)
    if finished:
        refuse_other_data(folder.path, folder.stored_fingerprint(), fingerprint)
    return finished


def refuse_new_run(folder: RunFolder, base_files: Iterable[str], *, overwrite: bool) -> None:
    """UserError if a new run would replace an earlier one without --overwrite, or any of the `base_files`."""
    refuse_occupied(folder.path)
    for path in base_files:
        meant = Path(path).resolve()
        if folder.path.resolve() in (meant, *meant.parents):
            raise UserError(
                f"checkpoint_path: {path} lies in {folder.path}, where this run would write; give another --save_dir"
            )
    folder.refuse_folders()
    if overwrite:
        return
    if folder.has_results():
        raise UserError(f"{folder.path} holds a finished run; give --overwrite to replace it, or another --save_dir")
    if folder.resume.exists():
        raise UserError(
            f"{folder.path} holds an interrupted run; give --resume to continue, or --overwrite to start over"
        )
    folder.refuse_strangers()
