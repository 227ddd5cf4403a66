"""Only commands, and the settings from which flags are made, know what a flag is called."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "vaegaze"
FLAG = re.compile(r"(?<![\w-])--[a-z]")
WHOLE_COMMAND = re.compile(r"vaegaze [a-z_]+ ")  # a command line to copy may be quoted whole


def texts_in(path: Path) -> list[str]:
    """Every text in the code, f-strings with their literal parts joined; docstrings left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    left_out = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            left_out.add(node.value)  # a docstring
        elif isinstance(node, ast.JoinedStr):
            left_out |= set(node.values)
    found = []
    for node in ast.walk(tree):
        if node in left_out:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(node.value)
        elif isinstance(node, ast.JoinedStr):
            found.append("".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values))
    return found


def test_no_room_below_the_commands_names_a_flag():
    paths = [
        path
        for path in PACKAGE.rglob("*.py")
        if path.relative_to(PACKAGE).parts[0] not in ("config", "commands", "report")
    ]
    assert len(paths) > 50
    named = [
        f"{path.relative_to(ROOT)}: {text!r}"
        for path in paths
        if path.name != "__main__.py"
        for text in texts_in(path)
        if FLAG.search(text) and not WHOLE_COMMAND.search(text)
    ]
    assert not named, "\n".join(named)


@pytest.mark.parametrize(
    "arguments",
    [[], ["train", "--help"], ["train", "--schema"], ["train", "--num_steps", "0"], ["check", "--help"]],
)
def test_what_needs_no_torch(arguments):
    """Listing the commands, help and mistakes come at once."""
    code = (
        "import sys, contextlib, io, vaegaze.__main__, vaegaze.config.finetune\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n"
        f"    vaegaze.__main__.main({arguments!r})\n"
        "print('torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"
