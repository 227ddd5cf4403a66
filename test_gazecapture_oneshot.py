#!/usr/bin/env python
"""Check a set-up: the same as `vaegaze check`, see --help. Under pytest the same checks run on the demo file."""

import sys

from vaegaze.__main__ import run_named


def check_demo(name: str) -> None:
    from vaegaze.commands import check
    from vaegaze.config.finetune import DEMO_HDF_PATH, GazeCaptureParams, OneshotParams
    from vaegaze.renderer import data_set

    params = OneshotParams(gazecapture_params=GazeCaptureParams(hdf_path=str(data_set.demo_file(DEMO_HDF_PATH))))
    getattr(check, f"check_{name}")(params)


def test_random_person_selection():
    check_demo("random_person_selection")


def test_specific_person_selection():
    check_demo("specific_person_selection")


def test_data_consistency():
    check_demo("data_consistency")


def test_batch_generation():
    check_demo("batch_generation")


if __name__ == "__main__":
    sys.exit(run_named("check", prog="test_gazecapture_oneshot.py"))
