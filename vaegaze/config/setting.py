"""One setting of a tree: how it is declared, and how what a user wrote becomes its value."""

import dataclasses
import difflib
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vaegaze.config.strict_yaml import Word

NO_NUMBER = r"[+-]?0+_"  # Python reads 0_1 as 1; who writes it may mean 0.1
MAX_WHOLE = 10**12  # of a whole number: far more than anybody means, and less than a library takes


def option(
    default: Any,
    *,
    help: str,
    choices: tuple[str, ...] = (),
    pattern: str | None = None,
    legal: str | None = None,
    low: float | None = None,
    above: float | None = None,
    high: float | None = None,
    unit: str = "",
    metavar: str | tuple[str, ...] | None = None,
    flag: bool = True,
    null: str | None = None,
    once: bool = False,
) -> Any:
    """One setting: what it is for, and its legal values, which apply to each element of a pair or list.

    `low` and `high` are inclusive, `above` is exclusive. `pattern` is a regular expression for the whole text; `legal`
    describes the legal values if the other rules cannot. `flag=False`: the setting is read from the file only. `null`
    is the word for null after a flag that takes several values. `once`: a second flag of the name is refused, as it is
    for lists.
    """
    legal_values = {"choices": choices, "pattern": pattern, "legal": legal, "low": low, "above": above, "high": high}
    metadata = {
        **legal_values,
        "unit": unit,
        "help": help,
        "metavar": metavar,
        "flag": flag,
        "null": null,
        "once": once,
    }
    if isinstance(default, dict):
        return dataclasses.field(default_factory=default.copy, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Setting:
    """A leaf of the tree."""

    key: str  # in full: "loss_params.l1_loss"
    kind: type  # bool, int, float, str or dict; in a pair or list, of each element
    count: int | None  # None for a single value, 0 for a list of any length, otherwise the length
    nullable: bool
    default: Any
    rules: Mapping[str, Any]  # the arguments of `option`

    @property
    def name(self) -> str:
        return self.key.rpartition(".")[2]

    @property
    def section(self) -> str:
        return self.key.rpartition(".")[0]

    @property
    def flag(self) -> str | None:
        return f"--{self.name}" if self.rules["flag"] and self.kind is not dict else None

    @property
    def in_degrees(self) -> "Setting | None":
        """An angle under the name that takes degrees; None for anything else."""
        if self.rules["unit"] != "rad":
            return None
        limits = {rule: math.degrees(self.rules[rule]) for rule in ("low", "above", "high") if self.rules[rule]}
        rules = {**self.rules, **limits, "unit": "degrees", "help": f"{self.name} in degrees"}
        return replace(self, key=f"{self.key}_deg", default=None, rules=rules)

    @property
    def legal(self) -> str:
        """The legal values in words, except null."""
        kinds = {bool: "true | false", int: "whole number", float: "number", str: "text", dict: "mapping"}
        words = self.rules["legal"] or " | ".join(self.rules["choices"]) or kinds[self.kind]
        limits = [(sign, self.rules[rule]) for rule, sign in (("low", ">="), ("above", ">"), ("high", "<="))]
        limits = [f"{sign} {round(limit, 4):.10g}" for sign, limit in limits if limit is not None]
        several = "" if self.count is None else f"list of {self.count}, each a " if self.count else "list of "
        return several + " ".join(filter(None, [words, " and ".join(limits), self.rules["unit"]]))


@dataclass(frozen=True)
class Given:
    """A value as the user wrote it: `Word`s from a file, text or a bool from a flag, in lists if there are several."""

    value: Any
    place: str  # how a message about it begins
    origin: str
    in_degrees: bool = False


def convert(setting: Setting, given: Given) -> Any:
    """The value as its type; ValueError says what was given and what is legal."""
    if given.in_degrees:
        values = convert(setting.in_degrees, replace(given, in_degrees=False))
        return values if values is None else tuple(map(math.radians, values))
    if setting.nullable and (is_null(given.value) or given.value == [setting.rules["null"]]):
        return None
    try:
        elements = _elements(setting, given.value)
        if setting.rules["pattern"]:  # of text that may be a number: from Python it may come as one
            elements = [f"{each:g}" if type(each) in (int, float) else each for each in elements]
        values = tuple(_convert_one(setting.kind, element) for element in elements)
        if not all(_is_legal(setting.rules, value) for value in values):
            raise ValueError
        if _is_path(setting) and any(map(_unreplaced_variable, values)):
            raise ValueError
    except (ValueError, OverflowError):
        raise ValueError(_refusal(setting, given)) from None
    return values[0] if setting.count is None else values


def is_null(value: Any) -> bool:
    return value.is_null if isinstance(value, Word) else value is None


def _elements(setting: Setting, value: Any) -> Sequence[Any]:
    if setting.count is None:
        return [value]
    if not isinstance(value, list | tuple) or not value or setting.count not in (0, len(value)):
        raise ValueError
    return value


def _convert_one(kind: type, value: Any) -> Any:
    """The value as this type, or ValueError. Numbers may be text, as in flags and in words that YAML takes for text."""
    if isinstance(value, Word):
        if value.is_null or (kind in (int, float) and _is_ambiguous(value)):
            raise ValueError
        value = value.value if kind is bool else value.text
    if kind in (int, float) and isinstance(value, int | float | str) and not isinstance(value, bool):
        if isinstance(value, str) and re.match(NO_NUMBER, value.strip()):
            raise ValueError
        number = float(value)
        if math.isfinite(number) and (kind is float or (number.is_integer() and abs(number) <= MAX_WHOLE)):
            return kind(number)
    elif kind is str and isinstance(value, str):
        if value.strip() and "\0" not in value:  # neither names anything
            return os.path.expanduser(value) if value.startswith("~/") else value  # a YAML file has no shell to do it
    elif kind in (bool, dict) and isinstance(value, kind):
        return value
    raise ValueError


def _is_ambiguous(word: Word) -> bool:
    """Refuses 010, which YAML reads as 8; ValueError for a word that is not a number."""
    return isinstance(word.value, int | float) and float(word.text) != word.value


def _is_legal(rules: Mapping[str, Any], value: Any) -> bool:
    return (
        (not rules["choices"] or value in rules["choices"])
        and (rules["pattern"] is None or re.fullmatch(rules["pattern"], value) is not None)
        and (rules["low"] is None or value >= rules["low"])
        and (rules["above"] is None or value > rules["above"])
        and (rules["high"] is None or value <= rules["high"])
    )


def _refusal(setting: Setting, given: Given) -> str:
    got = show(given.value)
    expected = setting.legal + (" | null" if setting.nullable else "")
    values = given.value if isinstance(given.value, list | tuple) else [given.value]
    words = [value.text if isinstance(value, Word) else value for value in values]
    choices = setting.rules["choices"]
    wrong = [word for word in words if isinstance(word, str) and word not in choices]
    close = [match for word in wrong for match in difflib.get_close_matches(word, choices, 1)]
    hint = f"; did you mean {close[0]}?" if close else ""
    if setting.in_degrees and (degrees := next(filter(_looks_like_degrees, words), None)) is not None:
        other = f"{'--' * given.origin.startswith('--')}{setting.in_degrees.name}"
        hint = f"; looks like degrees: {degrees}° is {math.radians(float(degrees)):.2g}"
        hint += f", or use {other}" if given.origin != setting.name else ""  # which a Python caller has not
    if setting.kind is int and max(map(_magnitude, words), default=0) > MAX_WHOLE:
        hint = "; that is too large"
    if _is_path(setting) and any(map(_unreplaced_variable, words)):
        hint = "; variables are not replaced here: write the path out"
    return f"got {got if len(got) <= 60 else got[:57] + '...'}; expected {expected}{hint}"


def _looks_like_degrees(word: Any) -> bool:
    return math.pi / 2 < _magnitude(word) <= 90


def _magnitude(word: Any) -> float:
    """Of a number; 0 of anything else."""
    try:
        return abs(float(word))
    except (TypeError, ValueError):
        return 0.0
    except OverflowError:  # a whole number that no float holds
        return math.inf


def _is_path(setting: Setting) -> bool:
    return setting.rules["metavar"] == "PATH"


def _unreplaced_variable(value: Any) -> bool:
    """Whether a path has a $NAME that a shell would have replaced, and no file or folder is called so."""
    match = re.search(r"(^|/)\$(\w+|\{\w+\})(?=/|$)", value) if isinstance(value, str) else None
    return match is not None and not os.path.lexists(value[: match.end()])


def show(value: Any) -> str:
    """A value on one line, as in YAML, with text in quotes."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"[{', '.join(map(show, value))}]" if isinstance(value, list | tuple) else repr(value)
