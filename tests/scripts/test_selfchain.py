"""scripts/selfchain.py: what a refused call leaves, and what it never removes."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from sevila.cli import guarded

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "selfchain.py"


@pytest.fixture(scope="module")
def selfchain() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("selfchain", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = sys.modules["selfchain"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["selfchain"]


@pytest.fixture
def refused(selfchain: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    def go(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["selfchain.py", "--out", str(tmp_path / "out"), *words])
        assert guarded(selfchain.main) == 2
        return capsys.readouterr().err.splitlines()[-1].removeprefix("sevila: error: ")

    return go


@pytest.mark.parametrize("word", ["frames.m=3", "selector.k=99", "device=cuda:99", "trainer.lr=0"])
def test_a_refused_call_leaves_nothing(refused, tmp_path: Path, word: str) -> None:
    assert refused(word).startswith(("unknown key 'frames.m'", "selector.k=99: ", "device=cuda:99: ", "trainer.lr"))
    assert list(tmp_path.iterdir()) == []


def test_other_settings_are_refused_where_a_stage_was_begun(refused, selfchain: ModuleType, tmp_path: Path) -> None:
    folder = tmp_path / "out.unfinished-0"
    selfchain.SelfChain(folder, 0, ["device=cpu"]).begin()
    selfchain.SelfChain(folder, 0, []).begin()  # nothing was made yet
    (folder / "pretrain").mkdir()
    assert refused("device=cpu").startswith(f"{folder}: was begun with ")
    assert (folder / "pretrain").is_dir()


def test_only_older_results_are_replaced(refused, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.tex").write_text("mine")
    assert refused().endswith("out: is there already and no result of this script; name another folder")
    assert (tmp_path / "out/thesis.tex").read_text() == "mine"
