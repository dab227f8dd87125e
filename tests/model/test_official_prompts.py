"""Prompts, targets and frame labels of real annotation rows equal the official data set classes'."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sevila.benchmarks.nextqa import NExTQA
from sevila.benchmarks.qvhighlights import QVHighlights
from sevila.model.prompts import EventPrompts, QuestionPrompts, moment_prompt, target
from sevila.tasks.pretrain import frame_labels


def official(shared: Path, name: str) -> list[dict[str, Any]]:
    return json.loads((shared / "golden" / "prompts" / f"prompts_{name}.json").read_text())


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def check(expected: list[dict[str, Any]], rows: list[tuple[str, list[str], int]], prompts: Any) -> int:
    """Compare (question, options, answer) rows with the official texts; returns how many there are."""
    made = 0
    for row, (question, options, answer) in zip(expected, rows, strict=True):
        if "qa_input" in row:  # in the others the official code failed and took a random other row
            made += 1
            assert prompts.answer(question, options) == row["qa_input"]
            assert prompts.localize(question, options) == row["loc_input"]
            assert target(answer) == row["qa_output"]
    return made


def test_nextqa(shared: Path) -> None:
    questions = NExTQA.read_questions(shared / "samples" / "nextqa" / "val_sample.csv")
    expected = official(shared, "nextqa")
    assert [q.qid for q in questions] == [row["question_id"] for row in expected]
    rows = [(q.question, list(q.options), q.answer) for q in questions]
    assert check(expected, rows, QuestionPrompts()) == 43


def test_star(shared: Path) -> None:
    rows = json.loads((shared / "samples" / "star" / "star_val_unified_sample.json").read_text())
    expected = official(shared, "star")
    assert [row["qid"] for row in rows] == [row["question_id"] for row in expected]
    asked = [(r["question"], [r[f"a{i}"] for i in range(r["num_option"])], r["answer"]) for r in rows]
    assert check(expected, asked, QuestionPrompts()) == 41


TVQA_FILES = ["tvqa/tvqa_train_one_row.jsonl", "tvqa/tvqa_test_public_sample.jsonl"]


@pytest.mark.parametrize(
    ("name", "files", "options"),
    [("how2qa", ["how2qa/how2qa_val_sample.jsonl"], 4), ("tvqa_answer0_when_hidden", TVQA_FILES, 5)],
)
def test_how2qa_and_tvqa(shared: Path, name: str, files: list[str], options: int) -> None:
    rows = [row for file in files for row in lines(shared / "samples" / file)]
    asked = [(r["q"], [r[f"a{i}"] for i in range(options)], r.get("answer_idx", 0)) for r in rows]
    expected = official(shared, name)
    faulty = sum("qa_input" not in row for row in expected)
    assert check(expected, asked, QuestionPrompts()) == len(rows) - faulty
    assert 0 < faulty < 5


def test_vlep(shared: Path) -> None:
    rows = lines(shared / "samples" / "vlep" / "vlep_dev_sample.jsonl")
    expected = official(shared, "vlep_with_question_key")
    assert [f"VLEP_{r['example_id']}" for r in rows] == [row["question_id"] for row in expected]
    assert check(expected, [("", r["events"], r["answer"]) for r in rows], EventPrompts()) == 40


def test_qvhighlights(shared: Path) -> None:
    moments = QVHighlights.read_moments(shared / "samples" / "qvhighlights" / "highlight_val_sample.jsonl")
    expected = official(shared, "qvh_75frames_30fps")
    assert [f"QVHighlight_{m.qid}" for m in moments] == [row["question_id"] for row in expected]
    assert len(moments) == 40
    for moment, row in zip(moments, expected, strict=True):
        assert moment_prompt(moment.query) == row["loc_input"]
        labels = frame_labels([index / 30 for index in row["indices"]], moment)
        assert ["yes" if label else "no" for label in labels] == row["qa_output"].split("_")
