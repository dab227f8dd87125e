"""The numbers of one run: a table on the terminal, and the run folder's report.html."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np

from sevila.report.figures import BLUE, GREY, INK, WIDTH, axes_at, new_figure
from sevila.report.page import Block, Cell, Heading, Picture, Table, cell_text, write_page
from sevila.report.terminal import plain_table, printable
from sevila.report.timeline import Timeline, timeline_picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console

FIRST = (
    "accuracy",
    "accuracy_by_type",
    "keyframe_recall",
    "keyframe_hit",
)  # the other metrics follow, n is last


def metric_rows(metrics: Mapping[str, Any]) -> list[tuple[str, Cell]]:
    """Metrics as (name, value), in the order they are read; those of a group are named "group, member"."""
    order = [key for key in FIRST if key in metrics]
    order += [key for key in metrics if key not in FIRST and key != "n"]
    order += ["n"] * ("n" in metrics)
    rows: list[tuple[str, Cell]] = []
    for key in order:
        name, value = key.removesuffix("_by_type").replace("_", " "), metrics[key]
        if isinstance(value, Mapping):
            rows += [(f"{name}, {member}", number) for member, number in value.items()]
        else:
            rows.append((name, value))
    return rows


def print_metrics(metrics: Mapping[str, Any], console: Console | None = None) -> None:
    """Print what metrics.json holds, on stdout where no console is given. Percent, but for n."""
    from rich.console import Console
    from rich.text import Text

    table = plain_table()
    table.add_column("metric")
    table.add_column("value", justify="right", no_wrap=True)
    for name, value in metric_rows(metrics):
        table.add_row(Text(printable(name)), Text("-" if value is None else cell_text(value)))
    (console or Console()).print(table)


def run_page(
    path: str | os.PathLike[str],
    title: str,
    metrics: Mapping[str, Any],
    curves: Sequence[Mapping[str, Any]] = (),
    examples: Sequence[tuple[Timeline, Sequence[np.ndarray]]] = (),
) -> None:
    """Write a run's report as one self-contained page: metrics, training curves, examples, if any.

    metrics    the content of metrics.json
    curves     the records of metrics.jsonl, in their order
    examples   timelines with their keyframes' images, as for `draw_timeline`
    """
    blocks: list[Block] = []
    if metrics:
        blocks.append(Table(("metric", "value"), metric_rows(metrics), "Percent; n counts questions."))
    drawn = curve_points(curves)
    if drawn:
        last = "; ".join(f"{name} ends at {points[-1][1]:.4g}" for name, points in drawn.items())
        blocks += [
            Heading("Training"),
            Picture.of(curves_figure(curves), f"Curves over the training steps: {last}."),
        ]
    if examples:
        blocks += [
            Heading("Examples"),
            *(timeline_picture(timeline, images) for timeline, images in examples),
        ]
    write_page(path, title, blocks)


def curve_points(records: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    """The (step, value) points of train/loss and then of every val/... metric by name."""
    points: dict[str, list[tuple[int, float]]] = {}
    for record in records:
        for name, value in record.items():
            if name == "train/loss" or name.startswith("val/"):
                points.setdefault(name, []).append((record["step"], value))
    return dict(sorted(points.items()))


def curves_figure(records: Sequence[Mapping[str, Any]]) -> Figure:
    """The curves of `curve_points`, a panel each, two in a row; axes are labelled by the curve's name."""
    from matplotlib.ticker import MaxNLocator

    curves = curve_points(records)
    width, height, down = (WIDTH - 1.7) / 2, 1.9, 2.75  # inches
    last = max((points[-1][0] for points in curves.values()), default=0)
    figure = new_figure(ceil(len(curves) / 2) * down)
    for i, (name, points) in enumerate(curves.items()):
        axes = axes_at(figure, 0.7 + (i % 2) * (width + 0.8), 0.35 + (i // 2) * down, width, height, name)
        steps, values = zip(*points, strict=True)
        axes.plot(steps, values, "-o", color=BLUE, linewidth=1.5, markersize=3.5)
        axes.set_title(name, loc="left", fontsize=11, color=INK, parse_math=False)
        axes.set_xlim(0, 1.03 * last)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("step", fontsize=10, color=INK)
        axes.tick_params(labelsize=9.5, labelcolor=INK, color=GREY)
        axes.grid(True, color="#e4e6e9", linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
    return figure
