"""Questions and videos of one's own: csv or jsonl, one row a question. data/README.md has the recipe.

video                        the video's id: its file's name without extension, or its frame folder's name
question
a0, a1, ...  or  options     the options: columns (empty ones at the end are none), or a list in jsonl
answer                       optional: the right option's text, or its number from 0
qid, qtype                   optional: unique in the split; a type, by which accuracy is also told
start, end                   optional: the part of the video that counts, in seconds
windows                      optional, jsonl: [[start, end], ...] that hold the answer, for keyframe metrics
split                        optional: train, val or test, where one file holds several
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import count, takewhile
from pathlib import Path

from sevila.benchmarks.from_files import FromFiles, files
from sevila.benchmarks.rows import Dropped, Row, read_rows, records, shown, whole_number
from sevila.data.folders import VideoFolder
from sevila.data.records import Question

COLUMNS = ("video", "question")
MOST_OPTIONS = 26
SPLITS = ("train", "val", "test")


def build(
    root: str,
    train: str | None = "train.csv",
    val: str | None = "val.csv",
    test: str | None = "test.csv",
    videos: str = "videos",
    drop_bad_rows: bool = False,
    drop_unreadable: bool = False,
) -> FromFiles:
    """A data set of one's own below `root`. Two splits may name the same file, where its rows say their split."""
    return FromFiles(
        "custom",
        partial(VideoFolder, Path(root) / videos),
        {
            split: partial(read_questions, path, split)
            for split, path in files(root, train=train, val=val, test=test).items()
        },
        drop_bad_rows=drop_bad_rows,
        drop_unreadable=drop_unreadable,
    )


def read_questions(path: Path, split: str, dropped: list[Dropped] | None = None) -> list[Question]:
    """The rows of a split: those that say so, and those that say nothing. Texts are taken as they stand."""
    others = [other for other in SPLITS if other != split]  # a row of no split is a fault, in whichever is read
    rows = (row for row in read_rows(path, COLUMNS) if row.values.get("split") not in others)
    return records(rows, _question, dropped)


def _question(row: Row) -> Question:
    given = {field for field, value in row.values.items() if value not in (None, "")}
    if "split" in given and row.values["split"] not in SPLITS:
        raise row.fail("split", f"expected {', '.join(SPLITS)} or nothing, found {row.values['split']!r}")
    options = _options(row, given)
    clip = None
    if given & {"start", "end"}:
        clip = row.clip("start and end", row.values.get("start"), row.values.get("end"))
    return Question(
        qid=row.name("qid") if "qid" in given else f"{row.unit}_{row.line}",
        video=row.name("video"),
        question=row.text("question"),
        options=options,
        answer=_answer(row, options) if "answer" in given else None,
        qtype=row.text("qtype") if "qtype" in given else "",
        clip=clip,
        windows=row.windows("windows") if "windows" in given else None,
    )


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
