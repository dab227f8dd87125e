"""What a benchmark is: its records by split, the numbers that its tables print, and its submission file.

A new one is a file beside this one with a subclass of `FileBenchmark`, a line in `__init__.py` and
configs/data/NAME.yaml. The class names its annotation files and says what a row is (`question` or `moment`). All the
rest is the common case, written anew only where the benchmark differs: how its tables group the answers (`evaluate`),
what its own script prints (`score`), what that script or a server reads (`forms`, `suffixes`, `submission`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from sevila.benchmarks.predictions import (
    OFFICIAL,
    OWN,
    Entry,
    Form,
    Matched,
    Score,
    chosen_option,
    left_out,
    match,
    needed,
    read_entries,
)
from sevila.benchmarks.rows import Dropped, Row, read_rows, records
from sevila.data.check import find_faults
from sevila.data.folders import VideoFolder, Videos
from sevila.data.records import Moment, Question, Window
from sevila.errors import UserError
from sevila.files import write_json
from sevila.metrics.choice import Choice, multiple_choice
from sevila.metrics.keyframes import keyframe_span

R = TypeVar("R", Question, Moment)
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Answered:
    """A question, the index of the option that was chosen, and the span of its keyframes in seconds, if any."""

    question: Question
    option: int
    span: Window | None = None

    @property
    def choice(self) -> Choice:
        return Choice(self.question.answer, self.option, self.question.qtype)


class Benchmark:
    """Records by split, where their videos are, and what its numbers and files of predictions look like.

    name             as in `data=NAME`
    prompts          the wording it was published with: "question", or "event" where rows hold no question
    best             what its tables rank by, a key of metrics.json
    window_metrics   single numbers that `evaluate` adds where windows are known
    suffixes         of its submission files; none: it has no form of submission
    forms            of files of predictions, beside predictions.jsonl and SeViLA's own result lists
    question_splits  the splits it has questions for; `moment_splits` likewise
    dropped          what was left out of the splits read so far; only where that was asked for
    """

    name: ClassVar[str]
    prompts: ClassVar[str] = "question"
    best: ClassVar[str] = "accuracy"
    window_metrics: ClassVar[tuple[str, ...]] = ()
    suffixes: ClassVar[tuple[str, ...]] = ()
    forms: ClassVar[tuple[Form, ...]] = ()
    question_splits: Sequence[str] = ()
    moment_splits: Sequence[str] = ()

    @property
    def dropped(self) -> Sequence[Dropped]:
        return ()

    def questions(self, split: str) -> list[Question]:
        """The questions of `train`, `val` or `test`. UserError where the benchmark has none."""
        raise UserError(
            f"data {self.name} has no questions but moment queries: train with task.name=pretrain, eval with moments"
        )

    def moments(self, split: str) -> list[Moment]:
        """The moment queries of a split. UserError where the benchmark has none."""
        raise UserError(f"data {self.name} has no moment queries but questions: give task.name=answer")

    def folder(self) -> Videos:
        """Where its videos lie. UserError where there is no such folder."""
        raise NotImplementedError

    @classmethod
    def evaluate(cls, answered: Sequence[Answered]) -> dict[str, Any]:
        """The numbers of its tables, for metrics.json, where they are more than accuracy in all and by type.

        Called with at least one question whose answer is known. Single numbers are floats.
        """
        return {}

    # -- its submission: what its own script or server reads ---

    @classmethod
    def official_id(cls, qid: str) -> str:
        """What its submission file calls a question. UserError for an id that no such file knows."""
        return qid

    @classmethod
    def ids(cls, question: Question) -> set[str]:
        """Every name under which a file of predictions may speak of a question."""
        return {question.qid}

    @classmethod
    def check_submission(cls, path: Path) -> None:
        """UserError for a benchmark without a form of submission, and for a suffix that is none of its forms'."""
        if not cls.suffixes:
            raise UserError(f"{cls.name}: has no form of submission; leave submission= out")
        if path.suffix not in cls.suffixes:
            raise UserError(f"{path}: a submission to {cls.name} must end in {' or '.join(cls.suffixes)}")

    def check_complete(self, questions: Sequence[Question]) -> None:
        """UserError where the questions read could not make a whole submission: dropped ones, or ids that are lost."""
        if self.dropped:
            raise UserError(f"submission: {len(self.dropped)} records were dropped, and a submission needs them all")
        for question in questions:
            self.official_id(question.qid)

    @classmethod
    def write_submission(cls, path: Path, records: Sequence[Any], rows: Sequence[Mapping[str, Any]]) -> list[Path]:
        """Write the answers to all questions of a split, atomically; returns the files written.

        path      its suffix may pick the form: VLEP has one as .json and one as .jsonl
        records   the questions (QVHighlights: moment queries), whose order the file has
        rows      lines of predictions.jsonl, in any order, one for every question

        UserError for a wrong suffix, a question without a row, a row without a question, a wrong option.
        """
        cls.check_submission(path)
        numbered = [Row(Path("predictions"), number, row, "row") for number, row in enumerate(rows, start=1)]
        matched = match(records, OWN.entries(numbered, path), cls.ids, f"the split of {cls.name}")
        if matched.missing:
            listed = f"{len(matched.missing)} of {len(records)} questions, first {matched.missing[0]!r}"
            raise UserError(f"{path}: no prediction for {listed}: a submission needs them all")
        return cls.write(path, [_answered(question, matched.entries[question.qid]) for question in records])

    @classmethod
    def submission_files(cls, path: Path) -> list[Path]:
        """The files that a submission of this name consists of."""
        return [path]

    @classmethod
    def write(cls, path: Path, answered: Sequence[Answered]) -> list[Path]:
        """Write the submission file, or files."""
        write_json(path, cls.submission(answered))
        return [path]

    @classmethod
    def submission(cls, answered: Sequence[Answered]) -> dict[str, Any]:
        """The content of its submission file."""
        return {cls.official_id(a.question.qid): a.option for a in answered}


