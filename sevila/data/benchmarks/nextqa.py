"""NExT-QA's csv files, with NExT-GQA's windows where there are some."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sevila.data.benchmarks.base import csv_rows
from sevila.data.records import Question, Window
from sevila.errors import UserError
from sevila.files import read_json

COLUMNS = ("video", "question", "answer", "qid", "type", "a0", "a1", "a2", "a3", "a4")
OPTIONS = 5


def read_questions(path: Path, windows: Path | None = None) -> list[Question]:
    """The rows of a NExT-QA csv as records.

    The question gets its "?" and every option its ".", as in the official prompts; "?" is added even where one
    stands already. A record's qid is TYPE_VIDEO_QID, as the benchmark's own scripts name it.
    """
    table = read_json(windows) if windows else {}
    questions = []
    for row in csv_rows(path, COLUMNS):
        video, number = row.text("video"), row.text("qid")
        questions.append(
            Question(
                qid=f"{row.text('type')}_{video}_{number}",
                video=video,
                question=f"{row.text('question')}?",
                options=tuple(f"{row.text(f'a{i}')}." for i in range(OPTIONS)),
                answer=row.integer("answer", 0, OPTIONS - 1),
                qtype=row.text("type"),
                windows=_windows(table, windows, video, number) if windows else None,
            )
        )
    return questions


def _windows(table: dict[str, Any], path: Path, video: str, number: str) -> tuple[Window, ...]:
    """The windows of a question in NExT-GQA's table {video: {location: {qid: [[start, end], ...]}}}."""
    try:
        return tuple((float(start), float(end)) for start, end in table[video]["location"][number])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}, video {video}, question {number}: no list of [start, end]") from error
