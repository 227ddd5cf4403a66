"""Gaze numbers that say nothing are not shown."""

import pytest

from vaegaze.report.numbers import headlines, legible, rows, withheld_gaze
from vaegaze.report.tables import summary_table


def summary_of(error_deg: float, held_out: int) -> dict:
    numbers = {"eye_l1": 0.1, "eye_psnr": 20.0, "gaze_error_deg": 7.0, "gaze_error_to_target_deg": 5.0}
    numbers |= {"estimator_error_deg": error_deg}
    estimator = {"path": "e.pth", "own_error_deg": {"all": 1.5}}
    baselines = {"mean": None, "nearest": dict(numbers)}
    return {
        "before": numbers,
        "after": dict(numbers),
        "baselines": baselines,
        "two_standard_errors": {},
        "held_out": held_out,
        "estimator": estimator,
    }


@pytest.mark.parametrize(("error_deg", "held_out", "is_shown"), [(12.8, 0, False), (3.9, 0, True), (12.8, 5, True)])
def test_a_photos_gaze_is_withheld_where_the_estimator_misreads_it(error_deg, held_out, is_shown):
    summary = summary_of(error_deg, held_out)
    table, reason, shown = summary_table(summary), withheld_gaze(summary), legible(summary)
    assert ("5.00" in table) is is_shown and (reason is None) is is_shown
    assert ("12.8°, more than 4°" in table) is not is_shown
    assert ("gaze_error_to_target_deg" in [row.key for row, _ in headlines(shown)]) is is_shown
    keys = [row.key for row in rows([shown["before"], shown["after"], *shown["baselines"].values()])]
    assert ("gaze_error_deg" in keys) is is_shown and "eye_l1" in keys
    assert summary["after"]["gaze_error_deg"] == 7.0, "the summary keeps them"
