"""NExT-QA: why, how, when and what in everyday videos. Source: github.com/doc-doc/NExT-QA."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sevila.benchmarks.base import Answered, FileBenchmark
from sevila.benchmarks.predictions import Content, Entry, Form, Score, Table, first_value
from sevila.benchmarks.rows import Dropped, Row, read_rows, records, windows_of
from sevila.data.folders import VideoFolder, Videos
from sevila.data.records import Question, Window
from sevila.errors import UserError
from sevila.files import read_json
from sevila.metrics.choice import Choice, accuracy_by_type, percent, tally

OPTIONS = 5
GROUPS = {"C": ("CW", "CH"), "T": ("TN", "TC", "TP"), "D": ("DO", "DL", "DC")}  # causal, temporal, descriptive
NAMES = {  # as eval_mc.py prints them
    "Why": ("CW",),
    "How": ("CH",),
    "Bef&Aft": ("TN", "TP"),
    "When": ("TC",),
    "Cnt": ("DC",),
    "Loc": ("DL",),
    "Other": ("DO",),
    "Acc_C": GROUPS["C"],
    "Acc_T": GROUPS["T"],
    "Acc_D": GROUPS["D"],
}


class PredictionTable(Form):
    """{video_qid: {"prediction": option, "answer": option}}: what NExT-QA's eval_mc.py reads."""

    def fits(self, content: Content) -> bool:
        return isinstance(content, dict) and isinstance(first_value(content), dict)

    def entries(self, content: Table, path: Path) -> Iterator[Entry]:
        for qid, values in content.items():
            place = f"{path}, key {qid}"
            if not isinstance(values, dict) or "prediction" not in values:
                raise UserError(f"{place}, field prediction: missing")
            yield Entry(place, qid, values["prediction"], values.get("answer"), values)


@dataclass
class NExTQA(FileBenchmark):
    """NExT-QA below `root`. Videos lie as VidOR has them, 1105/6037747123.mp4, or all in one folder."""

    train: str | None = "annotations/train.csv"
    val: str | None = "annotations/val.csv"
    test: str | None = "annotations/test.csv"
    video_map: str | None = "annotations/map_vid_vidorID.json"

    name = "nextqa"
    suffixes = (".json",)
    forms = (PredictionTable('{qid: {"prediction": option}}'),)
    columns = ("video", "question", "qid", "type", *(f"a{i}" for i in range(OPTIONS)))
    typed = True

    def open_folder(self) -> Videos:
        return mapped_folder(self.root, self.videos, self.video_map)

    @classmethod
    def read_questions(
        cls, path: Path, dropped: list[Dropped] | None = None, windows: Path | None = None
    ) -> list[Question]:
        """The rows of a NExT-QA csv, or of the official preprocessing's json, as records.

        windows   NExT-GQA's gsub json, or None where there are none
        """
        table = WindowTable(windows) if windows else None

        def parse(row: Row) -> Question:
            question = cls.any_question(row)
            return replace(question, windows=table.of(question)) if table else question

        return records(read_rows(path, cls.columns), parse, dropped)

    @classmethod
    def question(cls, row: Row) -> Question:
        """A file without the column `answer` hides the answers."""
        answer = row.integer("answer", 0, OPTIONS - 1) if "answer" in row.values else None
        return cls.prompted(row, row.text("video"), answer)

    @classmethod
    def prompted(cls, row: Row, video: str, answer: int | None) -> Question:
        """A row of the csv as a record, its texts in the form of the official prompts.

        The question gets its "?" and every option its "."; "?" is added even where one stands already. The qid is
        TYPE_VIDEO_NUMBER, as the official code names it.
        """
        kind, number = row.text("type"), row.text("qid")
        return Question(
            qid=f"{kind}_{video}_{number}",
            video=video,
            question=f"{row.text('question')}?",
            options=tuple(f"{option}." for option in row.texts("a{}", OPTIONS)),
            answer=answer,
            qtype=kind,
        )

    @classmethod
    def evaluate(cls, answered: Sequence[Answered]) -> dict[str, Any]:
        """The types, then causal (C), temporal (T) and descriptive (D) questions together."""
        return {"accuracy_by_type": accuracy_by_type((a.choice for a in answered), GROUPS)}

    @classmethod
    def score(cls, annotations: Path, predictions: Path | None, missing: str = "refuse") -> Score:
        """As NExT-QA's eval_mc.py, and every single type as SeViLA's own code."""
        choices, notes = cls.choices(annotations, predictions, missing)
        result = nextqa_accuracies(choices)
        groups = [(name, result["metrics"][f"Acc_{name}"]) for name in GROUPS if f"Acc_{name}" in result["metrics"]]
        return Score.of([("Acc", result["Acc"]), *groups, *result["types"].items()], result["total"], result, notes)

    @classmethod
    def official_id(cls, qid: str) -> str:
        """Without the type of TYPE_VIDEO_NUMBER."""
        return qid.partition("_")[2]

    @classmethod
    def ids(cls, question: Question) -> set[str]:
        return {question.qid, cls.official_id(question.qid)}

    @classmethod
    def submission(cls, answered: Sequence[Answered]) -> dict[str, Any]:
        """{video_qid: {"prediction", "answer"}}, what eval_mc.py reads; a hidden answer is null."""
        return {
            cls.official_id(a.question.qid): {"prediction": a.option, "answer": a.question.answer} for a in answered
        }


