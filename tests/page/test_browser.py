"""The page in a real browser, also in a phone's: photos and videos are chosen, a slider moves, files are saved."""

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
from selenium.webdriver.support.expected_conditions import staleness_of
from selenium.webdriver.support.ui import WebDriverWait
from videos import encoded, read, sound_of, with_sound

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
PHONE = {"width": 390, "height": 844, "pixelRatio": 2.0, "touch": True}
STICKING_OUT = """
const wide = document.documentElement.scrollWidth > window.innerWidth ? ['the page'] : [];
const seen = [...document.querySelectorAll('.gradio-container *')].filter((each) => {
    const { width, left, right } = each.getBoundingClientRect();
    return each.checkVisibility() && width && (left < -1 || right > window.innerWidth + 1);
});
return [...wide, ...seen.map((each) => each.outerHTML.slice(0, 100))];
"""


class Browser:
    """Chromium with the page open."""

    def __init__(self, folder: Path, address: str, phone: bool = False):
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for flag in (*FLAGS.split(), f"--user-data-dir={folder / 'profile'}", "--window-size=1280,900"):
            options.add_argument(flag)
        if phone:
            options.add_experimental_option("mobileEmulation", {"deviceMetrics": PHONE})
        self.downloads = folder / "downloads"
        options.add_experimental_option("prefs", {"download.default_directory": str(self.downloads)})
        options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
        self._driver = webdriver.Chrome(options=options, service=Service(DRIVER))
        self._driver.get(address)
        self.quit = self._driver.quit
        self.source("#after")  # of the example: the page is there

    def find(self, selector: str):
        return self._driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list:
        return self._driver.find_elements(By.CSS_SELECTOR, selector)

    def wait(self, what):
        return WebDriverWait(self._driver, WAIT_SEC, ignored_exceptions=[Exception]).until(lambda _: what())

    def source(self, selector: str) -> str:
        """The address of a picture, once it is there."""
        return self.wait(lambda: self.find(f"{selector} img").get_attribute("src"))

    def open_tab(self, name: str) -> None:
        place = f"//button[@role='tab'][normalize-space()='{name}']"
        self._driver.find_element(By.XPATH, place).click()

    def enter(self, control: str, value: float) -> None:
        field = self.wait(lambda: self.find(f"#{control} input[type=number]"))
        field.send_keys(Keys.CONTROL, "a")
        field.send_keys(str(value), Keys.TAB)

    def upload_video(self, path: Path) -> None:
        self.open_tab("Video")
        self.wait(lambda: self.find("#video input[type=file]")).send_keys(str(path))
        self.wait(lambda: self.find("#video video"))

    def redirect_video(self) -> str:
        """What is said in the end."""
        before = self.all("#video_message p")
        self.wait(lambda: self.find("#redirect_video")).click()
        self.wait(lambda: all(staleness_of(each)(self._driver) for each in before))
        return self.wait(lambda: self.find("#video_message p").text)

    def sticking_out(self) -> list[str]:
        """What is wider than the window."""
        return self._driver.execute_script(STICKING_OUT)

    def shown_px(self, selector: str) -> tuple[int, int]:
        """Width and height of a video's picture, once it can be played."""
        state = (
            "const video = document.querySelector(arguments[0]); return video.readyState >= 2 && [video.videoWidth, "
        )
        script = f"{state} video.videoHeight]"
        return tuple(self.wait(lambda: self._driver.execute_script(script, selector)))

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


@pytest.fixture
def phone(page, tmp_path):
    phone = Browser(tmp_path, page.address, phone=True)
    yield phone
    phone.quit()


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


def test_of_two_in_a_photo_the_first_or_second_is_chosen(browser, tmp_path):
    astronaut = np.asarray(Image.open(ASTRONAUT).convert("RGB"))
    Image.fromarray(np.hstack([astronaut[:, ::-1], astronaut])).save(tmp_path / "us two.png")
    example = browser.source("#before")
    browser.find("input[type=file]").send_keys(str(tmp_path / "us two.png"))
    browser.wait(lambda: "2 faces" in browser.find("#photo_message p").text)
    browser.enter("face", 1)
    browser.wait(lambda: browser.source("#before") != example)
    assert browser.find("#photo_message").text == ""


def test_a_video_is_uploaded_redirected_and_saved(browser, page, talking, tmp_path):
    with_sound(tmp_path / "talk.mp4", talking.frames[:8])
    browser.open_tab("Video")
    assert "there is no video yet" in browser.redirect_video()
    browser.upload_video(tmp_path / "talk.mp4")
    assert browser.redirect_video().startswith("Done: 8 frames: 8 redrawn")
    assert browser.shown_px("#video_result video") == (480, 360)
    assert "switches: 0" in browser.find("#video_details").text
    browser.find("#saved_video").click()
    saved = browser.downloaded("talk_redirected.mp4")
    assert len(read(saved)[0]) == 8 and sound_of(saved)
    assert browser.hosts() == {f"127.0.0.1:{page.port}"}
    assert not browser.errors()


def test_of_two_in_a_video_one_or_everyone_is_redrawn(phone, talking, tmp_path):
    encoded(tmp_path / "us two.mkv", np.concatenate([talking.frames[:4]] * 2, axis=2), pixel_format="yuv420p10le")
    phone.upload_video(tmp_path / "us two.mkv")
    assert not phone.all("#whose")
    said = phone.redirect_video()
    assert "shows 2 faces" in said and said.endswith("choose one of them by its number, or everyone")
    phone.enter("person", 3)
    assert "no face 3" in phone.redirect_video()
    phone.enter("person", 0)
    assert "counted from 1" in phone.redirect_video()
    phone.enter("person", 2)
    assert phone.redirect_video().startswith("Done: 4 frames")
    phone.find("#everyone input").click()
    assert phone.redirect_video().startswith("Done: 4 frames")
    assert phone.find("#saved_video").is_displayed() and "10-bit" in phone.find("#video_details").text
    assert not phone.sticking_out()


def test_on_a_phone_all_is_within_its_width(phone):
    controls = {
        "Photo": "upload after photo_pitch photo_yaw photo_strength ahead save animate",
        "Video": "video video_strength redirect_video video_result",
        "Fine-tune": "steps tune",
    }
    for tab, names in controls.items():
        phone.open_tab(tab)
        assert all(phone.wait(lambda name=name: phone.find(f"#{name}").is_displayed()) for name in names.split())
        assert not phone.sticking_out(), tab
