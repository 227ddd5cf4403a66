"""The rows of a person that a run uses: drawn by the seed, but for those whose labels are no angles."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vaegaze.data.hdf5 import opened_samples
from vaegaze.data.selection import choose_samples
from vaegaze.errors import UserError

NAMED = 5  # rows that are named one by one


@dataclass(frozen=True)
class Rows:
    """A person's rows, sorted, as a run takes them."""

    total: int
    train: np.ndarray
    held_out: np.ndarray
    left_out: list[int]  # that were drawn too, but have NaN or infinity for labels


def choose_rows(path: str | Path, person_id: str, num_samples: int, num_eval_samples: int, seed: int) -> Rows:
    """As `choose_samples`, out of the rows with finite labels; only labels of drawn rows are read.

    UserError, besides those of the file itself, if no row has finite labels.
    """
    with opened_samples(path, person_id) as stored:
        train, held_out = choose_samples(stored.count, num_samples, num_eval_samples, seed, stored.has_angles)
        if not len(train):
            raise UserError(
                f"{stored.where}: none of its {stored.count} samples has usable labels; row {min(stored.left_out)} "
                "holds NaN or infinity, which are no angles; give another person"
            )
        return Rows(stored.count, train, held_out, sorted(stored.left_out))


def left_out_line(left_out: Collection[int], person_id: str) -> str:
    """How many rows are left out, why, and which."""
    rows = ", ".join(map(str, sorted(left_out)[:NAMED]))
    more = f" and {len(left_out) - NAMED} more" if len(left_out) > NAMED else ""
    return (
        f"⚠️ Left out {len(left_out)} sample{'s' if len(left_out) > 1 else ''} of {person_id} whose labels hold NaN or "
        f"infinity: row{'s' if len(left_out) > 1 else ''} {rows}{more}"
    )
