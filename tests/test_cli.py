"""What all entry points share: streams that lose nothing, errors of one line, bounded configurations, `~`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sevila import cli as cli_module
from sevila import convert, predict, score, store, train
from sevila.cli import guarded
from sevila.config import load
from sevila.errors import UserError
from sevila.files import HALF_CHARACTER_FAULT

REPOSITORY = Path(__file__).resolve().parents[1]
PRETRAIN, EVAL = "+exp=synthetic_pretrain", "+exp=synthetic_eval"


def refused(entry: str, *words: str) -> str:
    with pytest.raises(UserError) as caught:
        load(entry, words)
    return str(caught.value)


def python(code: str, **variables: str) -> subprocess.Popen[bytes]:
    """A process that runs code as an entry point."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), **variables}
    text = f"import sys\nfrom sevila.cli import guarded\n{code}"
    return subprocess.Popen(
        [sys.executable, "-c", text], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


# -- streams ---


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_letters_that_the_terminal_does_not_know_are_escaped(encoding: str) -> None:
    done = python("raise SystemExit(guarded(lambda: print('\\u2192 caf\\xe9')))", PYTHONIOENCODING=encoding)
    out, err = done.communicate(timeout=60)
    assert (done.returncode, err) == (0, b"")
    assert out.decode(encoding) == ("\\u2192 caf\\xe9\n" if encoding == "ascii" else "\\u2192 café\n")


@pytest.mark.parametrize("write", ["print('x' * 200)", "Console().print('x' * 70)"])
def test_a_pipe_that_nobody_reads_costs_no_work(tmp_path: Path, write: str) -> None:
    done = tmp_path / "done"
    code = f"""
from rich.console import Console
def run():
    sys.stdin.read()
    for _ in range(200):
        {write}
    print('work done', file=open({str(done)!r}, 'w'))
raise SystemExit(guarded(run))
"""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    text = f"import sys\nfrom sevila.cli import guarded\n{code}"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", text], env=environment, **pipes)
    process.stdout.close()  # before the first word is written
    process.stdin.close()
    assert (process.stderr.read(), process.wait(60)) == (b"", 141)
    assert done.read_text() == "work done\n"


def test_another_broken_pipe_is_no_quiet_end() -> None:
    done = python("def run(): raise BrokenPipeError('of a worker')\nraise SystemExit(guarded(run))")
    assert b"of a worker" in done.communicate(timeout=60)[1] and done.returncode == 1


def test_importing_the_library_leaves_the_streams_alone() -> None:
    code = "import sevila.cli, sevila.predict\nsys.stdout.write(sys.stdout.errors)"
    out, err = python(code, PYTHONIOENCODING="ascii:strict").communicate(timeout=60)
    assert (out, err) == (b"strict", b"")


def test_an_error_is_one_line_whatever_it_names(capsys: pytest.CaptureFixture[str]) -> None:
    def run() -> None:
        raise UserError("question 'a\nb\x1b[2J\r': no\u2028 such")

    assert guarded(run) == 2
    assert capsys.readouterr().err == "sevila: error: question 'a\\nb\\x1b[2J\\r': no\\u2028 such\n"


# -- names and numbers ---


@pytest.mark.parametrize(
    ("cli", "words"),
    [
        (predict.cli, [f"{'v' * 300}.mp4", "w", "a", "b"]),
        (predict.cli, ["--questions", f"{'q' * 300}.jsonl"]),
        (train.cli, [PRETRAIN, f"run_dir={'r' * 300}"]),
        (train.cli, [PRETRAIN, "--config-dir", "c" * 300]),
        (convert.cli, ["tiny", "--out", "o" * 300]),
        (score.cli, ["star", f"--annotations={'a' * 300}.json", "--predictions=x"]),
        (store.cli, ["stats", "--folder", "s" * 300]),
    ],
)
def test_names_that_no_file_system_takes(
    cli, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("sevila: error: ") and ("too long" in line or "no such" in line)
    assert list(tmp_path.iterdir()) == []


FLOATS = ("lr", "min_lr", "warmup_lr", "weight_decay", "loss_divisor", "clip_grad_norm")


@pytest.mark.parametrize("value", ["inf", "nan", "1e999"])
@pytest.mark.parametrize("key", [*(f"trainer.{name}" for name in FLOATS), "store.max_gb"])
def test_numbers_are_finite(key: str, value: str) -> None:
    shown = "nan" if value == "nan" else "inf"
    assert refused("train", PRETRAIN, f"{key}={value}") == f"{key}={shown}: must be a finite number"


def test_a_choices_own_numbers_are_finite_too() -> None:
    assert refused("eval", EVAL, "+task.threshold=inf") == "task.threshold=inf: must be a finite number"
    assert refused("train", PRETRAIN, "trainer.betas=[0.9,.inf]").startswith("trainer.betas")


def test_numbers_that_no_machine_word_holds() -> None:
    assert refused("train", PRETRAIN, "seed=9223372036854775808").endswith("must be a number below 2^63")
    assert load("train", [PRETRAIN, "seed=9223372036854775807"]).seed == 2**63 - 1
    for value in ("9" * 5000, "[" * 3000):
        assert "cannot be read" in refused("train", PRETRAIN, f"seed={value}")


# -- texts ---


def test_half_a_character_is_refused() -> None:
    said = HALF_CHARACTER_FAULT
    assert refused("eval", EVAL, "wandb.name=a \ud83d") == f"wandb.name=a \ud83d: {said}"
    assert refused("eval", EVAL, "data.root='\ud83d'") == f"data.root=\ud83d: {said}"
    assert refused("eval", EVAL, "submission=\udcff.json") == f"submission=\udcff.json: {said}"


def test_letters_that_the_locale_hid_are_read(capsys: pytest.CaptureFixture[str]) -> None:
    """As a process gets them with LC_ALL=C and PYTHONUTF8=0: the bytes of UTF-8, one by one."""
    hidden = "wandb.name=caf\udcc3\udca9"
    assert train.cli([PRETRAIN, hidden, "--cfg", "job"]) == 0
    assert "  name: café\n" in capsys.readouterr().out


def test_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    paths = ["run_dir=~/runs/a", "data.root=~/world", "localizer=~/R1", "model.source=~", "store.folder=~/store"]
    config = load("eval", [EVAL, *paths, "export=~/e.json", "selector=stored", "selector.file=~/p.jsonl"])
    assert (config.run_dir, config.data["root"]) == ("/home/me/runs/a", "/home/me/world")
    assert (config.localizer, config.model.source) == ("/home/me/R1", "/home/me")
    assert (config.store.folder, config.export) == ("/home/me/store", "/home/me/e.json")
    assert config.selector["file"] == "/home/me/p.jsonl"
    given = convert.parser().parse_args(["~/a.pth", "tiny", "--out", "~/out", "--backbone", "~/b"])
    assert (given.sources, str(given.out), given.backbone) == (["/home/me/a.pth", "tiny"], "/home/me/out", "/home/me/b")


# -- yaml of one's own ---

BOMB = "a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"name: \xff\n", "not a UTF-8 text file (byte 6)"),
        (BOMB.encode(), "holds more than 100000 values, with every alias (*) written out"),
        (b"a: &a [*a]\n", "holds more than 100000 values, with every alias (*) written out"),
        (b"[" * 100_000, "not valid yaml: too many levels"),
        (b"name: " + b"9" * 5000, "not valid yaml: Exceeds the limit"),
        (b"name: 2001-99-99", "not valid yaml: month must be in 1..12"),
    ],
    ids=["letters", "bomb", "circle", "levels", "digits", "date"],
)
def test_yaml_that_cannot_be_read_is_refused_at_once(tmp_path: Path, content: bytes, fault: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.yaml").write_bytes(content)
    start = time.monotonic()
    message = refused("eval", EVAL, "--config-dir", str(tmp_path), "data=mine")
    assert message.startswith(f"{tmp_path}/data/mine.yaml: {fault}") and time.monotonic() - start < 20


def test_aliases_of_a_usual_number_are_read(tmp_path: Path) -> None:
    (tmp_path / "exp").mkdir()
    text = "# @package _global_\n# Mine.\ndefaults: [synthetic_eval]\nframes: {n: &few 9}\nselector: {k: *few}\n"
    (tmp_path / "exp" / "mine.yaml").write_text(text)
    config = load("eval", ["--config-dir", str(tmp_path), "+exp=mine"])
    assert (config.frames.n, config.selector["k"]) == (9, 9)


@pytest.mark.parametrize("key", ["--questions", "--config-dir"])
def test_a_pipe_hangs_nothing(tmp_path: Path, key: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "c" / "data").mkdir(parents=True)
    pipe = tmp_path / "c" / "data" / "mine.yaml"
    os.mkfifo(pipe)
    jsonl = pipe.with_suffix(".jsonl")
    jsonl.symlink_to(pipe)
    cli, words = (predict.cli, [str(jsonl)]) if key == "--questions" else (train.cli, [str(tmp_path / "c"), PRETRAIN])
    assert cli([key, *words]) == 2
    named = jsonl if key == "--questions" else pipe
    assert capsys.readouterr().err == f"sevila: error: {named}: is a pipe or device: name a file\n"


@pytest.mark.parametrize("text", ["[" * 100_000, '{"video": ' + "9" * 5000 + "}"])
def test_questions_that_no_parser_reads(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "q.jsonl"
    file.write_text(json.dumps({"video": "a.mp4", "question": "w", "options": ["a", "b"]}) + f"\n{text}\n")
    assert predict.cli(["--questions", str(file)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"sevila: error: {file}, line 2: ")


def test_slow_loading_is_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with cli_module.loading("nothing much"):
        pass
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(cli_module, "SILENT_SECONDS", 0.01)
    with cli_module.loading("the model"):
        time.sleep(0.5)
    assert capsys.readouterr().err == "sevila: loading the model ...\n"
