"""A tree of settings as frozen dataclasses: read from YAML and flags, checked, explained and written back.

A section is a frozen dataclass whose docstring says what it is for; a setting is a field made by `option`, which holds
all that is known about it; a section inside a section has an instance as its default. A setting's type is bool, int,
float, str, `tuple[float, float]` or `tuple[str, ...]`, any of them `| None`, or Mapping for a free one with text keys.
A tree whose settings depend on each other has a method `problems`; see `resolve`.
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
from dataclasses import dataclass
from typing import Any, get_args, get_origin, get_type_hints

import yaml

from vaegaze.config.strict_yaml import Entry, read_yaml
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
    """One setting: what it is for, and its legal values, which hold for each element of a pair or list.

    `low` and `high` are legal themselves, `above` is not. `pattern` is a regular expression for the whole text;
    `legal` says the legal values in words where the rest cannot. `flag=False` leaves the setting to the file alone.
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
    kind: type  # bool, int, float, str or dict; of each element, if there are several
    count: int | None  # None for a single value, 0 for a list of any length, else the length
    nullable: bool
    default: Any
    rules: Mapping[str, Any]  # what `option` was told

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
    def legal(self) -> str:
        """The legal values in words, null aside."""
        kinds = {bool: "true | false", int: "whole number", float: "number", str: "text", dict: "mapping"}
        words = self.rules["legal"] or " | ".join(self.rules["choices"]) or kinds[self.kind]
        limits = [(sign, self.rules[rule]) for rule, sign in (("low", ">="), ("above", ">"), ("high", "<="))]
        limits = [f"{sign} {round(limit, 4)}" for sign, limit in limits if limit is not None]
        several = "" if self.count is None else f"list of {self.count}, each a " if self.count else "list of "
        return several + " ".join(filter(None, [words, " and ".join(limits), self.rules["unit"]]))


@dataclass(frozen=True)
class Resolved:
    """The settings of one run, and where each came from."""

    config: Any  # an instance of the tree
    origins: dict[str, str]  # by full key: "default", the file's path, or the flag
    path: str | None  # of the file

    def settled(self, config: Any, how: str) -> "Resolved":
        """The same with the values that `config` has; `how` says where those came from that are new."""
        new = [key for key in self.origins if value_at(config, key) != value_at(self.config, key)]
        return dataclasses.replace(self, config=config, origins={**self.origins, **dict.fromkeys(new, how)})


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
    """A value as somebody wrote it."""

    value: Any
    place: str  # how a message about it begins
    origin: str
    text: str | None = None  # see Entry


def convert(setting: Setting, given: Given) -> Any:
    """The value as its type; a ValueError says what was given and what is legal."""
    if given.value is None and setting.nullable:
        return None
    try:
        is_number = setting.kind in (int, float) and isinstance(given.value, int | float)
        if is_number and given.text is not None and float(given.text) != given.value:  # 010, which YAML takes for 8
            raise ValueError
        values = tuple(_convert_one(setting.kind, element) for element in _elements(setting, given.value))
        if not all(_is_legal(setting.rules, value) for value in values):
            raise ValueError
    except (ValueError, OverflowError):
        raise ValueError(_refusal(setting, given)) from None
    return values[0] if setting.count is None else values


def _elements(setting: Setting, value: Any) -> Sequence[Any]:
    if setting.count is None:
        return [value]
    if not isinstance(value, list | tuple) or not value or setting.count not in (0, len(value)):
        raise ValueError
    return value


def _convert_one(kind: type, value: Any) -> Any:
    """The value as this type, or a ValueError; numbers may be text, as flags are, and as 5e-5 is to YAML."""
    if kind in (int, float) and isinstance(value, int | float | str) and not isinstance(value, bool):
        number = float(value)
        if math.isfinite(number) and (kind is float or number.is_integer()):
            return kind(number)
    elif kind is str and isinstance(value, str):
        if value.strip() and "\0" not in value:  # neither names anything
            return os.path.expanduser(value) if value.startswith("~/") else value  # no shell does it in a YAML file
    elif kind in (bool, dict) and isinstance(value, kind):
        return value
    raise ValueError


def _is_legal(rules: Mapping[str, Any], value: Any) -> bool:
    return (
        (not rules["choices"] or value in rules["choices"])
        and (rules["pattern"] is None or re.fullmatch(rules["pattern"], value) is not None)
        and (rules["low"] is None or value >= rules["low"])
        and (rules["above"] is None or value > rules["above"])
        and (rules["high"] is None or value <= rules["high"])
    )