def nextqa_accuracies(choices: Iterable[Choice]) -> dict[str, Any]:
    """Accuracies in percent as NExT-QA's eval_mc.py prints them, and as SeViLA's own code does.

    metrics, Acc     eval_mc.py: two decimals; in a group every question counts once. The script's "Bef&Aft"
                     joins the types TN and TP; a group without a question is left out (the script fails on it).
    types            SeViLA's task (lavis/tasks/vqa.py): every single type, unrounded
    agg_metrics      the same: share of right answers of all questions, 0..1
    total            questions counted

    UserError for a type that NExT-QA does not have, and where no question has a known answer.
    """
    by_type = tally(choices)
    known = {qtype for group in GROUPS.values() for qtype in group}
    for qtype in by_type:
        if qtype not in known:
            raise UserError(f"question type {qtype!r}: NExT-QA has {', '.join(sorted(known))}")
    right, total = (sum(column) for column in zip(*by_type.values(), strict=True))
    metrics = {}
    for name, qtypes in NAMES.items():
        counts = [by_type[qtype] for qtype in qtypes if qtype in by_type]
        if counts:  # of all its questions, not the mean of its types
            metrics[name] = percent(sum(r for r, _ in counts), sum(n for _, n in counts))
    return {
        "metrics": metrics,
        "Acc": percent(right, total),
        "types": {qtype: r / n * 100 for qtype, (r, n) in sorted(by_type.items())},
        "agg_metrics": right / total,
        "total": total,
    }


def mapped_folder(root: str, videos: str, video_map: str | None) -> VideoFolder:
    """The videos, by the map from their ids to paths (NExT-QA: VidOR's) where one is given.

    UserError for a map that is none, and where there is no folder.
    """
    names = None
    if video_map is not None:
        names = read_json(Path(root) / video_map)
        if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
            raise UserError(f"{Path(root) / video_map}: expected a map from video ids to paths")
    return VideoFolder(Path(root) / videos, names=names)


class WindowTable:
    """NExT-GQA's windows: {video: {duration, location: {qid: [[start, end], ...]}, fps}}, seconds.

    A window may pass the end of its video or start below 0: it is kept as it stands.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._table: Any = read_json(path)

    def of(self, question: Question) -> tuple[Window, ...]:
        """UserError where the question has no windows, or one of them runs backwards."""
        # not question.video, which is a path in the official preprocessing's json
        video, _, number = question.qid.removeprefix(f"{question.qtype}_").rpartition("_")
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
