"""How well scores put the true items first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sevila.errors import UserError
from sevila.metrics.multiple_choice import percent


def average_precision(scores: Sequence[float], labels: Sequence[bool]) -> float:
    """Mean, over the true items, of the precision at the rank of each (0..1); ties go to the earlier item."""
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    found, total = 0, 0.0
    for rank, i in enumerate(order, start=1):
        if labels[i]:
            found += 1
            total += found / rank
    return total / found


def mean_average_precision(ranked: Iterable[tuple[Sequence[float], Sequence[bool]]]) -> float:
    """Mean over the (scores, labels) pairs that have a true item, in percent. UserError where none has."""
    values = [average_precision(scores, labels) for scores, labels in ranked if any(labels)]
    if not values:
        raise UserError("no query has a frame inside its windows: nothing to rank; sample more frames")
    return percent(sum(values), len(values))
