"""Keyframes from the spans of a moment-retrieval model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevila.errors import UserError
from sevila.selection.rules import Candidates, Windows, _spans, spread


def of(qid: str, n: int = 10) -> Candidates:
    return Candidates(qid, [2.0 * i for i in range(n)], [50 * i for i in range(n)])


def write(path: Path, rows: dict[Any, Any]) -> str:
    lines = [json.dumps({"qid": qid, "pred_relevant_windows": spans}) for qid, spans in rows.items()]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def test_the_best_span_first(tmp_path: Path) -> None:
    rows = {7: [[0, 3, 0.1], [12, 16, 0.9], [4, 6, 0.5]], "b": [[4.0, 18.0, 1.0]], "c": [], "d": [[0.5, 1.5, 1.0]]}
    file = write(tmp_path / "spans.jsonl", rows)
    assert Windows(3, file).select(of("7")) == [6, 7, 8]  # 12, 14, 16 s
    assert Windows(2, file).select(of("7")) == [6, 8]  # three frames inside, evenly two of them: no. 0 and 2
    assert Windows(5, file).select(of("7")) == [2, 3, 6, 7, 8]
    assert Windows(6, file).select(of("7")) == [1, 2, 3, 6, 7, 8]  # one of frames 0 and 1
    assert Windows(8, file).select(of("7"))[:2] == [0, 1]
    assert Windows(2, file).select(of("b")) == [4, 8]  # eight frames 2..9: the middles of two halves
    for empty in ("c", "d"):  # no span, or one between two frames: uniform
        assert Windows(4, file).select(of(empty)) == spread(10, 4)


def test_overlapping_spans_count_once(tmp_path: Path) -> None:
    file = write(tmp_path / "spans.jsonl", {"a": [[2, 6, 0.9], [4, 10, 0.8]]})
    assert Windows(4, file).select(of("a"))[:3] == [1, 2, 3]
    assert Windows(5, file).select(of("a")) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"qid": 1}', r'line 1: expected "qid" and "pred_relevant_windows"'),
        ('{"qid": 1, "pred_relevant_windows": [[1, 2]]}', "line 1: expected"),
        ('{"qid": 1, "pred_relevant_windows": [["a", 2, 3]]}', "line 1: expected"),
        (f'{{"qid": 1, "pred_relevant_windows": [[1, {10**4000}, 3]]}}', "line 1: expected"),
        ('{"qid": 1, "pred_relevant_windows": [[1, 2, NaN]]}', "line 1, field pred_relevant_windows: holds a number"),
        ('{"qid": 1, "pred_relevant_windows": []}\n{"qid": "1", "pred_relevant_windows": []}', "line 2: question 1"),
    ],
)
def test_malformed_files(tmp_path: Path, line: str, problem: str) -> None:
    file = tmp_path / "spans.jsonl"
    file.write_text(line + "\n")
    with pytest.raises(UserError, match=problem):
        Windows(2, str(file))


def test_a_missing_question_or_file(tmp_path: Path) -> None:
    file = write(tmp_path / "spans.jsonl", {"a": []})
    with pytest.raises(UserError, match=r"spans\.jsonl: has no windows for question b"):
        Windows(2, file).select(of("b"))
    with pytest.raises(UserError, match="no such file"):
        Windows(2, str(tmp_path / "none.jsonl"))


spans = st.lists(st.tuples(st.integers(-5, 40), st.integers(-5, 40), st.integers(0, 3)), max_size=5)


@given(st.data(), spans, st.integers(1, 20))
def test_as_many_inside_the_spans_as_can_be(data: st.DataObject, rows: list[tuple[int, int, int]], n: int) -> None:
    import tempfile

    k = data.draw(st.integers(1, n))
    with tempfile.TemporaryDirectory() as folder:
        _spans.cache_clear()
        chosen = Windows(k, write(Path(folder) / "spans.jsonl", {"a": rows})).select(of("a", n))
    inside = {i for i in range(n) if any(start <= 2 * i <= end for start, end, _ in rows)}
    assert len(chosen) == k and chosen == sorted(set(chosen))
    assert len(inside & set(chosen)) >= min(k, len(inside))
