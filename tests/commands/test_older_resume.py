"""A run that an earlier version of the program began, gone on with."""

import json
import signal

from command_runs import PERSON, assert_same_weights, command, signal_at_step

from vaegaze.models.tensor_files import load_tensors, save_tensors


def test_what_an_earlier_version_did_not_keep_is_measured_again(finished, tmp_path, monkeypatch):
    """Without values of single frames; its means were over other pictures."""
    flags, _, folder = finished
    flags = (*flags, "--save_dir", tmp_path)
    with monkeypatch.context() as patched:
        signal_at_step(patched, 7, signal.SIGTERM)
        assert command(*flags).code == 143
    resume = tmp_path / PERSON / "resume.pth"
    content = load_tensors(resume)
    del content["progress"]["before_per_frame"]
    content["progress"]["before"]["redirected_eye_l1"] = 123.0
    save_tensors(resume, content)
    outcome = command(*flags, "--resume")
    assert outcome.code == 0 and "Measuring the base model" in outcome.out
    first, second = (json.loads((each / "summary.json").read_text()) for each in (folder, tmp_path / PERSON))
    for key in ("before", "after", "two_standard_errors"):
        assert first[key] == second[key]
    steps = [json.loads(line)["step"] for line in (tmp_path / PERSON / "metrics.jsonl").read_text().splitlines()]
    assert steps == [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert_same_weights(folder / "finetuned_model.pth", tmp_path / PERSON / "finetuned_model.pth")
