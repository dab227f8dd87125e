"""QVHighlights' jsonl files: moment queries with their windows."""

from __future__ import annotations

from pathlib import Path

from sevila.data.benchmarks.base import Row
from sevila.data.records import Moment, Window
from sevila.files import read_jsonl


def read_moments(path: Path) -> list[Moment]:
    """The rows as records; windows and saliency are None where the file hides them."""
    moments = []
    for line, values in enumerate(read_jsonl(path), start=1):
        row = Row(path, line, values)
        if "qid" not in values:
            raise row.fail("qid", "missing")
        scores = values.get("saliency_scores")
        moments.append(
            Moment(
                qid=str(values["qid"]),
                video=row.text("vid"),
                query=row.text("query"),
                duration=row.number("duration"),
                windows=_windows(row) if "relevant_windows" in values else None,
                saliency=None if scores is None else tuple(tuple(clip) for clip in scores),
            )
        )
    return moments


def _windows(row: Row) -> tuple[Window, ...]:
    pairs = row.values["relevant_windows"]
    try:
        windows = tuple((float(start), float(end)) for start, end in pairs)
    except (TypeError, ValueError):
        raise row.fail("relevant_windows", f"expected a list of [start, end], found {pairs!r}") from None
    if any(not start <= end for start, end in windows):
        raise row.fail("relevant_windows", f"a window ends before it starts: {pairs!r}")
    return windows
