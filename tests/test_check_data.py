"""check_data: what a data set lacks, its counts, its exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from sevila import check_data


def video(path: Path, frames: int) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.time_base = 32, 32, Fraction(1, 10)
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), number, np.uint8), format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


HEADER = "video,question,a0,a1,answer,start,end\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "videos").mkdir()
    video(tmp_path / "videos" / "long.mp4", 60)
    video(tmp_path / "videos" / "short.mp4", 8)
    (tmp_path / "val.csv").write_text(HEADER + "long,q,x,y,0,,\nlong,q,x,y,1,0,5\nlong,q,x,y,1,1,4\n")
    return tmp_path


Check = Callable[..., tuple[int, str, str]]


@pytest.fixture
def check(root: Path, capsys: pytest.CaptureFixture[str]) -> Check:
    def run(*words: str) -> tuple[int, str, str]:
        code = check_data.cli(["custom", f"--root={root}", *words])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def test_all_is_well(check: Check) -> None:
    code, out, err = check("--split=val")
    assert (code, out) == (0, "val: 3 questions, 1 videos\n  short clip: 1 questions, no obstacle\n  all can be used\n")
    assert "videos  1/1" in err
    assert check("--split=val", "--frames=4", "--decode")[1] == "val: 3 questions, 1 videos\n  all can be used\n"


def test_everything_wrong_at_once(check: Check, root: Path) -> None:
    rows = [
        "long,q,x,y,0,,",
        "long,q,x,y,7,,",  # a bad row
        "gone,q,x,y,0,,",
        "gone,q,x,y,1,,",
        "broken,q,x,y,0,,",
        "long,q,x,y,0,6,9",  # starts where the video has ended
        "long,q,x,y,0,2,9",  # ends past it
        "short,q,x,y,0,,",
    ]
    (root / "test.csv").write_text(HEADER + "\n".join(rows) + "\n")
    (root / "videos" / "broken.mp4").write_text("no video")
    code, out, _ = check(f"--out={root}/report.json")
    assert code == 1
    lines = out.splitlines()
    assert lines[0] == "train: 0 questions, 0 videos" and lines[1] == "  no annotations: 1 file"
    assert lines[2] == f"    {root}/train.csv: no such file"
    report = json.loads((root / "report.json").read_text())
    train, val, test = report["splits"]
    assert train["problems"] == {"no annotations": 1} and val["problems"] == {}
    assert (test["records"], test["videos"], test["kind"]) == (7, 4, "questions")
    assert test["problems"] == {"bad row": 1, "missing": 2, "unreadable": 1, "clip outside": 1}
    assert test["remarks"] == {"short video": 1, "clip cut": 1}
    found = {(row["kind"], row["place"]): row for row in test["found"]}
    assert found["missing", "video gone"]["records"] == 2
    assert found["bad row", f"{root}/test.csv, line 3"]["reason"].endswith("from 0 to 1, found '7'")
    assert "starts past the end of the video" in found["clip outside", "line_7 (video long)"]["reason"]
    assert "  missing: 2 questions (1 videos)" in lines and "  unreadable: 1 questions (1 videos)" in lines


def test_only_the_first_of_many_are_printed(check: Check, root: Path) -> None:
    (root / "val.csv").write_text(HEADER + "".join(f"gone{i},q,x,y,0,,\n" for i in range(9)))
    code, out, _ = check("--split=val")
    assert code == 1 and "missing: 9 questions (9 videos)" in out
    assert out.count("is not in") == 5 and "... and 4 more" in out


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--split=dev"], "--split=dev: custom has test, train, val"),
        (["--frames=0"], "argument --frames: 0: must be at least 1; sevila check-data custom --help says more"),
        (["--valid=x"], "unrecognized arguments: --valid=x"),
        (["--videos=films"], "films does not exist: download the videos or set data.root"),
    ],
)
def test_a_wrong_command_line(check: Check, words: list[str], problem: str) -> None:
    code, out, err = check(*words)
    assert code == 2 and out == "" and problem in err and err.count("\n") == 1


def test_the_report_takes_no_place_of_the_data(check: Check, root: Path) -> None:
    before = (root / "val.csv").read_bytes()
    code, out, err = check(f"--out={root}/val.csv")
    assert code == 2 and out == "" and err.count("\n") == 1 and (root / "val.csv").read_bytes() == before
    assert (
        f"--out={root}/val.csv: is there already, in the data set's folder data.root={root}; name another file" in err
    )


def test_a_data_set_must_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert check_data.cli([]) == 2
    assert capsys.readouterr().err.startswith("sevila: error: the following arguments are required: BENCHMARK")
    for words in (["--help"], ["nextqa", "--help"]):
        assert check_data.cli(words) == 0
    assert "--video-map" in capsys.readouterr().out


def test_a_split_that_there_is_not(check: Check, root: Path) -> None:
    code, out, _ = check("--train=null", "--test=null")
    assert code == 0 and out.startswith("val: 3 questions") and "train" not in out


def test_questions_and_moments_of_ones_own(check: Check, root: Path) -> None:
    """Both in one file, or one of the two; a bad row is told once."""
    moment = {"video": "long", "query": "it is grey", "windows": [[1, 2]]}
    question = {"video": "long", "question": "q", "options": ["x", "y"], "answer": 0}
    (root / "val.jsonl").write_text("".join(json.dumps(row) + "\n" for row in (moment, question, {"video": "long"})))
    code, out, _ = check("--split=val", "--val=val.jsonl")
    assert code == 1 and "val: 1 questions, 1 videos\n  bad row: 1 questions" in out
    assert "val: 1 moment queries, 1 videos\n  all can be used" in out
    (root / "val.jsonl").write_text(json.dumps(moment) + "\n")
    assert check("--split=val", "--val=val.jsonl")[:2] == (0, "val: 1 moment queries, 1 videos\n  all can be used\n")


def test_the_synthetic_world(small_world: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    pairs = [word.removeprefix("data.").split("=") for word in small_world]
    words = [f"--{key.replace('_', '-')}={value}" for key, value in pairs]
    assert check_data.cli(["synthetic", *words]) == 0
    out = capsys.readouterr().out
    assert out.count("all can be used") == 5 and "moment queries" in out
