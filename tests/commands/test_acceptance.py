"""What the README promises of the model that ships: the demo as it stands, the photo example in fewer, larger steps."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from vaegaze.models.device import has_native_bf16

ROOT = Path(__file__).parents[2]


def run_example(*arguments: str) -> None:
    subprocess.run([sys.executable, "oneshot_training.py", *arguments], cwd=ROOT, check=True)


@pytest.mark.slow(minutes=2)
def test_demo_beats_both_baselines_on_frames_it_never_saw(tmp_path):
    run_example(
        *("--config", "configs/finetune/finetune_gazecapture.yaml", "--use_gazecapture", "--person_id", "person_001"),
        *("--num_steps", "150", "--mirror", "--vgg_loss", "0", "--save_dir", str(tmp_path)),
    )
    summary = json.loads((tmp_path / "person_001" / "summary.json").read_text(encoding="utf-8"))
    before, after = summary["before"], summary["after"]
    assert summary["held_out"] == 32
    assert before["redirected_eye_psnr"] >= 29.0
    # The better the base, the less is left to gain: with earlier ones the same run ended at 0.0528 and 0.0434, then at
    # 0.0512 and 0.0371, and with this one at 0.0506 and 0.0356.
    assert after["eye_l1"] <= min(0.0515, 0.99 * before["eye_l1"])
    assert after["redirected_eye_l1"] <= min(0.0365, 0.97 * before["redirected_eye_l1"])
    gaze = "redirected_gaze_error_to_target_deg"
    assert after[gaze] <= min(1.3, before[gaze] + 0.2)
    for baseline in summary["baselines"].values():
        assert after["eye_l1"] < baseline["eye_l1"]
        assert after["eye_psnr"] > baseline["eye_psnr"]


@pytest.mark.slow
@pytest.mark.skipif(not has_native_bf16("cpu"), reason="this processor emulates bf16, many times slower")
def test_bf16_ends_where_float32_does(tmp_path):
    ends = []
    for precision in ("fp32", "bf16"):
        run_example(
            *("--config", "configs/finetune/finetune_gazecapture.yaml", "--person_id", "person_001"),
            *("--num_steps", "60", "--precision", precision, "--save_dir", str(tmp_path / precision)),
            *("--num_eval_samples", "12", "--estimator", "none"),
        )
        summary = json.loads((tmp_path / precision / "person_001" / "summary.json").read_text(encoding="utf-8"))
        ends.append(summary["after"]["eye_l1"])
    assert ends[1] == pytest.approx(ends[0], rel=0.02)


@pytest.mark.slow(minutes=1)
def test_a_real_photograph_is_learnt(tmp_path):
    run_example(
        *("--config", "configs/finetune/finetune_photo.yaml", "--num_steps", "60", "--learning_rate", "4e-4"),
        *("--save_dir", str(tmp_path)),
    )
    summary = json.loads((tmp_path / "astronaut" / "summary.json").read_text(encoding="utf-8"))
    assert summary["after"]["eye_l1"] <= 0.03
    assert summary["after"]["eye_l1"] <= summary["before"]["eye_l1"] / 2