def _refusal(setting: Setting, given: Given) -> str:
    taken_for_else = given.text is not None and not isinstance(given.value, str)  # 03523, which YAML takes for 1875
    got = (given.text or "nothing") if taken_for_else else show(given.value)
    expected = setting.legal + (" | null" if setting.nullable else "")
    choices = setting.rules["choices"]
    words = given.value if isinstance(given.value, list | tuple) else [given.value]
    wrong_words = [word for word in words if isinstance(word, str) and word not in choices]
    close = [match for word in wrong_words for match in difflib.get_close_matches(word, choices, 1)]
    hint = f"; did you mean {close[0]}?" if close else ""
    if setting.kind is str and setting.count is None and taken_for_else and given.text:
        hint = f'; quote it: {setting.name}: "{given.text}"'
    return f"got {got if len(got) <= 60 else got[:57] + '...'}; expected {expected}{hint}"


# --------------------------------------------------------------------------------------------------- the whole tree


def resolve(
    tree: type, path: str | None = None, flags: Mapping[str, Any] | None = None, problems: Iterable[str] = ()
) -> Resolved:
    """The settings: flags (by name, without dashes) over the YAML file over the defaults.

    Every mistake, with `problems` found before, ends up in one ConfigError. Settings that depend on each other are
    checked by the tree's own `problems(origins)`, if it has one: it yields (keys, text), the keys being those that
    the text is about, foremost first; where one of them is wrong by itself the text is left out.
    """
    problems = list(problems)
    in_file: dict[str, Given] = {}
    readable = True
    if path is not None:
        root, mistakes = read_yaml(path)
        problems += mistakes
        readable = root is not None and (root.value is None or isinstance(root.value, dict))
        if root is not None:
            _collect(tree, "", root, path, in_file, problems)

    settings = settings_of(tree)
    values = {key: copy.deepcopy(setting.default) for key, setting in settings.items()}
    origins = dict.fromkeys(settings, "default")
    places = {key: f"{path or 'command line'}: {key}" for key in settings}
    wrong = set()
    for given in (in_file, _given_by_flags(tree, flags or {})):
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
    """What a section of the file gives, and what is wrong with it."""
    names = [field.name for field in dataclasses.fields(sections_of(tree)[key])]
    if entry.value is None:
        return  # nothing but its name, or null: the defaults
    if not isinstance(entry.value, dict):
        place = f"{path}, line {entry.line}: " + (f"{key}: " if key else "")
        problems.append(f"{place}got {show(entry.plain())}; expected a section with keys out of {', '.join(names)}")
        return
    known = f"; known here: {', '.join(names)}"
    for name, child in entry.value.items():
        full_key = _join(key, name)
        place = f"{path}, line {child.line}: {full_key}"
        if name not in names:
            problems.append(f"{place}: unknown key{_advice(tree, name, names)}{known}")
            known = ""  # said once per section
        elif full_key in sections_of(tree):
            _collect(tree, full_key, child, path, given, problems)
        else:
            given[full_key] = Given(child.plain(), place, path, child.text)


def _advice(tree: type, name: str, names: list[str]) -> str:
    """What to do about a key that is not one of the `names` known in its section."""
    homes = {key.rpartition(".")[2]: key.rpartition(".")[0] for key in [*sections_of(tree), *settings_of(tree)] if key}
    homes = {name: f"under {home}" if home else "at the top level" for name, home in homes.items()}
    if name in homes:
        return f"; it belongs {homes[name]}"
    close = difflib.get_close_matches(name, homes, 1)
    return "".join(f"; did you mean {match}{'' if match in names else ', ' + homes[match]}?" for match in close)


def _given_by_flags(tree: type, flags: Mapping[str, Any]) -> dict[str, Given]:
    by_name = {setting.name: setting for setting in settings_of(tree).values() if setting.flag}
    given = {}
    for name, value in flags.items():
        setting = by_name[name]
        flag = f"--no-{name}" if value is False else setting.flag
        given[setting.key] = Given(value, f"{flag} ({setting.key})", flag)
    return given


def _build(tree: type, key: str, values: Mapping[str, Any]) -> Any:
    section = sections_of(tree)[key]
    names = {field.name: _join(key, field.name) for field in dataclasses.fields(section)}
    return section(
        **{name: values[full] if full in values else _build(tree, full, values) for name, full in names.items()}
    )


# -------------------------------------------------------------------------------------------------------- in writing


def show(value: Any) -> str:
    """A value on one line, as YAML would have it, text in quotes."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"[{', '.join(map(show, value))}]" if isinstance(value, list | tuple) else repr(value)


def explained(resolved: Resolved) -> list[tuple[Setting, str, str]]:
    """Each setting, its value in writing, and where that came from."""
    origins = resolved.origins
    return [
        (setting, show(value_at(resolved.config, key)), "file" if origins[key] == resolved.path else origins[key])
        for key, setting in settings_of(type(resolved.config)).items()
    ]


def describe(resolved: Resolved) -> str:
    """Each value with where it came from, in columns."""
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
    """The settings as YAML that reads back to an equal tree; text is quoted, so that an id stays an id."""
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
