"""How2QA: the jsonl of the VALUE benchmark, and the authors' older csv without a header.

Sources: github.com/VALUE-Leaderboard/DataRelease, github.com/ych133/How2R-and-How2QA. The two number videos, cut
clips and word texts differently: VALUE's clips are 60 s long and its times count from the clip's start; the csv's
videos are whole YouTube videos.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from sevila.benchmarks.nextqa import mapped_folder
from sevila.benchmarks.rows import Dropped, Row, headless_csv_rows, records
from sevila.benchmarks.tvqa import ValueTask
from sevila.data.folders import Videos
from sevila.data.records import Question

OPTIONS = 4
CSV_COLUMNS = ("video", "span", "wrong0", "wrong1", "wrong2", "question", "right")


@dataclass
class How2QA(ValueTask):
    """How2QA below `root`. With `video_map` (how2_vid_mapping.json) files may have the map's YouTube names.

    A video that the map lacks is looked for under its own id.
    """

    train: str | None = "annotations/how2qa_train_release.jsonl"
    val: str | None = "annotations/how2qa_val_release.jsonl"
    test: str | None = "annotations/how2qa_test_public_release.jsonl"
    video_map: str | None = None

    name = "how2qa"
    n_options = OPTIONS

    def open_folder(self) -> Videos:
        return mapped_folder(self.root, self.videos, self.video_map)

    @classmethod
    def read_questions(cls, path: Path, dropped: list[Dropped] | None = None) -> list[Question]:
        """The rows of a VALUE jsonl, of the older csv, or of the official preprocessing's json as records."""
        if path.suffix == ".csv":
            return records(headless_csv_rows(path, CSV_COLUMNS), _from_csv, dropped)
        return super().read_questions(path, dropped)


def _from_csv(row: Row) -> Question:
    """The csv names the right answer and has no ids: its place among the options follows from a hash of the row, so
    that it is the same everywhere and stands in every place equally often; the qid is the line's number."""
    wrong = row.texts("wrong{}", OPTIONS - 1)
    text = "\n".join(row.text(column) for column in CSV_COLUMNS)
    place = hashlib.sha256(text.encode()).digest()[0] % OPTIONS
    return Question(
        qid=f"line_{row.line}",
        video=row.name("video"),
        question=row.text("question"),
        options=(*wrong[:place], row.text("right"), *wrong[place:]),
        answer=place,
        clip=row.span("span", separator=":", brackets="[]"),
    )
