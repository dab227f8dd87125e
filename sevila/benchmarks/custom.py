"""Questions and moments of one's own videos: csv or jsonl, one row each. data/README.md has the recipe at length.

    shop/
      videos/          monday.mp4  tuesday.mkv ...      or a folder of frames a video
      questions.csv    video,question,a0,a1,answer,split
                       monday,Who comes in?,a man,a woman,a man,train

    python -m sevila.eval  data=custom data.root=shop data.test=questions.csv
    python -m sevila.train data=custom data.root=shop data.train=questions.csv data.val=questions.csv task.name=answer

The second trains the Answerer (`task.name=answer`) on the questions. Moments, which train the Localizer
(`task.name=pretrain`), are rows of a jsonl with `windows`, of a question or of a `query`:

    {"video": "monday", "query": "a man buys bread", "windows": [[20, 31.5]], "split": "train"}

The fields:

video                        the video's id: its file's name without extension, or its frame folder's name
question
a0, a1, ...  or  options     the options: columns (empty ones at the end are none), or a list in jsonl
answer                       optional: the right option's text, or its number from 0
qid, qtype                   optional: unique in the split; a type, by which accuracy is also told
start, end                   optional: the part of the video that counts, in seconds
windows                      optional, jsonl: [[start, end], ...] that hold the answer, for keyframe metrics; with them
                             the question is a moment query too
query                        optional, jsonl: the moment query, in place of the question; a row may have both
duration                     optional, of a moment query: the video's, in seconds; else each video is opened for it
split                        optional: train, val or test, where one file holds several
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import count, takewhile
from pathlib import Path

from sevila.benchmarks.base import SPLITS, FileBenchmark
from sevila.benchmarks.rows import Dropped, Row, read_rows, records, shown, whole_number
from sevila.data.records import Moment, Question
from sevila.data.video import VideoReader
from sevila.errors import UserError

MOST_OPTIONS = 26


@dataclass
class Custom(FileBenchmark):
    """A data set of one's own below `root`. Two splits may name the same file, where its rows say their split."""

    train: str | None = "train.csv"
    val: str | None = "val.csv"
    test: str | None = "test.csv"

    name = "custom"
    columns = ("video", "question")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.moment_splits = self.question_splits  # which of the two a file holds, its rows say

    def split_questions(self, split: str, dropped: list[Dropped] | None) -> list[Question]:
        found = self.read_questions(self.file(split), dropped, split)
        if not found and not dropped:
            raise UserError(
                f"split={split}: {self.file(split)} has no questions; "
                "add some, or train on its moment queries with task.name=pretrain"
            )
        return found

    def split_moments(self, split: str, dropped: list[Dropped] | None) -> list[Moment]:
        @cache
        def duration(video: str) -> float:
            return VideoReader(self.folder().path(video)).info.duration

        rows = [row for row in self._rows(self.file(split), split) if _given(row) & {"query", "windows"} or row.fault]
        found = records(rows, lambda row: _moment(row, duration), dropped)
        if not found and not dropped:
            raise UserError(
                f"split={split}: {self.file(split)} has no moment queries, which are rows of a jsonl with `windows`; "
                "add some, or train on its questions with task.name=answer"
            )
        return found

    @classmethod
    def read_questions(
        cls, path: Path, dropped: list[Dropped] | None = None, split: str | None = None
    ) -> list[Question]:
        """The rows of a split: those that say so, and those that say nothing. Texts are taken as they stand."""
        rows = (row for row in cls._rows(path, split) if "question" in _given(row) or "query" not in _given(row))
        return records(rows, cls.question, dropped)

    @classmethod
    def _rows(cls, path: Path, split: str | None) -> Iterator[Row]:
        others = [other for other in SPLITS if split is not None and other != split]
        # a row of a split that does not exist is a fault, whichever is read
        return (row for row in read_rows(path, cls.columns) if row.values.get("split") not in others)

    @classmethod
    def question(cls, row: Row) -> Question:
        given = _given(row)
        _check_split(row, given)
        options = _options(row, given)
        clip = None
        if given & {"start", "end"}:
            clip = row.clip("start and end", row.values.get("start"), row.values.get("end"))
        return Question(
            qid=_qid(row, given),
            video=row.name("video"),
            question=row.text("question"),
            options=options,
            answer=_answer(row, options) if "answer" in given else None,
            qtype=row.text("qtype") if "qtype" in given else "",
            clip=clip,
            windows=row.windows("windows") if "windows" in given else None,
        )


def _moment(row: Row, duration: Callable[[str], float]) -> Moment:
    """A row as a moment query. Without windows they are not known: such a one can be looked for, not trained on."""
    given = _given(row)
    _check_split(row, given)
    video = row.name("video")
    return Moment(
        qid=_qid(row, given),
        video=video,
        query=row.text("query" if "query" in given else "question"),
        duration=row.number("duration") if "duration" in given else duration(video),
        windows=row.windows("windows") if "windows" in given else None,
    )


def _given(row: Row) -> set[str]:
    """The fields that are not empty."""
    return {field for field, value in row.values.items() if value not in (None, "")}


def _check_split(row: Row, given: set[str]) -> None:
    if "split" in given and row.values["split"] not in SPLITS:
        raise row.fail("split", f"expected {', '.join(SPLITS)} or nothing, found {row.values['split']!r}")


def _qid(row: Row, given: set[str]) -> str:
    return row.name("qid") if "qid" in given else f"{row.unit}_{row.line}"


def _options(row: Row, given: set[str]) -> tuple[str, ...]:
    if "options" in given:
        options = row.values["options"]
        if not isinstance(options, list) or not all(isinstance(option, str) for option in options):
            raise row.fail("options", f"expected a list of texts, found {shown(options)}; in csv give a0, a1, ...")
        row.whole("options", *options)
    else:
        fields = list(takewhile(given.__contains__, (f"a{i}" for i in count())))
        later = sorted(f for f in given - set(fields) if f[:1] == "a" and f[1:].isdigit())
        if later:
            raise row.fail(later[0], f"stands after a{len(fields)}, which is empty")
        options = [row.text(field) for field in fields]
    if not 2 <= len(options) <= MOST_OPTIONS:
        raise row.fail("options" if "options" in given else "a0, a1, ...", f"expected 2 to 26, found {len(options)}")
    return tuple(options)


def _answer(row: Row, options: Sequence[str]) -> int:
    """The option's text, or its number. In csv, "2" could be both: where they differ nothing is guessed."""
    value = row.values["answer"]
    number, index = whole_number(value), options.index(value) if value in options else None
    if index is None and number is None and isinstance(value, str):
        listed = ", ".join(map(shown, options))
        raise row.fail("answer", f"{shown(value)} is none of the options {listed}, nor the number of one")
    if index is None:
        return row.integer("answer", 0, len(options) - 1)
    if number in range(len(options)) and number != index:
        raise row.fail("answer", f"{value!r} is both an option's number and another's text: use jsonl, and a number")
    return index
