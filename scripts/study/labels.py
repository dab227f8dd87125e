"""The pseudo-labels of every refinement, and what the test questions gained by it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from study.outcomes import LABELS
from study.rows import REFINEMENTS
from study.tables import markdown
from study.values import MEASURES, Values

REFINEMENT_HEADINGS = (
    "refinement",
    "world",
    "seed",
    "label precision",
    "label recall",
    "yes",
    "recall gain",
    "accuracy gain",
)


def refinements(values: Values) -> list[dict[str, Any]]:
    """Every refinement: the precision and recall of its labels, and what the test questions gained by it."""
    out = []
    for labels in values.outcomes.labels:
        selection, world, seed = labels["selection"], labels["world"], labels["seed"]
        before, name = REFINEMENTS[selection]
        if not values.has(before):
            continue
        row: dict[str, Any] = {"refinement": name, "world": world, "seed": seed}
        row |= {key: labels[key] for key in LABELS}
        for measure in MEASURES:
            means = [values.seed_means(key, measure, world) for key in (before, selection)]
            start, end = (mean[values.seeds.index(seed)] if len(mean) > 1 else mean[0] for mean in means)
            row[f"{measure}_gain"] = round(end - start, 4)
        out.append(row)
    return out


def refinement_cells(row: Mapping[str, Any]) -> tuple[str | int | float, ...]:
    keys = ("refinement", "world", "seed", "precision", "recall", "yes", "recall_gain", "accuracy_gain")
    cells = [row[key] for key in keys]
    return tuple(str(cell) if key in ("world", "seed") else cell for key, cell in zip(keys, cells, strict=True))


def refinements_markdown(found: Sequence[Mapping[str, Any]]) -> str:
    head = ["# Pseudo-labels and what refinement gained", ""]
    head += ["Of the labels of the training questions, in percent; gains on the test questions, in points.", ""]
    return "\n".join(head + markdown(REFINEMENT_HEADINGS, [refinement_cells(row) for row in found])) + "\n"
