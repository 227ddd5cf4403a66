"""Who is trained on, and which of the samples: drawn by the seed, so that the same seed gives the same choice."""

from collections.abc import Collection, Mapping

import numpy as np

from vaegaze.errors import UserError

# Each kind of draw has its own stream, so that changing one leaves the others as they were.
_PERSON_STREAM, _SAMPLE_STREAM = 0, 1


def choose_person(counts: Mapping[str, int], num_samples: int, seed: int) -> str:
    """One of the persons with at least `num_samples` samples, each as likely as the other; by id, not by file order.

    `counts` is person id → number of samples. UserError when nobody has enough.
    """
    if not counts:
        raise UserError("the file holds no persons: expected one group per person, each with images and labels")
    enough = sorted(person for person, count in counts.items() if count >= num_samples)
    if not enough:
        largest = max(sorted(counts), key=counts.get)
        raise UserError(
            f"num_samples is {num_samples}, but nobody in the file has that many: the most is {counts[largest]} "
            f"(person {largest!r}); give --num_samples {max(1, counts[largest])} or less"
        )
    return enough[np.random.default_rng([seed, _PERSON_STREAM]).integers(len(enough))]


def choose_samples(total: int, num_samples: int, num_eval_samples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Splits a person's rows 0 … total − 1 into (training rows, held-out rows), both sorted and disjoint.

    All rows train when there are no more than `num_samples`; else that many, at random, and of the rest at most
    `num_eval_samples` are held out. The training rows do not depend on `num_eval_samples`.
    """
    drawn = np.random.default_rng([seed, _SAMPLE_STREAM]).permutation(total)
    held_out = drawn[num_samples : num_samples + num_eval_samples]
    return np.sort(drawn[:num_samples]), np.sort(held_out)


def rows_left(total: int, trained: Collection[int], count: int, seed: int) -> np.ndarray:
    """At most `count` of a person's rows that are not `trained`, sorted: those that `choose_samples` held out."""
    drawn = np.random.default_rng([seed, _SAMPLE_STREAM]).permutation(total)
    return np.sort(drawn[~np.isin(drawn, list(trained))][:count])
