"""README and docs/ say what is there: their commands parse, their Python compiles, their links lead somewhere."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from sevila.__main__ import cli
from sevila.config import load

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = [REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "data/README.md")]
PAGES += sorted((REPOSITORY / "docs").glob("*.md"))
HYDRA = ("train", "refine", "eval")
UNPARSED = re.compile(r"unrecognized|invalid|required|expected one|unknown|usage|No such command|has no")


def blocks(page: Path, kinds: tuple[str, ...]) -> Iterator[str]:
    """The fenced blocks of these kinds."""
    for kind, text in re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
        if kind in kinds:
            yield text


def commands() -> Iterator[str]:
    """Lines that begin with `sevila` or `python`, continued ones joined; words in brackets are optional and left in."""
    for page in PAGES:
        for block in blocks(page, ("", "bash", "sh")):
            for line in block.replace("\\\n", " ").splitlines():
                if re.match(r"(sevila|python) ", line):
                    yield re.sub(r"\[[^\]]*\]", "", line.partition("  #")[0]).strip()


ALL = sorted(set(commands()))


def words_of(command: str) -> list[str]:
    return shlex.split(command.replace("...", ""))


@pytest.mark.parametrize("command", [c for c in ALL if c.startswith(("sevila ", "python -m sevila."))])
def test_a_command_parses(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of an experiment the configuration is made; the others are called, and refuse the files that are not there."""
    words = words_of(re.sub(r"^python -m sevila\.(\w+)", r"sevila \1", command))
    entry, rest = words[1], [word for word in words[2:] if word != "-m"]
    if entry in HYDRA:
        single = [re.sub(r",.*", "", word) if word.count("=") == 1 else word for word in rest]
        load(entry, single)
        return
    monkeypatch.chdir(tmp_path)
    assert cli([entry, *rest]) in (0, 1, 2)
    assert not UNPARSED.search(capsys.readouterr().err)
    assert os.listdir(tmp_path) in ([], ["data"])


@pytest.mark.parametrize("command", [c for c in ALL if re.match(r"python (scripts|tests)/", c)])
def test_a_script_is_there_with_its_options(command: str) -> None:
    script, *rest = words_of(command)[1:]
    text = (REPOSITORY / script).read_text(encoding="utf-8")
    assert [word for word in rest if word.startswith("--") and f'"{word}"' not in text] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_compiles_and_links_lead_somewhere(page: Path) -> None:
    for block in blocks(page, ("python",)):
        compile(block, str(page), "exec")
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []
