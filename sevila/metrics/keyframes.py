"""How well frames are found that show the answer, where the true windows are known: by selection, and by scores."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sevila.data.records import Window
from sevila.errors import UserError
from sevila.metrics.choice import percent


@dataclass(frozen=True)
class Selection:
    """The keyframes of one question.

    times      of all n sampled frames, in seconds
    selected   positions 0..n-1 of the k chosen ones
    windows    the moments that answer the question, in seconds; None where they are not known
    """

    times: Sequence[float]
    selected: Sequence[int]
    windows: Sequence[Window] | None


def true_positions(times: Sequence[float], windows: Sequence[Window] | None) -> list[int]:
    """Positions of the frames whose time lies in a window, ends included."""
    return [i for i, time in enumerate(times) if any(start <= time <= end for start, end in windows or ())]


def keyframe_metrics(selections: Iterable[Selection]) -> dict[str, float]:
    """`keyframe_recall` and `keyframe_hit`, means in percent over the questions that have a true frame.

    A true frame is a sampled frame whose time lies in a window. Recall is |selected and true| /
    min(k, |true|), so that k frames can always reach 1; hit is 1 when at least one selected frame is true.
    Without a single question that has a true frame the result is empty: metrics.json then has neither key.
    """
    recalls, hits = [], []
    for selection in selections:
        true = set(true_positions(selection.times, selection.windows))
        if true:
            selected = set(selection.selected)
            found = len(selected & true)
            # k frames cannot hold more than k true ones: the best selection of k has recall 1
            recalls.append(found / min(len(selected), len(true)) if selected else 0.0)
            hits.append(found > 0)
    if not recalls:
        return {}
    return {
        "keyframe_recall": percent(sum(recalls), len(recalls)),
        "keyframe_hit": percent(sum(hits), len(hits)),
    }


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
