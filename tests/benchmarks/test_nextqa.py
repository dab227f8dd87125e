"""NExT-QA's csv files."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from sevila.benchmarks.nextqa import NExTQA, nextqa_accuracies
from sevila.data.records import Question
from sevila.errors import UserError
from sevila.metrics.choice import Choice

HEADER = "video,frame_count,width,height,question,answer,qid,type,a0,a1,a2,a3,a4"
ROWS = [
    "4010069381,369,640,480,how do the men play,0,6,CH,roll the handle,tap,strum,hit,pat",
    '3238737531,900,640,480,"why did he, the boy, go?",4,0,CW,none,"a ""toy""",null,NA,"left, then right"',
]


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def csv(*rows: str, header: str = HEADER) -> Path:
        path = tmp_path / "val.csv"
        path.write_text("\n".join([header, *rows]) + "\n")
        return path

    return csv


def fault(path: Path, windows: Path | None = None) -> str:
    with pytest.raises(UserError) as caught:
        NExTQA.read_questions(path, windows=windows)
    message = str(caught.value)
    assert "\n" not in message and message.startswith(str(windows or path))
    return message.removeprefix(str(windows or path))


def test_rows_as_records(write: Write) -> None:
    assert NExTQA.read_questions(write(*ROWS)) == [
        Question(
            qid="CH_4010069381_6",
            video="4010069381",
            question="how do the men play?",
            options=("roll the handle.", "tap.", "strum.", "hit.", "pat."),
            answer=0,
            qtype="CH",
        ),
        Question(
            qid="CW_3238737531_0",
            video="3238737531",
            question="why did he, the boy, go??",  # the official prompt has both
            options=("none.", 'a "toy".', "null.", "NA.", "left, then right."),
            answer=4,
            qtype="CW",
        ),
    ]


def test_windows_of_nextgqa(write: Write, tmp_path: Path) -> None:
    table = tmp_path / "gsub.json"
    table.write_text('{"4010069381": {"duration": 12, "location": {"6": [[1, 2.5], [7.25, 9]]}, "fps": 30}}')
    (question,) = NExTQA.read_questions(write(ROWS[0]), windows=table)
    assert question.windows == ((1.0, 2.5), (7.25, 9.0))
    assert fault(write(*ROWS), table) == ", video 3238737531, question 0: no list of [start, end]"
    table.write_text('{"4010069381": {"location": {"6": [[1]]}}}')
    assert "video 4010069381, question 6" in fault(write(ROWS[0]), table)


def test_faults_name_file_line_and_field(write: Write) -> None:
    short = HEADER.replace(",type", "").replace(",a3", "")
    assert fault(write(header=short)).startswith(", line 1: no column type, a3; has video, frame_count")
    assert fault(write(header="")).startswith(", line 1: no column video, question, qid")
    bad = ROWS[0].replace(",0,6,", ",5,6,")
    assert fault(write(ROWS[0], bad)) == ", line 3, field answer: expected a whole number from 0 to 4, found '5'"
    text = ROWS[0].replace(",0,6,", ",roll the handle,6,")
    assert fault(write(text)).startswith(", line 2, field answer: expected a whole number")
    assert fault(write(ROWS[1], ROWS[0].rpartition(",")[0])) == ", line 3: expected 13 fields"
    assert fault(write(ROWS[0] + ",one more")) == ", line 2: expected 13 fields"
    assert fault(write(ROWS[0], '"open')).startswith(", line 3: not valid csv")
    assert NExTQA.read_questions(write()) == []


def test_a_file_without_answers_hides_them(write: Write) -> None:
    (question,) = NExTQA.read_questions(write(ROWS[0].replace(",0,6,", ",6,"), header=HEADER.replace(",answer", "")))
    assert question.answer is None and question.qid == "CH_4010069381_6"


def test_windows_may_leave_the_video_but_not_run_backwards(write: Write, tmp_path: Path) -> None:
    table = tmp_path / "gsub.json"
    table.write_text('{"4010069381": {"duration": 12, "location": {"6": [[-0.5, 2], [9, 12.7], [3, 3]]}}}')
    (question,) = NExTQA.read_questions(write(ROWS[0]), windows=table)
    assert question.windows == ((-0.5, 2.0), (9.0, 12.7), (3.0, 3.0))
    table.write_text('{"4010069381": {"duration": 12, "location": {"6": [[3, 2]]}}}')
    assert fault(write(ROWS[0]), table).endswith("question 6: a window ends before it starts: ((3.0, 2.0),)")


