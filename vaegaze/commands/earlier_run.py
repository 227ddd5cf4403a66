"""Whether a command fits what an earlier run left in the folder."""

import shlex
from collections.abc import Iterable
from pathlib import Path

from vaegaze.config.finetune import Command, Config
from vaegaze.errors import UserError
from vaegaze.files import refuse_occupied
from vaegaze.runs.earlier import difference_words, differing_keys, is_finished
from vaegaze.runs.folder import RunFolder
from vaegaze.runs.resume import refuse_other_data


def already_finished(
    folder: RunFolder, config: Config, fingerprint: str, base_files: Iterable[str], command: Command
) -> bool:
    """True if nothing is left to do. UserError if the command does not fit what the earlier run left.

    A new run must not replace the `base_files`.
    """
    refuse_occupied(folder.path)
    finished, interrupted = any(path.exists() for path in folder.results("both")), folder.resume.exists()
    if command.resume:
        if not (finished or interrupted):
            raise UserError(f"--resume: {folder.path} holds no interrupted run; start without --resume")
        changed = differing_keys(config, folder, may_have_moved=True)  # fingerprints are compared below, or on loading
        if finished and not interrupted and [key for key, _, _ in changed] == ["oneshot_params.num_steps"]:
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
            folder.resume.unlink(missing_ok=True)  # left by a run that was killed right before it removed it
        return finished
    for path in base_files:
        meant = Path(path).resolve()
        if folder.path.resolve() in (meant, *meant.parents):
            raise UserError(
                f"checkpoint_path: {path} lies in {folder.path}, where this run would write; give another --save_dir"
            )
    if command.overwrite:
        return False
    if finished:
        raise UserError(f"{folder.path} holds a finished run; give --overwrite to replace it, or another --save_dir")
    if interrupted:
        raise UserError(
            f"{folder.path} holds an interrupted run; give --resume to continue, or --overwrite to start over"
        )
    folder.refuse_strangers()
    return False
