"""The order of the house: a file imports only from rooms before its own."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "vaegaze"

# Every file imports from the rooms of earlier lines and from its own. All may import what stands in ANYWHERE.
ORDER = [
    {"strict_yaml"},
    {"config_tree"},
    {"command", "outputs"},
    {"config_flags"},
    {"config"},
    {"data", "device"},
    {"sheets", "animations", "sweeps"},
    {"person"},
    {"models"},
    {"packed_convolutions"},
    {"mixed_precision"},
    {"strategies"},
    {"losses"},
    {"frames", "drawing"},
    {"pretraining_batches"},
    {"training", "pretraining"},
    {"evaluation"},
    {"reporting", "run_folder", "report"},
    {"benchmark_report"},
    {"redirect_config", "redirect_video"},
    {"oneshot", "pretrain", "train_estimator", "evaluate", "benchmark", "inspect", "convert", "redirect", "prepare"},
]
ANYWHERE = {"files", "progress"}
APART = {"pretraining_batches", "pretraining", "pretrain", "train_estimator"}  # commands beside the main one
MAIN = {"person", "strategies", "frames", "training", "run_folder", "report", "oneshot"}
ENTRY_SCRIPTS = {path.stem for path in ROOT.glob("*.py")} | {"oneshot_training", "test_gazecapture_oneshot"}
RANKS = {room: rank for rank, rooms in enumerate(ORDER) for room in rooms}
FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(path):
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports_of(path):
    """Every module that a file names in an import, wherever in the file, as dotted names."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} line {node.lineno}: relative imports hide the room"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def rooms_imported(path):
    """The rooms of vaegaze among them; `from vaegaze import files` counts, too."""
    dotted = (name.split(".") for name in imports_of(path))
    return {name[1] for name in dotted if name[0] == "vaegaze" and len(name) > 1}


def test_files_are_found():
    assert len(FILES) > 25
    assert len({room_of(path) for path in FILES}) > 12
    assert sum(len(rooms_imported(path)) for path in FILES) > 50


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path):
    room, imported = room_of(path), rooms_imported(path)
    if room == "__init__":
        assert not imported
        return
    assert room in RANKS or room in ANYWHERE, f"{room} has no place in the order yet"
    assert imported <= set(RANKS) | ANYWHERE
    if room in ANYWHERE:
        assert not imported
        return
    later = {other for other in imported - ANYWHERE - {room} if RANKS[other] >= RANKS[room]}
    assert not later, f"{path.name} stands before {later}"
    assert not (imported & (MAIN if room in APART else APART)), "pre-training and the main command stand apart"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_imports_an_entry_script(path):
    assert not {name.split(".")[0] for name in imports_of(path)} & ENTRY_SCRIPTS


def test_the_loop_knows_nothing_of_files_plots_or_terminals():
    path = PACKAGE / "training.py"
    assert not rooms_imported(path) & {"files", "progress", "reporting"}
    assert not {name.split(".")[0] for name in imports_of(path)} & {"matplotlib", "tqdm", "PIL", "os", "sys", "pathlib"}
    calls = (node.func for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call))
    assert not {call.id for call in calls if isinstance(call, ast.Name)} & {"print", "open"}
