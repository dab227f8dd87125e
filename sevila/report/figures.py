"""What matplotlib draws: an answered question as a PNG, and what every figure shares.

Figures are matplotlib's `Figure` objects without pyplot: no global state, no window, no display needed.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np

from sevila.files import write_bytes
from sevila.report.timeline import Example, Timeline, letter

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.layout_engine import LayoutEngine
    from matplotlib.patheffects import AbstractPathEffect

WIDTH = 9.0  # inches; every figure has it, so that equal font sizes look equal on a page
DPI = 120  # pixels an inch
POINTS = 72  # an inch, by definition

# Okabe and Ito's palette, https://jfly.uni-koeln.de/color/
BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
INK, GREY, PALE = "#222222", "#767676", "#C9CDD2"
COLOURS = {"open": BLUE, "right": GREEN, "wrong": RED}  # of an answer

TITLE, BODY, SMALL = 14, 11, 9.5  # font sizes in points
LINE = 1.3  # line height, in font sizes


def new_figure(height: float, layout: LayoutEngine | None = None) -> Figure:
    """An empty white figure of WIDTH x `height` inches, drawn by Agg."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), dpi=DPI, facecolor="white", layout=layout)
    FigureCanvasAgg(figure)
    return figure


def text_width(text: str, size: float, weight: str = "normal") -> float:
    """Width of a line of text in inches, at font size `size` (points)."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(size=size, weight=weight)
    return text_to_path.get_text_width_height_descent(text, font, ismath=False)[0] / POINTS


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
        for sign in word:
            if lines[-1] and not fits(lines[-1] + sign):
                lines.append("")
            lines[-1] += sign
        if len(lines) > most:
            break
    if len(lines) <= most:
        return lines
    last = lines[most - 1]
    while last and not fits(last + "…"):
        last = last[:-1]
    return [*lines[: most - 1], last.rstrip() + "…"]


def draw_example(example: Example) -> Figure:
    """Question and options with their probabilities, scores over time, and the keyframes in time order.

    The figure's axes are found by their labels: "options", "time", and "keyframe 1" ... "keyframe K".
    """
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    timeline, keyframes = example.timeline, example.in_order
    label = wrap(timeline.label, WIDTH - 0.6, SMALL, most=1)[0]
    heading = [(label, SMALL, "normal", GREY)] if label else []
    heading += [(line, TITLE, "bold", INK) for line in wrap(timeline.question, WIDTH - 0.6, TITLE, "bold", most=8)]
    heading += [(timeline.verdict, BODY, "normal", COLOURS[timeline.outcome])] if timeline.verdict else []
    options = ["\n".join(wrap(text, 4.6, BODY, "bold")) for text in timeline.options]
    columns, rows = _grid(len(keyframes))
    aspect = max((image.shape[0] / image.shape[1] for _, image in keyframes), default=1.0)
    height = min((WIDTH - 0.6) / columns, 3.0) * aspect
    heights = [  # in inches, from top to bottom: heading, options, scores over time, thumbnails
        sum(size for _, size, _, _ in heading) * LINE / POINTS + 0.15,
        sum((1 + text.count("\n")) * BODY * LINE / POINTS + 0.1 for text in options) + 0.02,
        0.9 if timeline.scores is None else 2.6,
        rows * (min(height, 3.1) + 0.6) + 0.02,
    ]
    figure = new_figure(sum(heights), ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.06))
    top, listing, curve, bottom = figure.subfigures(4, 1, squeeze=False, height_ratios=heights)[:, 0]
    _draw_heading(top, heading, heights[0])
    if options:
        _draw_options(listing.subplots(), timeline, options)
    _draw_time(curve.subplots(), timeline)
    if keyframes:
        places = list(bottom.subplots(rows, columns, squeeze=False).flat)
        for axes in places:
            axes.axis("off")
        for number, (axes, (position, image)) in enumerate(zip(places, keyframes, strict=False), start=1):
            _draw_keyframe(axes, timeline, number, position, image)
    return figure


def png_bytes(figure: Figure) -> bytes:
    """The figure as a PNG image; equal figures give equal bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def save_png(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write the figure to a PNG file, atomically."""
    write_bytes(path, png_bytes(figure))


def _grid(keyframes: int) -> tuple[int, int]:
    """Columns and rows of the thumbnails: even rows of up to 4, of up to 8 where they are many."""
    rows = ceil(keyframes / (4 if keyframes <= 8 else 8))
    return (ceil(keyframes / rows), rows) if rows else (1, 0)


def _draw_heading(place: SubFigure, lines: Sequence[tuple[str, float, str, str]], height: float) -> None:
    y = 0.1  # inches from the top
    for text, size, weight, colour in lines:
        style: dict[str, Any] = {"fontsize": size, "fontweight": weight, "color": colour, "va": "top"}
        place.text(0.3 / WIDTH, 1 - y / height, text, parse_math=False, **style)
        y += size * LINE / POINTS


def _draw_options(axes: Axes, timeline: Timeline, options: Sequence[str]) -> None:
    axes.set_label("options")
    chosen = [i == timeline.prediction for i in range(len(options))]
    colours = [COLOURS[timeline.outcome] if choice else PALE for choice in chosen]
    heights = [1 + text.count("\n") for text in options]
    middles = [sum(heights[:i]) + height / 2 for i, height in enumerate(heights)]
    bars = axes.barh(middles, timeline.probabilities, height=0.6, color=colours)
    chances = [f"{100 * chance:.1f} %" for chance in timeline.probabilities]
    axes.bar_label(bars, chances, padding=4, fontsize=SMALL, color=INK)
    names = [f"{timeline.sign(i)} {letter(i)}  {text}".strip() for i, text in enumerate(options)]
    axes.set_yticks(middles, names, fontsize=BODY, color=INK, parse_math=False)
    for name, choice in zip(axes.get_yticklabels(), chosen, strict=True):
        name.set_fontweight("bold" if choice else "normal")
    axes.set(xlim=(0, 1.15), ylim=(sum(heights), 0), xticks=[])
    axes.tick_params(left=False)
    axes.spines[:].set_visible(False)


def _draw_time(axes: Axes, timeline: Timeline) -> None:
    axes.set_label("time")
    scored = timeline.scores is not None
    heights = timeline.scores if timeline.scores is not None else [0.0] * len(timeline.times)
    for n, (start, end) in enumerate(timeline.windows or ()):
        axes.axvspan(start, end, color=GREEN, alpha=0.22, label="" if n else "true moment")
    line: dict[str, Any] = {"color": BLUE, "linewidth": 1.4, "markersize": 4, "label": "sampled frame"}
    axes.plot(timeline.times, heights, "-o" if scored else "o", **line)
    shown = sorted(timeline.keyframes)
    spot: dict[str, Any] = {
        "color": ORANGE,
        "markersize": 9,
        "markeredgecolor": INK,
        "markeredgewidth": 0.8,
        "label": "keyframe",
    }
    axes.plot([timeline.times[i] for i in shown], [heights[i] for i in shown], "o", **spot)
    for number, i in enumerate(shown, start=1):
        style: dict[str, Any] = {"fontsize": SMALL, "fontweight": "bold", "ha": "center", "path_effects": halo()}
        axes.annotate(str(number), (timeline.times[i], heights[i]), (0, 7), textcoords="offset points", **style)
    axes.set_xlim(timeline.seconds.low, timeline.seconds.high)
    axes.set_xlabel("seconds", fontsize=SMALL, color=INK)
    axes.tick_params(labelsize=SMALL, color=GREY, labelcolor=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title("relevance" if scored else "frames chosen without scores", loc="left", fontsize=BODY, color=INK)
    if scored:
        axes.margins(y=0.2)  # room for the numbers
    else:
        axes.set(ylim=(-1, 2), yticks=[])
        axes.spines["left"].set_visible(False)
    place: dict[str, Any] = {"loc": "lower right", "bbox_to_anchor": (1.0, 1.0), "borderaxespad": 0.2}
    axes.legend(fontsize=SMALL, ncols=3, frameon=False, **place)


def halo() -> list[AbstractPathEffect]:
    """Path effects that keep a text legible on top of lines: a white rim."""
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=2.5, foreground="white")]


def _draw_keyframe(axes: Axes, timeline: Timeline, number: int, position: int, image: np.ndarray) -> None:
    axes.set_label(f"keyframe {number}")
    axes.axis("on")
    axes.imshow(image)
    axes.set(xticks=[], yticks=[])
    score = "" if timeline.scores is None else f"\nscore {timeline.scores[position]:.2f}"
    axes.set_xlabel(f"{number}: {timeline.when(position)}{score}", fontsize=SMALL, color=INK)
    axes.spines[:].set_color(ORANGE)
    axes.spines[:].set_linewidth(2)
