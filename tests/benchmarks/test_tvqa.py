"""TVQA's jsonl, TVQA+'s json, and the two forms of their videos."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sevila.benchmarks.tvqa import TVQA, TVQAVideos
from sevila.data.records import Question
from sevila.errors import UserError

OPTIONS = {"a0": "A dog. ", "a1": "B", "a2": "C", "a3": "D", "a4": "E"}
ROW = {**OPTIONS, "answer_idx": 2, "q": "What was in the van? ", "qid": 1, "show_name": "House M.D."}
ROW |= {"ts": "45.05-61.29", "vid_name": "house_s06e05_seg02_clip_09"}
PLUS = {**OPTIONS, "answer_idx": "3", "q": "How did he feel ?", "qid": 135058, "ts": [0, 2.75], "bbox": {"1": []}}
PLUS |= {"vid_name": "s02e01_seg02_clip_11"}


def test_rows_as_records(tmp_path: Path) -> None:
    hidden = {key: value for key, value in ROW.items() if key != "answer_idx"} | {"qid": 2, "ts": "NaN-NaN"}
    path = tmp_path / "f.jsonl"
    path.write_text(f"{json.dumps(ROW)}\n{json.dumps(hidden)}\n{json.dumps({**ROW, 'qid': 3, 'ts': '0-0'})}\n")
    first, second, third = TVQA.read_questions(path)
    assert first == Question(
        qid="1",
        video="house_s06e05_seg02_clip_09",
        question="What was in the van? ",  # verbatim
        options=("A dog. ", "B", "C", "D", "E"),
        answer=2,
        clip=(45.05, 61.29),
    )
    assert (second.answer, second.clip) == (None, None)  # the whole video
    assert third.clip == (0.0, 0.0)


def test_tvqa_plus(tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    path.write_text(json.dumps([PLUS]))
    (question,) = TVQA.read_questions(path)
    assert (question.qid, question.answer, question.clip) == ("135058", 3, (0.0, 2.75))
    assert question.options == ("A dog. ", "B", "C", "D", "E")
    path.write_text(json.dumps([PLUS, {**PLUS, "qid": 2, "ts": [1, 2, 3]}]))
    with pytest.raises(UserError) as caught:
        TVQA.read_questions(path)
    assert str(caught.value) == f"{path}, row 2, field ts: expected [start, end] in seconds, found [1, 2, 3]"


def test_videos_are_files_or_frame_folders(tmp_path: Path) -> None:
    (tmp_path / "castle_s01e01.mp4").touch()
    for folder in ("met_s06e05", "bbt_frames/s01e10", "house_frames/house_s04e16"):
        (tmp_path / folder).mkdir(parents=True)
    videos = TVQAVideos(tmp_path)
    assert videos.path("castle_s01e01") == tmp_path / "castle_s01e01.mp4"
    assert videos.path("met_s06e05") == tmp_path / "met_s06e05"
    assert videos.path("s01e10") == tmp_path / "bbt_frames/s01e10"  # The Big Bang Theory's names have no show
    assert videos.path("house_s04e16") == tmp_path / "house_frames/house_s04e16"
    with pytest.raises(UserError, match="as 'grey_s01' or 'grey_frames/grey_s01' with any of"):
        videos.path("grey_s01")
    for video in ("../x", "x/../../y"):
        with pytest.raises(UserError, match="leads out"):
            videos.path(video)


def test_the_real_quirks(shared: Path) -> None:
    test = TVQA.read_questions(shared / "annotations" / "tvqa" / "tvqa_test_public.jsonl")
    assert sum(q.clip is None for q in test) == 3
    assert sum(q.clip is not None and q.clip[0] == q.clip[1] for q in test) == 2
    assert all(q.answer is None for q in test)
    plus = TVQA.read_questions(shared / "annotations" / "tvqa" / "tvqa_plus_val.json")
    assert {q.answer for q in plus} == {0, 1, 2, 3, 4} and plus[0].qid == "133290" and plus[0].answer == 3
    solution = json.loads((shared / "samples" / "tvqa" / "tvqa_val_solution_sample.json").read_text())["solution"]
    answers = {q.qid: q.answer for q in plus}
    known = {qid: answer for qid, answer in solution["The Big Bang Theory"].items() if qid in answers}
    assert len(known) == 18 and all(answers[qid] == answer for qid, answer in known.items())
