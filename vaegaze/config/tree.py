"""A tree of settings as frozen dataclasses: read from YAML and flags, checked, explained and written back.

A section is a frozen dataclass whose docstring says what it is for. A setting is a field made by `option`, which holds
everything known about it. A section inside a section has an instance as its default. A setting's type is bool, int,
float, str, `tuple[float, float]` or `tuple[str, ...]`, optionally `| None`, or Mapping for free contents under text
keys. A tree whose settings depend on each other has a method `problems`; see `resolve`.

An angle is a setting with the unit rad. It can also be given in degrees, under its name with `_deg` appended.
"""

import copy
import dataclasses
import difflib
import functools
import math
import os
import re
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args, get_origin, get_type_hints

import yaml

from vaegaze.config.strict_yaml import Entry, Word, read_yaml
from vaegaze.errors import UserError, plain


class ConfigError(UserError):
    """Every mistake found in the settings, one per line."""

    def __init__(self, problems: Sequence[str]):
        self.problems = list(map(plain, problems))
        heading = [] if len(self.problems) == 1 else [f"{len(self.problems)} mistakes:"]
        super().__init__("\n  ".join(heading + self.problems))


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
) -> Any:
    """One setting: what it is for, and its legal values, which apply to each element of a pair or list.

    `low` and `high` are inclusive, `above` is exclusive. `pattern` is a regular expression for the whole text; `legal`
    describes the legal values if the other rules cannot. `flag=False`: the setting is read from the file only.
    """
    legal_values = {"choices": choices, "pattern": pattern, "legal": legal, "low": low, "above": above, "high": high}
    metadata = {**legal_values, "unit": unit, "help": help, "metavar": metavar, "flag": flag}
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
        rules = {**self.rules, **limits, "unit": "degrees", "help": f"the same as {self.name}, in degrees"}
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
class Resolved:
    """The settings of one run, and where each came from."""

    config: Any  # an instance of the tree
    origins: dict[str, str]  # by full key: "default", the file's path, or the flag
    path: str | None  # of the file

    def settled(self, config: Any, how: str) -> "Resolved":
        """The same with the values of `config`; `how` says where the changed ones came from."""
        new = [key for key in self.origins if value_at(config, key) != value_at(self.config, key)]
        return replace(self, config=config, origins={**self.origins, **dict.fromkeys(new, how)})


def value_at(config: Any, key: str) -> Any:
    """The setting under a full key."""
    return functools.reduce(getattr, key.split("."), config)


@functools.cache
def sections_of(tree: type, key: str = "") -> dict[str, type]:
    """Every section by its full key, the tree itself under ""."""
    found = {key: tree}
    for name, kind in get_type_hints(tree).items():
        if dataclasses.is_dataclass(kind):
            found |= sections_of(kind, _join(key, name))
    return found


@functools.cache
def settings_of(tree: type) -> dict[str, Setting]:
    """Every setting by its full key, section by section."""
    found = [
        _setting(_join(key, field.name), get_type_hints(section)[field.name], field)
        for key, section in sections_of(tree).items()
        for field in dataclasses.fields(section)
        if _join(key, field.name) not in sections_of(tree)
    ]
    return {setting.key: setting for setting in found}


@functools.cache
def spellings_of(tree: type) -> dict[str, tuple[Setting, bool]]:
    """By each key that the file may have: its setting, and whether it takes degrees there."""
    found = {}
    for key, setting in settings_of(tree).items():
        found[key] = setting, False
        if setting.in_degrees:
            found[setting.in_degrees.key] = setting, True
    return found


def flag_names(tree: type) -> dict[str, tuple[Setting, bool]]:
    """The same by the name of each flag, without dashes."""
    spellings = spellings_of(tree).items()
    return {key.rpartition(".")[2]: (setting, degrees) for key, (setting, degrees) in spellings if setting.flag}


def _setting(key: str, kind: Any, field: dataclasses.Field) -> Setting:
    nullable = isinstance(kind, types.UnionType)
    if nullable:
        (kind,) = set(get_args(kind)) - {types.NoneType}
    elements, count = get_args(kind), None
    if issubclass(get_origin(kind) or kind, Mapping):
        kind = dict
    elif elements:  # of tuple[float, float], say
        kind, count = elements[0], 0 if elements[-1] is Ellipsis else len(elements)
    default = field.default_factory() if field.default is dataclasses.MISSING else field.default
    return Setting(key, kind, count, nullable, default, field.metadata)