def test_videos_lie_by_the_map_or_by_their_ids(tmp_path: Path) -> None:
    for name in ("1015/13", "24"):
        (tmp_path / "videos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "videos" / f"{name}.mp4").touch()
    (tmp_path / "annotations").mkdir()
    vidor = tmp_path / "annotations" / "map_vid_vidorID.json"
    vidor.write_text('{"13": "1015/13", "24": "1013/24", "99": "../../99"}')
    (tmp_path / "99.mp4").touch()
    videos = NExTQA(str(tmp_path)).folder()
    assert videos.path("13") == tmp_path / "videos/1015/13.mp4"
    assert videos.path("1015/13") == tmp_path / "videos/1015/13.mp4"  # as the unified json names it
    assert videos.path("24") == tmp_path / "videos/24.mp4"  # all in one folder
    with pytest.raises(UserError, match="leads out of the video folder"):
        videos.path("99")
    vidor.write_text("[1]")
    with pytest.raises(UserError, match=r"map_vid_vidorID.json: expected a map from video ids to paths"):
        NExTQA(str(tmp_path)).folder()


def test_a_missing_or_binary_file(tmp_path: Path) -> None:
    assert fault(tmp_path / "none.csv") == ": no such file"
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00")
    assert "not a UTF-8 text file" in fault(tmp_path / "bytes.csv")


def test_the_real_validation_split(shared: Path) -> None:
    questions = NExTQA.read_questions(shared / "annotations" / "nextqa" / "val.csv")
    assert len(questions) == len({q.qid for q in questions}) == 4996
    types = Counter(q.qtype for q in questions)
    assert set(types) == {"CW", "CH", "TN", "TC", "TP", "DL", "DC", "DO"}
    assert questions[0].options[2] == "strum the string." and questions[0].answer == 0
    assert sum(q.question.endswith("??") for q in questions) == 1
    assert all(option.strip(". ") for q in questions for option in q.options)


# -- accuracies, as the official scripts print them ---


def test_as_both_official_scripts_print(shared: Path) -> None:
    folder = shared / "golden/metrics"
    predictions = json.loads((folder / "nextqa/HGA_val_predictions.json").read_text())
    own = json.loads((folder / "nextqa/golden_metrics.json").read_text())["HGA-bert-ft-h256-val-example.json"]
    task = json.loads((folder / "official_metrics.json").read_text())["nextqa_val_HGA"]
    with (shared / "annotations/nextqa/val.csv").open(encoding="utf-8", newline="") as file:
        types = {f"{row['video']}_{row['qid']}": row["type"] for row in csv.DictReader(file)}
    result = nextqa_accuracies(Choice(p["answer"], p["prediction"], types[key]) for key, p in predictions.items())
    assert result["metrics"] == own["metrics"] and result["Acc"] == own["Acc"] == 49.74
    assert {**result["types"], "agg_metrics": result["agg_metrics"], "total": result["total"]} == task


def test_groups_by_hand() -> None:
    choices = [
        Choice(0, 0, "TN"), Choice(0, 1, "TN"), Choice(2, 2, "TP"), Choice(3, 0, "TC"),
        Choice(4, 4, "DO"), Choice(None, 1, "DO"), Choice(1, 0, "CH"),
    ]  # fmt: skip
    result = nextqa_accuracies(choices)
    assert result["metrics"] == {
        "How": 0.0, "Bef&Aft": 66.67, "When": 0.0, "Other": 100.0, "Acc_C": 0.0, "Acc_T": 50.0, "Acc_D": 100.0,
    }  # fmt: skip
    assert result["Acc"] == 50.0 and result["total"] == 6
    assert result["types"] == {"CH": 0.0, "DO": 100.0, "TC": 0.0, "TN": 50.0, "TP": 100.0}


def test_unknown_types_and_hidden_answers_are_refused() -> None:
    with pytest.raises(UserError, match="question type 'XX': NExT-QA has CH, CW"):
        nextqa_accuracies([Choice(0, 0, "XX")])
    with pytest.raises(UserError, match="no question has a known answer"):
        nextqa_accuracies([Choice(None, 0, "CH")])
