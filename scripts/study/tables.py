"""The rows of the study as tables, for people (markdown) and for programs (json)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from study.rows import GROUPS, Row
from study.values import MEASURES, Values

HEADINGS = ("row", "", "Answerer", "n", "k", "accuracy", "keyframe recall")


def row_json(values: Values, row: Row) -> dict[str, Any]:
    """A row with its numbers: means and intervals, by question type, and of every world and seed."""
    out: dict[str, Any] = {
        "row": row.key,
        "title": row.title,
        "selection": row.selection,
        "answerer": row.answerer,
        "n": row.numbers.n,
        "k": row.numbers.k,
        "run": row.run.name,
        "seeds": len(values.seeds) if row.run.trained else 1,
    }
    for measure in MEASURES:
        out[measure] = {
            **values.estimate(row.key, measure).to_json(),
            "questions": values.counted(row.key, measure),
            "by_type": {qtype: round(mean, 4) for qtype, mean in values.type_means(row.key, measure).items()},
            "by_world": {
                str(world): [round(mean, 4) for mean in values.seed_means(row.key, measure, world)]
                for world in values.worlds
            },
        }
    return out


def cells(values: Values, row: Row) -> tuple[str | int, ...]:
    estimates = [str(values.estimate(row.key, measure)) for measure in MEASURES]
    return row.key, row.title, row.answerer, row.numbers.n, row.numbers.k, *estimates


def type_cells(values: Values, row: Row) -> tuple[str | float, ...]:
    return row.key, *(mean for measure in MEASURES for mean in values.type_means(row.key, measure).values())


def type_headings(values: Values, row: Row) -> tuple[str, ...]:
    means = [(name, values.type_means(row.key, measure)) for measure, name in MEASURES.items()]
    return "row", *(f"{name}, {qtype}" for name, types in means for qtype in types)


def rows_markdown(values: Values, group: str, rows: Sequence[Row]) -> str:
    """A table of rows, percent with intervals, then the same rows by question type."""
    head = [f"# {GROUPS[group]}", "", caption(values), ""]
    body = markdown(HEADINGS, [cells(values, row) for row in rows])
    by_type = markdown(type_headings(values, rows[0]), [type_cells(values, row) for row in rows])
    return "\n".join([*head, *body, "", "By question type:", "", *by_type]) + "\n"


def caption(values: Values) -> str:
    worlds = ", ".join(map(str, values.worlds))
    return (
        f"Percent with 95 % intervals; test questions: {values.count()}, worlds: {worlds}, trainings of a row in a "
        f"world: {len(values.seeds)}, where anything is trained. Recall: true frames chosen of those that k frames "
        "could choose, over the questions that have a true frame among the n sampled ones."
    )


def markdown(headings: Sequence[str], rows: Sequence[Sequence[str | int | float]]) -> list[str]:
    def line(cells: Sequence[str | int | float]) -> str:
        return f"| {' | '.join(f'{cell:.2f}' if isinstance(cell, float) else str(cell) for cell in cells)} |"

    return [line(headings), line(["---"] * len(headings)), *map(line, rows)]
