"""QVHighlights' jsonl files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sevila.benchmarks import BENCHMARKS
from sevila.benchmarks.qvhighlights import QVHighlights
from sevila.config import load
from sevila.data.records import Moment
from sevila.errors import UserError
from sevila.model.prompts import moment_prompt
from sevila.schema import named
from sevila.tasks.pretrain import frame_labels, need_windows

ROW = {
    "qid": 2579,
    "query": "A girl and her mother cooked.",
    "duration": 150,
    "vid": "NUsG9BgSes0_210.0_360.0",
    "relevant_clip_ids": [82, 83],
    "saliency_scores": [[2, 3, 4], [0, 1, 2]],
    "relevant_windows": [[0, 2.5], [164, 166]],
}


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def jsonl(*rows: dict[str, Any] | str) -> Path:
        path = tmp_path / "val.jsonl"
        path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
        return path

    return jsonl


def fault(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        QVHighlights.read_moments(path)
    message = str(caught.value)
    assert "\n" not in message and message.startswith(str(path))
    return message.removeprefix(str(path))


def test_rows_as_records(write: Write) -> None:
    hidden = {"qid": "x1", "query": "a cup", "duration": 16.5, "vid": "v"}
    assert QVHighlights.read_moments(write(ROW, hidden)) == [
        Moment(
            qid="2579",
            video="NUsG9BgSes0_210.0_360.0",
            query="A girl and her mother cooked.",
            duration=150.0,
            windows=((0.0, 2.5), (164.0, 166.0)),
            saliency=((2, 3, 4), (0, 1, 2)),
        ),
        Moment(qid="x1", video="v", query="a cup", duration=16.5),
    ]


def test_captions_are_queries(write: Write) -> None:
    """As in moment_detr's subs_train.jsonl: neither clips nor saliency."""
    spoken = [
        {"qid": i, "query": text, "duration": 150, "vid": "j7rJstUseKg_360.0_510.0", "relevant_windows": [window]}
        for i, (text, window) in enumerate([("so let me show you", [0, 4.26]), ("", [148.5, 150])])
    ]
    first, silent = QVHighlights.read_moments(write(*spoken))
    assert first == Moment("0", "j7rJstUseKg_360.0_510.0", "so let me show you", 150.0, ((0.0, 4.26),))
    assert (silent.query, silent.windows, silent.saliency) == ("", ((148.5, 150.0),), None)
    need_windows([first, silent], [first])  # they may be trained on
    assert moment_prompt(first.query).startswith("Question: so let me show you. Option A: yes. Option B: no. ")
    assert frame_labels([0.0, 4.26, 4.27, 149.0], first) == [True, True, False, False]


def test_captions_are_a_training_split(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    kept = {key: ROW[key] for key in ("qid", "query", "duration", "vid", "relevant_windows")}
    (tmp_path / "annotations/subs_train.jsonl").write_text(json.dumps(kept) + "\n")
    node = {**load("train", ["+exp=qvhighlights_pretrain_asr"]).data, "root": str(tmp_path)}
    (moment,) = named("data", node, BENCHMARKS).moments("train")
    assert moment.windows == ((0.0, 2.5), (164.0, 166.0)) and moment.saliency is None


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("qid", None, "missing"),
        ("vid", None, "missing"),
        ("query", 7, "expected text, found 7"),
        ("duration", "150", "expected a number of at least 0, found '150'"),
        ("duration", -1, "expected a number of at least 0, found -1"),
        ("relevant_windows", [[1]], "expected a list of [start, end], found [[1]]"),
        ("relevant_windows", 3, "expected a list of [start, end], found 3"),
        ("relevant_windows", [[3, 1]], "a window ends before it starts: [[3, 1]]"),
        ("saliency_scores", [2, 3], "expected a list of scores for each clip, found [2, 3]"),
    ],
)
def test_faults_name_file_line_and_field(write: Write, field: str, value: object, problem: str) -> None:
    bad = {**ROW, field: value}
    if value is None:
        del bad[field]
    assert fault(write(ROW, "", bad)) == f", line 3, field {field}: {problem}"


def test_malformed_lines(write: Write, tmp_path: Path) -> None:
    assert fault(write(ROW, "{oops")).startswith(", line 2: not valid JSON")
    assert fault(write("", ROW, "[1]")) == ", line 3: not a JSON object but list"
    assert fault(tmp_path / "none.jsonl") == ": no such file"


@pytest.mark.parametrize(("name", "n"), [("train_release", 7218), ("val_release", 1550), ("test_with_gt", 1542)])
def test_the_real_splits(shared: Path, name: str, n: int) -> None:
    moments = QVHighlights.read_moments(shared / "annotations" / "qvhighlights" / f"highlight_{name}.jsonl")
    assert len(moments) == len({m.qid for m in moments}) == n
    for moment in moments:
        assert moment.windows and all(0 <= a < b <= 150 for a, b in moment.windows)
        if moment.saliency:
            assert all(len(clip) == 3 and set(clip) <= {0, 1, 2, 3, 4} for clip in moment.saliency)
