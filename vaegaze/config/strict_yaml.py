"""YAML read strictly: every entry with its line and its own characters, and every mistake of the file listed."""

from dataclasses import dataclass
from typing import Any

import yaml

from vaegaze.files import shipped_path

MAX_BYTES = 100_000
MAX_DEPTH = 20


@dataclass(frozen=True)
class Entry:
    """A value in the file: of a mapping dict[str, Entry], of a list list[Entry], else what YAML takes the word for."""

    value: Any
    line: int
    text: str | None  # a single word as it stands in the file: YAML reads 03523 as 1875

    def plain(self) -> Any:
        """The value alone, all the way down."""
        if isinstance(self.value, dict):
            return {key: entry.plain() for key, entry in self.value.items()}
        return [entry.plain() for entry in self.value] if isinstance(self.value, list) else self.value


def read_yaml(path: str) -> tuple[Entry | None, list[str]]:
    """The file's content and what is wrong with it; no content at all if it could not be read as YAML."""
    try:
        with open(shipped_path(path), "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return None, [f"{path}: there is no such file; --config takes the path of a YAML file"]
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
        return None, [f"{path}, line {error.problem_mark.line + 1}: not valid YAML: {error.problem}"]
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        return None, [f"{path}, line {line}: not valid YAML: character #x{error.character:04x} is not allowed"]
    problems: list[str] = []
    if node is None:
        return Entry(None, line=1, text=""), problems
    return _entry(loader, node, path, "", problems), problems


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader without what no settings file needs and a hostile one fills the memory with."""

    depth = 0

    def compose_node(self, parent, index):
        event = self.peek_event()
        if getattr(event, "anchor", None) or getattr(event, "tag", None):  # an alias has an anchor, too
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
        try:
            return Entry(loader.construct_object(node), line, node.value)
        except (ValueError, OverflowError, yaml.YAMLError):  # it looks like a number or a date, but is none
            return Entry(node.value, line, node.value)
    if isinstance(node, yaml.SequenceNode):
        return Entry([_entry(loader, child, path, key, problems) for child in node.value], line, None)
    entries: dict[str, Entry] = {}
    for name, child in node.value:
        place = f"{path}, line {name.start_mark.line + 1}: "
        full_key = ".".join(filter(None, [key, str(name.value)]))
        if name.tag != "tag:yaml.org,2002:str":
            text = name.value if isinstance(name, yaml.ScalarNode) else "a list or mapping"
            problems.append(f"{place}got the key {text!r} in {key or 'the file'}; expected text: quote it")
        elif name.value in entries:
            problems.append(f"{place}{full_key}: given twice, first on line {entries[name.value].line}; keep one")
        else:
            entries[name.value] = _entry(loader, child, path, full_key, problems)
    return Entry(entries, line, None)
