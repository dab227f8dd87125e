"""STAR's accuracies by question type, and their mean."""

from __future__ import annotations

from collections.abc import Iterable

from sevila.errors import UserError
from sevila.metrics.choice import Choice, tally

TYPES = ("Interaction", "Sequence", "Prediction", "Feasibility")


def star(choices: Iterable[Choice]) -> dict[str, float]:
    """Accuracy of every type in percent, unrounded, under the names of SeViLA's task (lavis/tasks/vqa.py).

    agg_metrics   mean of the types' accuracies, every *type* counting once: STAR's "Avg"
    total         questions counted

    A type whose answers are all wrong has accuracy 0 and counts in the mean (the official code fails there).
    UserError for another type, and where no question has a known answer.
    """
    by_type = tally(choices)
    for qtype in by_type:
        if qtype not in TYPES:
            raise UserError(f"question type {qtype!r}: STAR has {', '.join(TYPES)}")
    accuracies = {qtype: by_type[qtype][0] / by_type[qtype][1] * 100 for qtype in TYPES if qtype in by_type}
    total = sum(n for _, n in by_type.values())
    return {"agg_metrics": sum(accuracies.values()) / len(accuracies), "total": total, **accuracies}
