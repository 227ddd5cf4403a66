"""The loss curve and the distributions of a cohort, drawn by matplotlib: as a PNG file, and as SVG in a page."""

import io
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vaegaze.errors import plain
from vaegaze.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEADROOM = 1.06  # of the axis above the highest point
TICKS = 5  # at most, or one more
# Margins in inches. Matplotlib's own layouts would find them by drawing everything once before.
LEFT, RIGHT, BOTTOM, TOP, TOP_WITH_TITLES = 0.75, 0.15, 0.5, 0.25, 0.65
LOSS_TERMS = ("loss", "l1", "mask_l1", "vgg")
OF_SVG = {  # Without a salt the file's ids are random; text that stays text halves its size.
    "svg.hashsalt": "vaegaze",
    "svg.fonttype": "none",
}


@dataclass(frozen=True)
class Theme:
    """The colours of a figure; those of the style sheet, where `light` and `dark` are defined, too."""

    ink: str
    grid: str
    training: str
    held_out: str
    background: str = "none"


LIGHT = Theme(ink="#4b5159", grid="#dcdfe3", training="#1d5fc0", held_out="#b3500b")
DARK = Theme(ink="#a3aab5", grid="#363b44", training="#86b5ff", held_out="#f2a863")
PAPER = Theme(ink="#1d1f23", grid="#dcdfe3", training="#1d5fc0", held_out="#b3500b", background="#ffffff")


def write_loss_curve(path: Path, history: list[dict], title: str, names: Sequence[str] = LOSS_TERMS) -> None:
    """A PNG with one axis for each of the names that the history has: training and held-out frames over the steps."""
    with _own_style():
        figure = _figure(history, recorded(history, names), PAPER, height_inches=3.4, top_inches=TOP_WITH_TITLES)
        for axis, name in zip(figure.axes, recorded(history, names)):
            axis.set_title(name)
        figure.suptitle(plain(title), parse_math=False)  # an id may hold a $
        with atomic_path(path) as temporary, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a title may have letters that the font lacks
            figure.savefig(temporary, dpi=110)


def loss_curve_svg(history: list[dict], name: str) -> bytes:
    """The curve of one name as an SVG on a transparent ground, in light. The same history gives the same bytes."""
    file = io.BytesIO()
    with _own_style(OF_SVG):
        _figure(history, [name], LIGHT, height_inches=2.7).savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def recorded(history: list[dict], names: Sequence[str] = LOSS_TERMS) -> list[str]:
    """Those of the names for which the history has points."""
    return [name for name in names if any({name, f"held_out_{name}"} & record.keys() for record in history)]


def points(history: list[dict], key: str) -> list[tuple[int, float]]:
    """(step, value) of a key of metrics.jsonl; few lines have all keys."""
    return [(record["step"], record[key]) for record in history if key in record]


def in_dark(svg: bytes) -> bytes:
    """A drawing of the light theme in the dark one's colours: drawing it again would take as long as the first time."""
    for light, dark in zip(astuple(LIGHT), astuple(DARK)):
        svg = svg.replace(light.encode(), dark.encode())
    return svg


def distribution_svg(before: Sequence[float], after: Sequence[float]) -> bytes:
    """Two histograms with common bins as an SVG like the curve's. The same numbers give the same bytes."""
    file = io.BytesIO()
    bins = np.histogram_bin_edges([*before, *after], bins=min(40, max(5, len(before) // 3)))
    with _own_style(OF_SVG):
        figure = _blank(1, LIGHT, height_inches=2.4)
        (axis,) = figure.axes
        axis.hist(before, bins, histtype="step", linestyle="--", color=LIGHT.held_out, label="before", linewidth=1.5)
        axis.hist(after, bins, color=LIGHT.training, label="after", alpha=0.6)
        axis.set(ylabel="persons")
        _plain_axis(axis, LIGHT)
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


@contextmanager
def _own_style(settings: Mapping[str, str] | None = None) -> Iterator[None]:
    """matplotlib as it comes, but for these settings: a user's own may want LaTeX, or a display that is not there."""
    if "matplotlib" not in sys.modules:
        os.environ["MPLBACKEND"] = "agg"  # one that it does not know would end the import
    import matplotlib.style

    with matplotlib.style.context("default"), matplotlib.rc_context(settings):
        yield


def _figure(
    history: list[dict], names: Sequence[str], theme: Theme, height_inches: float, top_inches: float = TOP
) -> "Figure":
    figure = _blank(len(names), theme, height_inches, top_inches)
    for axis, name in zip(figure.axes, names):
        _draw(axis, history, name, theme)
    return figure


def _blank(columns: int, theme: Theme, height_inches: float, top_inches: float = TOP) -> "Figure":
    """A figure of empty axes side by side, in the theme's colours."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # works without a display; pyplot may not
    from matplotlib.figure import Figure

    colours = {
        "axes.edgecolor": theme.grid,
        "axes.facecolor": "none",
        "axes.labelcolor": theme.ink,
        "figure.facecolor": theme.background,
        "grid.color": theme.grid,
        "text.color": theme.ink,
        "xtick.color": theme.ink,
        "ytick.color": theme.ink,
    }
    width_inches = 4.2 * columns
    axis_inches = width_inches / columns - LEFT - RIGHT
    margins = {
        "left": LEFT / width_inches,
        "right": 1 - RIGHT / width_inches,
        "bottom": BOTTOM / height_inches,
        "top": 1 - top_inches / height_inches,
        "wspace": (LEFT + RIGHT) / axis_inches,
    }
    with matplotlib.rc_context(colours):
        figure = Figure(figsize=(width_inches, height_inches))
        FigureCanvasAgg(figure)
        figure.subplots(1, columns, gridspec_kw=margins)
    return figure


def _draw(axis: "Axes", history: list[dict], name: str, theme: Theme) -> None:
    highest = max(value for key in (name, f"held_out_{name}") for _, value in points(history, key))
    for key, label, style, colour in (
        (name, "training", "-", theme.training),
        (f"held_out_{name}", "held out", "o--", theme.held_out),
    ):
        drawn = points(history, key)
        if drawn:
            style = style if len(drawn) > 1 else "o"  # a line of one point is invisible
            axis.plot(*zip(*drawn), style, label=label, color=colour, markersize=4)
    axis.set(xlabel="step", ylim=(0, HEADROOM * highest if highest > 0 else 1))
    _plain_axis(axis, theme)


def _plain_axis(axis: "Axes", theme: Theme) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(color=theme.grid)
    axis.locator_params(nbins=TICKS)
    axis.ticklabel_format(axis="y", scilimits=(-3, 5))  # no label wider than the margin
    axis.legend(frameon=False, labelcolor=theme.ink)
