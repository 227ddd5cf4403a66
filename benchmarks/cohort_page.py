"""The page of a cohort as large as GazeCapture, made by `vaegaze train_all` and opened in Chromium.

See benchmarks/cohort.py.
"""

import argparse
import shutil
import tempfile
import time
from pathlib import Path

import h5py

from benchmarks.cohort_engine import tell, tiny_world
from vaegaze.commands import train_all
from vaegaze.errors import UserError
from vaegaze.files import atomic_path

TRAINED = 4  # persons; the others' folders are copies of these
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--window-size=1280,900"]
OPENED_MS = "return performance.getEntriesByType('navigation')[0].loadEventEnd"
# The style is asked for, or the rows would move only when next drawn.
SORTED_MS = """
const began = performance.now();
document.querySelectorAll('.sortable th button')[arguments[0]].click();
document.body.getBoundingClientRect();
return performance.now() - began;
"""
FIRST_ROW = "return document.querySelector('.sortable tbody th').textContent"
EYE_L1_BEFORE = 4  # column


def page(given: argparse.Namespace) -> int:
    """The exit code."""
    if not (CHROMIUM and DRIVER):
        raise UserError("no chromium and chromedriver are found; install Debian's chromium and chromium-driver")
    folder = given.out / "page"
    flags = tiny_world(folder, TRAINED, given.steps)
    flags[flags.index("--engine") + 1] = "none"
    place = flags.index("--estimator")  # the shipped one reads the gaze, so that the table has all columns
    del flags[place : place + 2]
    code = train_all.main(flags)
    if code:  # train_all has said why
        return code
    multiply(folder, given.persons)
    started = time.perf_counter()
    code = train_all.main(flags)
    seconds = time.perf_counter() - started
    if code:
        return code

    html = folder / "runs" / "cohort.html"
    opened_ms, sorted_ms = in_browser(html)
    tell(
        {
            "persons": given.persons,
            "MB": html.stat().st_size / 1e6,
            "sec until open": opened_ms / 1000,
            "sec to sort": sorted_ms / 1000,
            "sec of train_all, all finished": seconds,
        }
    )
    return 0


def multiply(folder: Path, persons: int) -> None:
    """Copies of the persons and of their finished runs, up to so many persons in all."""
    trained = [f"person_{number:03d}" for number in range(1, TRAINED + 1)]
    copies = {f"person_{number:03d}": trained[number % TRAINED] for number in range(TRAINED + 1, persons + 1)}
    data = folder / "persons.h5"
    with atomic_path(data) as temporary:
        shutil.copyfile(data, temporary)
        with h5py.File(temporary, "a") as file:
            for name, source in copies.items():
                file.copy(source, name)
    for name, source in copies.items():
        run = folder / "runs" / name
        shutil.copytree(folder / "runs" / source, run)
        settings = run / "config.yaml"
        settings.write_text(settings.read_text(encoding="utf-8").replace(source, name), encoding="utf-8")


def in_browser(html: Path) -> tuple[float, float]:
    """Milliseconds until the page has loaded, and to sort its table by a number."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    with tempfile.TemporaryDirectory() as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        driver = webdriver.Chrome(options=options, service=Service(DRIVER))
        try:
            driver.get(html.absolute().as_uri())
            opened_ms = driver.execute_script(OPENED_MS)
            sorted_ms = driver.execute_script(SORTED_MS, EYE_L1_BEFORE)
            lowest = driver.execute_script(FIRST_ROW)
            driver.execute_script(SORTED_MS, EYE_L1_BEFORE)  # the other way round
            if driver.execute_script(FIRST_ROW) == lowest:
                raise UserError(f"{html} does not sort")
            return opened_ms, sorted_ms
        finally:
            driver.quit()
