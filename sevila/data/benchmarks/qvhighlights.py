"""QVHighlights' jsonl files: moment queries with their windows."""

from __future__ import annotations

from pathlib import Path

from sevila.data.benchmarks.base import Row
from sevila.data.records import Moment, Window
from sevila.files import numbered_jsonl


def read_moments(path: Path) -> list[Moment]:
    """The rows as records; windows and saliency are None where the file hides them."""
    moments = []
    for line, values in numbered_jsonl(path):
        row = Row(path, line, values)
        if "qid" not in values:
            raise row.fail("qid", "missing")
        moments.append(
            Moment(
                qid=str(values["qid"]),
                video=row.text("vid"),
                query=row.text("query"),
                duration=row.number("duration"),
                windows=_windows(row) if "relevant_windows" in values else None,
                saliency=_saliency(row) if "saliency_scores" in values else None,
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


def _saliency(row: Row) -> tuple[tuple[int, ...], ...]:
    clips = row.values["saliency_scores"]
    try:
        return tuple(tuple(int(score) for score in clip) for clip in clips)
    except (TypeError, ValueError):
        raise row.fail("saliency_scores", f"expected a list of scores for each clip, found {clips!r}") from None
