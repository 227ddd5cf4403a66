"""The check that a command's output can be written and replaces nothing by accident."""

from collections.abc import Mapping
from pathlib import Path

from vaegaze.errors import UserError
from vaegaze.files import probe_folder


def refuse_output(
    output: Path, flag: str, *, overwrite: bool, inputs: Mapping[str, str | Path | None] | None = None
) -> None:
    """UserError if `output` exists and may not be replaced, or cannot be written.

    `inputs` are the files the command reads, by flag. They are never replaced.
    """
    for name, path in (inputs or {}).items():
        if path is not None and output.exists() and Path(path).exists() and output.samefile(path):
            raise UserError(f"{flag}: {output} is also the input {name}, which is never replaced; give another name")
    if output.is_dir():
        raise UserError(f"{flag}: {output} is a folder; give the path of a file")
    if output.exists() and not overwrite:
        raise UserError(f"{flag}: {output} exists; give --overwrite to replace it, or another name")
    try:
        probe_folder(output.parent)
    except OSError as error:
        raise UserError(f"{flag}: cannot write to {output.parent} ({error.strerror}); give another place") from error
