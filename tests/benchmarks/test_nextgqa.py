"""NExT-GQA: NExT-QA's rows with answers as text, and windows."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from sevila.benchmarks import NExTQA
from sevila.benchmarks.nextgqa import NExTGQA
from sevila.data.records import Question
from sevila.errors import UserError

HEADER = "video_id,frame_count,width,height,question,answer,qid,type,a0,a1,a2,a3,a4"
ROW = "6201,2575,640,360,why did she cover her eyes,sun,5,CW,posing,hair,sun,eyes,cue"
NEXTQA = f"{HEADER}\n{ROW}\n".replace("video_id", "video").replace(",sun,5,", ",2,5,")  # NExT-QA's own form
WINDOWS = {"6201": {"duration": 86, "location": {"5": [[70.6, 87]]}, "fps": 29.97}, "9": {"location": {}}}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "val.csv").write_text(f"{HEADER}\n{ROW}\n")
    (tmp_path / "annotations" / "gsub_val.json").write_text(json.dumps(WINDOWS))
    (tmp_path / "annotations" / "train.csv").write_text(NEXTQA)
    return tmp_path


EXPECTED = Question(
    qid="CW_6201_5",
    video="6201",
    question="why did she cover her eyes?",
    options=("posing.", "hair.", "sun.", "eyes.", "cue."),
    answer=2,
    qtype="CW",
    windows=((70.6, 87.0),),  # past the end, as it stands
)


def test_splits(root: Path) -> None:
    data = NExTGQA(str(root))
    assert data.question_splits == ("train", "val", "test")
    assert data.questions("val") == [EXPECTED]
    (training,) = data.questions("train")
    assert training == replace(EXPECTED, windows=None)
    (root / "annotations" / "train.csv").write_text(f"{HEADER}\n{ROW}\n")
    assert data.questions("train") == [training]
    (root / "annotations" / "train.csv").write_text(NEXTQA.replace(",2,5,", ",5,5,"))
    with pytest.raises(UserError, match="field answer: expected a whole number from 0 to 4, found '5'"):
        data.questions("train")


def test_faults(root: Path) -> None:
    path, windows = root / "annotations" / "val.csv", root / "annotations" / "gsub_val.json"
    path.write_text(f"{HEADER}\n{ROW}\n{ROW.replace(',sun,5', ',moon,6')}\n")
    with pytest.raises(UserError, match=f"^{path}, line 3, field answer: 'moon' is none of the options 'posing'"):
        NExTGQA.read_questions(path, windows=windows)
    path.write_text(f"{HEADER}\n{ROW.replace('6201', '9')}\n")
    with pytest.raises(UserError, match=f"^{windows}, video 9, question 5: no list of"):
        NExTGQA.read_questions(path, windows=windows)
    path.write_text(f"{HEADER}\n{ROW}\n".replace(",type", ""))
    with pytest.raises(UserError, match=f"^{path}, line 1: no column type"):
        NExTGQA.read_questions(path, windows=windows)


def test_the_real_validation_split(shared: Path) -> None:
    folder = shared / "annotations" / "nextgqa"
    questions = NExTGQA.read_questions(folder / "val.csv", windows=folder / "gsub_val.json")
    types = Counter(q.qtype for q in questions)
    assert types == {"CW": 1474, "TN": 879, "CH": 481, "TC": 472, "TP": 52}
    assert sum(len(q.windows) for q in questions) == 3931
    durations = {video: row["duration"] for video, row in json.loads((folder / "gsub_val.json").read_text()).items()}
    assert sum(end > durations[q.video] for q in questions for _, end in q.windows) == 3
    numbered = {q.qid: q for q in NExTQA.read_questions(shared / "annotations" / "nextqa" / "val.csv")}
    pairs = [(question, numbered[question.qid]) for question in questions]
    assert all(mine.answer == theirs.answer for mine, theirs in pairs)  # the texts lead to NExT-QA's numbers
    assert [mine.qid for mine, theirs in pairs if mine.options != theirs.options] == ["TC_7987845241_6"]  # mended there
