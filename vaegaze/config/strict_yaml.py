"""YAML read strictly: each entry with its line and its exact text, and every mistake in the file listed.

The reader decides nothing about types. It keeps each scalar as text, so that the settings' own types decide what
`00002`, `no` and `5e-5` mean; YAML's own reading of the word is kept beside it.
"""

import datetime
import math
from dataclasses import dataclass
from typing import Any

import yaml

from vaegaze.files import shipped_path

MAX_BYTES = 100_000
MAX_DEPTH = 20


@dataclass(frozen=True)
class Word:
    """A scalar of the file."""

    text: str  # as written, without its quotes
    quoted: bool
    value: Any  # as YAML 1.1 reads it; the text if quoted

    @property
    def is_null(self) -> bool:
        """null, ~ or nothing, without quotes."""
        return self.value is None

    def plain(self) -> Any:
        """As YAML types it, but a date, which nobody means here, as text. ValueError where it misreads a number."""
        if isinstance(self.value, datetime.date):
            return self.text
        is_number = isinstance(self.value, int | float) and not isinstance(self.value, bool)
        if is_number and math.isfinite(self.value) and not _says(self.text, self.value):
            raise ValueError(f"got {self.text}, which YAML reads as {self.value}; write that, or put it in quotes")
        return self.value

    def __repr__(self) -> str:
        """The text as written, apart from quoting."""
        return repr(self.text) if isinstance(self.value, str) else self.text or "nothing"


@dataclass(frozen=True)
class Entry:
    """A value in the file: a mapping, a list or a single word."""

    value: "dict[str, Entry] | list[Entry] | Word"
    line: int

    def words(self) -> Any:
        """The value without line numbers: dicts and lists of words."""
        if isinstance(self.value, dict):
            return {key: entry.words() for key, entry in self.value.items()}
        return [entry.words() for entry in self.value] if isinstance(self.value, list) else self.value

    def plain(self) -> Any:
        """The value as YAML itself types it; ValueError as for a word."""
        if isinstance(self.value, dict):
            return {key: entry.plain() for key, entry in self.value.items()}
        return [entry.plain() for entry in self.value] if isinstance(self.value, list) else self.value.plain()


def _says(text: str, number: float) -> bool:
    """Whether the text, as everybody reads it, is the number."""
    try:
        return float(text) == number
    except ValueError:  # such as 1:30, which YAML 1.1 takes for a time
        return False


def read_yaml(path: str) -> tuple[Entry | None, list[str]]:
    """The file's content, or None if it is not YAML at all; and every mistake in it."""
    try:
        with open(shipped_path(path), "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return None, [f"{path}: no such file; --config takes the path of a YAML file"]
    except (OSError, ValueError) as error:
        return None, [f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}"]
    if len(content) > MAX_BYTES:
        return None, [f"{path}: larger than {MAX_BYTES:,} bytes; a settings file is much smaller"]
    try:
        text = content.decode("utf-8-sig")
        loader = _Loader(text)
        node = loader.get_single_node()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return None, [f"{path}, line {line}: not UTF-8 text; save the file as UTF-8"]
    except yaml.MarkedYAMLError as error:
        hint = "; in double quotes \\ has a meaning: leave them out" if "escape" in str(error.problem) else ""
        return None, [f"{path}, line {error.problem_mark.line + 1}: not valid YAML: {error.problem}{hint}"]
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        return None, [f"{path}, line {line}: not valid YAML: character #x{error.character:04x} is not allowed"]
    problems: list[str] = []
    if node is None:
        return Entry(Word("", quoted=False, value=None), line=1), problems
    return _entry(loader, node, path, "", problems), problems


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader without anchors, tags and deep nesting, by which a hostile file could fill the memory."""

    depth = 0

    def compose_node(self, parent, index):
        event = self.peek_event()
        if getattr(event, "anchor", None) or getattr(event, "tag", None):  # an alias has an anchor as well
            problem = "anchors (&), aliases (*) and tags (!) are not read here; write the values out"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)
        if self.depth == MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem=f"more than {MAX_DEPTH} levels deep", problem_mark=event.start_mark)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _entry(loader: _Loader, node: yaml.Node, path: str, key: str, problems: list[str]) -> Entry:
    line = node.start_mark.line + 1
    if isinstance(node, yaml.ScalarNode):
        return Entry(_word(loader, node), line)
    if isinstance(node, yaml.SequenceNode):
        return Entry([_entry(loader, child, path, key, problems) for child in node.value], line)
    entries: dict[str, Entry] = {}
    first_lines: dict[str, int] = {}  # of the keys: a section's own line is the one below
    for name, child in node.value:
        place = f"{path}, line {name.start_mark.line + 1}: "
        if not isinstance(name, yaml.ScalarNode):
            problems.append(f"{place}got a list or mapping as a key in {key or 'the file'}; expected text")
            continue
        full_key = ".".join(filter(None, [key, name.value]))
        if name.value in entries:
            problems.append(f"{place}{full_key}: given twice, first on line {first_lines[name.value]}; keep one")
        else:
            first_lines[name.value] = name.start_mark.line + 1
            entries[name.value] = _entry(loader, child, path, full_key, problems)
    return Entry(entries, line)


def _word(loader: _Loader, node: yaml.ScalarNode) -> Word:
    if node.style is not None:
        return Word(node.value, quoted=True, value=node.value)
    try:
        value = loader.construct_object(node)
    except (ValueError, OverflowError, yaml.YAMLError):  # it only looks like a number or a date
        value = node.value
    return Word(node.value, quoted=False, value=value)
