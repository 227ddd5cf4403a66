"""Where a run of pre-training stands."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from torch import Tensor

from vaegaze.models import VAEGaze
from vaegaze.pretraining.averaging import averaged
from vaegaze.pretraining.batches import Skipped


@dataclass
class Progress:
    """Where a run stands: with the model's weights, all that is needed to go on."""

    processes: int = 1
    data: str = ""  # a checksum of the persons, see `checksums.data_checksum`; none in a run of an older version
    content: str = ""  # of what is stored in some of their frames, see `checksums.content_checksum`; likewise
    phase: int = 0
    step: int = 0  # finished steps of that phase
    optimizer: dict | None = None
    average: dict[str, Tensor] | None = None  # of the weights that train
    seconds: float = 0.0
    waited: float = 0.0  # seconds without a batch, since the last record
    busy: float = 0.0  # seconds, since the last record
    loss_sum: Tensor | None = None  # float64, since the last record …
    loss_steps: int = 0  # … over so many steps
    records: list[dict] = field(default_factory=list)  # what was measured on held-out frames
    skipped: dict[str, dict] = field(default_factory=dict)  # person by source and id: what of theirs cannot be used

    def shipped_weights(self, model: VAEGaze) -> AbstractContextManager[None]:
        """Within it the model has the weights that are evaluated and shipped: their average, if one is kept."""
        return averaged(model, self.average)

    def note_skipped(self, skipped: Sequence[Skipped]) -> None:
        note(self.skipped, skipped)

    def merge_skipped(self, others: Sequence[dict[str, dict]]) -> None:
        """Take over what other processes noted."""
        for name, other in (item for each in others for item in each.items()):
            entry = self.skipped.setdefault(name, {"rows": [], "left_out": False, "why": other["why"]})
            entry["rows"] = sorted({*entry["rows"], *other["rows"]})
            entry["left_out"] |= other["left_out"]


def note(entries: dict[str, dict], skipped: Sequence[Skipped]) -> None:
    """Add to `entries`, each of a person."""
    for each in skipped:
        entry = entries.setdefault(f"{each.source}: {each.person}", {"rows": [], "left_out": False, "why": ""})
        entry["why"] = entry["why"] or each.reason
        if each.row is None:
            entry["left_out"] = True
        elif each.row not in entry["rows"]:
            entry["rows"].append(each.row)