def _join(section: str, name: str) -> str:
    return f"{section}.{name}" if section else name


# ------------------------------------------------------------------------------------------------------ one value


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
    if setting.nullable and _is_null(given.value):
        return None
    try:
        values = tuple(_convert_one(setting.kind, element) for element in _elements(setting, given.value))
        if not all(_is_legal(setting.rules, value) for value in values):
            raise ValueError
    except (ValueError, OverflowError):
        raise ValueError(_refusal(setting, given)) from None
    return values[0] if setting.count is None else values


def _is_null(value: Any) -> bool:
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
        number = float(value)
        if math.isfinite(number) and (kind is float or number.is_integer()):
            return kind(number)
    elif kind is str and isinstance(value, str):
        if value.strip() and "\0" not in value:  # neither names anything
            return os.path.expanduser(value) if value.startswith("~/") else value  # a YAML file has no shell to do it
    elif kind in (bool, dict) and isinstance(value, kind):
        return value
    raise ValueError


def _is_ambiguous(word: Word) -> bool:
    """010, which is 8 to YAML and 10 to most people; ValueError if it is no number at all."""
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
        hint = f"; looks like degrees: {degrees}° is {math.radians(float(degrees)):.2g}, or use {other}"
    return f"got {got if len(got) <= 60 else got[:57] + '...'}; expected {expected}{hint}"


def _looks_like_degrees(word: Any) -> bool:
    try:
        return math.pi / 2 < abs(float(word)) <= 90
    except (TypeError, ValueError):
        return False


# --------------------------------------------------------------------------------------------------- the whole tree


def resolve(
    tree: type, path: str | None = None, flags: Mapping[str, Any] | None = None, problems: Iterable[str] = ()
) -> Resolved:
    """The settings: flags (by name, without dashes) override the YAML file, which overrides the defaults.

    One ConfigError lists every mistake, including the `problems` found before. The tree's own method
    `problems(origins)`, if it has one, checks settings that depend on each other. It yields (keys, text), with the key
    that the text is mainly about first. The text is left out if one of its keys is wrong by itself.
    """
    problems = list(problems)
    in_file: dict[str, Given] = {}
    readable = True
    if path is not None:
        root, mistakes = read_yaml(path)
        problems += mistakes
        readable = root is not None and (_is_null(root.value) or isinstance(root.value, dict))
        if root is not None:
            _collect(tree, "", root, path, in_file, problems)

    settings = settings_of(tree)
    values = {key: copy.deepcopy(setting.default) for key, setting in settings.items()}
    origins = dict.fromkeys(settings, "default")
    places = {key: f"{path or 'command line'}: {key}" for key in settings}
    wrong = set()
    for given in (in_file, _given_by_flags(tree, flags or {}, problems)):
        for key, each in given.items():
            origins[key], places[key] = each.origin, each.place
            try:
                values[key] = convert(settings[key], each)
            except ValueError as error:
                wrong.add(key)
                problems.append(f"{each.place}: {error}")

    config = _build(tree, "", values)
    if readable and hasattr(config, "problems"):
        together = config.problems(origins)
        problems += [f"{places[keys[0]]}: {text}" for keys, text in together if wrong.isdisjoint(keys)]
    if problems:
        raise ConfigError(problems)
    return Resolved(config, origins, path)


def _collect(tree: type, key: str, entry: Entry, path: str, given: dict[str, Given], problems: list[str]) -> None:
    """Adds what one section of the file gives to `given`, and its mistakes to `problems`."""
    names = _names_in(tree, key)
    if _is_null(entry.value):
        return  # a section without content: the defaults
    if not isinstance(entry.value, dict):
        place = f"{path}, line {entry.line}: " + (f"{key}: " if key else "")
        problems.append(f"{place}got {show(entry.words())}; expected a section with keys out of {', '.join(names)}")
        return
    known = f"; known here: {', '.join(names)}"
    for name, child in entry.value.items():
        full_key = _join(key, name)
        place = f"{path}, line {child.line}: {full_key}"
        if name not in names:
            problems.append(f"{place}: unknown key{_advice(tree, name, names)}{known}")
            known = ""  # once per section is enough
        elif full_key in sections_of(tree):
            _collect(tree, full_key, child, path, given, problems)
        else:
            setting, in_degrees = spellings_of(tree)[full_key]
            value = child.plain() if setting.kind is dict else child.words()
            _add(given, setting, Given(value, place, path, in_degrees), problems)


