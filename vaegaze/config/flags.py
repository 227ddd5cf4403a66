"""The command line of a tree of settings: one flag per setting, and each mistake as a one-line UserError."""

import argparse
import difflib
import json
import os
import re
import sys
from collections.abc import Sequence
from typing import Any

from vaegaze.config.schema import json_schema
from vaegaze.config.tree import Resolved, Setting, flag_names, resolve, sections_of, settings_of, show, value_at
from vaegaze.errors import UserError
from vaegaze.files import shipped_path


class FlagParser(argparse.ArgumentParser):
    """argparse that raises UserError, reads -2e-1 as a number, and does not accept --num for --num_steps."""

    # Python before 3.14 takes -2e-1 for a flag, and every version takes -0.1,0;0,0 for one. Prefixed with a character
    # that no argument can hold, they are values.
    _MARK = "\0"

    def __init__(self, **kwargs):
        super().__init__(allow_abbrev=False, usage="%(prog)s [flags]", **kwargs)

    def error(self, message: str):
        raise UserError(message.replace(self._MARK, "").removeprefix("argument "))

    def read(self, argv: Sequence[str] | None = None) -> tuple[dict[str, Any], list[str]]:
        """The parsed arguments by name, and a message about each unknown one."""
        argv = sys.argv[1:] if argv is None else argv
        number = re.compile(r"-(\d+\.?\d*|\.\d+)(e[+-]?\d+)?([,;].*)?", re.IGNORECASE)  # or a list of them
        typed, unknown = self.parse_known_args([self._MARK + a if number.fullmatch(a) else a for a in argv])
        values = {name: self._unmark(value) for name, value in vars(typed).items()}
        return values, [self._advice(word) for word in self._flags_or_all(self._unmark(unknown))]

    def _unmark(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._unmark(element) for element in value]
        if not isinstance(value, str):
            return value
        value = value.removeprefix(self._MARK)
        return os.path.expanduser(value) if value.startswith("~/") else value  # which a shell leaves in --output=~/x

    @staticmethod
    def _flags_or_all(words: list[str]) -> list[str]:
        """Only the flags, if there are any: the other words are most likely their values."""
        return [word for word in words if word.startswith("-")] or words

    def _advice(self, word: str) -> str:
        if not word.startswith("-"):
            return f"unexpected argument {word!r}; see --help"
        flag = word.partition("=")[0]
        close = difflib.get_close_matches(flag, re.findall(r"--[\w-]+", self.format_help()), 1)
        return f"{flag}: unknown flag; " + (f"did you mean {close[0]}?" if close else "see --help")


def add_flags(parser: argparse.ArgumentParser, defaults: Any) -> None:
    """Adds one flag per setting and one group per section; flags not typed are absent from the parsed arguments.

    `defaults` is an instance of the tree, with the values that apply if nothing is typed.
    """
    tree = type(defaults)
    for section, kind in sections_of(tree).items():
        settings = [setting for setting in settings_of(tree).values() if setting.section == section and setting.flag]
        group = parser.add_argument_group(section, kind.__doc__) if settings else None
        for setting in settings:
            words = _argparse_words(setting, value_at(defaults, setting.key))
            group.add_argument(setting.flag, default=argparse.SUPPRESS, **words)
            if degrees := setting.in_degrees:
                group.add_argument(degrees.flag, default=argparse.SUPPRESS, **_argparse_words(degrees, None))


def _argparse_words(setting: Setting, default: Any) -> dict[str, Any]:
    facts = [] if setting.kind is bool or setting.legal == "text" else [setting.legal]
    facts += [] if default is None else [f"default: {_typed(default)}"]
    text = setting.rules["help"] + (f" ({'; '.join(facts)})" if facts else "")
    words: dict[str, Any] = {"help": text.replace("%", "%%")}
    if setting.kind is bool:
        return words | {"action": argparse.BooleanOptionalAction}
    words["metavar"] = setting.rules["metavar"] or {int: "N", float: "X", str: "TEXT"}[setting.kind]
    if setting.count is not None:
        words["nargs"] = "+" if setting.rules["null"] else setting.count or "+"
    return words | ({"action": _Once} if setting.count == 0 or setting.rules["once"] else {})


def read_command(
    parser: FlagParser, tree: type, argv: Sequence[str] | None = None, *, recipe: str | None = None
) -> tuple[Resolved, dict[str, Any]]:
    """Adds --config, --schema and the tree's flags to the parser, reads the command line and resolves the settings.

    Also returns the values of the arguments that the parser had before. `recipe` is the YAML file that is read unless
    --config names another.
    """
    otherwise = f" (default: {recipe})" if recipe else ""
    parser.add_argument(
        "--config",
        action=_Once,
        metavar="FILE",
        default=recipe,
        help=f"YAML file of settings; flags override it{otherwise}",
    )
    parser.add_argument("--schema", action=_PrintSchema, tree=tree, help="print the file's JSON schema, for editors")
    add_flags(parser, resolve(tree, recipe).config if recipe and shipped_path(recipe).is_file() else tree())
    typed, problems = parser.read(argv)
    path = typed.pop("config")
    flags = {name: typed.pop(name) for name in list(typed) if name in flag_names(tree)}
    return resolve(tree, path, flags, problems), typed


class _Once(argparse.Action):
    """A flag of which a second one is refused: whoever gives two means both, and argparse would take the last."""

    given = False

    def __call__(self, parser, namespace, values, option_string=None):
        if self.given:
            several = f"give all values after one {option_string}" if self.nargs else f"give one {option_string}"
            raise argparse.ArgumentError(self, f"given twice; {several}")
        self.given = True
        setattr(namespace, self.dest, values)


class _PrintSchema(argparse.Action):
    """Prints and exits, as --help does."""

    def __init__(self, option_strings, dest, *, tree, **kwargs):
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, default=argparse.SUPPRESS, **kwargs)
        self.tree = tree

    def __call__(self, parser, namespace, values, option_string=None):
        print(json.dumps(json_schema(self.tree, title=f"{parser.prog} --config"), indent=2, ensure_ascii=False))
        parser.exit()


def _typed(value: Any) -> str:
    """A value as it would be typed after its flag."""
    if isinstance(value, list | tuple):
        return " ".join(map(_typed, value))
    return value if isinstance(value, str) else show(value)
