"""Real rows against what the official data set classes make of them: ids, prompts, targets, paths, clips, frames.

golden/README.md says which lengths and rates of the videos were assumed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from sevila.benchmarks import STAR, TVQA, VLEP, How2QA, NExTQA, QVHighlights
from sevila.benchmarks.tvqa import TVQAVideos
from sevila.benchmarks.vlep import VLEPVideos
from sevila.data.folders import VideoFolder, Videos
from sevila.data.records import Question
from sevila.data.sampling import uniform_indices
from sevila.errors import UserError
from sevila.model.prompts import EventPrompts, QuestionPrompts, moment_prompt, target

YOUTUBE, TV = "vlep_ytb_clips_tars/videos/vlep_ytb_clips", "tvqa/videos_3fps_with_audio"


def official(shared: Path, name: str) -> list[dict[str, Any]]:
    return json.loads((shared / "golden" / "prompts" / f"prompts_{name}.json").read_text())


def place(row: dict[str, Any], root: Path) -> Path:
    """Where the official code looks for a video, as an empty file below `root`."""
    path = root / row["vpath"].removeprefix("/").removeprefix("ROOT/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def compare(
    expected: Sequence[dict[str, Any]], questions: Sequence[Question], prompts: Any, length: int, fps: float
) -> list[tuple[dict[str, Any], Question]]:
    """Compare what the official code could make; returns the rows at which it failed."""
    failed = []
    for row, q in zip(expected, questions, strict=True):
        if "qa_input" not in row:
            failed.append((row, q))
            continue
        assert prompts.answer(q.question, q.options) == row["qa_input"]
        assert prompts.localize(q.question, q.options) == row["loc_input"]
        assert target(0 if q.answer is None else q.answer) == row["qa_output"]
        assert (None if q.clip is None else list(q.clip)) == row["clip"]
        assert uniform_indices(length, fps, 32, q.clip) == row["indices"]
    return failed


def compare_paths(expected: Sequence[dict[str, Any]], ids: Sequence[str], folder: Videos, root: Path) -> None:
    for row, video in zip(expected, ids, strict=True):
        assert folder.path(video) == place(row, root)


def test_nextqa(shared: Path, tmp_path: Path) -> None:
    expected = official(shared, "nextqa")
    questions = NExTQA.read_questions(shared / "samples" / "nextqa" / "val_sample.csv")
    assert compare(expected, questions, QuestionPrompts(), 919, 29.97) == []
    assert [q.qid for q in questions] == [row["question_id"] for row in expected] and len(questions) == 43
    for row in expected:
        place(row, tmp_path)
    names = json.loads((shared / "samples" / "nextqa" / "map_vid_vidorID_sample.json").read_text())
    compare_paths(expected, [q.video for q in questions], VideoFolder(tmp_path, names=names), tmp_path)


def test_star(shared: Path, tmp_path: Path) -> None:
    expected = official(shared, "star")
    questions = STAR.read_questions(shared / "samples" / "star" / "star_val_unified_sample.json")
    assert compare(expected, questions, QuestionPrompts(), 2400, 30) == []
    assert [q.qid for q in questions] == [row["question_id"] for row in expected] and len(questions) == 41
    for row in expected:
        place(row, tmp_path)
    compare_paths(expected, [q.video for q in questions], VideoFolder(tmp_path), tmp_path)


def test_star_without_answers_loads_where_the_official_code_fails(shared: Path) -> None:
    expected = official(shared, "star_test")
    questions = STAR.read_questions(shared / "samples" / "star" / "star_test_unified_sample.json")
    assert [q.qid for q in questions] == [row["question_id"] for row in expected] and len(questions) == 9
    assert all(q.answer is None and q.clip is not None for q in questions)


def test_how2qa(shared: Path, tmp_path: Path) -> None:
    expected = official(shared, "how2qa")
    questions = How2QA.read_questions(shared / "samples" / "how2qa" / "how2qa_val_sample.jsonl")
    ((_, failed),) = compare(expected, questions, QuestionPrompts(), 1800, 30)
    assert failed.clip == (61.14, 61.14)  # the official code takes a random other row
    with pytest.raises(UserError, match=r"starts past the end of the video \(60.0 s\): mend or drop the row"):
        uniform_indices(1800, 30, 32, failed.clip)
    assert len(questions) == 40 and sum(q.clip == (1.7, 1.7) for q in questions) == 1
    for row in expected:
        place(row, tmp_path)
    compare_paths(expected, [q.video for q in questions], VideoFolder(tmp_path), tmp_path)


def test_tvqa(shared: Path, tmp_path: Path) -> None:
    expected = official(shared, "tvqa_answer0_when_hidden")
    folder = shared / "samples" / "tvqa"
    questions = TVQA.read_questions(folder / "tvqa_train_one_row.jsonl")
    questions += TVQA.read_questions(folder / "tvqa_test_public_sample.jsonl")
    failed = compare(expected, questions, QuestionPrompts(), 270, 3)
    assert len(questions) == 32 and [q.clip for _, q in failed] == [None] * 3  # "NaN-NaN": here the whole video
    for row in expected:
        place(row, tmp_path)
    compare_paths(expected, [q.video for q in questions], TVQAVideos(tmp_path), tmp_path)


def test_vlep(shared: Path, tmp_path: Path) -> None:
    expected = official(shared, "vlep_with_question_key")
    questions = VLEP.read_questions(shared / "samples" / "vlep" / "vlep_dev_sample.jsonl")
    assert compare(expected, questions, EventPrompts(), 270, 3) == []
    assert [f"VLEP_{q.qid}" for q in questions] == [row["question_id"] for row in expected] and len(questions) == 40
    for row in expected:
        place(row, tmp_path)
    videos = VLEPVideos(tmp_path / YOUTUBE, tmp_path / TV)
    compare_paths(expected, [q.video for q in questions], videos, tmp_path)
    assert sum(":" in q.video for q in questions) == 12


def test_qvhighlights(shared: Path, tmp_path: Path) -> None:
    expected = official(shared, "qvh_75frames_30fps")
    moments = QVHighlights.read_moments(shared / "samples" / "qvhighlights" / "highlight_val_sample.jsonl")
    assert len(moments) == 40
    for row, moment in zip(expected, moments, strict=True):
        assert f"QVHighlight_{moment.qid}" == row["question_id"]
        assert moment_prompt(moment.query) == row["loc_input"]
        assert uniform_indices(int(moment.duration * 30), 30, 75) == row["indices"]
        place(row, tmp_path)
    compare_paths(expected, [m.video for m in moments], VideoFolder(tmp_path), tmp_path)
