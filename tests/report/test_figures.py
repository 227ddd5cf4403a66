"""The loss curve: one drawing, as a file and in a page."""

import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import pytest
from PIL import Image

from vaegaze.report.figures import DARK, LIGHT, in_dark, loss_curve_svg, recorded, write_loss_curve

HISTORY = [
    {"step": 0, "held_out_loss": 0.5},
    {"step": 10, "loss": 0.4, "l1": 0.1},
    {"step": 20, "loss": 0.3, "l1": 0.1},
    {"step": 20, "held_out_loss": 0.4},
]


def test_only_names_with_points_are_drawn():
    assert recorded(HISTORY) == ["loss", "l1"] and recorded(HISTORY, ["vgg"]) == []


def test_the_same_history_gives_the_same_bytes():
    assert loss_curve_svg(HISTORY, "loss") == loss_curve_svg(HISTORY, "loss")


def test_in_dark_it_has_the_other_colours_and_no_more():
    light = loss_curve_svg(HISTORY, "loss").decode()
    dark = in_dark(light.encode()).decode()
    for name in ("ink", "grid", "training", "held_out"):
        count = light.count(getattr(LIGHT, name))
        assert count > 0 == dark.count(getattr(LIGHT, name)) and dark.count(getattr(DARK, name)) == count
    assert re.sub("#[0-9a-f]{6}", "", light) == re.sub("#[0-9a-f]{6}", "", dark)


@pytest.mark.parametrize("history", [[{"step": 1, "loss": 0.5}], [{"step": 0, "loss": 0.0}, {"step": 9, "loss": 0.0}]])
def test_a_single_point_and_zeros(history):
    ElementTree.fromstring(loss_curve_svg(history, "loss"))


def test_a_file_with_an_odd_title(tmp_path):
    write_loss_curve(tmp_path / "curve.png", HISTORY, "$x_ \\ 漢 \x1b: loss")
    with Image.open(tmp_path / "curve.png") as picture:
        assert picture.format == "PNG" and picture.width > 2 * picture.height, "two axes side by side"
    assert [path.name for path in tmp_path.iterdir()] == ["curve.png"]


def test_a_users_own_style_changes_nothing(tmp_path):
    """It may want LaTeX, as for a paper, which may not be installed."""
    own = {"text.usetex": True, "font.size": 30, "axes.linewidth": 9}
    write_loss_curve(tmp_path / "a.png", HISTORY, "50 % of a_b")
    with matplotlib.rc_context(own):
        write_loss_curve(tmp_path / "b.png", HISTORY, "50 % of a_b")
        assert matplotlib.rcParams["text.usetex"]
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_display_that_matplotlib_does_not_know():
    script = f"from vaegaze.report import figures; figures.loss_curve_svg({HISTORY}, 'loss')"
    env = {**os.environ, "MPLBACKEND": "no such"}
    subprocess.run([sys.executable, "-c", script], check=True, env=env, cwd=Path(__file__).parents[2])
