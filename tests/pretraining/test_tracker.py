"""Trackers beside metrics.jsonl."""

import sys

import pytest

from vaegaze.errors import UserError
from vaegaze.runs.tracker import open_tracker


def test_tensorboard_gets_every_number(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tracker = open_tracker("tensorboard", tmp_path)
    for step in (2, 4):
        tracker.log(step, {"phase": "autoencoder", "step": step, "loss": 1 / step, "by_source": {"a": 1.0}})
    tracker.close()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert events.Tags()["scalars"] == ["loss"]
    assert [(each.step, each.value) for each in events.Scalars("loss")] == [(2, 0.5), (4, 0.25)]


def test_steps_that_are_repeated_are_there_once(tmp_path):
    """After SIGKILL a run goes on from its last save, and logs again what it had logged since."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for after, steps in ((0, (2, 4, 6)), (2, (4, 6, 8))):
        tracker = open_tracker("tensorboard", tmp_path, after=after)
        for step in steps:
            tracker.log(step, {"step": step, "loss": step + after / 4})
        tracker.close()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload().Scalars("loss")
    assert [(each.step, each.value) for each in events] == [(2, 2.0), (4, 4.5), (6, 6.5), (8, 8.5)]


@pytest.mark.parametrize(("name", "module"), [("tensorboard", "torch.utils.tensorboard"), ("trackio", "trackio")])
def test_a_missing_package_is_said(name, module, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=f"pip install {name}"):
        open_tracker(name, tmp_path)


def test_none_writes_nothing(tmp_path):
    tracker = open_tracker("none", tmp_path)
    tracker.log(1, {"loss": 1.0})
    tracker.close()
    assert not list(tmp_path.iterdir())
