from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sevila.benchmarks import BENCHMARKS, TVQA, VLEP, NExTQA
from sevila.benchmarks.predictions import OFFICIAL, OWN, Entry, chosen_option, match, read_entries, write_keyframes
from sevila.data.records import Question
from sevila.errors import UserError

ANSWERED = [name for name, made in BENCHMARKS.items() if made.suffixes and name != "qvhighlights"]
QUESTION = Question("7", "v", "q", ("a", "b", "c"), 1)


def read(benchmark: str, path: Path, content: Any) -> list[tuple[str, Any, Any]]:
    lines = [json.dumps(row) for row in content] if path.suffix == ".jsonl" else [json.dumps(content)]
    path.write_text("\n".join(lines))
    return [
        (entry.qid, entry.prediction, entry.answer)
        for entry in read_entries(path, (OFFICIAL, OWN, *BENCHMARKS[benchmark].forms))
    ]


def test_every_form(tmp_path: Path) -> None:
    own = [{"qid": "a_1", "prediction": 2, "answer": None}, {"qid": "b", "prediction": 0, "answer": 1}]
    for benchmark in ANSWERED:
        assert read(benchmark, tmp_path / "p.jsonl", own) == [("a_1", 2, None), ("b", 0, 1)]
        assert read(benchmark, tmp_path / "p.json", [{"qid": "a", "prediction": 2, "target": 1}]) == [("a", 2, 1)]
    assert read("how2qa", tmp_path / "p.json", {"12": 3, "4": 0}) == [("12", 3, None), ("4", 0, None)]
    assert read("vlep", tmp_path / "p.jsonl", [{"example_id": 5, "pred_ans": 1}]) == [("5", 1, None)]
    assert read("nextqa", tmp_path / "p.json", {"1_2": {"prediction": 3, "answer": 4}}) == [("1_2", 3, 4)]
    star = {"Sequence": [{"question_id": "Sequence_T1_0", "answer": 2}], "Prediction": []}
    assert read("star", tmp_path / "p.json", star) == [("Sequence_T1_0", 2, None)]


