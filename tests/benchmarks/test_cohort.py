"""The benchmark of `vaegaze train_all`, at a small size: that it measures and counts what it says."""

import json
import shutil

import pytest
from conftest import process_restored

from benchmarks import cohort
from vaegaze.errors import UserError

TINY = ("--vgg_loss", 0, "--estimator", "none", "--sample_every", 0, "--device", "cpu", "--num_eval_samples", 2)


@pytest.fixture
def numbers(tmp_path, capsys):
    """Runs the benchmark; returns its last line."""

    def run(*words) -> dict:
        with process_restored():
            assert cohort.main([*map(str, words), "--out", str(tmp_path)]) == 0
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    return run


@pytest.mark.slow(minutes=1)
def test_three_ways(numbers, world, tmp_path, monkeypatch, capsys):
    pytest.importorskip("ray")
    flags = ["speed", "--persons", 2, "--steps", 2, "--size", 32, "--checkpoint_path", world.base, *TINY]
    timed, calls = cohort.timed, []

    def interrupted(command, *rest, **variables):
        calls.append(command)
        if len(calls) == 4:  # the loop's second person
            raise UserError("interrupted")
        return timed(command, *rest, **variables)

    with monkeypatch.context() as patched:
        patched.setattr(cohort, "timed", interrupted)
        assert cohort.main([*map(str, flags), "--out", str(tmp_path)]) == 2
    models = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("finetuned_model.pth")}
    assert len(models) == 5

    measured = numbers(*flags)
    assert {path: path.stat().st_mtime_ns for path in models} == models, "what was done is not done again"
    for way in cohort.WAYS:
        assert 0 < sum(measured[way]["seconds_of"].values()) < 2 * measured[way]["seconds"]
    assert measured["ray / loop"] == pytest.approx(measured["loop"]["seconds"] / measured["ray"]["seconds"])


@pytest.mark.slow
def test_what_the_engine_adds(numbers):
    pytest.importorskip("ray")
    measured = numbers("overhead", "--persons", 4, "--steps", 2)
    assert (measured["persons"], measured["workers"]) == (4, 2)
    assert 0 < measured["sec between two"] <= measured["at most"] < measured["sec of a person"]


@pytest.mark.slow
def test_killed_workers(numbers):
    pytest.importorskip("ray")
    measured = numbers("kills", "--persons", 4, "--steps", 20, "--every", 0.5, "--at_most", 1)
    assert (measured["finished"], measured["failed"], measured["lost"], measured["done twice"]) == (2, 2, 0, 0)
    assert measured["workers killed"] == 1 and measured["exit code of train_all"] == 3


@pytest.mark.slow
def test_page_in_a_browser(numbers, tmp_path, monkeypatch):
    for package in ("ray", "selenium"):
        pytest.importorskip(package)
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("needs Debian's packages chromium and chromium-driver")
    monkeypatch.setattr("benchmarks.cohort_page.TRAINED", 2)
    measured = numbers("page", "--persons", 6, "--steps", 1)
    text = (tmp_path / "page/runs/cohort.html").read_text(encoding="utf-8")
    assert "6 of 6 persons finished" in text and "person_006/report.html" in text
    assert measured["MB"] == pytest.approx(len(text.encode()) / 1e6)
    assert 0 < measured["sec to sort"] < measured["sec until open"] < 60
