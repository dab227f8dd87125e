"""Files of predictions: this library's predictions.jsonl and what the benchmarks' own scripts read, the questions that
they belong to, and what their score is made of; keyframes for other programs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sevila.benchmarks.rows import Row, jsonl_rows
from sevila.data.records import Question
from sevila.errors import UserError
from sevila.files import json_line, read_json, write_text

Table = dict[str, Any]  # by the id of a question, or by its type
Content = list[Row] | Table


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


# -- reading ---


def read_content(path: Path) -> Content:
    """The rows of a jsonl file or a json list, or the table in a json file.

    UserError where it is malformed, empty, or has a key twice.
    """
    content: Any
    if path.suffix == ".jsonl":
        content = [row.checked() for row in jsonl_rows(path)]
    else:
        content = read_json(path)
        if isinstance(content, list) and all(isinstance(row, dict) for row in content):
            content = [Row(path, number, row, "entry") for number, row in enumerate(content, start=1)]
        elif not isinstance(content, dict):
            raise UserError(f"{path}: expected an object or a list of objects")
    if not content:
        raise UserError(f"{path}: holds no prediction")
    return content


@dataclass(frozen=True)
class Form:
    """One form of a file of predictions; subclasses say which. `looks` says in an error how it looks."""

    looks: str

    def fits(self, content: Content) -> bool:
        """Whether this is such a file, by its first row or value."""
        raise NotImplementedError

    def entries(self, content: Any, path: Path) -> Iterator[Entry]:
        """The predictions of such a file. UserError for one that is malformed."""
        raise NotImplementedError


def read_entries(path: Path, forms: Sequence[Form]) -> list[Entry]:
    """The predictions of a file that has one of the forms. UserError lists them where it has none."""
    content = read_content(path)
    for form in forms:
        if form.fits(content):
            return list(form.entries(content, path))
    raise UserError(f"{path}: expected {' or '.join(form.looks for form in forms)}")


@dataclass(frozen=True)
class RowForm(Form):
    """An object a question, as a json list or a line each, under the names that a script gives the fields.

    `answer` may be missing, unless it is one of the other fields that this form `needs`.
    """

    qid: str
    prediction: str
    answer: str = ""
    needs: tuple[str, ...] = ()

    def fits(self, content: Content) -> bool:
        return isinstance(content, list) and {self.qid, self.prediction, *self.needs} <= content[0].values.keys()

    def entries(self, content: list[Row], path: Path) -> Iterator[Entry]:
        for row in content:
            yield entry_of(row.place, row.values, self.qid, self.prediction, self.answer)


class TableForm(Form):
    """{qid: option}: what the VALUE benchmark's scripts read."""

    def fits(self, content: Content) -> bool:
        return isinstance(content, dict) and not isinstance(first_value(content), dict | list)

    def entries(self, content: Table, path: Path) -> Iterator[Entry]:
        for qid, option in content.items():
            yield Entry(f"{path}, key {qid}", qid, option, names=("qid", "value", ""))


OWN = RowForm('lines {"qid", "prediction", ...} of predictions.jsonl', "qid", "prediction", "answer")
# What SeViLA's own evaluation leaves in its result folder.
OFFICIAL = RowForm('a list of {"qid", "prediction", "target"}', "qid", "prediction", "target", needs=("target",))


def entry_of(place: str, values: Mapping[str, Any], qid: str, prediction: str, answer: str = "") -> Entry:
    """What stands in these fields. UserError for one that is missing, or a qid that is none."""
    if isinstance(values.get(qid), bool) or not isinstance(values.get(qid), str | int):
        raise UserError(f"{place}, field {qid}: expected the id of a question, found {values.get(qid)!r}")
    if prediction not in values:
        raise UserError(f"{place}, field {prediction}: missing")
    names = (qid, prediction, answer)
    return Entry(place, str(values[qid]), values[prediction], values.get(answer) if answer else None, values, names)


def first_value(table: Table) -> Any:
    return next(iter(table.values()))


# -- the questions they belong to ---


@dataclass(frozen=True)
class Matched:
    """Entries by the question's qid, in the order of the questions.

    missing   qids of the questions without a prediction
    beyond    entries for questions that are not among the annotations, where such are allowed
    """

    entries: Mapping[str, Entry]
    missing: tuple[str, ...]
    beyond: int = 0


