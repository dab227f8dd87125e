"""The command `sevila` and its subcommands."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import sevila
from sevila.__main__ import COMMANDS, cli

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_there_and_says_how_it_is_used(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert callable(import_module(f"sevila.{name.replace('-', '_')}").cli)
    assert cli([name, "--help"]) == 0
    assert f"sevila {name}" in capsys.readouterr().out


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["--help"], ["-h"]):
        assert cli(words) == 0
        printed = capsys.readouterr().out
        assert all(f"  {name} " in printed for name in COMMANDS)
    assert cli(["--version"]) == 0
    assert capsys.readouterr().out == f"sevila {sevila.__version__}\n"


def test_a_wrong_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli(["evl", "+exp=synthetic_eval"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("sevila: error: unknown command 'evl' (did you mean 'eval'?); there are: predict, train,")
    assert cli(["cat.mp4"]) == 2
    assert capsys.readouterr().err.startswith("sevila: error: unknown command 'cat.mp4'; there are: ")


def test_a_command_has_its_own_words_and_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli(["train", "+exp=synthetic_pretrain", "bogus=1"]) == 2
    assert capsys.readouterr().err.startswith("sevila: error: unknown key 'bogus'; sevila.train has: ")
    assert cli(["eval", "+exp=synthetic_eval", "--cfg", "job", "-p", "frames.n"]) == 0
    assert capsys.readouterr().out == "32\n"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("sevila ", "predict train refine eval score convert check-data store"),
        ("sevila tr", "predict train refine eval score convert check-data store"),  # the shell takes what fits
        ("sevila eval selector=un", "selector=uniform"),
        ("sevila train trainer.lo", "trainer.log_every= trainer.loss_divisor="),
    ],
)
def test_a_shell_completes(line: str, found: str, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setenv("COMP_LINE", line)
    assert cli(["-sc", "query=bash"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == found
    monkeypatch.setenv("COMP_LINE", "")
    assert cli(["-sc", "install=bash"]) == 0
    assert "complete -o nospace" in capsys.readouterr().out


def test_it_starts_without_the_libraries() -> None:
    code = "import sys; from sevila.__main__ import cli; cli(['--help']); print({'torch', 'hydra'} & {*sys.modules})"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "set()"