@pytest.mark.parametrize(
    ("benchmark", "text", "message"),
    [
        ("vlep", "{", "line 1: not valid JSON"),
        ("vlep", "{}", "p.json: holds no prediction"),
        ("vlep", "[]", "p.json: holds no prediction"),
        ("vlep", "3", "p.json: expected an object or a list of objects"),
        ("vlep", "[3]", "p.json: expected an object or a list of objects"),
        ("vlep", '{"5": 1, "6": 0, "5": 0}', "p.json, line 1: key '5' stands there twice"),
        ("vlep", '{"a": {"prediction": 1}}', r'p.json: expected a list .* or \{qid: option\} or lines \{"example_id"'),
        ("nextqa", '{"1_2": {"prediction": 1}, "1_3": 2}', "p.json, key 1_3, field prediction: missing"),
        ("nextqa", '[{"qid": "a", "prediction": 1}, {"qid": "b"}]', "p.json, entry 2, field prediction: missing"),
        ("nextqa", '[{"qid": true, "prediction": 1}]', "p.json, entry 1, field qid: expected the id .* found True"),
        ("star", '{"Sequence": [{"question_id": "a"}]}', "p.json, Sequence, entry 1, field answer: missing"),
        ("star", '{"Sequence": [], "Prediction": 3}', "p.json, Prediction, entry 1: expected an object"),
    ],
)
def test_malformed_files_are_one_line(benchmark: str, text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        read_entries(path, (OFFICIAL, OWN, *BENCHMARKS[benchmark].forms))
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_names_of_a_question() -> None:
    nextqa = [Question("CW_111_0", "111", "q", ("a", "b")), Question("CH_111_1", "111", "q", ("a", "b"))]
    found = match(nextqa, [Entry("f", "111_1", 1), Entry("f", "CW_111_0", 0)], NExTQA.ids, "val.csv")
    assert [(qid, entry.prediction) for qid, entry in found.entries.items()] == [("CW_111_0", 0), ("CH_111_1", 1)]
    (vlep,) = match([QUESTION], [Entry("f", "VLEP_7", 1)], VLEP.ids, "dev.jsonl").entries
    assert vlep == "7"


def test_unknown_double_and_missing_questions() -> None:
    with pytest.raises(UserError, match=r"f, line 3, field qid: no question '9' in dev.jsonl"):
        match([QUESTION], [Entry("f, line 3", "9", 1)], VLEP.ids, "dev.jsonl")
    with pytest.raises(UserError, match=r"f, line 4, field qid: question '7' has a prediction already: f, line 3"):
        match([QUESTION], [Entry("f, line 3", "7", 1), Entry("f, line 4", "7", 1)], VLEP.ids, "dev.jsonl")
    with pytest.raises(UserError, match=r"dev.jsonl: question '.*7' stands there twice"):
        match([QUESTION, QUESTION], [], VLEP.ids, "dev.jsonl")
    other = Question("8", "v", "q", ("a", "b"))
    found = match([QUESTION, other], [Entry("f", "9", 1), Entry("f", "8", 1)], VLEP.ids, "dev.jsonl", beyond=True)
    assert (list(found.entries), found.missing, found.beyond) == (["8"], ("7",), 1)


@pytest.mark.parametrize("wrong", [3, -1, True, None, "1", 1.0, [1]])
def test_options_that_are_none(wrong: Any) -> None:
    with pytest.raises(UserError, match="f, field prediction: expected an option from 0 to 2, found"):
        chosen_option(Entry("f", "7", wrong), QUESTION)


def test_a_file_of_another_split_is_noticed() -> None:
    assert chosen_option(Entry("f", "7", 2, 1), QUESTION) == 2
    with pytest.raises(UserError, match="f, field target: 0, but the annotations say 1: is this their split"):
        chosen_option(Entry("f", "7", 1, 0, names=("qid", "prediction", "target")), QUESTION)


def test_values_tvqa_solution(tmp_path: Path) -> None:
    path = tmp_path / "tvqa_val_solution.json"
    path.write_text(json.dumps({"split": "val", "solution": {"Castle": {"1": 4}, "House M.D.": {"2": 0}}}))
    assert [(q.qid, q.answer, len(q.options)) for q in TVQA.read_questions(path)] == [("1", 4, 5), ("2", 0, 5)]
    path.write_text(json.dumps({"solution": {"Castle": {"1": 5}}}))
    with pytest.raises(UserError, match="key 1: expected an option from 0 to 4, found 5"):
        TVQA.read_questions(path)
    path.write_text('{"a": 1}')
    with pytest.raises(UserError, match="expected a list of rows, or"):
        TVQA.read_questions(path)


# -- keyframes for other programs ---

ROWS = [
    {"qid": "b", "video": "v2", "prediction": 0, "keyframes": [
        {"index": 90, "time": 3.0, "score": 1.0}, {"index": 30, "time": 1.0, "score": 2.0},
    ]},
    {"qid": "a", "video": "é", "prediction": 1, "keyframes": [{"index": 0, "time": 0.0, "score": None}]},
]  # fmt: skip


def test_rows_keep_their_order_and_frames_are_in_time_order(tmp_path: Path) -> None:
    write_keyframes(tmp_path / "k.json", ROWS)
    assert json.loads((tmp_path / "k.json").read_text(encoding="utf-8")) == [
        {"qid": "b", "video": "v2", "frame_idx": [30, 90], "frame_time": [1.0, 3.0]},
        {"qid": "a", "video": "é", "frame_idx": [0], "frame_time": [0.0]},
    ]
    assert len((tmp_path / "k.json").read_text(encoding="utf-8").splitlines()) == 4  # a line a question


def test_the_documented_recipe(tmp_path: Path) -> None:
    write_keyframes(tmp_path / "k.json", ROWS)
    rows = json.loads((tmp_path / "k.json").read_text(encoding="utf-8"))
    docs = [{"question": "?"}, {"question": "!"}]
    for doc, row in zip(docs, rows, strict=True):
        doc["frame_idx"] = row["frame_idx"]
    assert docs == [{"question": "?", "frame_idx": [30, 90]}, {"question": "!", "frame_idx": [0]}]


def test_rows_without_keyframes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="question 'c': its prediction has no keyframes"):
        write_keyframes(tmp_path / "k.json", [*ROWS, {"qid": "c", "video": "v"}])
    with pytest.raises(UserError, match="there are no predictions whose keyframes"):
        write_keyframes(tmp_path / "k.json", [])
    assert not list(tmp_path.iterdir())
