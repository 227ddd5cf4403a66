"""What a command must not wait for: imports that take seconds."""

import subprocess

from command_runs import start_process

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
sys.exit(code)
"""


def test_the_plan_is_printed_before_pytorch_is_imported_and_a_dry_run_needs_little_else(world, tmp_path):
    process = start_process(
        *world.flags, "--save_dir", tmp_path, "--dry_run", script=SCRIPT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = (each.decode() for each in process.communicate(timeout=300))
    assert process.returncode == 0, err
    assert out.startswith("🎯 Starting VAE-GAZE One-Shot Training with GazeCapture Dataset\n")
