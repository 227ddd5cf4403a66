"""report.html: it shows what the run's other files hold, escapes every value, and needs no other file."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import h5py
import numpy as np
import pytest
from command_runs import PERSON, PHOTO, ROOT, STEPS, assert_same_weights, command, signal_at_step, train_rows
from jinja2 import UndefinedError
from PIL import Image

from vaegaze.config.finetune import Config
from vaegaze.config.tree import settings_of
from vaegaze.report.formatting import duration, number
from vaegaze.report.numbers import rows
from vaegaze.report.page import Report, page
from vaegaze.report.pictures import PictureRow, Sweep
from vaegaze.report.templating import environment

EMPTY = {"br", "img", "link", "meta", "source"}  # elements without an end tag
SECTIONS = ["pictures", "worst-frames", "gaze-sweep", "numbers", "curves", "person", "what-was-trained", "settings",
            "run", "run-it-again"]  # fmt: skip


class Page(HTMLParser):
    """A page taken apart: elements with their attributes, text, code, tables; ill-formed is an error."""

    def __init__(self, text: str):
        super().__init__()
        self.elements, self.open, self.sections = [], [], []
        self.text, self.code, self.rows = "", "", []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.elements.append((tag, attributes))
        if tag not in EMPTY:
            self.open.append(tag)
        if tag == "section":
            self.sections.append(attributes["id"])
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> within {self.open}"
        self.open.pop()

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data
        if "pre" in self.open:
            self.code += data
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.elements if name == tag]

    def values(self, *names: str) -> set[str]:
        return {value for _, attributes in self.elements for name, value in attributes.items() if name in names}


def page_in(folder) -> Page:
    text = (folder / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.sections == SECTIONS
    assert_needs_nothing_else(text, page)
    return page


def assert_needs_nothing_else(text: str, page: Page) -> None:
    assert text.startswith('<!DOCTYPE html>\n<html lang="en">')
    assert all(value.startswith("data:") for value in page.values("src", "srcset"))
    assert all(value.startswith(("data:", "#")) for value in page.values("href"))
    assert {value[1:] for value in page.values("href") if value.startswith("#")} <= page.values("id")
    assert not {tag for tag, _ in page.elements} & {"script", "iframe", "object", "embed", "form"}
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert "//" not in re.sub(r'"data:[^"]*"', "", text) and "url(" not in text and "@import" not in text
    assert all(attributes["alt"] for attributes in page.all("img"))


def summary_in(folder) -> dict:
    return json.loads((folder / "summary.json").read_text())


@pytest.fixture(scope="module")
def report(finished):
    return page_in(finished[2])


# --- What it shows ----------------------------------------------------------------------------------------------------


def test_the_numbers_are_those_of_the_summary(report, finished):
    summary = summary_in(finished[2])
    told = {float(attributes["value"]) for attributes in report.all("data")}
    tables = [summary["before"], summary["after"], *summary["baselines"].values()]
    assert {value for numbers in tables for value in numbers.values() if value is not None} == told
    for name in ("l1", "eye_l1", "eye_psnr", "ssim"):
        ((_, before, after, change, *baselines),) = (row for row in report.rows if name in row[0].split())
        assert [before, after] == [number(summary[when][name], name) for when in ("before", "after")]
        assert change.endswith("better")
        assert baselines == [number(numbers[name], name) for numbers in summary["baselines"].values()]
    facts = {row[0]: row[1:] for row in report.rows}
    assert facts["steps"] == [str(STEPS)] and facts["device"] == ["cpu"] and facts["strategy"] == ["selective"]
    assert facts["torch version"] == [summary["versions"]["torch"]] and facts["seconds"] == [str(summary["seconds"])]
    assert "4 held-out frames" in report.text and "32 true pictures" in report.text


def test_gaze_is_judged_by_the_true_picture_first():
    numbers = {"l1": 0.1, "gaze_error_deg": 3.0, "estimator_error_deg": 2.0, "gaze_error_to_target_deg": 1.0}
    keys = [row.key for row in rows((numbers, numbers | {"new_metric": 1.0, "redirected_l1": 0.1}))]
    assert keys == ["gaze_error_to_target_deg", "gaze_error_deg", "estimator_error_deg", "l1", "new_metric"]
    keys = [row.key for row in rows((numbers, {"redirected_l1": 0.1, "redirected_eye_l1": 0.1}), "redirected_")]
    assert keys == ["redirected_eye_l1", "redirected_l1"]


def test_the_blends_that_were_tried():
    curve = [{"alpha": alpha, "eye_l1": alpha / 10, "gaze_error_deg": None, "iris_travel": 1.0} for alpha in (0.0, 0.5)]
    made = report_of("a person")
    made.summary["blend"] = {"alpha": 0.5, "frames": 8, "held_out": True, "curve": curve}
    parsed = Page(page(made))
    assert ["0.0", "0.0000", "–", "1.00"] in parsed.rows and ["0.5", "0.0500", "–", "1.00"] in parsed.rows
    assert ["blend alpha", "0.5"] in parsed.rows and "8 held-out frames" in parsed.text


def test_changes():
    (psnr, l1, same) = rows(({"eye_psnr": 20.0, "l1": 0.2, "ssim": 1.0}, {"eye_psnr": 19.0, "l1": 0.1, "ssim": 1.0}))
    assert (psnr.change, psnr.share, psnr.verdict) == ("−1.00", "−5 %", "worse")
    assert (l1.change, l1.share, l1.verdict) == ("−0.1000", "−50 %", "better")
    assert (same.change, same.verdict) == ("no change", "")
    assert rows(({"lpips": None}, {"lpips": None})) == []


def test_a_change_within_two_standard_errors_is_unclear():
    before, after = {"l1": 0.2, "eye_l1": 0.2}, {"l1": 0.1, "eye_l1": 0.1}
    (eyes, whole) = rows((before, after), errors={"l1": 0.05, "eye_l1": 0.15})
    assert (whole.change, whole.verdict) == ("−0.1000 ± 0.0500", "better")
    assert (eyes.change, eyes.verdict) == ("−0.1000 ± 0.1500", "unclear")
    made = report_of("a person")
    made.summary["before"] = {"eye_l1": 0.3, "gaze_error_to_target_deg": 2.5}
    made.summary["two_standard_errors"] = {"eye_l1": 0.05, "gaze_error_to_target_deg": 1.0}
    text = " ".join(Page(page(made)).text.split())
    assert "fell from 0.3000 to 0.2000." in text and "from 2.50° to 2.00°, no more than chance explains." in text


def test_what_was_trained(report, finished):
    parameters = summary_in(finished[2])["parameters"]
    start = report.rows.index(["block", "trained", "of", "share"])
    end = next(i for i, row in enumerate(report.rows) if row[0] == "all")
    blocks = {row[0]: [int(cell.replace(",", "")) for cell in row[1:3]] for row in report.rows[start + 1 : end + 1]}
    assert blocks.pop("all") == [parameters["trainable"], parameters["total"]]
    assert [sum(counts) for counts in zip(*blocks.values())] == [parameters["trainable"], parameters["total"]]
    assert {"vae", "gaze_mlp", "unet.conv_in", "unet.time_embedding", "unet.down_blocks.0", "unet.mid_block",
            "unet.up_blocks.1", "unet.conv_norm_out", "unet.conv_out"} <= blocks.keys()  # fmt: skip
    trained, total = blocks["unet.up_blocks.1"]
    assert trained == total and blocks["vae"][0] == blocks["unet.conv_in"][0] == 0


def test_every_setting_and_where_it_is_from(report, finished):
    rows = [row for row in report.rows if len(row) == 4]
    for setting in settings_of(Config).values():
        assert any(row[0] == setting.name and row[3] == setting.rules["help"] for row in rows), setting.key
    told = {row[0]: row[1:3] for row in rows}
    assert told["num_steps"] == [str(STEPS), "--num_steps"] and told["batch_size"] == ["1", "default"]
    chosen = summary_in(finished[2])["precision"]
    assert told["precision"] == [f"'{chosen}'", "chosen by auto"]
    assert told["person_id"] == [f"'{PERSON}'", "--person_id"]


def test_the_person(report, finished):
    rows = {row[0]: row[1:] for row in report.rows}
    assert rows["person"] == [PERSON] and "8 of 12" in rows["trained on"][0] and "4 " in rows["held out"][0]
    assert rows["layout"] == ["upstream; eye masks: face_parsing"]
    assert ", ".join(map(str, train_rows(finished[2]))) in report.text


def test_the_pictures(report):
    alts = [attributes["alt"] for attributes in report.all("img")]
    assert sum(alt.startswith("target, sample ") for alt in alts) == 4  # all that are held out
    errors = [float(found) for found in re.findall(r"eye L1 [\d.]+ → ([\d.]+)", report.text)]
    (worst,) = re.findall(r"worst is sample \d+, eye L1 ([\d.]+\d)", report.text)
    assert float(worst) == max(errors)
    drawn = [[attributes["src"] for attributes in report.all("img") if attributes["alt"].startswith(name)]
             for name in ("target, ", "before, ", "after, sample", "after, pasted, ")]  # fmt: skip
    assert len({uri for uris in drawn for uri in uris}) == 16, "no two of them are the same"


def test_the_frame_errors_are_those_of_the_summary(report, finished):
    summary = summary_in(finished[2])
    found = np.array(re.findall(r"eye L1 ([\d.]+) → ([\d.]+)", report.text), dtype=float)
    assert found.mean(axis=0) == pytest.approx([summary[when]["eye_l1"] for when in ("before", "after")], abs=1e-3)


def test_the_curves(report, finished):
    """Each as an SVG, for light and dark; in words, the first and the last value."""
    history = [json.loads(line) for line in (finished[2] / "metrics.jsonl").read_text().splitlines()]
    charts = [attributes for attributes in report.all("img") if attributes["src"].startswith("data:image/svg")]
    dark = [attributes["srcset"] for attributes in report.all("source") if "dark" in attributes["media"]]
    assert len(charts) == len(dark) == 3  # loss, l1, mask_l1; vgg has no weight
    for chart, name in zip(charts, ("loss", "l1", "mask_l1")):
        for key in (name, f"held_out_{name}"):
            values = [record[key] for record in history if key in record]
            assert f"from {values[0]:.4g} to {values[-1]:.4g}" in chart["alt"]


def test_durations_read_well():
    assert [duration(seconds) for seconds in (0.26, 59.4, 61, 7265)] == ["0.3 s", "59.4 s", "1 min 1 s", "2 h 1 min"]


HOSTILE = "<x-evil onload=a()>&\"'{{ 7 * 7 }}\x1b\u202e\udcff"
DOT = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="


def report_of(text: str) -> Report:
    """A report, made of plain data, with `text` wherever a file's or a user's words can get to."""
    numbers = {"eye_l1": 0.2, "eye_psnr": 20.0, "gaze_error_to_target_deg": 2.0, "gaze_error_deg": 3.0}
    (setting,) = (setting for setting in settings_of(Config).values() if setting.name == "person_id")
    row = PictureRow(index=1, gaze_rad=(0.1, -0.2), eye_l1=(0.2, 0.1), faces=[DOT] * 4, eyes=[DOT] * 4)
    return Report(
        summary={
            "person": text, "before": numbers, "after": numbers | {text: 1.0}, "baselines": {text: numbers},
            "two_standard_errors": {text: 1.0},
            "held_out": 1, "held_out_but_seen_by_base": 1, "evaluated_on": text, "redirected": 0,
            "estimator": {"path": text, "own_error_deg": {text: 1.0}}, "steps": 1, "seconds": 1.0, "strategy": text,
            "parameters": {"total": 2, "trainable": 1}, "device": text, text: text, "versions": {text: text},
        },
        person={
            "person_id": text, "hdf_path": text, "layout": text, "mask_source": text, "train_indices": [0],
            "held_out_indices": [1], "total_samples": 2, "seed": 0, "gaze_range_rad": {text: [0.0, 0.1]},
        },
        history=[{"step": 1, "loss": 0.5}],
        settings=[(setting, text, text)],
        settings_file=text,
        blocks={text: (1, 2)},
        first=[row],
        worst=[],
        sweep=Sweep(DOT, DOT, False),
        thumbnails=DOT,
        references=DOT,
        photos=[],
        command=text,
    )  # fmt: skip


def test_every_value_is_escaped_and_printable():
    text = page(report_of(HOSTILE))
    parsed = Page(text)
    assert_needs_nothing_else(text, parsed)
    assert not [tag for tag, _ in parsed.elements if tag.startswith("x-")] and text.replace("\n", "").isprintable()
    shown = len(re.findall(re.escape("<x-evil onload=a()>"), parsed.text))
    assert shown >= 20 and "49" not in parsed.text
    assert shown == len(re.findall("KNOWN", Page(page(report_of("KNOWN"))).text))


def test_a_template_cannot_use_what_is_missing():
    with pytest.raises(UndefinedError):
        environment().from_string("{{ nothing }}").render()
    with pytest.raises(UndefinedError):
        environment().from_string("{{ a.nothing }}").render(a={})


def test_missing_numbers_are_a_dash():
    assert [number(value, "l1") for value in (None, float("nan"), float("inf"), -0.5)] == ["–", "–", "–", "−0.5000"]


# --- Every kind of run ------------------------------------------------------------------------------------------------


def test_a_hostile_id_without_a_reference(world, tmp_path):
    """And a long path, and more held-out frames than are shown."""
    hostile = '"><script>alert(1)&amp;$x Zoë 漢'
    with h5py.File(world.hdf_path) as source, h5py.File(tmp_path / "odd.h5", "w") as file:
        source.copy("person_002", file, name=hostile)
    save_dir = tmp_path / ("a long path " * 12)
    flags = ("--hdf_path", tmp_path / "odd.h5", "--num_samples", 1, "--num_steps", 1, "--save_dir", save_dir)
    assert command(*world.flags, *flags).code == 0
    (folder,) = save_dir.iterdir()
    page = page_in(folder)
    rows = {row[0]: row[1:] for row in page.rows}
    assert rows["person"] == [hostile] and "No reference frame" in page.text
    alts = [attributes["alt"] for attributes in page.all("img")]
    assert sum(alt.startswith("target, sample ") for alt in alts) == 8
    (columns, _) = (row for row in page.rows if row[:2] == ["metric", "before"])
    assert columns == ["metric", "before", "after", "change", "mean eye patch", "reference eyes"]
    assert next(row for row in page.rows if "eye_l1" in row[0].split())[5] == "–"


def test_a_photo(world, tmp_path):
    flags = (*world.photo_flags, *PHOTO, "--num_steps", 2, "--save_dir", tmp_path)
    assert command(*flags).code == 0
    page = page_in(tmp_path / "astronaut")
    assert "Nothing is held out" in page.text and "The only frame" in page.text
    assert {"the photo as it was", "with the eyes drawn in"} <= {attributes["alt"] for attributes in page.all("img")}
    assert "renderer" not in page.text and "redirected" not in page.text
    assert ["gaze", "pitch +0.0°, yaw +0.0°"] in page.rows


def test_nothing_held_out_and_somebody_who_was_not_rendered(world, tmp_path):
    with h5py.File(world.hdf_path) as source, h5py.File(tmp_path / "other.h5", "w") as file:
        source.copy("person_004", file, name="somebody")
        file["somebody"].attrs.clear()
    flags = ("--hdf_path", tmp_path / "other.h5", "--person_id", "somebody", "--num_steps", 1, "--save_dir", tmp_path)
    assert command(*world.flags, *flags).code == 0
    page = page_in(tmp_path / "somebody")
    assert "Nothing is held out" in page.text and "renderer" not in page.text
    assert not [attributes for attributes in page.all("img") if "held out from" in attributes["alt"]], "no such curve"


# --- The run behind it ------------------------------------------------------------------------------------------------


def without_measurements(folder) -> str:
    """The page but for times and memory: under its title, and in the rows of its section Run."""
    text = (folder / "report.html").read_text(encoding="utf-8").replace(str(folder.parent), "SAVE_DIR")
    text, found = re.subn(r"(<dt>Training</dt><dd>[^<]*<small>)[^<]*", r"\1", text)
    rows = [
        "sec per step",
        "peak memory mb",
        "total seconds",
        *(f"seconds of {each.replace('_', ' ')}" for each in summary_in(folder)["seconds_of"]),
    ]
    for row in ("seconds", *rows):
        text, times = re.subn(rf'(<th scope="row">{row}</th><td>)[^<]*', r"\1", text)
        found += times
    assert found == 2 + len(rows), "all were there"
    return text.replace("stored by the earlier run", "chosen by auto")


def test_a_resumed_run_has_the_same_page(finished, tmp_path, monkeypatch):
    """The base's pictures included, though nothing was drawn with the base after the interruption."""
    flags, _, folder = finished
    flags = (*flags, "--save_dir", tmp_path)
    with monkeypatch.context() as patched:
        signal_at_step(patched, 7, signal.SIGTERM)
        assert command(*flags).code == 143
    assert not (tmp_path / PERSON / "report.html").exists()
    assert command(*flags, "--resume").code == 0
    assert "stored by the earlier run" in (tmp_path / PERSON / "report.html").read_text(encoding="utf-8")
    assert without_measurements(tmp_path / PERSON) == without_measurements(folder)


