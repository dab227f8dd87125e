"""The ablation of the self-chain: which frames the Answerer reads, and what it makes of them.

A row is a plain dict: row (its name), selector, localizer and answerer (text or None), k, n, and in percent
accuracy, keyframe_recall and keyframe_hit (None where no true windows are known). Where neighbours differ in
whether their answerer is ZERO_SHOT, a new group begins.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sevila.report.figures import BLUE, GREY, INK, ORANGE, WIDTH, axes_at, halo, new_figure
from sevila.report.page import Block, Facts, Heading, Picture, Table, write_page
from sevila.report.terminal import plain_table
from sevila.report.timeline import Timeline, timeline_picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from rich.console import Console

Row = Mapping[str, Any]

ZERO_SHOT = "zeroshot"
UPPER_BOUND = "oracle"  # the selector that knows the true windows
MEASURES = {
    "accuracy": "accuracy",
    "keyframe_recall": "recall",
    "keyframe_hit": "hit",
}  # key, name in a table


def ablation_figure(rows: Sequence[Row], chance: float | None = None) -> Figure:
    """Bars of accuracy and keyframe recall for each row, from top to bottom, one group an Answerer.

    chance   accuracy of guessing in percent, drawn as a line

    The bars are the containers of the axes labelled "ablation": accuracy and recall of the rows that have it.
    """
    places, headings = _places(rows)
    units = max(places, default=0.0) + 0.6
    left, top, unit = 2.2, 0.55, 0.46  # inches
    figure = new_figure(top + units * unit + 0.6)
    axes = axes_at(figure, left, top, WIDTH - left - 0.3, units * unit, "ablation")
    for offset, key, name, colour in (
        (-0.2, "accuracy", "accuracy", BLUE),
        (0.2, "keyframe_recall", "keyframe recall", ORANGE),
    ):
        known = [(place, row[key]) for place, row in zip(places, rows, strict=True) if row.get(key) is not None]
        if known:
            _bars(axes, [place + offset for place, _ in known], [value for _, value in known], name, colour)
    if chance is not None:
        axes.axvline(chance, color=INK, linestyle="--", linewidth=1.2, label=f"chance ({chance:.0f} %)")
    for place, text in headings:
        axes.text(
            -0.015, place, text, transform=axes.get_yaxis_transform(), fontsize=11, fontweight="bold",
            color=INK, ha="right", va="center",
        )  # fmt: skip
    axes.set(xlim=(0, 109), ylim=(units, -0.6), xticks=range(0, 101, 20))
    axes.set_yticks(places, [str(row["row"]) for row in rows], parse_math=False)
    axes.tick_params(labelsize=11, labelcolor=INK, color=GREY, left=False)
    axes.set_xlabel("percent", fontsize=11, color=INK)
    axes.xaxis.grid(True, color="#e4e6e9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, frameon=False, fontsize=11, borderaxespad=0.2)
    return figure


def print_ablation(rows: Sequence[Row], console: Console | None = None) -> None:
    """Print the rows as a table, on stdout by default; a k or n that all rows share stands on top."""
    from rich.console import Console
    from rich.text import Text

    common = {key: str(rows[0][key]) for key in ("k", "n") if len({row[key] for row in rows}) == 1}
    words = {"k": "keyframes", "n": "questions"}
    title = ", ".join(["percent", *(f"{key} = {value} {words[key]}" for key, value in common.items())])
    table = plain_table(title)
    for key in ("row", "selector", "localizer", "answerer"):
        table.add_column(key, no_wrap=key == "row", overflow="fold")
    numbers = [key for key in ("k", *MEASURES, "n") if key not in common]
    for key in numbers:
        table.add_column(MEASURES.get(key, key), justify="right", no_wrap=True)
    groups = [_finetuned(row) for row in rows]
    for i, row in enumerate(rows):
        texts = [str(row[key] or "-") for key in ("row", "selector", "localizer", "answerer")]
        table.add_row(*(Text(text) for text in [*texts, *(_plain(row[key]) for key in numbers)]))
        if i + 1 < len(rows) and groups[i] != groups[i + 1]:
            table.add_section()
    (console or Console()).print(table)


def ablation_page(
    path: str | os.PathLike[str],
    rows: Sequence[Row],
    examples: Sequence[tuple[Timeline, Sequence[np.ndarray]]],
    notes: Mapping[str, str],
    chance: float | None = None,
) -> None:
    """Write one self-contained page: notes, table, chart, and the examples (as for `draw_timeline`)."""
    header = (
        "row",
        "selector",
        "localizer",
        "answerer",
        "k",
        "accuracy",
        "keyframe recall",
        "keyframe hit",
        "n",
    )
    keys = ("row", "selector", "localizer", "answerer", "k", *MEASURES, "n")
    table = Table(
        header,
        [[row[key] for key in keys] for row in rows],
        caption="Accuracy, recall and hit in percent. Bold: the best that does not know the true windows.",
        best=(5, 6, 7),
        unranked=[i for i, row in enumerate(rows) if row["selector"] == UPPER_BOUND],
    )
    chart = Picture.of(
        ablation_figure(rows, chance),
        "Bar chart of the table: accuracy and keyframe recall of "
        + "; ".join(f"{row['row']} {_plain(row['accuracy'])} and {_plain(row['keyframe_recall'])}" for row in rows),
    )
    blocks: list[Block] = [Facts(notes)] if notes else []
    blocks += [table, chart]
    if examples:
        blocks += [
            Heading("Examples"),
            *(timeline_picture(timeline, images) for timeline, images in examples),
        ]
    write_page(path, "SeViLA: ablation of the self-chain", blocks)


def _finetuned(row: Row) -> bool:
    return row["answerer"] != ZERO_SHOT


def _plain(number: float | None) -> str:
    if number is None:
        return "-"
    return str(number) if isinstance(number, int) else f"{number:.2f}"


def _places(rows: Sequence[Row]) -> tuple[list[float], list[tuple[float, str]]]:
    """Where the rows stand, one unit each, and above each group its heading."""
    places: list[float] = []
    headings: list[tuple[float, str]] = []
    y = 0.0
    previous: bool | None = None
    for row in rows:
        finetuned = _finetuned(row)
        if finetuned != previous:
            y += 0.4 * bool(places)
            headings.append((y - 0.1, "fine-tuned Answerer" if finetuned else "zero-shot Answerer"))
            y += 0.8
            previous = finetuned
        places.append(y)
        y += 1.0
    return places, headings


def _bars(axes: Axes, places: Sequence[float], values: Sequence[float], name: str, colour: str) -> None:
    bars = axes.barh(places, values, height=0.38, color=colour, label=name)
    axes.bar_label(bars, fmt="%.2f", padding=3, fontsize=9.5, color=INK, path_effects=halo())
