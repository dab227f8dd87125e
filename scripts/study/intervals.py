"""Numbers with their intervals: dots beside names, curves over a number, points in a plane."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

from sevila.report.figures import BLUE, GREEN, GREY, INK, ORANGE, RED, WIDTH, new_figure, text_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLES = ((BLUE, "o"), (ORANGE, "s"), (GREEN, "^"), (RED, "D"), (INK, "v"), (GREY, "P"))  # of series, in order
BESIDE = 1.04  # from series to series, where places double
SIZE = 10.5  # of letters, points
COLUMNS = 3  # of a legend
GRID = "#e4e6e9"
OF_PAGE = {  # a figure's colour -> the page's, which is another one in dark rooms
    BLUE: "var(--blue)", ORANGE: "var(--orange)", GREEN: "var(--green)", RED: "var(--red)", GREY: "var(--faint)",
    GRID: "var(--line)", INK: "currentColor", "#000000": "currentColor",
}  # fmt: skip
LEGEND_LINE, TITLE, FOOT, RIM = 0.24, 0.4, 0.65, 0.2  # inches


@dataclass(frozen=True)
class Estimate:
    """A mean or a difference of means, and the ends of its interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.2f} [{self.low:.2f}, {self.high:.2f}]"

    def to_json(self) -> dict[str, float]:
        return {"mean": round(self.mean, 4), "low": round(self.low, 4), "high": round(self.high, 4)}


@dataclass(frozen=True)
class Panel:
    """Axes of a figure: a title, and of every series one estimate for each place (None: there is none)."""

    title: str
    series: Mapping[str, Sequence[Estimate | None]]


def dots_figure(labels: Sequence[str], panels: Sequence[Panel], line: float | None = None) -> Figure:
    """A line for each label, from top to bottom, with a dot and its interval for each series; panels side by side.

    line   a number to be marked in all panels, such as 0 for differences

    Axes are labelled by their panel's title; the series are their containers, in order.
    """
    unit = 0.4  # inches a label
    left = max((text_width(label, SIZE) for label in labels), default=0.0) + 0.35
    names = _names(panels)
    legend = names if len(names) > 1 else []  # one alone is what the panels' titles say
    figure = new_figure(_top(legend) + TITLE + unit * len(labels) + FOOT)
    for axes, panel in _side_by_side(figure, panels, legend, left, unit * len(labels), gap=0.35):
        shown = [name for name in names if name in panel.series]
        for i, name in enumerate(shown):
            down = 0.0 if len(shown) == 1 else 0.36 * (i / (len(shown) - 1) - 0.5)
            places = [place + down for place in range(len(labels))]
            _marks(axes, places, panel.series[name], name, names.index(name), across=True, joined=False)
        axes.set_ylim(len(labels) - 0.4, -0.6)
        axes.set_yticks(range(len(labels)), labels if axes is figure.axes[0] else [], parse_math=False)
        axes.xaxis.grid(True, color=GRID, linewidth=0.8)
        if line is not None:
            axes.axvline(line, color=INK, linestyle="--", linewidth=1.2)
    if legend:
        _legend(figure, legend)
    return figure


def curves_figure(places: Sequence[float], panels: Sequence[Panel], xlabel: str) -> Figure:
    """Curves with their intervals over numbers that double, such as 1, 2, 4, 8; panels side by side.

    Axes are labelled by their panel's title; the series are their containers, in order.
    """
    height = 3.0  # inches
    names = _names(panels)
    figure = new_figure(_top(names) + TITLE + height + FOOT)
    for axes, panel in _side_by_side(figure, panels, names, 0.6, height, gap=0.7):
        for name, estimates in panel.series.items():
            aside = BESIDE ** (names.index(name) - (len(names) - 1) / 2)  # or intervals would hide each other
            _marks(axes, [place * aside for place in places], estimates, name, names.index(name), False, joined=True)
        axes.set_xscale("log", base=2)
        axes.set_xticks(places, [f"{place:g}" for place in places])
        axes.set_xlabel(xlabel, fontsize=SIZE, color=INK, parse_math=False)
        axes.grid(True, color=GRID, linewidth=0.8)
    _legend(figure, names)
    return figure


