"""The order of the house: a file imports only from its own room and from rooms before it."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "vaegaze"
ORDER = (
    "errors",
    "files",
    "config",
    "geometry",
    "images",
    "faces",
    "data",
    "renderer",
    "models",
    "training",
    "evaluation",
    "pretraining",
    "redirecting",
    "report",
    "runs",
    "page",
    "commands",
)
ENTRANCES = ("__init__", "__main__", "api")  # see every room


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def rooms_imported(path: Path) -> set[str]:
    """The rooms that a file imports from, wherever in the file."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}, line {node.lineno}: a relative import hides its room"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    parts = (name.split(".") for name in names)
    return {name[1] for name in parts if name[0] == "vaegaze" and len(name) > 1}


def test_imports_go_one_way():
    files = [path for path in PACKAGE.rglob("*.py") if room_of(path) not in ENTRANCES]
    assert {room_of(path) for path in files} == set(ORDER)
    backwards = [
        f"{path.relative_to(PACKAGE)} imports from {room}"
        for path in files
        for room in rooms_imported(path)
        if ORDER.index(room) > ORDER.index(room_of(path))
    ]
    assert not backwards, "\n".join(sorted(backwards))