def test_the_command_does_the_run_again(finished, tmp_path):
    """As printed, in a shell, with the settings in the run's folder."""
    _, _, folder = finished
    save_dir = tmp_path / "it's a copy"
    flags = [str(save_dir) if flag == folder.parent else flag for flag in finished[0]]
    assert command(*flags, "--num_steps", 3).code == 0
    again = save_dir / PERSON
    shutil.copy(again / "finetuned_model.pth", tmp_path)
    shutil.rmtree(again / "samples")
    words = page_in(again).code
    assert words.startswith("OMP_NUM_THREADS=1 python ") and words.endswith(" --overwrite")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path}
    environment.pop("OMP_NUM_THREADS", None)
    subprocess.run(["sh", "-c", words], cwd=ROOT, env=environment, check=True, capture_output=True, timeout=300)
    assert (again / "samples").exists()
    assert_same_weights(again / "finetuned_model.pth", tmp_path / "finetuned_model.pth")


def test_the_page_is_small(finished):
    assert (finished[2] / "report.html").stat().st_size < 400_000  # pictures of 32 px


# --- In a browser -----------------------------------------------------------------------------------------------------

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
in_a_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium")
FRAME = """<!DOCTYPE html><body style="margin:0"><iframe src="report.html" width="360" height="4000" onload="
  const page = this.contentDocument.documentElement;
  document.title = page.scrollWidth + ' of ' + page.clientWidth + ' px'"></iframe></body>"""


