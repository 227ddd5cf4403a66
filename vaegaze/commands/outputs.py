"""The check that a command's output can be written and replaces nothing by accident."""

from collections.abc import Mapping
from pathlib import Path

from vaegaze.config.tree import has_comments
from vaegaze.errors import UserError
from vaegaze.files import as_bytes, probe_folder, read_text


def refuse_output(
    output: Path,
    flag: str,
    *,
    overwrite: bool = False,
    earlier: str | None = None,
    inputs: Mapping[str, str | Path | None] | None = None,
) -> None:
    """UserError if `output` exists and may not be replaced, or cannot be written.

    `earlier` is how a result of the same command begins, which is replaced unasked; any other file never is. `inputs`
    are the files the command reads, by flag. They are never replaced. Of a link, the link itself is what is replaced.
    """
    for name, path in (inputs or {}).items():
        if path is not None and output.exists() and Path(path).exists() and output.samefile(path):
            raise UserError(f"{flag}: {output} is also the input {name}, which is never replaced; give another name")
    if output.is_dir():
        raise UserError(f"{flag}: {output} is a folder; give the path of a file")
    if output.exists() and (not output.is_file() or output.parent == Path("/dev")):  # a device, a pipe
        raise UserError(f"{flag}: {output} is no plain file, and is never replaced; give another name")
    there = output.exists() or output.is_symlink()  # to a disk that is away, perhaps
    if there and earlier is not None:
        if not (output.is_file() and begins_with(output, earlier)):
            raise UserError(
                f"{flag}: {output} exists and is not an earlier result, so it is not replaced; give another name"
            )
    elif there and not overwrite:
        raise UserError(f"{flag}: {output} exists; give --overwrite to replace it, or another name")
    try:
        probe_folder(output.parent)
    except OSError as error:
        raise UserError(f"{flag}: cannot write to {output.parent} ({error.strerror}); give another place") from error


def refuse_own_settings(read: str | None, written: Path) -> None:
    """UserError if the settings file that was read would be replaced by the run's own, and loses comments by it."""
    same = read is not None and written.is_file() and Path(read).exists() and written.samefile(read)
    if same and has_comments(read_text(written)):
        raise UserError(
            f"--config: {written} is where the run writes all its settings, without your comments; give yours another "
            "name"
        )


def begins_with(path: Path, text: str) -> bool:
    with open(path, "rb") as file:
        return file.read(len(as_bytes(text))) == as_bytes(text)


def refuse_model_output(
    output: Path, flag: str, *, overwrite: bool, inputs: Mapping[str, str | Path | None] | None = None
) -> None:
    """`refuse_output` for a model and the page about it, which is written beside it."""
    refuse_model_name(output, flag)
    page = output.with_suffix(".md")
    if page == output:
        raise UserError(f"{flag}: {output} would be the page beside the model; give a name that ends in .pth")
    refuse_output(output, flag, overwrite=overwrite, inputs=inputs)
    refuse_output(page, flag, earlier=f"# {output.name}\n", inputs=inputs)


def refuse_model_name(output: Path, flag: str) -> None:
    """UserError, before the work, for a name that a model cannot be written to."""
    from vaegaze.models.tensor_files import refuse_name  # and PyTorch with it

    try:
        refuse_name(output)
    except UserError as error:
        raise UserError(f"{flag}: {error}") from None
