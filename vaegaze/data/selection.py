"""The choice of the person and of the samples to train on, determined by the seed."""

from collections.abc import Callable, Collection, Mapping
from itertools import islice

import numpy as np

from vaegaze.errors import UserError

# Each kind of draw has its own stream, so that changing one leaves the others unchanged.
_PERSON_STREAM, _SAMPLE_STREAM = 0, 1


def choose_person(counts: Mapping[str, int], num_samples: int, seed: int) -> str:
    """One of the persons with at least `num_samples` samples, all equally likely, whatever their order in the file.

    `counts` is person id → number of samples. UserError if nobody has enough.
    """
    if not counts:
        raise UserError("the file holds no persons: expected one group per person, each with images and labels")
    enough = sorted(person for person, count in counts.items() if count >= num_samples)
    if not enough:
        largest = max(sorted(counts), key=counts.get)
        raise UserError(
            f"nobody in the file has {num_samples} samples: the most is {counts[largest]} (person {largest!r})",
            about="num_samples",
        )
    return enough[np.random.default_rng([seed, _PERSON_STREAM]).integers(len(enough))]


def choose_samples(
    total: int,
    num_samples: int,
    num_eval_samples: int,
    seed: int,
    is_usable: Callable[[int], bool] = lambda row: True,
) -> tuple[np.ndarray, np.ndarray]:
    """Splits a person's rows 0 … total − 1 into (training rows, held-out rows), both sorted and disjoint.

    If there are at most `num_samples` rows, all are training rows. Otherwise that many are drawn at random, and of the
    rest at most `num_eval_samples` are held out. The training rows do not depend on `num_eval_samples`. A row that
    `is_usable` refuses is passed over; it is asked about each row that is drawn, in that order.
    """
    drawn = _first_usable(_order(total, seed), num_samples + num_eval_samples, is_usable)
    return np.sort(drawn[:num_samples]), np.sort(drawn[num_samples:])


def rows_left(
    total: int, trained: Collection[int], count: int, seed: int, is_usable: Callable[[int], bool] = lambda row: True
) -> np.ndarray:
    """At most `count` of a person's rows that are not `trained`, sorted: the rows that `choose_samples` holds out."""
    drawn = _order(total, seed)
    return np.sort(_first_usable(drawn[~np.isin(drawn, list(trained))], count, is_usable))


def _order(total: int, seed: int) -> np.ndarray:
    """All rows in the order in which they are drawn."""
    return np.random.default_rng([seed, _SAMPLE_STREAM]).permutation(total)


def _first_usable(rows: np.ndarray, count: int, is_usable: Callable[[int], bool]) -> np.ndarray:
    return np.fromiter(islice(filter(is_usable, rows.tolist()), count), dtype=np.int64)
