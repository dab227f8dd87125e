"""predict of a file of questions into a folder: a stream of rows that is stopped, resumed and divided."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sevila import answers, predict
from sevila.answers import Answering
from sevila.data.records import Question
from sevila.data.video import CachedVideos
from sevila.locks import FolderLock
from sevila.questions import Asked, Shard, by_video, read_questions, windows

SETTINGS = ["--k=2", "--n-frames=4", "--precision=fp32"]


@pytest.fixture(autouse=True)
def _quick(one_thread: None) -> None: ...


@pytest.fixture
def file(small_world: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eleven questions about two videos, one of them twice apart, and about one that is no video."""
    (videos,) = Path(small_world[0].removeprefix("data.root=")).glob("seed_0-*/videos")
    for name in ("val_0000.mp4", "val_0001.mp4"):
        shutil.copy(videos / name, tmp_path / name)
    (tmp_path / "text.mp4").write_text("a page\n" * 300)
    asked = [("val_0000.mp4", 3), ("text.mp4", 2), ("val_0001.mp4", 3), ("val_0000.mp4", 3)]
    names = [name for name, often in asked for _ in range(often)]
    rows = [
        {"qid": f"q{i}", "video": name, "question": f"what does the red star hold, {i}", "options": ["cup", "key"]}
        for i, name in enumerate(names)
    ]
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.chdir(tmp_path)
    return path


def ask(file: Path, *words: str) -> int:
    return predict.cli(["--questions", str(file), *SETTINGS, *words])


def lines(*files: str) -> list[bytes]:
    return [line for file in files for line in Path(file).read_bytes().splitlines(keepends=True)]


