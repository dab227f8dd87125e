"""STAR: questions about stretches of Charades videos. Source: github.com/csbobby/STAR_Benchmark."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sevila.benchmarks.base import Answered, FileBenchmark
from sevila.benchmarks.predictions import Content, Entry, Form, Score, Table, entry_of, first_value
from sevila.benchmarks.rows import Row, shown
from sevila.data.records import Question
from sevila.errors import UserError
from sevila.metrics.choice import Choice, mean_over_types, tally

TYPES = ("Interaction", "Sequence", "Prediction", "Feasibility")


class ByType(Form):
    """{type: [{"question_id": qid, "answer": option}]}: STAR's submission."""

    def fits(self, content: Content) -> bool:
        return isinstance(content, dict) and isinstance(first_value(content), list)

    def entries(self, content: Table, path: Path) -> Iterator[Entry]:
        for qtype, rows in content.items():
            for number, row in enumerate(rows if isinstance(rows, list) else [None], start=1):
                place = f"{path}, {qtype}, entry {number}"
                if not isinstance(row, dict):
                    raise UserError(f"{place}: expected an object with question_id and answer, found {row!r}")
                yield entry_of(place, row, "question_id", "answer")


@dataclass
class STAR(FileBenchmark):
    """STAR below `root`; the test split hides its answers."""

    train: str | None = "annotations/STAR_train.json"
    val: str | None = "annotations/STAR_val.json"
    test: str | None = "annotations/STAR_test.json"

    name = "star"
    best = "mean_over_types"
    suffixes = (".json",)
    forms = (ByType('{type: [{"question_id": qid, "answer": option}]}'),)
    typed = True

    @classmethod
    def question(cls, row: Row) -> Question:
        """The type is the first word of the qid; the right answer is found by its text, the first of equal choices."""
        qid, options = row.name("question_id"), _choices(row)
        return Question(
            qid=qid,
            video=row.name("video_id"),
            question=row.text("question"),
            options=options,
            answer=row.choice("answer", options) if "answer" in row.values else None,
            qtype=qid.partition("_")[0],
            clip=row.clip("start and end", row.values.get("start"), row.values.get("end")),
        )

    @classmethod
    def evaluate(cls, answered: Sequence[Answered]) -> dict[str, Any]:
        """The mean of the types' accuracies, which its tables call "Avg."."""
        return {"mean_over_types": mean_over_types(a.choice for a in answered)}

    @classmethod
    def score(cls, annotations: Path, predictions: Path | None, missing: str = "refuse") -> Score:
        """As SeViLA's own code (lavis/tasks/vqa.py), which STAR's numbers in the paper come from."""
        choices, notes = cls.choices(annotations, predictions, missing)
        result = star_accuracies(choices)
        by_type = [(name, value) for name, value in result.items() if name not in ("agg_metrics", "total")]
        return Score.of([("Avg", result["agg_metrics"]), *by_type], int(result["total"]), result, notes)

    @classmethod
    def submission(cls, answered: Sequence[Answered]) -> dict[str, Any]:
        """{type: [{"question_id", "answer"}]}, the option's number as the answer.

        STAR's challenge server (eval.ai 1325) shows its format to those who are registered, and no published file
        or script was found to check this one against: compare it with the challenge page before submitting.
        """
        by_type: dict[str, list[dict[str, Any]]] = {}
        for a in answered:
            row = {"question_id": a.question.qid, "answer": a.option}
            by_type.setdefault(a.question.qid.split("_")[0], []).append(row)
        return by_type


def star_accuracies(choices: Iterable[Choice]) -> dict[str, float]:
    """Accuracy of every type in percent, unrounded, under the names of SeViLA's task (lavis/tasks/vqa.py).

    agg_metrics   mean of the types' accuracies, every *type* counting once: STAR's "Avg"
    total         questions counted

    A type whose answers are all wrong has accuracy 0 and counts in the mean (the official code fails there).
    UserError for another type, and where no question has a known answer.
    """
    by_type = tally(choices)
    for qtype in by_type:
        if qtype not in TYPES:
            raise UserError(f"question type {qtype!r}: STAR has {', '.join(TYPES)}")
    accuracies = {qtype: by_type[qtype][0] / by_type[qtype][1] * 100 for qtype in TYPES if qtype in by_type}
    total = sum(n for _, n in by_type.values())
    # every type counts once, however many questions it has
    return {"agg_metrics": sum(accuracies.values()) / len(accuracies), "total": total, **accuracies}


def _choices(row: Row) -> tuple[str, ...]:
    try:
        texts = tuple(choice["choice"] for choice in row.values.get("choices"))  # type: ignore[union-attr]
    except (TypeError, KeyError):
        raise row.fail("choices", "expected a list of {choice_id, choice}") from None
    if len(texts) < 2 or not all(isinstance(text, str) for text in texts):
        raise row.fail("choices", f"expected at least two texts, found {shown(list(texts))}")
    return row.whole("choices", *texts)
