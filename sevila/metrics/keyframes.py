"""Where the true windows are known: are the frames found that show the answer, and is the span shown for it right?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

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


# -- grounded answers, as NExT-GQA measures them ---


THRESHOLDS = (0.3, 0.5)
GROUNDED = 0.5  # an answer is grounded where its IoP reaches this


@dataclass(frozen=True)
class Grounding:
    """The span predicted for one question (seconds), its true segments, and whether the answer was right."""

    span: Window
    segments: Sequence[Window]
    right: bool


def keyframe_span(times: Sequence[float]) -> Window:
    """From the first to the last keyframe's time, rounded to 0.01 s: SeViLA's span in NExT-GQA's comparison."""
    seconds = [float(time) for time in times]
    return round(min(seconds), 2), round(max(seconds), 2)


def to_seconds(span: Window, duration: float) -> Window:
    """A span given in parts of the duration, in seconds with one decimal, as eval_ground.py (gs=True) rounds it."""
    start, end = np.round(np.asarray(span, dtype=float) * duration, 1)
    return float(start), float(end)


def overlap(span: Window, segment: Window) -> tuple[float, float]:
    """IoP and IoU (0..1) of a span with a true segment.

    IoP is the intersection over the span's length, IoU the intersection over the hull of both. A point has IoP 1
    inside the segment, ends included, and IoU 0.
    """
    if span[0] == span[1]:  # a single keyframe
        return (1.0 if segment[0] <= span[0] <= segment[1] else 0.0), 0.0
    shared = max(0.0, min(span[1], segment[1]) - max(span[0], segment[0]))
    hull = max(span[1], segment[1]) - min(span[0], segment[0])
    return shared / (span[1] - span[0]), shared / hull


def grounding(groundings: Iterable[Grounding]) -> dict[str, float]:
    """Means over the questions in percent, unrounded, under the names of NExT-GQA's code/TempGQA/eval_ground.py.

    mIoP, mIoU    of a question's segments the best one counts, for each of the two by itself
    TIoP@t, TIoU@t   share of questions that reach t
    Acc@GQA       share of questions answered rightly with an IoP of at least 0.5

    A question without a predicted span is not in the means (the script passes over it): leave it out.
    UserError where there is nothing to score, or a span ends before it starts.
    """
    rows = []
    for item in groundings:
        if not item.span[0] <= item.span[1]:
            raise UserError(f"the span from {item.span[0]} to {item.span[1]} ends before it starts")
        # the best segment for IoP and the best for IoU, which need not be the same
        pairs = [overlap(item.span, segment) for segment in item.segments]
        iop, iou = (max(column, default=0.0) for column in (zip(*pairs, strict=True) if pairs else ((), ())))
        rows.append((iop, iou, item.right and iop >= GROUNDED))
    if not rows:
        raise UserError("no question has a span: nothing to score")
    total = len(rows)
    # answered rightly *and* grounded; all numbers over the questions that have a span
    results = {"Acc@GQA": 100 * sum(grounded for _, _, grounded in rows) / total}
    for column, name in enumerate(("IoP", "IoU")):
        values = [row[column] for row in rows]
        results[f"m{name}"] = 100 * sum(values) / total
        for threshold in THRESHOLDS:
            results[f"T{name}@{threshold}"] = 100 * sum(value >= threshold for value in values) / total
    return results