def test_a_folder_gets_the_rows_of_a_file(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Video by video; the two rows of no video have an error, and the exit code says so."""
    assert ask(file, "--out=one.jsonl") == ask(file, "--out=many") == 2
    printed = capsys.readouterr()
    assert "written: many/predictions.jsonl, 9 answers\n" in printed.out
    assert printed.err.splitlines()[-1].startswith("sevila: error: 2 of 11 questions have no answer; the first: ")
    assert sorted(lines("many/predictions.jsonl")) == sorted(lines("one.jsonl"))
    order = [json.loads(line)["qid"] for line in lines("many/predictions.jsonl")]
    assert order == ["q0", "q1", "q2", "q8", "q9", "q10", "q3", "q4", "q5", "q6", "q7"]
    assert [json.loads(line)["qid"] for line in lines("one.jsonl")] == [f"q{i}" for i in range(11)]
    assert [path.name for path in sorted(Path("many").iterdir())] == ["predict.json", "predictions.jsonl"]


def test_a_stopped_run_goes_on_with_the_same_bytes(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wherever the file was cut: between rows, within one, among rows that were asked together."""
    monkeypatch.setattr(answers, "TOGETHER", 4)
    ask(file, "--out=whole")
    whole = Path("whole/predictions.jsonl").read_bytes()
    ends = [end + 1 for end, byte in enumerate(whole) if byte == ord("\n")]
    for cut in (0, 7, ends[1], ends[4] + 5, ends[7] - 1, ends[-1]):
        shutil.copytree("whole", f"cut_{cut}")
        os.truncate(f"cut_{cut}/predictions.jsonl", cut)
        capsys.readouterr()
        assert ask(file, f"--out=cut_{cut}") == 2
        assert "9 answers" in (printed := capsys.readouterr()).out and "2 of 11 questions" in printed.err
        assert Path(f"cut_{cut}/predictions.jsonl").read_bytes() == whole


def test_what_is_answered_is_not_opened_again(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(file, "--out=many")
    opened: list[str] = []
    info = CachedVideos.info
    monkeypatch.setattr(CachedVideos, "info", lambda self, path: opened.append(path.name) or info(self, path))
    kept = [line for line in lines("many/predictions.jsonl") if json.loads(line)["qid"] != "q6"]
    Path("many/predictions.jsonl").write_bytes(b"".join(kept))
    ask(file, "--out=many")
    assert opened == ["val_0001.mp4"]
    monkeypatch.setattr(answers, "load", lambda given: pytest.fail("a model was loaded"))
    assert ask(file, "--out=many") == 2
    assert json.loads(lines("many/predictions.jsonl")[-1])["qid"] == "q6" and len(lines("many/predictions.jsonl")) == 11


def test_killed_and_resumed(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGKILL after the first rows, twice: the lines of a run that nobody stopped."""
    append = answers.AnswerFolder.append

    def slowly(folder: answers.AnswerFolder, rows: list[dict[str, Any]]) -> None:
        append(folder, rows)
        time.sleep(0.2)

    monkeypatch.setattr(answers, "TOGETHER", 1)
    ask(file, "--out=whole")
    for rows in (1, 6):
        child = os.fork()
        if not child:
            monkeypatch.setattr(answers.AnswerFolder, "append", slowly)
            ask(file, "--out=many")
            os._exit(0)
        until = time.monotonic() + 60
        while not Path("many/predictions.jsonl").exists() or len(lines("many/predictions.jsonl")) < rows:
            assert time.monotonic() < until
            time.sleep(0.01)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert rows <= len(lines("many/predictions.jsonl")) < 11
    assert ask(file, "--out=many") == 2
    assert lines("many/predictions.jsonl") == lines("whole/predictions.jsonl")


def test_another_model_file_or_setting_is_refused(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ask(file, "--out=many")
    before = lines("many/predictions.jsonl")

    def told(*words: str) -> str:
        capsys.readouterr()
        assert ask(file, "--out=many", *words) == 2
        return capsys.readouterr().err

    assert told("--k=3") == (
        "sevila: error: --out=many: was begun with k=2, now k=3; go on with the same, or name another folder\n"
    )
    assert "with precision=fp32, now precision=fp64" in told("--precision=fp64")
    assert "with selector=localizer, now selector=uniform" in told("--selector=uniform")
    file.write_text(file.read_text().replace("red star", "red square"))
    assert "was begun with another file of questions, or this one before it was changed; go on" in told()
    Path("mine").mkdir()
    Path("mine/notes.txt").touch()
    assert ask(file, "--out=mine") == 2
    assert "--out=mine: holds other things than answers; name an empty or new folder" in capsys.readouterr().err
    lock = FolderLock()
    lock.acquire(Path("many"))
    assert "is at work in it; wait for its end" in told()
    lock.release()
    assert lines("many/predictions.jsonl") == before


def test_a_name_that_stands_twice(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(file.read_text() + file.read_text().splitlines()[0] + "\n")
    assert ask(file, "--out=many") == 2
    assert f"{file}, line 12, field qid: 'q0' stands there twice" in capsys.readouterr().err
    assert not Path("many").exists()


def test_shards_are_the_whole(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ask(file, "--out=whole")
    for number in (1, 2, 3):
        ask(file, "--out=many", f"--shard={number}/3")
    parts = [f"many/shard-{number}-of-3/predictions.jsonl" for number in (1, 2, 3)]
    found = [lines(part) if Path(part).exists() else [] for part in parts]
    assert sorted(line for part in found for line in part) == sorted(lines("whole/predictions.jsonl"))
    videos = [{json.loads(line)["video"] for line in part} for part in found]
    assert sum(map(len, videos)) == 3 and max(map(len, videos)) < 3
    for word in ("0/3", "4/3", "1", "a/b", "1/0"):
        capsys.readouterr()
        assert ask(file, f"--shard={word}") == 2
        assert capsys.readouterr().err == f"sevila: error: --shard={word}: expected I/N, from 1/N to N/N\n"
    assert predict.cli(["v.mp4", "what?", "--shard=1/2"]) == 2


def test_a_shard_is_the_same_everywhere() -> None:
    """By sha256, not by Python's hash, which is another one in every process."""
    names = [f"v{i}.mp4" for i in range(12)]
    held = ["".join("x" if Shard(n, 3).holds(name) else "." for name in names) for n in (1, 2, 3)]
    assert held == ["xxx.x.xx...x", "...x....x...", ".....x...xx."]


def test_videos_may_be_decoded_by_workers(file: Path) -> None:
    ask(file, "--out=here")
    ask(file, "--out=ahead", "--workers=2")
    assert lines("here/predictions.jsonl") == lines("ahead/predictions.jsonl")


def test_rows_are_made_as_they_are_asked_for(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a stream without an end: a group is pulled when its turn comes, and only few ahead of it by workers."""
    pulled = 0

    def endless() -> Iterator[list[Asked]]:
        nonlocal pulled
        while True:
            pulled += 1
            yield [Asked(pulled, Question(str(pulled), "none.mp4", "what?", ()), {"video": "none.mp4"})]

    given = predict.parser().parse_args(["--questions=x.jsonl", "--precision=fp32"])
    given.source = "tiny"
    answering = answers.load(given)
    rows = answering.rows(endless())
    for number in (1, 2, 3):
        ((line, row),) = next(rows)
        assert line == number and row["error"] == "none.mp4: no such video file"
        assert pulled == number
    ahead = Answering(answering.model, answering.selector, 4, workers=2).rows(endless())
    pulled = 0
    next(ahead)
    assert pulled <= 6
    ahead.close()


def test_windows_and_groups() -> None:
    asked = [Asked(i, Question(str(i), name, "what?", ()), {"video": name}) for i, name in enumerate("aabacbb")]
    assert [[each.line for each in window] for window in windows(asked, 3)] == [[0, 1, 2], [3, 4, 5], [6]]
    assert [[each.line for each in group] for group in by_video(asked)] == [[0, 1, 3], [2, 5, 6], [4]]


def test_a_file_is_read_as_it_is_asked_for(tmp_path: Path) -> None:
    """A fault further down is met when its turn comes, and its byte is counted from the file's beginning."""
    row = json.dumps({"video": "v.mp4", "question": "what?", "more": "x" * 200}).encode() + b"\n"
    (tmp_path / "a.jsonl").write_bytes(row * 1000 + b"\xff\n")
    rows = read_questions(tmp_path / "a.jsonl")
    assert next(rows).line == 1
    with pytest.raises(predict.UserError, match=rf"a.jsonl: not a UTF-8 text file \(byte {1000 * len(row)}\)"):
        list(rows)
    (tmp_path / "a.csv").write_bytes(b"video,question\n" + b"v.mp4,what?\n" * 3000 + b"v.mp4\n" * 3000 + b"\xff\n")
    rows = read_questions(tmp_path / "a.csv")
    assert [next(rows).line for _ in range(3)] == [2, 3, 4]
    with pytest.raises(predict.UserError, match="line 3002: has not as many fields"):
        list(rows)
