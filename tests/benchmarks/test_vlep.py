"""VLEP's jsonl files, and its two places of videos."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sevila.benchmarks.vlep import VLEP
from sevila.data.records import Question
from sevila.errors import UserError

ROW = {"example_id": 20142, "vid_name": "friends_s03e09_ep", "ts": [18, 40.37], "events": ["A. ", "B."], "answer": 0}


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_rows_as_records(tmp_path: Path) -> None:
    hidden = {**ROW, "example_id": 7, "events": ["same", "same"], "split": "test"}
    del hidden["answer"]
    assert VLEP.read_questions(write(tmp_path / "f.jsonl", ROW, hidden)) == [
        Question("20142", "friends_s03e09_ep", "", ("A. ", "B."), 0, clip=(18.0, 40.37)),
        Question("7", "friends_s03e09_ep", "", ("same", "same"), clip=(18.0, 40.37)),
    ]


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"events": ["A."]}, "field events: expected two texts, found ['A.']"),
        ({"events": "A."}, "field events: expected two texts, found 'A.'"),
        ({"answer": 2}, "field answer: expected a whole number from 0 to 1, found 2"),
        ({"ts": "18-20"}, "field ts: expected [start, end] in seconds, found '18-20'"),
    ],
)
def test_faults_name_file_line_and_field(tmp_path: Path, values: dict[str, Any], problem: str) -> None:
    path = write(tmp_path / "f.jsonl", ROW, {**ROW, "example_id": 5, **values})
    with pytest.raises(UserError) as caught:
        VLEP.read_questions(path)
    assert str(caught.value) == f"{path}, line 2, {problem}"


def test_videos_come_from_two_places(tmp_path: Path) -> None:
    clip = "FLmNLrog6dQ_subs_005_00:06:00_00:07:00_ep"
    for file in (f"vlep/videos/{clip}.mp4", "tvqa/videos/friends_s03e09.mp4", "vlep/videos/friends_s03e09_ep.mp4"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    for folder in ("castle_frames/castle_s01e01", "met_s02_ep"):
        (tmp_path / "tvqa/videos" / folder).mkdir(parents=True)
    data = VLEP(str(tmp_path / "vlep"))
    assert data.prompts == "event"
    videos = data.folder()
    assert videos.path(clip) == tmp_path / "vlep/videos" / f"{clip}.mp4"
    assert videos.path("friends_s03e09_ep").resolve() == tmp_path / "tvqa/videos/friends_s03e09.mp4"
    assert videos.path("castle_s01e01_ep").resolve() == tmp_path / "tvqa/videos/castle_frames/castle_s01e01"
    assert videos.path("met_s02_ep").resolve() == tmp_path / "tvqa/videos/met_s02_ep"  # VLEP's own frames
    for video in ("../a:b", "../../vlep/videos/friends_s03e09_ep"):
        with pytest.raises(UserError, match="leads out"):
            videos.path(video)


def test_the_real_quirks(shared: Path) -> None:
    questions = VLEP.read_questions(shared / "annotations" / "vlep" / "vlep_dev_release.jsonl")
    assert sum(":" in q.video for q in questions) == 1054
    assert all(q.video.endswith("_ep") and q.question == "" for q in questions)
    assert sum(q.options[0] == q.options[1] for q in questions) == 1
    for name, count in (("vlep_test_sample", 5), ("vlep_dev_archive_sample", 6)):
        sample = VLEP.read_questions(shared / "samples" / "vlep" / f"{name}.jsonl")
        assert len(sample) == count and all((q.answer is None) == ("test" in name) for q in sample)