def _names_in(tree: type, section: str) -> list[str]:
    """The keys that a section of the file may have, in the order of the fields."""
    names = []
    for field in dataclasses.fields(sections_of(tree)[section]):
        names.append(field.name)
        if _join(section, f"{field.name}_deg") in spellings_of(tree):
            names.append(f"{field.name}_deg")
    return names


def _add(given: dict[str, Given], setting: Setting, new: Given, problems: list[str]) -> None:
    if setting.key in given:
        problems.append(f"{new.place}: given both in radians and in degrees; keep one")
    else:
        given[setting.key] = new


def _advice(tree: type, name: str, names: list[str]) -> str:
    """What to do about a key that is not one of the `names` known in its section."""
    homes = {key.rpartition(".")[2]: key.rpartition(".")[0] for key in [*sections_of(tree), *spellings_of(tree)] if key}
    homes = {name: f"under {home}" if home else "at the top level" for name, home in homes.items()}
    if name in homes:
        return f"; it belongs {homes[name]}"
    close = difflib.get_close_matches(name, homes, 1)
    return "".join(f"; did you mean {match}{'' if match in names else ', ' + homes[match]}?" for match in close)


def _given_by_flags(tree: type, flags: Mapping[str, Any], problems: list[str]) -> dict[str, Given]:
    by_name = flag_names(tree)
    given: dict[str, Given] = {}
    for name, value in flags.items():
        setting, in_degrees = by_name[name]
        flag = f"--no-{name}" if value is False else f"--{name}"
        _add(given, setting, Given(value, f"{flag} ({setting.key})", flag, in_degrees), problems)
    return given


def _build(tree: type, key: str, values: Mapping[str, Any]) -> Any:
    section = sections_of(tree)[key]
    names = {field.name: _join(key, field.name) for field in dataclasses.fields(section)}
    return section(
        **{name: values[full] if full in values else _build(tree, full, values) for name, full in names.items()}
    )


# -------------------------------------------------------------------------------------------------------- in writing


def show(value: Any) -> str:
    """A value on one line, as in YAML, with text in quotes."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"[{', '.join(map(show, value))}]" if isinstance(value, list | tuple) else repr(value)


def explained(resolved: Resolved) -> list[tuple[Setting, str, str]]:
    """Each setting, its value as text, and where the value came from."""
    origins = resolved.origins
    return [
        (setting, show(value_at(resolved.config, key)), "file" if origins[key] == resolved.path else origins[key])
        for key, setting in settings_of(type(resolved.config)).items()
    ]


def describe(resolved: Resolved) -> str:
    """Each setting, its value and where that came from, in columns."""
    lines = [f"file = {resolved.path}"] if resolved.path else []
    settings = explained(resolved)
    name_width = max(len(setting.name) for setting, _, _ in settings)
    value_width = max((len(value) for _, value, _ in settings if len(value) <= 18), default=0)  # a path may stick out
    section = None
    for setting, value, origin in settings:
        if setting.section != section:
            section = setting.section
            lines.append(section)
        lines.append(f"  {setting.name:{name_width}}  {value:{value_width}}  {origin}")
    return "\n".join(lines)


def to_yaml(config: Any) -> str:
    """The settings as YAML that reads back to an equal tree. Text is quoted, so that other readers keep ids as text."""
    return yaml.dump(_quoted(dataclasses.asdict(config)), Dumper=_Dumper, sort_keys=False, width=math.inf)


class _Quoted(str):
    pass


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data):
        return True


_Dumper.add_representer(
    _Quoted, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", str(text), style='"')
)
_Dumper.add_representer(
    list, lambda dumper, items: dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=True)
)


def _quoted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _quoted(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_quoted(each) for each in value]
    return _Quoted(value) if isinstance(value, str) else value
