"""The command line: `vaegaze COMMAND`, or `python -m vaegaze COMMAND`.

What takes a moment to import is imported where Ctrl-C already ends the command in a line, see `in_a_line`.
"""

import os
import sys
from collections.abc import Callable
from types import ModuleType

COMMANDS = {
    "train": "fine-tune a model on one person",
    "train_all": "fine-tune a model on each person of a data set",
    "check": "check a set-up before training",
    "redirect": "make a photo, a video or a data set's frame look elsewhere",
    "demo_page": "try it in the browser",
    "compare": "compare a redirected video with its source",
    "evaluate": "measure a model on one person's frames",
    "prepare": "make a data file from your own frames and labels",
    "inspect": "see how a data file is read",
    "pretrain": "train a base model",
    "benchmark": "measure fine-tuning with k images of a person",
    "convert": "bring published weights in, or a model's weights out",
    "render": "render a data set of procedural persons",
    "train_estimator": "train the gaze estimator that judges pictures",
}


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        return in_a_line(lambda run_command: run_command(list_commands))
    name, *flags = argv
    if name not in COMMANDS:
        return in_a_line(lambda run_command: run_command(lambda: refuse_command(name)))
    return run_named(name, flags)


def run_named(name: str, flags: list[str] | None = None, **options: str) -> int:
    """A command's `main`, from its import on; without flags, those that were typed."""

    def run(run_command: Callable) -> int:
        found = []
        code = run_command(lambda: found.append(loaded(name)))
        return code or found[0].main(flags, **options)

    return in_a_line(run)


def in_a_line(run: Callable[[Callable], int]) -> int:
    """`run(run_command)`. Ctrl-C ends it in a line from here on: `run_command` itself takes a moment to import."""
    try:
        from vaegaze.commands.running import run_command

        return run(run_command)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


def loaded(name: str) -> ModuleType:
    """A command's module, and PyTorch with it. UserError where the working folder is gone, which its libraries need."""
    from importlib import import_module

    from vaegaze.errors import UserError

    try:
        os.getcwd()
    except FileNotFoundError as error:
        raise UserError("the working folder was deleted; change to another") from error
    return import_module(f"vaegaze.commands.{name}")


def list_commands() -> None:
    print("usage: vaegaze COMMAND [flags]\n")
    print("\n".join(f"  {name:16} {text}" for name, text in COMMANDS.items()))
    print("\n`vaegaze COMMAND --help` lists a command's flags.")


def refuse_command(name: str) -> None:
    import difflib

    from vaegaze.errors import UserError

    close = difflib.get_close_matches(name, COMMANDS, 1)
    hint = f"did you mean {close[0]}?" if close else "`vaegaze` alone lists the commands"
    raise UserError(f"{name!r} is not a command; {hint}")


if __name__ == "__main__":
    sys.exit(main())
