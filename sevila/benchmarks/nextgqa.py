"""NExT-GQA: NExT-QA's rows with the answer as text, and the windows that hold it. github.com/doc-doc/NExT-GQA."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from sevila.benchmarks import nextqa, unified
from sevila.benchmarks.from_files import FromFiles, files
from sevila.benchmarks.nextqa import WindowTable
from sevila.benchmarks.rows import Dropped, Row, read_rows, records, whole_number
from sevila.data.records import Question
from sevila.errors import UserError

COLUMNS = (*nextqa.COLUMNS[1:], "answer")


def build(
    root: str,
    train: str | None = "annotations/train.csv",
    val: str | None = "annotations/val.csv",
    test: str | None = "annotations/test.csv",
    val_windows: str | None = "annotations/gsub_val.json",
    test_windows: str | None = "annotations/gsub_test.json",
    videos: str = "../nextqa/videos",
    video_map: str | None = "annotations/map_vid_vidorID.json",
    drop_bad_rows: bool = False,
    drop_unreadable: bool = False,
) -> FromFiles:
    """NExT-GQA below `root`. Training has no windows; NExT-QA's own train.csv serves as well as NExT-GQA's."""
    places, windows = files(root, train=train, val=val, test=test), files(root, val=val_windows, test=test_windows)
    for split in ("val", "test"):
        if split in places and split not in windows:
            raise UserError(f"data.{split}_windows=null: data.{split} has windows; name their file, or no data.{split}")
    readers = {
        split: partial(read_questions, places[split], windows[split]) for split in ("val", "test") if split in places
    }
    if "train" in places:
        readers = {"train": partial(read_questions, places["train"], None), **readers}
    return FromFiles(
        "nextgqa",
        partial(nextqa.video_folder, root, videos, video_map),
        readers,
        drop_bad_rows=drop_bad_rows,
        drop_unreadable=drop_unreadable,
    )


def read_questions(path: Path, windows: Path | None, dropped: list[Dropped] | None = None) -> list[Question]:
    """The rows of a NExT-GQA csv as records, or those of its unified json; texts and qids as NExT-QA's.

    windows   the gsub json, or None where there are none
    """
    table = WindowTable(windows) if windows else None
    return records(read_rows(path, COLUMNS), partial(_question, table=table), dropped)


def _question(row: Row, table: WindowTable | None) -> Question:
    if unified.is_unified(row):
        return nextqa.unified_question(row, table)
    options = row.texts("a{}", nextqa.OPTIONS)
    if whole_number(row.text("answer")) is not None and row.text("answer") not in options:  # NExT-QA's own form
        answer = row.integer("answer", 0, nextqa.OPTIONS - 1)
    else:
        answer = row.choice("answer", options)
    return nextqa.question(row, row.text("video" if "video" in row.values else "video_id"), answer, table)
