#!/usr/bin/env python
"""Check a set-up: the same as `vaegaze check`, see --help. Under pytest the same checks run on the demo file."""

import sys

from vaegaze.commands import check
from vaegaze.config.finetune import DEMO_HDF_PATH, GazeCaptureParams, OneshotParams
from vaegaze.renderer import data_set


def demo_params() -> OneshotParams:
    return OneshotParams(gazecapture_params=GazeCaptureParams(hdf_path=str(data_set.demo_file(DEMO_HDF_PATH))))


def test_random_person_selection():
    check.check_random_person_selection(demo_params())


def test_specific_person_selection():
    check.check_specific_person_selection(demo_params())


def test_data_consistency():
    check.check_data_consistency(demo_params())


def test_batch_generation():
    check.check_batch_generation(demo_params())


if __name__ == "__main__":
    sys.exit(check.main(prog="test_gazecapture_oneshot.py"))
