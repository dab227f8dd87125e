"""Grounded answers as NExT-GQA measures them: is the span that is shown for an answer the right one?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from sevila.data.records import Window
from sevila.errors import UserError

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
