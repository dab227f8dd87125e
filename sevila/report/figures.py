"""What every figure here shares: places in inches, colours that colour-blind readers can tell apart, PNG.

Figures are matplotlib's `Figure` objects without pyplot: no global state, no window, no display needed.
"""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

from sevila.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patheffects import AbstractPathEffect

WIDTH = 9.0  # inches; every figure has it, so that equal font sizes look equal on a page
DPI = 120  # pixels an inch
POINTS = 72  # an inch, by definition

# Okabe and Ito's palette, https://jfly.uni-koeln.de/color/
BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
INK, GREY, PALE = "#222222", "#767676", "#C9CDD2"


def new_figure(height: float) -> Figure:
    """An empty white figure of WIDTH x `height` inches, drawn by Agg."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def axes_at(figure: Figure, left: float, top: float, width: float, height: float, label: str = "") -> Axes:
    """Axes at a place in inches from the figure's upper left corner; `label` finds them again."""
    full_width, full_height = figure.get_size_inches()
    place = (left / full_width, 1 - (top + height) / full_height, width / full_width, height / full_height)
    return figure.add_axes(place, label=label)


def write(axes: Axes, x: float, y: float, text: str, **style: object) -> None:
    """Text at data coordinates, letter by letter: a dollar sign starts no formula."""
    axes.text(x, y, text, parse_math=False, **style)


def text_width(text: str, size: float, weight: str = "normal") -> float:
    """Width of a line of text in inches, at font size `size` (points)."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(size=size, weight=weight)
    return text_to_path.get_text_width_height_descent(text, font, ismath=False)[0] / POINTS


def halo() -> list[AbstractPathEffect]:
    """Path effects that keep a text legible on top of lines: a white rim."""
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=2.5, foreground="white")]


def wrap(text: str, width: float, size: float, weight: str = "normal", most: int = 6) -> list[str]:
    """Break `text` into lines of at most `width` inches at font size `size` (points), by measured width.

    Words that are wider than a line are broken inside. What does not fit into `most` lines ends in an
    ellipsis. There is always at least one line, if an empty one.
    """

    def fits(line: str) -> bool:
        return text_width(line, size, weight) <= width

    lines = [""]
    for word in text.split():
        joined = f"{lines[-1]} {word}".strip()
        if fits(joined):
            lines[-1] = joined
            continue
        if lines[-1]:
            lines.append("")
        for letter in word:
            if lines[-1] and not fits(lines[-1] + letter):
                lines.append("")
            lines[-1] += letter
        if len(lines) > most:
            break
    if len(lines) <= most:
        return lines
    last = lines[most - 1]
    while last and not fits(last + "…"):
        last = last[:-1]
    return [*lines[: most - 1], last.rstrip() + "…"]


def png_bytes(figure: Figure) -> bytes:
    """The figure as a PNG image; equal figures give equal bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def save_png(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write the figure to a PNG file, atomically."""
    write_bytes(path, png_bytes(figure))