def _answered(question: Question, entry: Entry) -> Answered:
    keyframes = entry.values.get("keyframes")
    span = keyframe_span([frame["time"] for frame in keyframes]) if keyframes else None
    return Answered(question, chosen_option(entry, question), span)


@dataclass
class FileBenchmark(Benchmark):
    """A benchmark that stands in annotation files, each of which is read when it is asked for.

    root                 its folder
    train, val, test     annotation files, below `root` unless absolute; None: there is no such split
    videos               the folder of videos, below `root`
    drop_bad_rows        leave out rows that are malformed instead of stopping at the first
    drop_unreadable      leave out records whose video is missing or cannot be read, or whose clip lies outside it:
                         every video is opened once, which takes a while

    What a subclass says, beside its files:
    columns              that a csv must have
    has_moments          whether its rows are moment queries (`moment`), not questions (`question`)
    typed, prefix        of the qids in the official preprocessing's json: whether they begin with the question's type
                         and "_", and what is put before the benchmark's own
    """

    root: str
    train: str | None = None
    val: str | None = None
    test: str | None = None
    videos: str = "videos"
    drop_bad_rows: bool = field(default=False, kw_only=True)
    drop_unreadable: bool = field(default=False, kw_only=True)

    columns: ClassVar[tuple[str, ...]] = ()
    has_moments: ClassVar[bool] = False
    typed: ClassVar[bool] = False
    prefix: ClassVar[str] = ""

    def __post_init__(self) -> None:
        splits = tuple(split for split in SPLITS if getattr(self, split) is not None)
        self.question_splits = () if self.has_moments else splits
        self.moment_splits = splits if self.has_moments else ()
        self._left_out: dict[tuple[str, str], list[Dropped]] = {}
        self._folder: Videos | None = None

    @property
    def dropped(self) -> Sequence[Dropped]:
        """What was left out of the splits read so far, in the order of the files."""
        return [row for rows in self._left_out.values() for row in rows]

    def questions(self, split: str) -> list[Question]:
        """The questions of a split. UserError for another split, a missing file, a malformed row, none left."""
        if not self.question_splits:
            return super().questions(split)
        return self._usable(split, "questions", self.question_splits, self.split_questions)

    def moments(self, split: str) -> list[Moment]:
        """The moment queries of a split. UserError as `questions`."""
        if not self.moment_splits:
            return super().moments(split)
        return self._usable(split, "moment queries", self.moment_splits, self.split_moments)

    def folder(self) -> Videos:
        """Where its videos lie. UserError where there is no such folder."""
        if self._folder is None:
            self._folder = self.open_folder()
        return self._folder

    def _usable(
        self, split: str, what: str, splits: Sequence[str], read: Callable[[str, list[Dropped] | None], list[R]]
    ) -> list[R]:
        """What a split's file holds, without what is to be dropped."""
        if split not in splits:
            raise UserError(f"split={split}: {self.name} has {what} for {', '.join(splits)}")
        dropped: list[Dropped] = []
        found = read(split, dropped if self.drop_bad_rows else None)
        if self.drop_unreadable:
            faults = find_faults(found, self.folder())
            dropped += [Dropped(f"video {r.video}", faults[r.qid].reason, r.qid) for r in found if r.qid in faults]
            found = [record for record in found if record.qid not in faults]
        if not found:
            left = f" left, {len(dropped)} were dropped" if dropped else ""
            raise UserError(f"split={split}: {self.name} has no {what}{left}; look at its annotation file")
        self._left_out[what, split] = [Dropped(d.place, d.reason, d.qid, split) for d in dropped]
        return found

    # -- to be written anew where a benchmark differs ---

    def split_questions(self, split: str, dropped: list[Dropped] | None) -> list[Question]:
        return self.read_questions(self.file(split), dropped)

    def split_moments(self, split: str, dropped: list[Dropped] | None) -> list[Moment]:
        return self.read_moments(self.file(split), dropped)

    def open_folder(self) -> Videos:
        return VideoFolder(Path(self.root) / self.videos)

    def file(self, key: str) -> Path:
        """The file that a field names, below the root unless absolute."""
        return Path(self.root) / getattr(self, key)

    # -- its annotations ---

    @classmethod
    def question(cls, row: Row) -> Question:
        """A row of its own files as a record. UserError, naming file, line and field, where it is malformed."""
        raise NotImplementedError

    @classmethod
    def moment(cls, row: Row) -> Moment:
        """A row of its own files as a record. UserError as `question`."""
        raise NotImplementedError

    @classmethod
    def read_questions(cls, path: Path, dropped: list[Dropped] | None = None) -> list[Question]:
        """The rows of a file, its own or the official preprocessing's, as records.

        UserError at the first malformed row; with a list for what is dropped it goes there.
        """
        return records(read_rows(path, cls.columns), cls.any_question, dropped)

    @classmethod
    def read_moments(cls, path: Path, dropped: list[Dropped] | None = None) -> list[Moment]:
        """The same for moment queries."""
        return records(read_rows(path, cls.columns), cls.moment, dropped)

    @classmethod
    def any_question(cls, row: Row) -> Question:
        """A row of its own files, or of the one form that the official SeViLA preprocessing makes of every benchmark.

            {"video", "num_option", "qid", "a0", "a1", ..., "answer", "question", "start", "end"}

        Texts are final there (NExT-QA's "?" and "." are in them), start and end may be texts and may be missing, so
        may the answer and, for VLEP, the question. Its qids of How2QA and TVQA are row numbers.
        """
        values = row.values
        if "num_option" not in values:
            return cls.question(row)
        count = row.integer("num_option", 2, 26)
        qid = row.name("qid").removeprefix(cls.prefix)
        return Question(
            qid=qid,
            video=row.name("video"),
            question=row.text("question") if "question" in values else "",
            options=row.texts("a{}", count),
            answer=row.integer("answer", 0, count - 1) if "answer" in values else None,
            qtype=qid.partition("_")[0] if cls.typed else "",
            clip=row.clip("start", values["start"], values.get("end")) if "start" in values else None,
        )

    # -- its own script ---

    @classmethod
    def score(cls, annotations: Path, predictions: Path | None, missing: str = "refuse") -> Score:
        """What its own script says of a file of predictions; without one, accuracy in all and by type.

        missing   refuse or skip questions without a prediction

        UserError for a malformed file, and where predictions and annotations do not belong together.
        """
        choices, notes = cls.choices(annotations, predictions, missing)
        result = multiple_choice(choices)
        rows = [("accuracy", result["accuracy"]), *result["accuracy_by_type"].items()]
        return Score.of(rows, result["n"], result, notes)

    @classmethod
    def choices(cls, annotations: Path, predictions: Path | None, missing: str) -> tuple[list[Choice], tuple[str, ...]]:
        """The choices that a file of predictions makes, in the questions' order, and notes."""
        predictions = needed(cls.name, "predictions", predictions)
        questions = cls.read_questions(annotations)
        matched = cls.matched(questions, predictions, annotations)
        choices = [
            Choice(question.answer, chosen_option(matched.entries[question.qid], question), question.qtype)
            for question in questions
            if question.qid in matched.entries
        ]
        return choices, left_out(matched.missing, len(questions), predictions, missing)

    @classmethod
    def matched(
        cls, questions: Sequence[Question], predictions: Path, annotations: Path, beyond: bool = False
    ) -> Matched:
        """The predictions of a file, by question. UserError where not one of them is for these questions."""
        entries = read_entries(predictions, (OFFICIAL, OWN, *cls.forms))
        matched = match(questions, entries, cls.ids, str(annotations), beyond)
        if not matched.entries:
            raise UserError(f"{predictions}: none of its questions is in {annotations}")
        return matched
