"""Predictions out of files: this library's predictions.jsonl, and what the benchmarks' own scripts read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sevila.errors import UserError
from sevila.files import numbered_jsonl, read_json


@dataclass(frozen=True)
class Entry:
    """The prediction for one question, and where in its file it stands.

    prediction   the chosen option as the file has it, not checked yet
    answer       the right option where the file repeats it, else None
    values       all that the file says of the question
    names        the fields in which the file keeps qid, prediction and answer, for errors
    """

    place: str
    qid: str
    prediction: Any = None
    answer: Any = None
    values: Mapping[str, Any] = field(default_factory=dict)
    names: tuple[str, str, str] = ("qid", "prediction", "answer")

    def fail(self, name: str, problem: str) -> UserError:
        return UserError(f"{self.place}, field {name}: {problem}")


@dataclass(frozen=True)
class Document:
    """A file of predictions: rows with their places, or one table of values by key."""

    path: Path
    rows: tuple[tuple[str, dict[str, Any]], ...] | None = None
    table: dict[str, Any] | None = None


class Form(Protocol):
    """One form of a file of predictions. `looks` says in an error how it looks."""

    looks: str

    def fits(self, document: Document) -> bool: ...

    def entries(self, document: Document) -> Iterator[Entry]: ...


def open_document(path: Path) -> Document:
    """The content of a json or jsonl file. UserError where it is malformed, empty, or has a key twice."""
    if path.suffix == ".jsonl":
        rows = tuple((f"{path}, line {line}", row) for line, row in numbered_jsonl(path))
    else:
        content = read_json(path)
        if isinstance(content, dict):
            if not content:
                raise UserError(f"{path}: holds no prediction")
            return Document(path, table=content)
        if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
            raise UserError(f"{path}: expected an object or a list of objects")
        rows = tuple((f"{path}, entry {number}", row) for number, row in enumerate(content, start=1))
    if not rows:
        raise UserError(f"{path}: holds no prediction")
    return Document(path, rows=rows)


def read_entries(path: Path, forms: tuple[Form, ...]) -> list[Entry]:
    """The predictions of a file that has one of the forms. UserError lists them where it has none."""
    document = open_document(path)
    for form in forms:
        if form.fits(document):
            return list(form.entries(document))
    raise UserError(f"{path}: expected {' or '.join(form.looks for form in forms)}")


@dataclass(frozen=True)
class Rows:
    """An object a question, as a json list or a line each, under the names that a script gives the fields.

    `answer` may be missing, unless it is one of the other fields that this form `needs`.
    """

    looks: str
    qid: str
    prediction: str
    answer: str = ""
    needs: tuple[str, ...] = ()

    def fits(self, document: Document) -> bool:
        return document.rows is not None and {self.qid, self.prediction, *self.needs} <= document.rows[0][1].keys()

    def entries(self, document: Document) -> Iterator[Entry]:
        for place, row in document.rows or ():
            yield _entry(place, row, self.qid, self.prediction, self.answer)


@dataclass(frozen=True)
class Table:
    """{qid: option}: what the VALUE benchmark's scripts read."""

    looks: str = "{qid: option}"

    def fits(self, document: Document) -> bool:
        return document.table is not None and not isinstance(_first(document.table), dict | list)

    def entries(self, document: Document) -> Iterator[Entry]:
        for qid, option in (document.table or {}).items():
            yield Entry(f"{document.path}, key {qid}", qid, option, names=("qid", "value", ""))


@dataclass(frozen=True)
class PredictionTable:
    """{video_qid: {"prediction": option, "answer": option}}: what NExT-QA's eval_mc.py reads."""

    looks: str = '{qid: {"prediction": option}}'

    def fits(self, document: Document) -> bool:
        return document.table is not None and isinstance(_first(document.table), dict)

    def entries(self, document: Document) -> Iterator[Entry]:
        for qid, values in (document.table or {}).items():
            place = f"{document.path}, key {qid}"
            if not isinstance(values, dict) or "prediction" not in values:
                raise UserError(f"{place}, field prediction: missing")
            yield Entry(place, qid, values["prediction"], values.get("answer"), values)


@dataclass(frozen=True)
class ByType:
    """{type: [{"question_id": qid, "answer": option}]}: STAR's submission."""

    looks: str = '{type: [{"question_id": qid, "answer": option}]}'

    def fits(self, document: Document) -> bool:
        return document.table is not None and isinstance(_first(document.table), list)

    def entries(self, document: Document) -> Iterator[Entry]:
        for qtype, rows in (document.table or {}).items():
            for number, row in enumerate(rows if isinstance(rows, list) else [None], start=1):
                place = f"{document.path}, {qtype}, entry {number}"
                if not isinstance(row, dict):
                    raise UserError(f"{place}: expected an object with question_id and answer, found {row!r}")
                yield _entry(place, row, "question_id", "answer", "")


OWN = Rows('lines {"qid", "prediction", ...} of predictions.jsonl', "qid", "prediction", "answer")
# What SeViLA's own evaluation leaves in its result folder.
OFFICIAL = Rows('a list of {"qid", "prediction", "target"}', "qid", "prediction", "target", needs=("target",))

ANSWER_FORMS: dict[str, tuple[Form, ...]] = {
    "nextqa": (OFFICIAL, OWN, PredictionTable()),
    "nextgqa": (OFFICIAL, OWN, PredictionTable()),
    "star": (OFFICIAL, OWN, ByType()),
    "how2qa": (OFFICIAL, OWN, Table()),
    "tvqa": (OFFICIAL, OWN, Table()),
    "vlep": (OFFICIAL, OWN, Table(), Rows('lines {"example_id", "pred_ans"}', "example_id", "pred_ans")),
}


def _entry(place: str, row: Mapping[str, Any], qid: str, prediction: str, answer: str) -> Entry:
    if isinstance(row.get(qid), bool) or not isinstance(row.get(qid), str | int):
        raise UserError(f"{place}, field {qid}: expected the id of a question, found {row.get(qid)!r}")
    if prediction not in row:
        raise UserError(f"{place}, field {prediction}: missing")
    names = (qid, prediction, answer)
    return Entry(place, str(row[qid]), row[prediction], row.get(answer) if answer else None, row, names)


def _first(table: Mapping[str, Any]) -> Any:
    return next(iter(table.values()))
