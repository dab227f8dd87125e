"""What the tasks of the VALUE leaderboard share that are benchmarks here: How2QA, TVQA, VLEP.

Their script is scoring_program/evaluate_{how2qa,tvqa,vlep}.py of github.com/VALUE-Leaderboard/EvaluationTools.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from sevila.benchmarks.base import FileBenchmark
from sevila.benchmarks.predictions import Form, Score, TableForm
from sevila.benchmarks.rows import Row
from sevila.data.records import Question, Window
from sevila.errors import UserError
from sevila.metrics.choice import accuracy


class ValueTask(FileBenchmark):
    """Ids are numbers, a submission is {qid: option}, and the score is one accuracy under the name of the split.

    Their server takes a zip of folders such as how2qa/how2qa_test_public_predictions.json.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".json",)
    forms: ClassVar[tuple[Form, ...]] = (TableForm("{qid: option}"),)
    n_options: ClassVar[int]
    scored_split: ClassVar[str] = "val"  # the key of the number in VALUE's own files

    @classmethod
    def question(cls, row: Row) -> Question:
        return Question(
            qid=row.name("qid"),
            video=row.name("vid_name"),
            question=row.text("q"),
            options=row.texts("a{}", cls.n_options),
            answer=row.integer("answer_idx", 0, cls.n_options - 1) if "answer_idx" in row.values else None,
            clip=cls.clip(row),
        )

    @classmethod
    def clip(cls, row: Row) -> Window | None:
        return row.span("ts")

    @classmethod
    def official_id(cls, qid: str) -> str:
        """The number. UserError for another id: the unified json of How2QA and TVQA counts rows (HOW2QA_0), and the
        benchmark's ids are lost there."""
        if not (qid.isascii() and qid.isdigit()):
            raise UserError(f"question {qid!r}: {cls.name}'s ids are numbers; read the benchmark's own annotation file")
        return qid

    @classmethod
    def score(
        cls, annotations: Path, predictions: Path | None, missing: str = "refuse", split: str | None = None
    ) -> Score:
        """As VALUE's script: every question counts once. split: the key of the number (`scored_split`)."""
        choices, notes = cls.choices(annotations, predictions, missing)
        value = accuracy(choices)
        known = sum(choice.answer is not None for choice in choices)
        return Score.of([("accuracy", value)], known, {split or cls.scored_split: value}, notes)