class Shelf(SimpleHTTPRequestHandler):
    """A folder's files, and the paths that were asked for."""

    def log_message(self, form, *arguments):
        self.server.asked.append(self.path)


@pytest.fixture
def served(finished, tmp_path):
    """The report's address, beside other pages; and what a browser has asked for."""
    shutil.copy(finished[2] / "report.html", tmp_path)
    (tmp_path / "phone.html").write_text(FRAME)
    (tmp_path / "loud.html").write_text('<link rel="icon" href="data:,"><img src="none.png"><script>none()</script>')
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Shelf, directory=tmp_path))
    server.asked = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", server.asked
    server.shutdown()
    server.server_close()


def browse(tmp_path, address: str, *options: str) -> subprocess.CompletedProcess:
    always = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-background-networking",
              "--enable-logging=stderr", f"--user-data-dir={tmp_path / 'profile'}")  # fmt: skip
    done = subprocess.run([CHROMIUM, *always, *options, address], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.slow
@in_a_browser
@pytest.mark.parametrize(("dark", "range_of_grey"), [((), (150, 255)), (("--force-dark-mode",), (0, 100))])
def test_a_browser_shows_it_in_silence(dark, range_of_grey, served, tmp_path):
    """Light and dark: no message on its console, no request, and something to be seen."""
    (address, asked), shot = served, tmp_path / "page.png"
    done = browse(tmp_path, f"{address}/report.html", *dark, "--window-size=1000,3000", f"--screenshot={shot}")
    assert "CONSOLE" not in done.stderr and asked == ["/report.html"]
    with Image.open(shot) as picture:
        assert range_of_grey[0] < np.median(picture.convert("L")) < range_of_grey[1]
        assert len(picture.convert("RGB").getcolors(10**7)) > 1000, "faces are to be seen"


@pytest.mark.slow
@in_a_browser
def test_on_a_phone_only_tables_scroll_sideways(served, tmp_path):
    done = browse(tmp_path, f"{served[0]}/phone.html", "--dump-dom")
    assert "<title>360 of 360 px</title>" in done.stdout


@pytest.mark.slow
@in_a_browser
def test_a_loud_page_would_be_heard(served, tmp_path):
    done = browse(tmp_path, f"{served[0]}/loud.html", "--dump-dom")
    assert "CONSOLE" in done.stderr and "/none.png" in served[1]
