"""How a command starts: without waiting for imports that take seconds, and in places that are not made for it."""

import subprocess
import sys

import pytest
from command_runs import ROOT, start_process

SCRIPT = """
import builtins, sys
from vaegaze.commands.train import main

imported, plain_print = [], builtins.print

def noting_print(*args, **options):
    imported.append("torch" in sys.modules)
    plain_print(*args, **options)

builtins.print = noting_print
code = main()
assert imported[:2] == [False, False] and imported[-1], imported
slow = {"torchvision", "torchmetrics", "torch._dynamo", "scipy"} & sys.modules.keys()
assert not slow, slow
code = code or main([*sys.argv[1:-1], "--num_steps", "1"])  # the last is --dry_run
assert "torch._dynamo" not in sys.modules, "nor does training need that"
sys.exit(code)
"""


def test_the_plan_is_printed_before_pytorch_is_imported_and_a_dry_run_needs_little_else(world, tmp_path):
    process = start_process(
        *world.flags, "--save_dir", tmp_path, "--dry_run", script=SCRIPT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = (each.decode() for each in process.communicate(timeout=300))
    assert process.returncode == 0, err
    assert out.startswith("🎯 Starting VAE-GAZE One-Shot Training with GazeCapture Dataset\n")


@pytest.mark.skipif(sys.platform != "linux", reason="a folder in use cannot be deleted, or memory not be limited")
@pytest.mark.parametrize(
    ("before", "command", "code", "words"),
    [
        ("mkdir gone; cd gone; rmdir ../gone", "-m vaegaze inspect", 2, "error: the working folder was deleted"),
        ("ulimit -v 1000000", "-m vaegaze redirect", 2, "error: out of memory"),
        ("true", "-OO -m vaegaze inspect", 0, "usage: vaegaze inspect"),  # without docstrings
        ("export TQDM_NCOLS=abc", "-m vaegaze inspect", 2, "error: the environment's TQDM_NCOLS: invalid literal"),
    ],
)
def test_a_strange_start(tmp_path, before, command, code, words):
    line = f"{before}; exec {sys.executable} {command} --help"
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1", "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        ["bash", "-c", line], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == code and words in ended.stdout + ended.stderr, ended
    assert "Traceback" not in ended.stderr


INTERRUPTED = """
import runpy, signal, sys

class Interrupting:
    def find_spec(self, name, path, target=None):
        if name == "vaegaze.commands":
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
sys.argv[1:] = ["inspect", "none.h5"]
start, name = {start!r}
getattr(runpy, start)(name, run_name="__main__")
"""


@pytest.mark.parametrize(
    "start",
    [("run_module", "vaegaze"), ("run_path", "oneshot_training.py"), ("run_path", "test_gazecapture_oneshot.py")],
)
def test_ctrl_c_right_after_the_start(start):
    process = start_process(script=INTERRUPTED.format(start=start), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, b"", b"stopped\n")
