"""Where a run's seconds go: each of them belongs to a phase. docs/runs.md says what is in which."""

import time

from vaegaze.runs.resume import Progress

PHASES = ("loading", "preparing", "measuring_before", "precomputing", "training", "measuring_after", "writing")


class Laps:
    """Adds up a run's phases, from the moment it began (by `time.perf_counter`), or went on."""

    def __init__(self, progress: Progress, began: float):
        self.progress, self._last = progress, began

    def end(self, phase: str) -> None:
        """All that has passed since the last phase ended belongs to this one."""
        now = time.perf_counter()
        self.progress.spend(phase, now - self._last)
        self._last = now

    def summary(self) -> dict:
        """What summary.json says of them."""
        seconds_of = {**self.progress.seconds_of, "training": self.progress.seconds}
        return {
            "seconds": round(self.progress.seconds, 2),
            "sec_per_step": round(self.progress.seconds / self.progress.step, 4),
            "seconds_of": {phase: round(seconds_of.get(phase, 0.0), 2) for phase in PHASES},
            "total_seconds": round(sum(seconds_of.values()), 2),
        }
