"""STAR's json files, as published."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sevila.benchmarks.star import STAR, star_accuracies
from sevila.data.records import Question
from sevila.errors import UserError
from sevila.metrics.choice import Choice

ROW = {
    "question_id": "Interaction_T1_13",
    "question": "Which object was tidied up by the person?",
    "video_id": "6H78U",
    "start": 11.1,
    "end": 19.6,
    "answer": "The cup/glass.",
    "question_program": [{"function": "Situations", "value_input": []}],
    "choices": [{"choice_id": i, "choice": text} for i, text in enumerate(["A.", "B.", "The cup/glass.", "D."])],
    "situations": {},
}


def write(path: Path, *rows: Mapping[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows))
    return path


def test_the_answer_is_found_by_its_text(tmp_path: Path) -> None:
    hidden = {key: value for key, value in ROW.items() if key != "answer"} | {"question_id": "Feasibility_T6_2"}
    first, second = STAR.read_questions(write(tmp_path / "f.json", ROW, hidden))
    assert first == Question(
        qid="Interaction_T1_13",
        video="6H78U",
        question="Which object was tidied up by the person?",
        options=("A.", "B.", "The cup/glass.", "D."),
        answer=2,
        qtype="Interaction",
        clip=(11.1, 19.6),
    )
    assert second.answer is None and second.qtype == "Feasibility"


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"answer": "E."}, "field answer: 'E.' is none of the options 'A.', 'B.', 'The cup/glass.', 'D.'"),
        ({"choices": ["A."]}, "field choices: expected a list of {choice_id, choice}"),
        ({"choices": [{"choice": 1}, {"choice": "b"}]}, "field choices: expected at least two texts, found [1, 'b']"),
        ({"start": None}, "field start and end: expected start and end in seconds, found None and 19.6"),
        ({"start": 20}, "field start and end: 20.0 to 19.6 s is no stretch of time"),
        ({"question": 3}, "field question: expected text, found 3"),
    ],
)
def test_faults_name_file_row_and_field(tmp_path: Path, values: dict[str, Any], problem: str) -> None:
    path = write(tmp_path / "f.json", ROW, {**ROW, "question_id": "x", **values})
    with pytest.raises(UserError) as caught:
        STAR.read_questions(path)
    assert str(caught.value) == f"{path}, row 2, {problem}"


def test_a_built_benchmark(tmp_path: Path) -> None:
    write(tmp_path / "annotations" / "STAR_val.json", ROW)
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "6H78U.mp4").touch()
    data = STAR(str(tmp_path))
    assert (data.name, data.prompts, data.question_splits) == ("star", "question", ("train", "val", "test"))
    (question,) = data.questions("val")
    assert data.folder().path(question.video) == tmp_path / "videos/6H78U.mp4"
    with pytest.raises(UserError, match=r"STAR_test.json: no such file"):
        data.questions("test")
    with pytest.raises(UserError, match="split=dev: star has questions for train, val, test"):
        data.questions("dev")
    with pytest.raises(UserError, match="data star has no moment queries"):
        data.moments("val")
    assert STAR(str(tmp_path), test=None).question_splits == ("train", "val")


def test_the_real_raw_row(shared: Path) -> None:
    for path in ("annotations", "samples"):
        (question,) = STAR.read_questions(shared / path / "star" / "STAR_raw_one_row.json")
        assert question.options == ("The closet/cabinet.", "The window.", "The laptop.", "The door.")
        assert (question.answer, question.clip, question.qtype) == (0, (8.9, 15.5), "Interaction")


# -- accuracies, as the official scripts print them ---


def test_as_the_official_code_prints(shared: Path) -> None:
    folder = shared / "golden/metrics/star"
    rows = json.loads((folder / "official_results_val.json").read_text())
    official = json.loads((folder / "metrics.json").read_text())
    result = star_accuracies(Choice(row["target"], row["prediction"], row["qid"].split("_")[0]) for row in rows)
    assert result == official and list(result) == list(official)


def test_a_type_without_a_right_answer_counts() -> None:
    # Interaction 1 of 2, Sequence 0 of 3, Prediction 1 of 1: the mean of 50, 0 and 100, though 2 of 6 are right
    choices = [Choice(0, 0, "Interaction"), Choice(0, 1, "Interaction"), Choice(2, 2, "Prediction")]
    choices += [Choice(3, option, "Sequence") for option in (0, 1, 2)]
    assert star_accuracies(choices) == {
        "agg_metrics": 50.0,
        "total": 6,
        "Interaction": 50.0,
        "Sequence": 0.0,
        "Prediction": 100.0,
    }


def test_unknown_types_are_refused() -> None:
    with pytest.raises(UserError, match="question type 'CW': STAR has Interaction"):
        star_accuracies([Choice(0, 0, "CW")])
