"""NExT-QA's csv files, with NExT-GQA's windows where there are some. Source: github.com/doc-doc/NExT-QA."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from sevila.benchmarks import unified
from sevila.benchmarks.from_files import FromFiles, files
from sevila.benchmarks.rows import Dropped, Row, read_rows, records, windows_of
from sevila.data.folders import VideoFolder
from sevila.data.records import Question, Window
from sevila.errors import UserError
from sevila.files import read_json

COLUMNS = ("video", "question", "qid", "type", "a0", "a1", "a2", "a3", "a4")
OPTIONS = 5


def build(
    root: str,
    train: str | None = "annotations/train.csv",
    val: str | None = "annotations/val.csv",
    test: str | None = "annotations/test.csv",
    videos: str = "videos",
    video_map: str | None = "annotations/map_vid_vidorID.json",
    drop_bad_rows: bool = False,
    drop_unreadable: bool = False,
) -> FromFiles:
    """NExT-QA below `root`. Videos lie as VidOR has them, 1105/6037747123.mp4, or all in one folder."""
    return FromFiles(
        "nextqa",
        partial(video_folder, root, videos, video_map),
        {
            split: partial(read_questions, path, None)
            for split, path in files(root, train=train, val=val, test=test).items()
        },
        drop_bad_rows=drop_bad_rows,
        drop_unreadable=drop_unreadable,
    )


def video_folder(root: str, videos: str, video_map: str | None) -> VideoFolder:
    """The videos, by the map from their ids to VidOR's paths where one is given."""
    names = None
    if video_map is not None:
        names = read_json(Path(root) / video_map)
        if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
            raise UserError(f"{Path(root) / video_map}: expected a map from video ids to paths")
    return VideoFolder(Path(root) / videos, names=names)


def read_questions(path: Path, windows: Path | None = None, dropped: list[Dropped] | None = None) -> list[Question]:
    """The rows of a NExT-QA csv, or of its unified json, as records.

    The question gets its "?" and every option its ".", as in the official prompts; "?" is added even where one
    stands already. A record's qid is TYPE_VIDEO_QID, as the benchmark's own scripts name it. A file without the
    column `answer` hides the answers.
    """
    table = WindowTable(windows) if windows else None
    return records(read_rows(path, COLUMNS), partial(_question, table=table), dropped)


def _question(row: Row, table: WindowTable | None) -> Question:
    if unified.is_unified(row):
        return unified_question(row, table)
    answer = row.integer("answer", 0, OPTIONS - 1) if "answer" in row.values else None
    return question(row, row.text("video"), answer, table)


def unified_question(row: Row, table: WindowTable | None) -> Question:
    """A row of the unified json, whose qid is TYPE_VIDEO_QID too."""
    record = unified.question(row, typed=True)
    if table is None:
        return record
    _, _, rest = record.qid.partition("_")
    return replace(record, windows=table.of(*rest.rpartition("_")[::2]))


def question(row: Row, video: str, answer: int | None, table: WindowTable | None) -> Question:
    """A row of the csv as a record, its texts in the form of the official prompts."""
    kind, number = row.text("type"), row.text("qid")
    return Question(
        qid=f"{kind}_{video}_{number}",
        video=video,
        question=f"{row.text('question')}?",
        options=tuple(f"{option}." for option in row.texts("a{}", OPTIONS)),
        answer=answer,
        qtype=kind,
        windows=table.of(video, number) if table else None,
    )


class WindowTable:
    """NExT-GQA's windows: {video: {duration, location: {qid: [[start, end], ...]}, fps}}, seconds.

    A window may pass the end of its video or start below 0: it is kept as it stands.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._table: Any = read_json(path)

    def of(self, video: str, number: str) -> tuple[Window, ...]:
        """UserError where the question has no windows, or one of them runs backwards."""
        try:
            windows = windows_of(self._table[video]["location"][number])
        except (KeyError, TypeError):
            windows = None
        place = f"{self.path}, video {video}, question {number}"
        if windows is None:
            raise UserError(f"{place}: no list of [start, end]")
        if any(not start <= end for start, end in windows):
            raise UserError(f"{place}: a window ends before it starts: {windows}")
        return windows
