"""The questions that a file of predictions is scored against."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sevila.benchmarks import how2qa, nextgqa, nextqa, star, tvqa, vlep
from sevila.data.records import Question
from sevila.errors import UserError
from sevila.files import read_json

READERS: dict[str, Callable[[Path], list[Question]]] = {
    "nextqa": nextqa.read_questions,
    "star": star.read_questions,
    "how2qa": how2qa.read_questions,
    "vlep": vlep.read_questions,
}


def read_questions(benchmark: str, path: Path, segments: Path | None = None) -> list[Question]:
    """The questions of an annotation file in any form that the benchmark's reader takes.

    segments    NExT-GQA's windows
    For TVQA also VALUE's tvqa_val_solution.json, which holds nothing but answers.
    """
    if benchmark == "nextgqa":
        if segments is None:
            raise UserError("segments has no value: benchmark=nextgqa needs segments=FILE")
        return nextgqa.read_questions(path, segments)
    if benchmark == "tvqa":
        content = read_json(path) if path.suffix == ".json" else None
        if isinstance(content, dict):
            return _solution(content, path)
        return tvqa.read_questions(path)
    return READERS[benchmark](path)


def _solution(content: dict[str, Any], path: Path) -> list[Question]:
    """{"solution": {show: {qid: answer}}} as questions whose texts are not known."""
    options = ("",) * tvqa.OPTIONS
    try:
        answers = [(qid, answer) for show in content["solution"].values() for qid, answer in show.items()]
    except (KeyError, AttributeError):
        raise UserError(f'{path}: expected a list of rows, or {{"solution": {{show: {{qid: answer}}}}}}') from None
    for qid, answer in answers:
        if type(answer) is not int or not 0 <= answer < len(options):
            raise UserError(f"{path}, key {qid}: expected an option from 0 to {len(options) - 1}, found {answer!r}")
    return [Question(qid, "", "", options, answer) for qid, answer in answers]