def match(
    questions: Sequence[Question],
    entries: Iterable[Entry],
    ids: Callable[[Question], set[str]],
    annotations: str,
    beyond: bool = False,
) -> Matched:
    """Join predictions and questions.

    ids           every name under which a file may speak of a question
    annotations   the file of the questions, for errors
    beyond        whether there may be entries for questions that are not in it (they are counted)

    UserError for two questions of one name, an unknown question (unless `beyond`), a question predicted twice.
    """
    qids: dict[str, str] = {}
    for question in questions:
        for name in ids(question):
            if name in qids:
                raise UserError(f"{annotations}: question {name!r} stands there twice")
            qids[name] = question.qid
    found: dict[str, Entry] = {}
    unknown = 0
    for entry in entries:
        qid = qids.get(entry.qid)
        if qid is None and beyond:
            unknown += 1
        elif qid is None:
            raise entry.fail(entry.names[0], f"no question {entry.qid!r} in {annotations}")
        elif qid in found:
            raise entry.fail(entry.names[0], f"question {entry.qid!r} has a prediction already: {found[qid].place}")
        else:
            found[qid] = entry
    ordered = {question.qid: found[question.qid] for question in questions if question.qid in found}
    return Matched(ordered, tuple(q.qid for q in questions if q.qid not in found), unknown)


def chosen_option(entry: Entry, question: Question) -> int:
    """The option that an entry chooses. UserError unless it is one of the question's.

    Where the file repeats the right answer, it must be the annotations': otherwise the two do not belong together.
    """
    _, field, answer = entry.names
    last = len(question.options) - 1
    if isinstance(entry.prediction, bool) or not isinstance(entry.prediction, int) or not 0 <= entry.prediction <= last:
        raise entry.fail(field, f"expected an option from 0 to {last}, found {entry.prediction!r}")
    if entry.answer is not None and question.answer is not None and entry.answer != question.answer:
        raise entry.fail(answer, f"{entry.answer!r}, but the annotations say {question.answer}: is this their split?")
    return entry.prediction


# -- their score ---


@dataclass(frozen=True)
class Score:
    """What a benchmark's own script says of a file of predictions.

    table      names and values as printed
    official   the same and more under the script's own keys
    notes      what else the reader of the table must know: questions left out and the like
    """

    table: tuple[tuple[str, str], ...]
    official: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, rows: Sequence[tuple[str, float]], n: int, official: Mapping[str, Any], notes: tuple[str, ...]
    ) -> Score:
        """Percent with two decimals, as the papers print it, and the number of questions."""
        return cls((*((name, f"{value:.2f}") for name, value in rows), ("n", str(n))), official, notes)


def needed(benchmark: str, key: str, path: Path | None) -> Path:
    """The path. UserError, with the option that gives it, where there is none."""
    if path is None:
        raise UserError(f"--{key} has no value: {benchmark} needs --{key} FILE")
    return path


def left_out(qids: Sequence[str], total: int, predictions: Path, missing: str) -> tuple[str, ...]:
    """A note on questions without a prediction; UserError where they are not to be left out."""
    if not qids:
        return ()
    listed = f"no prediction for {len(qids)} of {total} questions, first {qids[0]!r}"
    if missing == "refuse":
        raise UserError(f"{predictions}: {listed}; --missing skip leaves them out of the score")
    return (f"{listed}: left out of the score",)


# -- keyframes for other programs ---


def keyframe_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """The keyframes of a line of predictions.jsonl.

    frame_idx    numbers of frames in the video file, counted from 0 over the whole of it, in time order: what
                 decord's `VideoReader(file).get_batch(frame_idx)` takes
    frame_time   their times in seconds since the video's first frame. Where a file's sound begins before its pictures,
                 a player's clock, which starts with the sound, shows more

    UserError for a row without keyframes.
    """
    keyframes = sorted(row.get("keyframes") or (), key=lambda frame: frame["index"])
    if not keyframes:
        raise UserError(f"question {row.get('qid')!r}: its prediction has no keyframes to export")
    return {
        "qid": row["qid"],
        "video": row["video"],
        "frame_idx": [frame["index"] for frame in keyframes],
        "frame_time": [frame["time"] for frame in keyframes],
    }


def write_keyframes(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write the keyframes of predictions, in their order, as a json list of `keyframe_row`s; atomically.

    This is the form in which AKS and its followers run lmms-eval: the task's documents carry `frame_idx`, and the
    model decodes those frames instead of uniform ones. With documents in the order of the data set,

        rows = json.load(open("keyframes.json"))
        for doc, row in zip(docs, rows, strict=True):
            doc["frame_idx"] = row["frame_idx"]

    and where the order differs, `{row["qid"]: row["frame_idx"] for row in rows}`. A plain list of lists, as other
    programs take it, is `[row["frame_idx"] for row in rows]`. Without a row a UserError: nothing is written.
    """
    lines = [json_line(keyframe_row(row)).rstrip("\n") for row in rows]
    if not lines:
        raise UserError(f"{path}: there are no predictions whose keyframes could be exported")
    write_text(Path(path), "[\n" + ",\n".join(lines) + "\n]\n")
