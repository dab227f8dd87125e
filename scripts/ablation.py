"""The ablation of the self-chain: which frames the Answerer reads, and what it makes of them.

A row is a plain dict: row (its name), selector, localizer and answerer (text or None), k, n, and in percent
accuracy, keyframe_recall and keyframe_hit (None where no true windows are known). Where neighbours differ in
whether their answerer is ZERO_SHOT, a new group begins.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sevila.report.page import Block, Facts, Link, Table, write_page
from sevila.report.terminal import Cell, plain_table

if TYPE_CHECKING:
    from rich.console import Console

Row = Mapping[str, Any]

ZERO_SHOT = "zeroshot"
UPPER_BOUND = "oracle"  # the selector that knows the true windows
MEASURES = {
    "accuracy": "accuracy",
    "keyframe_recall": "recall",
    "keyframe_hit": "hit",
}  # key, name in a table


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
    groups = [row["answerer"] != ZERO_SHOT for row in rows]
    for i, row in enumerate(rows):
        texts = [str(row[key] or "-") for key in ("row", "selector", "localizer", "answerer")]
        table.add_row(*(Text(text) for text in [*texts, *(_plain(row[key]) for key in numbers)]))
        if i + 1 < len(rows) and groups[i] != groups[i + 1]:
            table.add_section()
    (console or Console()).print(table)


def ablation_page(
    path: str | os.PathLike[str],
    rows: Sequence[Row],
    examples: Sequence[Block],
    notes: Mapping[str, str],
    chance: float | None = None,
    pages: Mapping[str, Path] | None = None,
) -> None:
    """Write one self-contained page: notes, the table with bars in it, the examples.

    chance   accuracy of guessing in percent, marked in the bars
    pages    of runs by their names, for links: a row's evaluation is eval_ROW
    """
    keys = ("row", "selector", "localizer", "answerer", "k", *MEASURES, "n")
    guessing = "" if chance is None else f" The mark in the bars of accuracy: guessing, {chance:.0f} %."
    table = Table(
        tuple(key.replace("_", " ") for key in keys),
        [[_linked(row, key, pages or {}) for key in keys] for row in rows],
        f"Accuracy, recall and hit in percent. Bold: the best that does not know the true windows.{guessing}",
        best=(5, 6, 7),
        unranked=[i for i, row in enumerate(rows) if row["selector"] == UPPER_BOUND],
        bars={5: chance, 6: None, 7: None},
    )
    facts: list[Block] = [Facts(notes)] if notes else []
    write_page(path, "SeViLA: ablation of the self-chain", [*facts, table, *examples])


def _linked(row: Row, key: str, pages: Mapping[str, Path]) -> Cell | Link:
    """A cell of the table: the row's name leads to its evaluation, a head's to its training."""
    run = {"row": f"eval_{row['row']}", "localizer": row["localizer"], "answerer": row["answerer"]}.get(key)
    return Link(row[key], pages[run]) if run in pages else row[key]


def _plain(number: float | None) -> str:
    if number is None:
        return "-"
    return str(number) if isinstance(number, int) else f"{number:.2f}"
