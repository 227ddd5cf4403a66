"""Looks away: short, seldom, the same for the same seed."""

import numpy as np

from vaegaze.redirecting.glances import AWAY_SEC, CONTACT_SEC, LEAST_RAD, Glances


def offsets(seed, seconds=60, rate=30) -> np.ndarray:
    glances = Glances(seed)
    return np.array([glances.offset(number / rate) for number in range(seconds * rate)])


def test_most_of_the_time_the_eyes_are_where_they_are_told_to_be():
    away = np.hypot(*offsets(0).T) > 0
    begins = np.flatnonzero(np.diff(away.astype(int)) == 1)
    assert 60 / (CONTACT_SEC[1] + AWAY_SEC[1]) - 1 <= len(begins) <= 60 / (CONTACT_SEC[0] + AWAY_SEC[0]) + 1
    assert 0.1 < away.mean() < 0.4 and not away[: int(30 * CONTACT_SEC[0])].any()


def test_the_seed_decides():
    assert (offsets(1) == offsets(1)).all() and (offsets(1) != offsets(2)).any()
    assert np.hypot(*offsets(1).T).max() > LEAST_RAD
