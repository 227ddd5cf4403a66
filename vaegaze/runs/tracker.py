"""Metrics for a tracker's own pages, beside metrics.jsonl."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from vaegaze.errors import UserError

TRACKERS = {"tensorboard": "tensorboard", "trackio": "trackio"}  # name → package


class Tracker(Protocol):
    def log(self, step: int, metrics: Mapping) -> None:
        """The numbers among the metrics; whatever else they hold is passed over."""

    def close(self) -> None: ...


class _NoTracker:
    def log(self, step: int, metrics: Mapping) -> None:
        pass

    def close(self) -> None:
        pass


class _TensorBoard:
    def __init__(self, folder: Path, after: int):
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(folder / "tensorboard", purge_step=after + 1)

    def log(self, step: int, metrics: Mapping) -> None:
        for name, value in _numbers(metrics).items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class _Trackio:
    def __init__(self, folder: Path, after: int):
        import trackio

        self._run = trackio.init(project="vaegaze", name=folder.name, resume="allow", embed=False)

    def log(self, step: int, metrics: Mapping) -> None:
        self._run.log(_numbers(metrics), step=step)

    def close(self) -> None:
        self._run.finish()


def open_tracker(name: str, folder: Path, *, after: int = 0) -> Tracker:
    """`name` is none, tensorboard or trackio. UserError when its package is missing.

    A run that goes on `after` a step may log later ones again: TensorBoard then shows the new ones alone, trackio both.
    """
    if name == "none":
        return _NoTracker()
    try:
        return {"tensorboard": _TensorBoard, "trackio": _Trackio}[name](folder, after)
    except ImportError as error:
        raise UserError(
            f"tracker: {name} needs the {TRACKERS[name]} package: pip install {TRACKERS[name]}; or take tracker none"
        ) from error


def _numbers(metrics: Mapping) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if type(value) in (int, float) and name != "step"}
