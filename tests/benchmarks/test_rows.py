"""Annotation files as rows; what a bad row does."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevila.benchmarks.rows import Dropped, Row, read_rows, records
from sevila.data.records import Question
from sevila.errors import UserError


def parse(row: Row) -> Question:
    return Question(row.name("qid"), "v", row.text("q"), ("a", "b"), row.integer("answer", 0, 1))


GOOD = [{"qid": 1, "q": "x", "answer": 0}, {"qid": "2", "q": "y", "answer": "1"}]
BAD = {"qid": 3, "q": "z", "answer": 2}


def write(path: Path, rows: list[object]) -> Path:
    texts = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(texts) + "\n" if path.suffix == ".jsonl" else "[" + ",".join(texts) + "]")
    return path


@pytest.mark.parametrize(("name", "unit"), [("f.jsonl", "line"), ("f.json", "row")])
def test_the_first_bad_row_stops(tmp_path: Path, name: str, unit: str) -> None:
    path = write(tmp_path / name, [*GOOD, BAD])
    with pytest.raises(UserError) as caught:
        records(read_rows(path), parse)
    assert str(caught.value) == f"{path}, {unit} 3, field answer: expected a whole number from 0 to 1, found 2"


def test_bad_rows_are_dropped_where_that_is_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "f.jsonl", [GOOD[0], "{oops", "[1]", "", BAD, GOOD[0], GOOD[1]])
    dropped: list[Dropped] = []
    assert [q.qid for q in records(read_rows(path), parse, dropped)] == ["1", "2"]
    assert [(d.place.removeprefix(f"{path}, "), d.reason.removeprefix(f"{path}, ")) for d in dropped] == [
        ("line 2", "line 2: not valid JSON: Expecting property name enclosed in double quotes at column 2"),
        ("line 3", "line 3: not a JSON object but list"),
        ("line 5", "line 5, field answer: expected a whole number from 0 to 1, found 2"),
        ("line 6", "line 6, field qid: '1' stands in line 1 already"),
    ]


def test_a_csv_row_of_another_length_can_be_dropped(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    path.write_text("qid,q,answer\n1,x,0\n2,y\n3,z,1,4\n4,w,1\n")
    dropped: list[Dropped] = []
    assert [q.qid for q in records(read_rows(path), parse, dropped)] == ["1", "4"]
    assert [d.reason for d in dropped] == [f"{path}, line {n}: expected 3 fields" for n in (3, 4)]


def test_lines_that_json_does_not_hold_can_be_dropped(tmp_path: Path) -> None:
    lines = ['{"qid": 1, "answer": 0, "answer": 1}', "[" * 100_000, f'{{"qid": {"1" * 5000}}}', GOOD[0]]
    path, dropped = write(tmp_path / "f.jsonl", lines), []
    assert [q.qid for q in records(read_rows(path), parse, dropped)] == ["1"]
    assert [d.reason for d in dropped] == [
        f"{path}, line 1: key 'answer' stands there twice",
        f"{path}, line 2: not valid JSON: nested too deeply",
        f"{path}, line 3: holds a number of more than 4300 digits",
    ]


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    for name in ("f.csv", "f.jsonl", "f.json"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(UserError, match=f"{name}: is a pipe or device: name a file"):
            list(read_rows(tmp_path / name))


def test_files_that_are_no_annotations(tmp_path: Path) -> None:
    for name, text, problem in [
        ("f.txt", "", ": an annotation file is named .csv, .jsonl or .json"),
        ("f.json", "3", ": expected a list of rows, found int"),
        ("f.json", "[1", ", line 1: not valid JSON"),
        ("f.json", "[" * 100_000, ": not valid JSON: nested too deeply"),
        ("f.json", f"[{'1' * 5000}]", ": holds a number of more than 4300 digits"),
        ("f.json", '[{"a": "}"},\n{"a": {"b": 1},\n"c": 2, "a": 3}]', ", line 3: key 'a' stands there twice"),
    ]:
        (tmp_path / name).write_text(text)
        with pytest.raises(UserError) as caught:
            list(read_rows(tmp_path / name))
        assert str(caught.value).startswith(f"{tmp_path / name}{problem}")


def row(**values: object) -> Row:
    return Row(Path("f"), 7, values)


@pytest.mark.parametrize(
    ("text", "clip"),
    [
        ("36.58-58.52", (36.58, 58.52)),
        ("0-1.53", (0.0, 1.53)),
        ("1.70-1.70", (1.7, 1.7)),
        ("NaN-NaN", None),
        (" 1-2 ", (1.0, 2.0)),
    ],
)
def test_clips_as_one_text(text: str, clip: tuple[float, float] | None) -> None:
    assert row(ts=text).span("ts") == clip


@pytest.mark.parametrize("text", ["", "5", "5-", "a-b", "3-2", "0-inf", "1-2-3", "-1-2"])
def test_texts_that_are_no_clip(text: str) -> None:
    with pytest.raises(UserError, match=r"^f, line 7, field ts: "):
        row(ts=text).span("ts")


def test_clips_as_lists() -> None:
    assert row(ts=[0, 2.5]).pair("ts") == (0.0, 2.5)
    assert row(ts=["1", "2.5"]).pair("ts") == (1.0, 2.5)
    assert row(ts=[float("nan"), 2]).pair("ts") is None
    for value in ([1], "1-2", None, [2, 1], [None, 1]):
        with pytest.raises(UserError, match=r"^f, line 7, field ts: "):
            row(ts=value).pair("ts")


@given(st.floats(0, 1e5), st.floats(0, 1e5))
def test_any_clip_survives_its_text(a: float, b: float) -> None:
    start, end = sorted((round(a, 2), round(b, 2)))
    assert row(ts=f"{start:.2f}-{end:.2f}").span("ts") == (start, end)
    assert row(ts=f"[{start:.2f}:{end:.2f}]").span("ts", ":", "[]") == (start, end)


def test_ids_and_choices() -> None:
    assert (row(qid=5).name("qid"), row(qid="x").name("qid")) == ("5", "x")
    for value in ("", " ", None, 1.5, True):
        with pytest.raises(UserError, match="field qid"):
            row(qid=value).name("qid")
    assert row(answer="b").choice("answer", ["a", "b", "b"]) == 1
    with pytest.raises(UserError, match="'c' is none of the options 'a', 'b'"):
        row(answer="c").choice("answer", ["a", "b"])


@pytest.mark.parametrize(("value", "number"), [(1.0, 1), ("1.0", 1), ("0.00", 0), (" 1 ", 1), (1, 1)])
def test_whole_numbers(value: object, number: int) -> None:
    assert row(answer=value).integer("answer", 0, 1) == number


@pytest.mark.parametrize("value", [True, 0.5, "0.5", "1.", "1e0", "", None, [1], float("nan"), 10**4000, "1" * 5000])
def test_what_is_no_whole_number(value: object) -> None:
    with pytest.raises(UserError, match="field answer: expected a whole number from 0 to 1, found ") as caught:
        row(answer=value).integer("answer", 0, 1)
    assert len(str(caught.value)) < 200


def test_numbers_that_no_float_holds() -> None:
    huge = 10**4000
    for read in (
        lambda r: r.number("x"),
        lambda r: r.clip("x", 0, huge),
        lambda r: r.windows("x"),
        lambda r: r.pair("x"),
    ):
        for value in (huge, [0, huge], [[0, huge]], [[0, float("inf")]]):
            with pytest.raises(UserError, match=r"^f, line 7, field x: "):
                read(row(x=value))
