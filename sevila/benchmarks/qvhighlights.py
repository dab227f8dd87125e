"""QVHighlights' jsonl files: moment queries with their windows. Source: github.com/jayleicn/moment_detr."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from sevila.benchmarks.from_files import FromFiles, files
from sevila.benchmarks.rows import Dropped, Row, read_rows, records, shown
from sevila.data.folders import VideoFolder
from sevila.data.records import Moment

UNIFIED_PREFIX = "QVHighlight_"  # what the official preprocessing puts before a qid


def build(
    root: str,
    train: str | None = "annotations/highlight_train_release.jsonl",
    val: str | None = "annotations/highlight_val_release.jsonl",
    test: str | None = "annotations/highlight_test_with_gt.jsonl",
    videos: str = "videos",
    drop_bad_rows: bool = False,
    drop_unreadable: bool = False,
) -> FromFiles:
    """QVHighlights below `root`. The older highlight_test_release.jsonl, which hides its windows, loads too, and so do
    the ASR captions of subs_train.jsonl, for weakly supervised pre-training."""
    return FromFiles(
        "qvhighlights",
        partial(VideoFolder, Path(root) / videos),
        moments={
            split: partial(read_moments, path) for split, path in files(root, train=train, val=val, test=test).items()
        },
        drop_bad_rows=drop_bad_rows,
        drop_unreadable=drop_unreadable,
    )


def read_moments(path: Path, dropped: list[Dropped] | None = None) -> list[Moment]:
    """The rows, or those of the unified json, as records; windows and saliency are None where the file has none.

    In subs_train.jsonl a query is what somebody says in the video, and its one window is when.
    """
    return records(read_rows(path), _moment, dropped)


def _moment(row: Row) -> Moment:
    return Moment(
        qid=row.name("qid").removeprefix(UNIFIED_PREFIX),
        video=row.text("video" if "video" in row.values else "vid"),
        query=row.text("query"),
        duration=row.number("duration"),
        windows=row.windows("relevant_windows") if "relevant_windows" in row.values else None,
        saliency=_saliency(row) if "saliency_scores" in row.values else None,
    )


def _saliency(row: Row) -> tuple[tuple[int, ...], ...]:
    clips = row.values["saliency_scores"]
    try:
        return tuple(tuple(int(score) for score in clip) for clip in clips)
    except (TypeError, ValueError, OverflowError):
        raise row.fail("saliency_scores", f"expected a list of scores for each clip, found {shown(clips)}") from None
