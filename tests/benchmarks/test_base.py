"""What all benchmarks share: one in a few lines, and dropping what cannot be used, where that is asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from sevila.benchmarks import STAR, QVHighlights
from sevila.benchmarks.base import FileBenchmark
from sevila.benchmarks.rows import Row
from sevila.data.records import Question
from sevila.errors import UserError
from sevila.schema import named

Encode = Callable[..., Path]


def star_row(qid: str, video: str, start: float = 0, end: float = 1, answer: str = "a") -> dict[str, object]:
    choices = [{"choice_id": 0, "choice": "a"}, {"choice_id": 1, "choice": "b"}]
    times = {"start": start, "end": end}
    return {"question_id": qid, "question": "?", "video_id": video, "answer": answer, "choices": choices, **times}


@pytest.fixture
def root(tmp_path: Path, encode: Encode) -> Path:
    """A STAR of six rows, of which two can be used; its videos have 25 frames, one second."""
    (tmp_path / "videos").mkdir()
    encode("videos/good.mp4", 25)
    (tmp_path / "videos/broken.mp4").write_bytes(b"no video")
    rows = [
        star_row("I_0", "good"),
        star_row("I_1", "good", answer="c"),
        star_row("I_2", "gone"),
        star_row("I_3", "broken"),
        star_row("I_4", "good", 3, 4),
        star_row("I_5", "good", 0.5, 9),  # ends past the video: cut there
    ]
    (tmp_path / "annotations").mkdir()
    for split in ("train", "val"):
        (tmp_path / "annotations" / f"STAR_{split}.json").write_text(json.dumps(rows))
    return tmp_path


def test_nothing_is_dropped_unasked(root: Path) -> None:
    with pytest.raises(UserError, match=r"row 2, field answer: 'c' is none"):
        STAR(str(root)).questions("val")


def test_bad_rows(root: Path) -> None:
    data = STAR(str(root), drop_bad_rows=True)
    assert data.dropped == []
    assert [q.qid for q in data.questions("val")] == ["I_0", "I_2", "I_3", "I_4", "I_5"]
    (dropped,) = data.dropped
    place = f"{root}/annotations/STAR_val.json, row 2"
    assert dropped.to_json() == {
        "split": "val",
        "place": place,
        "qid": None,
        "reason": f"{place}, field answer: 'c' is none of the options 'a', 'b'",
    }


def test_unreadable_videos(root: Path) -> None:
    data = STAR(str(root), drop_bad_rows=True, drop_unreadable=True)
    assert [q.qid for q in data.questions("val")] == ["I_0", "I_5"]
    rows = [(d.split, d.qid, d.place.removeprefix(str(root))) for d in data.dropped]
    assert rows == [
        ("val", None, "/annotations/STAR_val.json, row 2"),
        ("val", "I_2", "video gone"),
        ("val", "I_3", "video broken"),
        ("val", "I_4", "video good"),
    ]
    reasons = [d.reason for d in data.dropped]
    assert "'gone' is not in" in reasons[1] and "broken.mp4 is not a video" in reasons[2]
    assert "clip 3.0 to 4.0 s starts past the end of the video (1.0 s)" in reasons[3]
    data.questions("train")
    data.questions("val")  # read again: not listed twice
    assert len(data.dropped) == 8 and [d.split for d in data.dropped] == ["val"] * 4 + ["train"] * 4


def test_nothing_left(root: Path) -> None:
    for video in ("good", "broken"):
        (root / "videos" / f"{video}.mp4").unlink()
    data = STAR(str(root), drop_bad_rows=True, drop_unreadable=True)
    with pytest.raises(UserError, match="split=val: star has no questions left, 6 were dropped"):
        data.questions("val")
    (root / "annotations/STAR_val.json").write_text("[]")
    with pytest.raises(UserError, match="split=val: star has no questions; look at"):
        data.questions("val")


def test_moments_too(tmp_path: Path, encode: Encode) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "videos").mkdir()
    encode("videos/good.mp4", 25)
    rows = [{"qid": i, "query": "q", "duration": 1, "vid": vid} for i, vid in enumerate(["good", "gone", "good"])]
    text = "".join(json.dumps(row) + "\n" for row in rows) + '{"qid": 3, "query": "q", "vid": "good"}\n'
    (tmp_path / "annotations" / "highlight_val_release.jsonl").write_text(text)
    data = QVHighlights(str(tmp_path), drop_bad_rows=True, drop_unreadable=True)
    assert [m.qid for m in data.moments("val")] == ["0", "2"]
    assert [(d.split, d.qid) for d in data.dropped] == [("val", None), ("val", "1")]
    with pytest.raises(UserError, match="data qvhighlights has no questions"):
        data.questions("val")


@dataclass
class Shop(FileBenchmark):
    """All that a new benchmark has to say."""

    train: str | None = None
    val: str | None = "val.jsonl"

    name = "shop"

    @classmethod
    def question(cls, row: Row) -> Question:
        return Question(row.name("id"), row.name("film"), row.text("ask"), ("yes", "no"), row.integer("right", 0, 1))


def test_a_benchmark_is_one_class(tmp_path: Path) -> None:
    """Its questions, its videos, its score and its metrics; a submission where it says the form."""
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos/monday.mp4").touch()
    path = tmp_path / "val.jsonl"
    path.write_text(
        '{"id": 1, "film": "monday", "ask": "?", "right": 0}\n{"id": 2, "film": "x", "ask": "!", "right": 1}'
    )
    data = named("data", {"name": "shop", "root": str(tmp_path), "drop_bad_rows": True}, {"shop": Shop})
    questions = data.questions("val")
    assert [(q.qid, q.options, q.answer) for q in questions] == [("1", ("yes", "no"), 0), ("2", ("yes", "no"), 1)]
    assert (data.question_splits, data.moment_splits, data.evaluate([])) == (("val",), (), {})
    assert data.folder().path("monday") == tmp_path / "videos/monday.mp4"
    rows = [{"qid": "2", "prediction": 1}, {"qid": "1", "prediction": 1}]
    (tmp_path / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    score = Shop.score(path, tmp_path / "predictions.jsonl")
    assert score.table == (("accuracy", "50.00"), ("n", "2"))
    with pytest.raises(UserError, match="shop: has no form of submission"):
        Shop.write_submission(tmp_path / "s.json", questions, rows)

    class Served(Shop):
        suffixes = (".json",)

    Served.write_submission(tmp_path / "s.json", questions, rows)
    assert json.loads((tmp_path / "s.json").read_text()) == {"1": 1, "2": 1}
