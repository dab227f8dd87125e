"""predict: one question about one video, or a file of them."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from PIL import Image

from sevila import answers, predict
from sevila.api import SeViLA
from sevila.config import load
from sevila.data.video import VideoReader
from sevila.errors import UserError

QUESTION, OPTIONS = "what does the red star hold", ["cup", "key", "the [b]ell"]
ASKED = [QUESTION, *OPTIONS, "--precision=fp32"]


@pytest.fixture(autouse=True)
def _quick(one_thread: None) -> None: ...


@pytest.fixture
def video(small_world: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A drawn video as tmp_path/v.mp4; the current folder is elsewhere."""
    (source,) = Path(small_world[0].removeprefix("data.root=")).glob("seed_0-*/videos/val_0001.mp4")
    shutil.copy(source, tmp_path / "v.mp4")
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    return tmp_path / "v.mp4"


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def jsonl(*rows: dict[str, Any] | str) -> Path:
        path = tmp_path / "questions.jsonl"
        path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
        return path

    return jsonl


def test_one_question(video: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert predict.cli([str(video), *ASKED, "--k=2", "--n-frames=16"]) == 0
    printed = capsys.readouterr()
    answer = SeViLA.load(dtype=torch.float32).answer(video, QUESTION, OPTIONS, k=2, n_frames=16)
    rows = {option: line for line in printed.out.splitlines() for option in OPTIONS if f" {option} " in line}
    assert list(rows) == OPTIONS
    for number, option in enumerate(OPTIONS):
        assert f"{answer.probabilities[number]:.3f}" in rows[option]
        assert ("→" in rows[option]) == (number == answer.option)
    told = re.findall(r"keyframe (\d+) at (\S+) s, score (\S+)", printed.out)
    assert told == [(str(f.index), f"{f.time:.2f}", f"{f.score:.3f}") for f in answer.keyframes]
    assert len(told) == 2 and printed.out.splitlines()[0].strip() == QUESTION
    assert printed.err.splitlines()[-1].startswith("sevila: warning: the tiny backbone knows the drawn world alone")
    assert list(Path.cwd().iterdir()) == []


def test_a_picture_and_a_page(video: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("deep/answer.png", "answer.html"):
        assert predict.cli([str(video), *ASKED, f"--out={name}"]) == 0
        assert capsys.readouterr().out.splitlines()[-1] == f"written: {name}"
    assert Path("deep/answer.png").read_bytes().startswith(b"\x89PNG\r\n")
    page = Path("answer.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 4 and QUESTION in page and "the [b]ell" in page
    assert sorted(path.name for path in Path.cwd().rglob("*")) == ["answer.html", "answer.png", "deep"]


def test_a_file_of_questions(video: Path, write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(
        {"video": "v.mp4", "question": QUESTION, "options": OPTIONS},
        "",
        {"video": str(video), "question": "where is the star", "options": ["sea", "sand"], "qid": 7, "more": 1},
    )
    words = ["--questions", str(path), "--k=2", "--n-frames=8", "--precision=fp32"]
    assert predict.cli([*words, "--out=answers.jsonl"]) == 0
    assert capsys.readouterr().out == "written: answers.jsonl, 2 answers\n"
    first, second = [json.loads(line) for line in Path("answers.jsonl").read_text().splitlines()]
    assert set(first) == {
        *("qid", "video", "question", "options", "prediction", "answer", "probabilities", "option_logits"),
        *("keyframes", "frames"),
    }
    assert (second["more"], second["options"], second["question"]) == (1, ["sea", "sand"], "where is the star")
    assert (first["qid"], first["video"], second["qid"]) == ("1", str(video), "7")
    model = SeViLA.load(dtype=torch.float32)
    for row, question, options in ((first, QUESTION, OPTIONS), (second, "where is the star", ["sea", "sand"])):
        answer = model.answer(video, question, options, k=2, n_frames=8)
        assert (row["answer"], row["prediction"]) == (answer.text, answer.option)
        chances = torch.tensor(row["option_logits"]).softmax(-1).tolist()
        assert chances == pytest.approx(answer.probabilities, abs=1e-4)
        assert [f["index"] for f in row["keyframes"]] == [f.index for f in answer.keyframes]
        assert [f["score"] for f in row["frames"]] == pytest.approx([f.score for f in answer.frames], abs=1e-4)

    assert predict.cli(words) == 0  # without out, the same lines on stdout and nothing else there
    assert capsys.readouterr().out == Path("answers.jsonl").read_text()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{oops", ", line 3: not valid JSON: "),
        ("[1]", ", line 3: not a JSON object but list"),
        ({"question": "x", "options": ["a", "b"]}, ", line 3, field video: expected text, found None"),
        ({"video": "v.mp4", "question": 3, "options": ["a", "b"]}, ", line 3, field question: expected text, found 3"),
        (
            {"video": "v.mp4", "question": "\ud83d", "options": ["a", "b"]},
            r", line 3, field question: '\ud83d' holds half",
        ),
        ({"video": "v.mp4", "question": "x", "options": ["a", "\ud83d"]}, r", line 3, field options: '\ud83d' holds"),
        ({"video": "v.mp4", "question": "x", "options": ["a", "b"], "qid": "\ud83d"}, r", line 3, field qid: '\ud83d'"),
        ({"video": "\ud83d", "question": "x", "options": ["a", "b"]}, r", line 3, field video: '\ud83d' holds half"),
        ('{"video": "v.mp4", "question": "x", "question": "y"}', ", line 3: key 'question' stands there twice"),
        ({"video": "v.mp4", "question": "x", "options": "a"}, ", line 3, field options: expected a list, found 'a'"),
        ({"video": "v.mp4", "question": "x", "options": ["a"]}, ", line 3, options: a question needs at least 2"),
        ({"video": "v.mp4", "question": "x", "options": ["a", 1]}, ", line 3, options: a question needs at least 2"),
        ({"video": "v.mp4", "question": "x", "options": ["a"] * 27}, ", line 3, options: a question needs 2 to 26"),
    ],
)
def test_a_malformed_line_is_named(
    video: Path,
    write: Write,
    capsys: pytest.CaptureFixture[str],
    line: dict[str, Any] | str,
    message: str,
) -> None:
    path = write({"video": "v.mp4", "question": QUESTION, "options": OPTIONS}, "", line)
    assert predict.cli(["--questions", str(path), "--out=answers.jsonl"]) == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith(f"sevila: error: {path}{message}")
    assert list(Path.cwd().iterdir()) == []


def test_an_answer_is_printed_though_its_file_cannot_be_written(
    video: Path, write: Write, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full)
    assert predict.cli([str(video), *ASKED, "--k=2", "--n-frames=8", "--out=a.html"]) == 2
    printed = capsys.readouterr()
    assert all(option in printed.out for option in OPTIONS) and "written" not in printed.out
    assert printed.err.endswith("sevila: error: a.html: No space left on device; make room or raise the limit\n")
    path = write({"video": "v.mp4", "question": QUESTION, "options": OPTIONS})
    assert predict.cli(["--questions", str(path), "--k=2", "--n-frames=8", "--out=a.jsonl"]) == 2
    printed = capsys.readouterr()
    assert json.loads(printed.out)["qid"] == "1" and "a.jsonl: No space left" in printed.err
    assert list(Path.cwd().iterdir()) == []


def test_an_output_among_the_frames_of_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "clip").mkdir()
    for number in range(4):
        Image.new("RGB", (8, 8)).save(tmp_path / f"clip/{number}.png")
    before = (tmp_path / "clip/1.png").read_bytes()
    for name in ("1.png", "page.html"):
        out = tmp_path / "clip" / name
        assert predict.cli([str(tmp_path / "clip"), "w", "a", "b", f"--out={out}"]) == 2
        assert f"--out={out}: lies among the frames of {tmp_path / 'clip'}" in capsys.readouterr().err
    assert (tmp_path / "clip/1.png").read_bytes() == before


def test_an_output_that_is_an_input(video: Path, write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    path = write({"video": "v.mp4", "question": QUESTION, "options": OPTIONS})
    before = path.read_bytes()
    for name in (str(path), "link.jsonl", "hard.jsonl"):
        if name == "link.jsonl":
            Path(name).symlink_to(path)
        elif name == "hard.jsonl":
            os.link(path, name)
        assert predict.cli(["--questions", str(path), f"--out={name}"]) == 2
        assert capsys.readouterr().err == (
            f"sevila: error: --out={name}: is the input --questions={path}; name another file\n"
        )
    assert path.read_bytes() == before
    Path("pipe.jsonl").symlink_to("/dev/null")
    assert predict.cli(["--questions", str(path), "--out=pipe.jsonl"]) == 2
    assert "--out=pipe.jsonl: is a device or a pipe; name a file" in capsys.readouterr().err


def test_a_folder_of_frames(video: Path, write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    folder = video.parent / "frames"
    folder.mkdir()
    pixels = VideoReader(video).read(range(0, 64, 4), 64).pixels.permute(0, 2, 3, 1).numpy()
    for number, picture in enumerate(pixels, start=1):
        Image.fromarray(picture).save(folder / f"{number:05d}.png")
    assert predict.cli([str(folder), *ASKED, "--k=2", "--n-frames=8", "--out=answer.html"]) == 0
    answer = SeViLA.load().answer(folder, QUESTION, OPTIONS, k=2, n_frames=8)
    told = re.findall(r"keyframe (\d+) at (\S+) s", capsys.readouterr().out)
    assert told == [(str(frame.index), f"{frame.index / 3:.2f}") for frame in answer.keyframes]
    path = write({"video": "frames", "question": QUESTION, "options": OPTIONS})
    assert predict.cli(["--questions", str(path), "--k=2", "--n-frames=8", "--out=answers.jsonl"]) == 0
    (row,) = [json.loads(line) for line in Path("answers.jsonl").read_text().splitlines()]
    assert row["prediction"] == answer.option


def test_faults_of_a_command_line(video: Path, write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    def told(*words: str) -> str:
        assert predict.cli(list(words)) == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line.removeprefix("sevila: error: ")

    path = write()
    assert told("--questions", str(path)) == f"{path}: holds no question"
    assert told("--questions=none.jsonl") == "none.jsonl: no such file"
    assert told("--questions=none.txt") == "--questions=none.txt: expected a name that ends in .jsonl or .csv"
    assert told("a" * 300, *ASKED) == f"{'a' * 300}: no such video file"
    os.mkfifo(video.parent / "pipe.mp4")
    assert told(f"{video.parent}/pipe.mp4", *ASKED).startswith(f"{video.parent}/pipe.mp4 is a pipe or device: name a")
    assert told(str(video), "a\udce9b", "a", "b").startswith("field question: 'a\\udce9b' holds half")
    path = write({"video": "v.mp4", "question": "x", "options": ["a", "b"]})
    assert told(str(video), f"--questions={path}").startswith("--questions=FILE holds videos, questions and options")
    assert told(f"--questions={path}", "--out=a.png") == (
        "--out=a.png: expected a name that ends in .jsonl, or a folder's"
    )
    assert told(f"--questions={path}", "--frames=f").startswith("--frames=f: keyframes of one video")
    for word in ("--shard=1/2", "--window=8", "--workers=2"):
        assert (
            told(str(video), "w", word) == f"{word}: goes with many questions; leave it out, or name --questions FILE"
        )
    assert told() == "VIDEO is missing: sevila predict VIDEO QUESTION OPTION OPTION ..."
    assert told(str(video)) == "QUESTION is missing: sevila predict VIDEO QUESTION OPTION OPTION ..."
    assert told(str(video), "w", "a").startswith("options: a question needs at least 2 options")
    assert (
        told(str(video), "w", "--k=9", "--n-frames=8") == "--k=9: only --n-frames=8 are sampled; choose k at most that"
    )
    assert told(str(video), "w", "--k=0") == "--k=0: must be at least 1"
    assert told(str(video), "w", "--k=x").startswith("argument --k: invalid int value: 'x'; sevila predict --help")
    assert told(str(video), "w", "--device=cuda:99").startswith("device=cuda:99: this machine has")
    assert told(str(video), "w", "--localizer=none").startswith("localizer=none: ")


def test_a_gpu_gets_workers_for_many_videos_and_all_cores_for_one(
    video: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As far as that goes without one: until the model would be loaded."""
    asked: list[int] = []

    def decoder_for(name: str, workers: int) -> NoReturn:
        asked.append(workers)
        raise UserError("enough")

    monkeypatch.setattr(answers, "find_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(answers, "decoder_for", decoder_for)
    many = ["--questions", str(write({"video": "v.mp4", "question": "x"}))]
    for words in ([str(video), "w"], many, [*many, "--workers=3"]):
        assert predict.cli(words) == 2
    assert asked == [0, 2, 3]


def test_the_keyframes_of_an_open_question(video: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(video), "the red star opens the box", "--k=2", "--n-frames=16", "--precision=fp32"]
    assert predict.cli([*words, "--frames=kf", "--out=found.json"]) == 0
    out = capsys.readouterr().out
    found = SeViLA.load(dtype=torch.float32).localize(video, words[1], k=2, n_frames=16)
    told = re.findall(r"keyframe (\d+) at (\S+) s, score (\S+)", out)
    assert told == [(str(f.index), f"{f.time:.2f}", f"{f.score:.3f}") for f in found.keyframes]
    assert out.splitlines()[0] == words[1] and "option" not in out
    written = json.loads(Path("found.json").read_text())
    assert [frame["index"] for frame in written["keyframes"]] == [frame.index for frame in found.keyframes]
    assert (written["question"], len(written["frames"])) == (words[1], 16)
    names = [f"frame_{f.index:06d}_{f.time:.2f}s.jpg" for f in found.keyframes]
    assert [frame["file"] for frame in written["keyframes"]] == [f"kf/{name}" for name in names]
    assert sorted(file.name for file in Path("kf").iterdir()) == names
    reader = VideoReader(video)
    with Image.open(Path("kf") / names[0]) as picture:
        assert (picture.format, picture.size) == ("JPEG", (reader.info.width, reader.info.height))


def test_a_page_and_a_picture_of_an_open_question(video: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.html", "a.png"):
        words = [str(video), "the red star opens the box", "--k=2", "--n-frames=8", f"--out={name}"]
        assert predict.cli(words) == 0 and f"written: {name}" in capsys.readouterr().out
    page = Path("a.html").read_text()
    assert "the red star opens the box" in page and page.count("data:image/jpeg;base64,") == 2
    assert Path("a.png").read_bytes().startswith(b"\x89PNG")


def test_another_rule_and_a_model_by_its_short_name(video: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert predict.cli([str(video), *ASKED, "--k=2", "--n-frames=8", "--selector=uniform"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("keyframe") == 2 and "score" not in printed
    for name, source in predict.MODELS.items():
        assert load("eval", [f"model={name}"]).model.source == source


def test_a_file_is_indexed_once(video: Path, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    monkeypatch.setattr(VideoReader, "__init__", _counted(VideoReader.__init__, opened))
    assert predict.cli([str(video), *ASKED, "--k=2", "--n-frames=8", "--out=a.html", "--frames=kf"]) == 0
    assert opened == [video]
    rows = [{"video": "v.mp4", "question": f"{QUESTION} {i}", "options": OPTIONS} for i in range(3)]
    assert predict.cli(["--questions", str(write(*rows)), "--k=2", "--n-frames=8", "--out=a.jsonl"]) == 0
    assert opened == [video, video]


def _counted(make: Callable[..., None], opened: list[Path]) -> Callable[..., None]:
    def counted(self: VideoReader, path: str | Path, *rest: Any, **options: Any) -> None:
        opened.append(Path(path))
        make(self, path, *rest, **options)

    return counted


def test_a_bad_video_costs_its_own_rows(video: Path, write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    asked = {"question": QUESTION, "options": OPTIONS, "mine": 1}
    (video.parent / "text.mp4").write_text("a page\n" * 300)
    path = write(*({"video": name, **asked} for name in ("text.mp4", "v.mp4", "none.mp4", "text.mp4")))
    assert predict.cli(["--questions", str(path), "--k=2", "--n-frames=8", "--out=a.jsonl"]) == 2
    first, good, missing, last = [json.loads(line) for line in Path("a.jsonl").read_text().splitlines()]
    assert good["answer"] in OPTIONS and "error" not in good and good["mine"] == 1
    assert first["error"] == last["error"] and "text.mp4 is not a video" in first["error"]
    assert missing["error"] == f"{video.parent}/none.mp4: no such video file" and missing["question"] == QUESTION
    printed = capsys.readouterr()
    assert "written: a.jsonl, 1 answers" in printed.out
    assert printed.err.splitlines()[-1].startswith("sevila: error: 3 of 4 questions have no answer; the first: ")


def test_questions_in_a_csv(video: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = video.parent / "questions.csv"
    file.write_text('video,question,a0,a1,a2,mine\nv.mp4,"who, then?",cup,key,,x\nv.mp4,what is red?,,,,y\n')
    assert predict.cli(["--questions", str(file), "--k=2", "--n-frames=8", "--out=a.jsonl"]) == 0
    first, second = [json.loads(line) for line in Path("a.jsonl").read_text().splitlines()]
    assert (first["question"], first["options"], first["mine"]) == ("who, then?", ["cup", "key"], "x")
    assert first["answer"] in ("cup", "key") and len(first["probabilities"]) == 2
    assert "answer" not in second and len(second["keyframes"]) == 2 and second["mine"] == "y"
    file.write_text("video,question,a0,a1\nv.mp4,what?,cup\n")
    capsys.readouterr()
    assert predict.cli(["--questions", str(file)]) == 2
    assert capsys.readouterr().err.startswith(f"sevila: error: {file}, line 2: has not as many fields")


def test_what_steers_a_terminal_is_shown_escaped(video: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["what\x1b[2J is\nit?", "cup\x1b[31m", "key\r", "--k=1", "--n-frames=4"]
    assert predict.cli([str(video), *words]) == 0
    out = capsys.readouterr().out
    assert "what\\x1b[2J is\\nit?" in out and "cup\\x1b[31m" in out and "key\\r" in out
    assert "\x1b" not in out and "\r" not in out


def test_answers_in_letters_of_the_terminal(
    video: Path, write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A line stays JSON where the terminal knows ASCII alone."""
    file = write({"video": str(video), "question": "café?", "options": ["rouge é", "vert ✓"]})
    with (tmp_path / "out").open("w", encoding="ascii") as terminal:
        monkeypatch.setattr("sys.stdout", terminal)
        assert predict.cli(["--questions", str(file), "--k=1", "--n-frames=4"]) == 0
    (line,) = (tmp_path / "out").read_text(encoding="ascii").splitlines()
    assert json.loads(line)["answer"] in ("rouge é", "vert ✓")


@pytest.mark.parametrize("place", ["question", "qid", "options"])
def test_half_a_character_in_a_file_is_named(
    video: Path, write: Write, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"video": str(video), "question": "what?", "options": ["a", "b"], "qid": "1"}
    file = write({**row, place: ["a", "\ud83d"] if place == "options" else "x \ud83d"})
    assert predict.cli(["--questions", str(file)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"sevila: error: {file}, line 1, field {place}: ") and "\\ud83d" in line


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("out=x.html", "out=x.html: options are written --out x.html; sevila predict --help says more"),
        ("n_frames=8", "n_frames=8: options are written --n-frames 8;"),
        ("selector.k=2", "selector.k=2: options are written --k 2;"),
        ("model=", "model=: options are written --model VALUE;"),
    ],
)
def test_an_option_as_hydra_writes_it_is_no_answer(
    video: Path, word: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict.cli([str(video), "what?", "cup", "key", word]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"sevila: error: {said}")


def test_other_equations_are_answers() -> None:
    words = ["v.mp4", "what?", "x=2", "--store", "k=3", "k = 2"]
    assert predict.parser().parse_intermixed_args(words).options == ["x=2", "k = 2"]


def test_a_model_that_no_hub_can_have_is_not_asked_for(video: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert predict.cli([str(video), "what?", "cup", "key", "--model=blip2_flan_t5_x"]) == 2
    assert "--model=blip2_flan_t5_x: no such folder (did you mean 'blip2_flan_t5_xl'?)" in capsys.readouterr().err
