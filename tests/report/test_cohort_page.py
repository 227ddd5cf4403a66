"""cohort.html of as many persons as GazeCapture has."""

import base64
import hashlib
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vaegaze.report.cohort import EXTREMES, CohortReport, page

PERSONS, FAILED = 1474, 3


def record(number: int, eye_l1: float) -> dict:
    known = {"id": f"{number:05d}", "samples": 30, "held_out": 32, "seconds": 12.5, "reason": ""}
    if number < FAILED:
        return known | {"status": "failed", "reason": "<b>labels are NaN</b>", "before": None, "after": None}
    numbers = {"eye_l1": eye_l1, "eye_psnr": 20 + eye_l1, "ssim": 0.9, "gaze_error_deg": 5.0, "lpips": None}
    before = {name: value and 1.1 * value for name, value in numbers.items()}
    return known | {"status": "finished", "before": before, "after": numbers}


@pytest.fixture(scope="module")
def records() -> list[dict]:
    return [record(number, eye_l1) for number, eye_l1 in enumerate(np.random.default_rng(0).random(PERSONS).tolist())]


@pytest.fixture(scope="module")
def text(records, tmp_path_factory) -> str:
    """The page, with pictures of noise, which compresses worst."""
    folder = tmp_path_factory.mktemp("runs")
    noise = np.random.default_rng(1).integers(0, 256, (256, 3 * 256, 3), dtype=np.uint8)
    picture = io.BytesIO()
    Image.fromarray(noise).save(picture, "jpeg", quality=90)
    for one in ranked(records)[:EXTREMES] + ranked(records)[-EXTREMES:]:
        (folder / one["id"]).mkdir()
        (folder / one["id"] / "before_after.jpg").write_bytes(picture.getvalue())
    return page(CohortReport(records, PERSONS + 2, lambda person_id: Path(folder, person_id), [], "vaegaze train_all"))


def ranked(records: list[dict]) -> list[dict]:
    return sorted((each for each in records if each["after"]), key=lambda each: each["after"]["eye_l1"])


def test_it_is_small_and_whole(text):
    assert len(text.encode()) < 15e6
    assert text.count("/report.html") == PERSONS - FAILED + 2 * EXTREMES
    assert text.count("data:image/jpeg") == 2 * EXTREMES
    assert "2 not run yet" in text and text.count("&lt;b&gt;labels are NaN") == FAILED and "<b>labels" not in text
    assert "http" not in text.replace("http-equiv", "")


def test_the_best_and_the_worst_come_in_order(text, records):
    best_first = [each["id"] for each in ranked(records)]
    pictured = re.findall(r'alt="(\d+): the frame, before, after"', text)
    assert pictured == best_first[:EXTREMES] + best_first[::-1][:EXTREMES]


def test_only_its_own_script_may_run(text):
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    checksum = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{checksum}'" in text.replace("&#39;", "'")
