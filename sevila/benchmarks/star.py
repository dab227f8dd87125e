"""STAR's json files: questions about stretches of Charades videos. Source: github.com/csbobby/STAR_Benchmark."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from sevila.benchmarks import unified
from sevila.benchmarks.from_files import FromFiles, files
from sevila.benchmarks.rows import Dropped, Row, read_rows, records, shown
from sevila.data.folders import VideoFolder
from sevila.data.records import Question


def build(
    root: str,
    train: str | None = "annotations/STAR_train.json",
    val: str | None = "annotations/STAR_val.json",
    test: str | None = "annotations/STAR_test.json",
    videos: str = "videos",
    drop_bad_rows: bool = False,
    drop_unreadable: bool = False,
) -> FromFiles:
    """STAR below `root`; the test split hides its answers."""
    return FromFiles(
        "star",
        partial(VideoFolder, Path(root) / videos),
        {split: partial(read_questions, path) for split, path in files(root, train=train, val=val, test=test).items()},
        drop_bad_rows=drop_bad_rows,
        drop_unreadable=drop_unreadable,
    )


def read_questions(path: Path, dropped: list[Dropped] | None = None) -> list[Question]:
    """The rows of a STAR json, or of its unified json, as records. The type is the first word of the qid.

    The right answer is found by its text, the first of equal choices.
    """
    return records(read_rows(path), _question, dropped)


def _question(row: Row) -> Question:
    if unified.is_unified(row):
        return unified.question(row, typed=True)
    qid, options = row.name("question_id"), _choices(row, row.values.get("choices"))
    return Question(
        qid=qid,
        video=row.name("video_id"),
        question=row.text("question"),
        options=options,
        answer=row.choice("answer", options) if "answer" in row.values else None,
        qtype=qid.partition("_")[0],
        clip=row.clip("start and end", row.values.get("start"), row.values.get("end")),
    )


def _choices(row: Row, choices: Any) -> tuple[str, ...]:
    try:
        texts = tuple(choice["choice"] for choice in choices)
    except (TypeError, KeyError):
        raise row.fail("choices", "expected a list of {choice_id, choice}") from None
    if len(texts) < 2 or not all(isinstance(text, str) for text in texts):
        raise row.fail("choices", f"expected at least two texts, found {shown(list(texts))}")
    return row.whole("choices", *texts)
