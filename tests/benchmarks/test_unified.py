"""The json of the official preprocessing, for every benchmark."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sevila.benchmarks import STAR, TVQA, VLEP, How2QA, NExTGQA, NExTQA, QVHighlights
from sevila.data.records import Moment, Question
from sevila.errors import UserError

OPTIONS = {f"a{i}": f"option {i}." for i in range(5)}


def write(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / "val.json"
    path.write_text(json.dumps(list(rows)))
    return path


def question(count: int, **values: Any) -> dict[str, Any]:
    options = dict(list(OPTIONS.items())[:count])
    return {"video": "v1", "num_option": count, "qid": "q", **options, "answer": 1, "question": "why?", **values}


def record(count: int, **values: Any) -> Question:
    options = tuple(OPTIONS.values())[:count]
    return Question(**{"qid": "q", "video": "v1", "question": "why?", "options": options, "answer": 1, **values})


def test_nextqa_texts_are_final(tmp_path: Path) -> None:
    path = write(tmp_path, question(5, video="1164/3238", qid="CW_3238_6", answer="1"))
    expected = record(5, video="1164/3238", qid="CW_3238_6", qtype="CW")
    assert NExTQA.read_questions(path) == [expected]
    windows = tmp_path / "gsub.json"
    windows.write_text('{"3238": {"location": {"6": [[1, 2]]}}}')
    (grounded,) = NExTGQA.read_questions(path, windows=windows)
    assert grounded.windows == ((1.0, 2.0),) and grounded.qid == "CW_3238_6"


def test_star(tmp_path: Path) -> None:
    path = write(tmp_path, question(4, qid="Sequence_T1_4", start=1.5, end=9))
    assert STAR.read_questions(path) == [record(4, qid="Sequence_T1_4", qtype="Sequence", clip=(1.5, 9.0))]


def test_a_hidden_answer(tmp_path: Path) -> None:
    row = question(4, qid="Sequence_T1_4", start=1.5, end=9)
    del row["answer"]
    assert STAR.read_questions(write(tmp_path, row))[0].answer is None


def test_how2qa_and_tvqa_write_their_clips_as_text(tmp_path: Path) -> None:
    path = write(tmp_path, question(4, qid="HOW2QA_0", start="36.58", end="58.52"))
    assert How2QA.read_questions(path) == [record(4, qid="HOW2QA_0", clip=(36.58, 58.52))]
    path = write(tmp_path, question(5, qid="TVQA_7", start="NaN", end="NaN"))
    assert TVQA.read_questions(path) == [record(5, qid="TVQA_7")]


@pytest.mark.parametrize("extra", [{}, {"question": ""}])
def test_vlep_has_no_question_and_its_own_ids(tmp_path: Path, extra: dict[str, str]) -> None:
    row = question(2, qid="VLEP_20142", start=38.81, end=40.37)
    del row["question"]
    path = write(tmp_path, {**row, **extra})
    assert VLEP.read_questions(path) == [record(2, qid="20142", question="", clip=(38.81, 40.37))]


def test_qvhighlights(tmp_path: Path) -> None:
    row = {"video": "x_60.0_210.0", "qid": "QVHighlight_2579", "query": "a cup", "duration": 150}
    path = write(tmp_path, {**row, "relevant_windows": [[2, 4]]}, {**row, "qid": "QVHighlight_3"})
    assert QVHighlights.read_moments(path) == [
        Moment("2579", "x_60.0_210.0", "a cup", 150.0, ((2.0, 4.0),)),
        Moment("3", "x_60.0_210.0", "a cup", 150.0),
    ]


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"num_option": 6}, "field a5: missing"),
        ({"num_option": "many"}, "field num_option: expected a whole number from 2 to 26, found 'many'"),
        ({"answer": 5}, "field answer: expected a whole number from 0 to 4, found 5"),
        ({"start": 3}, "field start: expected start and end in seconds, found 3 and None"),
        ({"start": 3, "end": 1}, "field start: 3.0 to 1.0 s is no stretch of time"),
        ({"video": None}, "field video: missing"),
    ],
)
def test_faults_name_file_row_and_field(tmp_path: Path, values: dict[str, Any], problem: str) -> None:
    path = write(tmp_path, question(5), question(5, **{"qid": "r", **values}))
    with pytest.raises(UserError) as caught:
        TVQA.read_questions(path)
    assert str(caught.value) == f"{path}, row 2, {problem}"
