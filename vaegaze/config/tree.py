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

from vaegaze.config.setting import Given, Setting, convert, is_null, option, show
from vaegaze.config.strict_yaml import Entry, read_yaml
from vaegaze.errors import UserError, plain

__all__ = [
    "ConfigError",
    "Resolved",
    "Setting",
    "describe",
    "explained",
    "flag_names",
    "option",
    "resolve",
    "sections_of",
    "settings_of",
    "show",
    "spellings_of",
    "to_yaml",
    "value_at",
]


class ConfigError(UserError):
    """Every mistake found in the settings, one per line."""

    def __init__(self, problems: Sequence[str]):
        self.problems = list(map(plain, problems))
        heading = [] if len(self.problems) == 1 else [f"{len(self.problems)} mistakes:"]
        super().__init__("\n  ".join(heading + self.problems))


@dataclass(frozen=True)
class Resolved:
    """The settings of one run, and where each came from."""

    config: Any  # an instance of the tree
    origins: dict[str, str]  # by full key: "default", the file's path, or the flag
    path: str | None  # of the file

    def settled(self, config: Any, how: str) -> "Resolved":
        """A copy with the values of `config`; `how` is the origin of those that changed."""
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
    """Maps each key allowed in the file to its setting and whether it is in degrees."""
    found = {}
    for key, setting in settings_of(tree).items():
        found[key] = setting, False
        if setting.in_degrees:
            found[setting.in_degrees.key] = setting, True
    return found


def flag_names(tree: type) -> dict[str, tuple[Setting, bool]]:
    """Like the above, keyed by flag name, without dashes."""
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


# ---------------------------------------------------------------------------------------------------------- reading


def resolve(
    tree: type,
    path: str | None = None,
    flags: Mapping[str, Any] | None = None,
    problems: Iterable[str] = (),
    *,
    named: Mapping[str, Any] | None = None,
) -> Resolved:
    """The settings: flags (by name, without dashes) override the YAML file, which overrides the defaults.

    `named` are settings by name as a Python caller gives them, those without a flag included.

    One ConfigError lists every mistake, including the `problems` found before. The tree's own method
    `problems(origins)`, if it has one, checks settings that depend on each other. It yields (keys, text), with the key
    that the text is mainly about first. The text is dropped if one of its keys already has an error of its own. Before
    that, `implied(values, origins, in_file)`, if there is one, yields (key, (value, origin)) of settings that follow
    from others.
    """
    problems = list(problems)
    in_file: dict[str, Given] = {}
    readable = True
    if path is not None:
        root, mistakes = read_yaml(path)
        problems += mistakes
        readable = root is not None and (is_null(root.value) or isinstance(root.value, dict))
        if root is not None:
            _collect(tree, "", root, path, in_file, problems)

    settings = settings_of(tree)
    values = {key: copy.deepcopy(setting.default) for key, setting in settings.items()}
    origins = dict.fromkeys(settings, "default")
    places = {key: f"{path or 'command line'}: {key}" for key in settings}
    wrong, stated = set(), {}
    given_elsewhere = _given_by_flags(tree, flags or {}, problems) | _given_by_name(tree, named or {}, problems)
    for given in (in_file, given_elsewhere):
        for key, each in given.items():
            origins[key], places[key] = each.origin, each.place
            try:
                values[key] = convert(settings[key], each)
            except ValueError as error:
                wrong.add(key)
                problems.append(f"{each.place}: {error}")
        stated = stated or {key: values[key] for key in in_file}  # as the file alone has them

    if hasattr(tree, "implied"):
        for key, (value, origin) in tree.implied(values, origins, stated):
            values[key], origins[key] = value, origin
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
    if is_null(entry.value):
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
            try:
                value = child.plain() if setting.kind is dict else child.words()
            except ValueError as error:
                problems.append(f"{place}: {error}")
                continue
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


def _given_by_name(tree: type, named: Mapping[str, Any], problems: list[str]) -> dict[str, Given]:
    by_name = {setting.name: setting for setting in settings_of(tree).values()}
    for name in named.keys() - by_name.keys():
        close = difflib.get_close_matches(name, by_name, 1)
        problems.append(f"{name}: unknown setting" + (f"; did you mean {close[0]}?" if close else ""))
    return {by_name[name].key: Given(_plain(value), name, name) for name, value in named.items() if name in by_name}


def _plain(value: Any) -> Any:
    """A number of NumPy's or PyTorch's, or a path, as a setting takes it."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value.item() if getattr(value, "ndim", None) == 0 else value


def _build(tree: type, key: str, values: Mapping[str, Any]) -> Any:
    section = sections_of(tree)[key]
    names = {field.name: _join(key, field.name) for field in dataclasses.fields(section)}
    return section(
        **{name: values[full] if full in values else _build(tree, full, values) for name, full in names.items()}
    )


# -------------------------------------------------------------------------------------------------------- in writing


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


def has_comments(text: str) -> bool:
    """Whether YAML text has what a run would not write: it lists settings alone."""
    unquoted = re.sub(r'"(\\.|[^"\\])*"', "", text)
    return re.search(r"(?m)(^|\s)#", unquoted) is not None


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