def points_figure(series: Mapping[str, Sequence[tuple[float, float]]], xlabel: str, ylabel: str) -> Figure:
    """Points (x, y) of every series; a line marks y = 0. The axes are labelled "points"."""
    height = 3.4  # inches
    top = _top(list(series))
    figure = new_figure(top + height + FOOT)
    axes = axes_at(figure, 0.8, top, WIDTH - 0.8 - RIM, height, "points")
    for (colour, marker), points in zip(_styles(len(series)), series.values(), strict=True):
        xs, ys = zip(*points, strict=True) if points else ((), ())
        axes.plot(xs, ys, marker, color=colour, markersize=6, alpha=0.8)
    axes.axhline(0, color=INK, linestyle="--", linewidth=1.2)
    axes.set_xlabel(xlabel, fontsize=SIZE, color=INK, parse_math=False)
    axes.set_ylabel(ylabel, fontsize=SIZE, color=INK, parse_math=False)
    axes.grid(True, color=GRID, linewidth=0.8)
    _plain(axes)
    _legend(figure, list(series))
    return figure


def svg_text(figure: Figure) -> str:
    """The figure as an SVG element without ground, in the page's colours; equal figures give equal text."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "sevila"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace("'DejaVu Sans', ", "")
    for colour, name in OF_PAGE.items():
        svg = svg.replace(colour.lower(), name)
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    own = f"f{hashlib.sha256(svg.encode()).hexdigest()[:8]}-"  # or figures of one page would share names
    return re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{own}", svg)


def axes_at(figure: Figure, left: float, top: float, width: float, height: float, label: str = "") -> Axes:
    """Axes at a place in inches from the figure's upper left corner; `label` finds them again."""
    full_width, full_height = figure.get_size_inches()
    place = (left / full_width, 1 - (top + height) / full_height, width / full_width, height / full_height)
    return figure.add_axes(place, label=label)


def _marks(
    axes: Axes,
    places: Sequence[float],
    estimates: Sequence[Estimate | None],
    name: str,
    number: int,
    across: bool,
    joined: bool,
) -> None:
    """Dots and their intervals, numbers running `across` the panel or up."""
    known = [(place, e) for place, e in zip(places, estimates, strict=True) if e is not None]
    at, means = [place for place, _ in known], [e.mean for _, e in known]
    # the mean of resamples may lie a little outside of where they lie: no length below 0
    ends = [[max(0.0, e.mean - e.low) for _, e in known], [max(0.0, e.high - e.mean) for _, e in known]]
    colour, marker = _styles(number + 1)[number]
    data = {"x": means, "y": at, "xerr": ends} if across else {"x": at, "y": means, "yerr": ends}
    form = f"-{marker}" if joined else marker
    axes.errorbar(**data, fmt=form, color=colour, markersize=5, linewidth=1.5, elinewidth=1.3, capsize=2.5, label=name)


def _side_by_side(
    figure: Figure, panels: Sequence[Panel], legend: Sequence[str], left: float, height: float, gap: float
) -> list[tuple[Axes, Panel]]:
    top = _top(legend) + TITLE
    width = (WIDTH - left - RIM - gap * (len(panels) - 1)) / len(panels)
    out = []
    for i, panel in enumerate(panels):
        axes = axes_at(figure, left + i * (width + gap), top, width, height, panel.title)
        axes.set_title(panel.title, loc="left", fontsize=SIZE + 0.5, color=INK, parse_math=False)
        _plain(axes)
        out.append((axes, panel))
    return out


def _plain(axes: Axes) -> None:
    axes.tick_params(labelsize=SIZE, labelcolor=INK, color=GREY)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _names(panels: Sequence[Panel]) -> list[str]:
    return list(dict.fromkeys(name for panel in panels for name in panel.series))


def _styles(number: int) -> list[tuple[str, str]]:
    return [STYLES[i % len(STYLES)] for i in range(number)]


def _top(names: Sequence[str]) -> float:
    """Inches for a legend of these names."""
    return 0.1 + LEGEND_LINE * ceil(len(names) / COLUMNS)


def _legend(figure: Figure, names: Sequence[str]) -> None:
    """The series' names on top."""
    from matplotlib.lines import Line2D

    marks = [
        Line2D([], [], color=colour, marker=marker, linestyle="", markersize=6, label=name)
        for (colour, marker), name in zip(_styles(len(names)), names, strict=True)
    ]
    figure.legend(
        handles=marks, loc="upper left", bbox_to_anchor=(0.01, 1.0), ncols=COLUMNS, frameon=False, fontsize=SIZE,
        handletextpad=0.2, columnspacing=1.2, borderaxespad=0.3, labelspacing=0.25,
    )  # fmt: skip
