"""The page in a real browser: a photo is chosen, a slider moves, files are saved."""

import json
import shutil
import time
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from conftest import make_tiny_model
from PIL import Image

from vaegaze import api
from vaegaze.models.checkpoint import load_checkpoint, save_checkpoint

pytest.importorskip("cv2")
pytest.importorskip("gradio")
pytest.importorskip("selenium")
from pages import served
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs Debian's packages chromium and chromium-driver"),
]

ASTRONAUT = Path(__file__).parents[2] / "docs" / "images" / "astronaut.png"
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
YAW_DEG, WAIT_SEC = 15, 120


class Browser:
    """Chromium with the page open."""

    def __init__(self, folder: Path, address: str):
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for flag in (*FLAGS.split(), f"--user-data-dir={folder / 'profile'}", "--window-size=1280,900"):
            options.add_argument(flag)
        self.downloads = folder / "downloads"
        options.add_experimental_option("prefs", {"download.default_directory": str(self.downloads)})
        options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
        self._driver = webdriver.Chrome(options=options, service=Service(DRIVER))
        self._driver.get(address)
        self.quit = self._driver.quit

    def find(self, selector: str):
        return self._driver.find_element(By.CSS_SELECTOR, selector)

    def wait(self, what):
        return WebDriverWait(self._driver, WAIT_SEC, ignored_exceptions=[Exception]).until(lambda _: what())

    def source(self, selector: str) -> str:
        """The address of a picture, once it is there."""
        return self.wait(lambda: self.find(f"{selector} img").get_attribute("src"))

    def open_tab(self, name: str) -> None:
        self._driver.find_element(By.XPATH, f"//button[@role='tab'][normalize-space()='{name}']").click()

    def enter(self, slider: str, value: float) -> None:
        field = self.wait(lambda: self.find(f"#{slider} input[type=number]"))
        field.send_keys(Keys.CONTROL, "a")
        field.send_keys(str(value), Keys.TAB)

    def downloaded(self, name: str) -> Path:
        path = self.downloads / name
        return self.wait(lambda: path if path.is_file() and path.stat().st_size else None)

    def hosts(self) -> set[str]:
        """Every host that a page has asked for something."""
        events = (json.loads(entry["message"])["message"] for entry in self._driver.get_log("performance"))
        sent = (event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent")
        return {urlsplit(url).netloc for url in sent if url.startswith(("http", "ws"))}

    def errors(self) -> list[str]:
        return [entry["message"] for entry in self._driver.get_log("browser") if entry["level"] == "SEVERE"]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A tiny model in whose drawings the gaze shows, untrained as it is."""
    model = make_tiny_model()
    model.gaze_mlp.gaze_mlp.net[-1].weight.data *= 30
    path = tmp_path_factory.mktemp("base") / "base.pth"
    save_checkpoint(path, model, {"trained_on": "nothing", "drops_reference": True})
    return path


@pytest.fixture(scope="module")
def page(base):
    with served(base) as page:
        yield page


@pytest.fixture
def browser(page, tmp_path):
    browser = Browser(tmp_path, page.address)
    yield browser
    browser.quit()


def test_a_photo_is_chosen_a_slider_moved_and_the_result_saved(browser, page, base, tmp_path):
    first = browser.source("#after")  # the example
    mine = shutil.copy(ASTRONAUT, tmp_path / "mine.png")
    Image.new("RGB", (300, 300), "grey").save(tmp_path / "grey.png")
    upload = browser.find("input[type=file]")

    upload.send_keys(str(tmp_path / "grey.png"))
    said = browser.wait(lambda: browser.find("#photo_message p").text)
    assert said.startswith("grey.png shows no face") and "Traceback" not in said

    upload.send_keys(str(mine))
    browser.wait(lambda: browser.find("#photo_message").text == "")
    browser.enter("photo_yaw", YAW_DEG)
    browser.wait(lambda: browser.source("#after") != first)
    browser.find("#save").click()
    saved = Image.open(browser.downloaded("mine_redirected.png"))
    expected = api.redirect(load_checkpoint(base), mine, (0.0, np.radians(YAW_DEG)))
    assert np.array_equal(np.asarray(saved), expected)

    browser.find("#animate").click()
    browser.wait(lambda: browser.find("#saved_animation").is_displayed())
    browser.find("#saved_animation").click()
    assert Image.open(browser.downloaded("mine_circle.gif")).n_frames > 10

    assert browser.hosts() == {f"127.0.0.1:{page.port}"}
    assert not browser.errors()


def test_a_model_is_fine_tuned_and_its_report_saved(browser):
    before = browser.source("#after")
    browser.open_tab("Fine-tune")
    browser.enter("steps", 20)
    browser.find("#tune").click()
    browser.wait(lambda: browser.find("#tuning_message p").text.startswith("Done"))
    browser.find("#saved_report").click()
    assert "astronaut" in browser.downloaded("report.html").read_text(encoding="utf-8")
    browser.open_tab("Photo")
    browser.wait(lambda: browser.source("#after") != before)
    time.sleep(0.5)
    assert not browser.errors()
