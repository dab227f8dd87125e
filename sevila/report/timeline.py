"""One answered question in one picture: what was asked and answered, and from which frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

import numpy as np

from sevila.data.records import Window
from sevila.report.figures import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PALE,
    POINTS,
    RED,
    WIDTH,
    axes_at,
    halo,
    new_figure,
    save_png,
    text_width,
    wrap,
    write,
)
from sevila.report.page import Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Timeline", "describe", "draw_timeline", "save_png", "timeline_picture"]

# Inches.
MARGIN = 0.4
INNER = WIDTH - 2 * MARGIN
INDENT = 0.5  # of an option's text, after its sign and letter
OPTION_TEXT = 4.9  # the most that an option's text is wide; its bar follows
BAR = 2.0  # width of a bar of 100 %
CURVE_HEIGHT, ROW_HEIGHT = 1.9, 0.5  # of the axes over time: with scores, and without
GAP = 0.14  # between thumbnails
LARGEST = (2.6, 3.1)  # width and height of a thumbnail at most

LINE = 1.3  # line height, in font sizes
TITLE, BODY, SMALL = 14, 11, 9.5  # font sizes in points


@dataclass(frozen=True)
class Timeline:
    """A question, its answer, and the frames of its video.

    prediction      index of the chosen option; answer: of the right one, None where it is not known
    probabilities   of the options, each 0..1
    times           of all T sampled frames, in seconds from the video's start, in order
    scores          relevance of the T frames; None where frames were chosen without scores
    keyframes       positions 0..T-1 of the K chosen frames
    windows         the true moments in seconds; None where they are not known
    duration        of the video, in seconds
    label           where it comes from, such as the video's name; "" shows nothing

    ValueError where the lengths do not fit each other.
    """

    question: str
    options: Sequence[str]
    prediction: int
    answer: int | None
    probabilities: Sequence[float]
    times: Sequence[float]
    scores: Sequence[float] | None
    keyframes: Sequence[int]
    windows: Sequence[Window] | None
    duration: float
    label: str = ""

    def __post_init__(self) -> None:
        if len(self.probabilities) != len(self.options):
            raise ValueError(f"{len(self.probabilities)} probabilities of {len(self.options)} options")
        if self.scores is not None and len(self.scores) != len(self.times):
            raise ValueError(f"{len(self.scores)} scores of {len(self.times)} frames")
        for name, index, size in (
            ("prediction", self.prediction, len(self.options)),
            ("answer", self.answer or 0, len(self.options)),
            *(("keyframe", position, len(self.times)) for position in self.keyframes),
        ):
            if not 0 <= index < size:
                raise ValueError(f"{name} {index} is not among the {size}")

    @property
    def verdict(self) -> str:
        """The answer in words, and whether it is right where that is known."""
        answered = f"Answered {letter(self.prediction)}"
        if self.answer is None:
            return answered
        if self.answer == self.prediction:
            return f"{answered}: right"
        return f"{answered}: wrong, the right one is {letter(self.answer)}"

    def when(self, position: int) -> str:
        """The time of a sampled frame, as fine as the video is short."""
        return f"{self.times[position]:.{2 if self.duration < 60 else 1}f} s"


def letter(option: int) -> str:
    return chr(ord("A") + option)


def describe(timeline: Timeline) -> str:
    """The picture in words, for who cannot see it."""
    options = "; ".join(
        f"{letter(i)}: {text} ({100 * p:.1f} %)"
        for i, (text, p) in enumerate(zip(timeline.options, timeline.probabilities, strict=True))
    )
    frames = ", ".join(timeline.when(position) for position in sorted(timeline.keyframes))
    return f"{timeline.question} Options: {options}. {timeline.verdict}. Keyframes at {frames}."


def timeline_picture(timeline: Timeline, images: Sequence[np.ndarray]) -> Picture:
    """The drawn timeline as a block of a page; arguments as for `draw_timeline`."""
    return Picture.of(draw_timeline(timeline, images), describe(timeline))


def draw_timeline(timeline: Timeline, images: Sequence[np.ndarray]) -> Figure:
    """Question and options with their probabilities, scores over time, and the keyframes in time order.

    images   of the K keyframes, uint8 [H, W, 3] each, in the order of `timeline.keyframes`

    The figure's axes are found by their labels: "options", "time", and "keyframe 1" ... "keyframe K".
    ValueError where the images are not those.
    """
    if len(images) != len(timeline.keyframes):
        raise ValueError(f"{len(images)} images of {len(timeline.keyframes)} keyframes")
    for image in images:
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"an image must be uint8 [H, W, 3], not {image.dtype} {list(image.shape)}")
    shots = sorted(zip(timeline.keyframes, images, strict=True), key=lambda shot: shot[0])

    question = wrap(timeline.question, INNER, TITLE, "bold", most=8)
    options = [wrap(text, OPTION_TEXT, BODY, "bold") for text in timeline.options]
    heading = _lines(1, SMALL) * bool(timeline.label) + _lines(len(question), TITLE) + _lines(1, BODY) + 0.15
    listing = sum(map(_option_height, options))
    curve = ROW_HEIGHT if timeline.scores is None else CURVE_HEIGHT
    columns, rows = _grid(len(shots))
    aspect = max((image.shape[0] / image.shape[1] for image in images), default=1.0)
    width = min(LARGEST[0], LARGEST[1] / aspect, (INNER + GAP) / columns - GAP)
    height = width * aspect
    row = height + _lines(1 if timeline.scores is None else 2, SMALL) + GAP

    tops = [MARGIN / 2, MARGIN / 2 + heading]
    tops.append(tops[1] + listing + 0.55)  # the legend stands in between
    tops.append(tops[2] + curve + 0.65)  # and here the ticks and their name
    figure = new_figure(tops[3] + rows * row + 0.05)

    _draw_heading(axes_at(figure, MARGIN, tops[0], INNER, heading, "heading"), timeline, question, heading)
    _draw_options(figure, tops[1], timeline, options)
    _draw_time(axes_at(figure, MARGIN + 0.35, tops[2], INNER - 0.35, curve, "time"), timeline)
    for number, (position, image) in enumerate(shots, start=1):
        across, down = (number - 1) % columns, (number - 1) // columns
        place = (MARGIN + across * (width + GAP), tops[3] + down * row, width, height)
        _draw_shot(axes_at(figure, *place, f"keyframe {number}"), timeline, number, position, image)
    return figure


def _lines(number: int, size: float) -> float:
    """Height of lines of text, in inches."""
    return number * size * LINE / POINTS


def _option_height(lines: Sequence[str]) -> float:
    return _lines(len(lines), BODY) + 0.08


def _grid(shots: int) -> tuple[int, int]:
    """Columns and rows of the thumbnails: even rows of up to 4, of up to 8 where they are many."""
    rows = ceil(shots / (4 if shots <= 8 else 8))
    return (ceil(shots / rows), rows) if rows else (1, 0)


def _colour(timeline: Timeline) -> str:
    if timeline.answer is None:
        return BLUE
    return GREEN if timeline.answer == timeline.prediction else RED


def _inches(axes: Axes, width: float, height: float) -> None:
    """Make the axes an empty sheet: inches to the right and downwards."""
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.axis("off")


def _draw_heading(axes: Axes, timeline: Timeline, question: Sequence[str], height: float) -> None:
    _inches(axes, INNER, height)
    y = 0.0
    if timeline.label:
        label = wrap(timeline.label, INNER, SMALL, most=1)[0]
        write(axes, 0, y, label, fontsize=SMALL, color=GREY, va="top")
        y += _lines(1, SMALL)
    for line in question:
        write(axes, 0, y, line, fontsize=TITLE, fontweight="bold", color=INK, va="top")
        y += _lines(1, TITLE)
    write(axes, 0, y + 0.04, timeline.verdict, fontsize=BODY, color=_colour(timeline), va="top")


def _draw_options(figure: Figure, top: float, timeline: Timeline, options: Sequence[Sequence[str]]) -> None:
    heights = [_option_height(lines) for lines in options]
    total = sum(heights)
    text = axes_at(figure, MARGIN, top, INNER, total, "option texts")
    widest = max(text_width(line, BODY, "bold") for lines in options for line in lines)
    bars = axes_at(figure, MARGIN + INDENT + widest + 0.3, top, BAR, total, "options")
    _inches(text, INNER, total)
    bars.set(xlim=(0, 1), ylim=(total, 0))
    bars.axis("off")
    middles = [sum(heights[:i]) + height / 2 for i, height in enumerate(heights)]
    chosen = [i == timeline.prediction for i in range(len(options))]
    colours = [_colour(timeline) if choice else PALE for choice in chosen]
    bars.barh(middles, timeline.probabilities, height=0.16, color=colours)
    for i, (lines, y) in enumerate(zip(options, middles, strict=True)):
        weight = "bold" if chosen[i] else "normal"
        sign, colour = _sign(timeline, i)
        first = y - _lines(len(lines) - 1, BODY) / 2
        write(text, 0, first, sign, fontsize=BODY, color=colour, va="center")
        write(text, 0.22, first, letter(i), fontsize=BODY, fontweight=weight, color=INK, va="center")
        for n, line in enumerate(lines):
            y_line = first + _lines(n, BODY)
            write(text, INDENT, y_line, line, fontsize=BODY, fontweight=weight, color=INK, va="center")
        share = timeline.probabilities[i]
        style = {"fontsize": SMALL, "fontweight": weight, "color": INK, "va": "center"}
        write(bars, share + 0.03, y, f"{100 * share:.1f} %", **style)


def _sign(timeline: Timeline, option: int) -> tuple[str, str]:
    """The mark beside an option, and its colour."""
    if option == timeline.answer:
        return "✓", GREEN
    if option == timeline.prediction:
        return ("▸", BLUE) if timeline.answer is None else ("✗", RED)
    return "", INK


def _span(timeline: Timeline) -> Window:
    """The part of the video that is shown: all of it, or what lies around the frames of a clip."""
    times, windows = timeline.times, timeline.windows or ()
    step = (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else timeline.duration
    start = min([times[0] - step, *(window[0] for window in windows)])
    end = max([times[-1] + step, *(window[1] for window in windows)])
    last = max(timeline.duration, times[-1])
    return max(0.0, start), max(min(end, last), 1e-3)


def _draw_time(axes: Axes, timeline: Timeline) -> None:
    scored = timeline.scores is not None
    heights = timeline.scores if scored else [0.0] * len(timeline.times)
    for n, (start, end) in enumerate(timeline.windows or ()):
        name = {} if n else {"label": "true moment"}
        axes.axvspan(start, end, facecolor=GREEN, alpha=0.22, edgecolor=GREEN, linewidth=1, **name)
    axes.plot(
        timeline.times, heights, "-o" if scored else "o", color=BLUE, linewidth=1.4, markersize=4,
        label="sampled frame",
    )  # fmt: skip
    shown = sorted(timeline.keyframes)
    axes.plot(
        [timeline.times[i] for i in shown], [heights[i] for i in shown], "o", color=ORANGE, markersize=9,
        markeredgecolor=INK, markeredgewidth=0.8, label="keyframe",
    )  # fmt: skip
    for number, i in enumerate(shown, start=1):
        place = {"xytext": (0, 7), "textcoords": "offset points", "ha": "center"}
        axes.annotate(
            str(number),
            (timeline.times[i], heights[i]),
            fontsize=SMALL,
            fontweight="bold",
            path_effects=halo(),
            **place,
        )
    axes.set_xlim(*_span(timeline))
    axes.set_xlabel("seconds", fontsize=SMALL, color=INK)
    axes.tick_params(labelsize=SMALL, color=GREY, labelcolor=INK)
    axes.spines[["top", "right"]].set_visible(False)
    if scored:
        axes.margins(y=0.2)  # room for the numbers
        axes.set_title("relevance", loc="left", fontsize=BODY, color=INK)
    else:
        axes.set(ylim=(-1, 2), yticks=[])
        axes.spines["left"].set_visible(False)
        axes.set_title("frames chosen without scores", loc="left", fontsize=BODY, color=INK)
    axes.legend(
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        ncols=3,
        frameon=False,
        fontsize=SMALL,
        borderaxespad=0.2,
    )


def _draw_shot(axes: Axes, timeline: Timeline, number: int, position: int, image: np.ndarray) -> None:
    axes.imshow(image)
    axes.set(xticks=[], yticks=[])
    score = "" if timeline.scores is None else f"\nscore {timeline.scores[position]:.2f}"
    axes.set_xlabel(f"{number}: {timeline.when(position)}{score}", fontsize=SMALL, color=INK)
    for spine in axes.spines.values():
        spine.set_color(ORANGE)
        spine.set_linewidth(2)
