"""TVQA's jsonl and TVQA+'s json. Sources: github.com/jayleicn/TVQA, github.com/jayleicn/TVQAplus."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from sevila.benchmarks import unified
from sevila.benchmarks.from_files import FromFiles, files
from sevila.benchmarks.rows import Dropped, Row, read_rows, records
from sevila.data.folders import VideoFolder
from sevila.data.records import Question

OPTIONS = 5
SHOWS = ("castle", "friends", "grey", "house", "met")  # begin a video's name; The Big Bang Theory's has no show
UNNAMED_SHOW = "bbt"


def build(
    root: str,
    train: str | None = "annotations/tvqa_train.jsonl",
    val: str | None = "annotations/tvqa_val.jsonl",
    test: str | None = "annotations/tvqa_test_public.jsonl",
    videos: str = "videos",
    drop_bad_rows: bool = False,
    drop_unreadable: bool = False,
) -> FromFiles:
    """TVQA below `root`, or TVQA+ with its files named; the test split hides its answers."""
    return FromFiles(
        "tvqa",
        partial(TVQAVideos, Path(root) / videos),
        {split: partial(read_questions, path) for split, path in files(root, train=train, val=val, test=test).items()},
        drop_bad_rows=drop_bad_rows,
        drop_unreadable=drop_unreadable,
    )


class TVQAVideos(VideoFolder):
    """VIDEO.mp4, the frame folder VIDEO/, or the same below SHOW_frames/, as TVQA hands its frames out."""

    def places(self, video: str) -> Sequence[str]:
        show = video.partition("_")[0]
        return [video, f"{show if show in SHOWS else UNNAMED_SHOW}_frames/{video}"]


def read_questions(path: Path, dropped: list[Dropped] | None = None) -> list[Question]:
    """The rows of a TVQA jsonl, a TVQA+ json or the unified json as records. "NaN-NaN" is the whole video."""
    return records(read_rows(path), _question, dropped)


def _question(row: Row) -> Question:
    if unified.is_unified(row):
        return unified.question(row)
    return Question(
        qid=row.name("qid"),
        video=row.name("vid_name"),
        question=row.text("q"),
        options=row.texts("a{}", OPTIONS),
        answer=row.integer("answer_idx", 0, OPTIONS - 1) if "answer_idx" in row.values else None,
        clip=row.pair("ts") if isinstance(row.values.get("ts"), list) else row.span("ts"),
    )
