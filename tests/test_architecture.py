"""docs/architecture.md says the truth: imports point as it draws them, its journeys name what is there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "sevila"
PAGE = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")


def rooms() -> dict[str, set[str]]:
    """The table of rooms: what each may import."""
    rows = re.findall(r"^\| `(\w+)/?` \| ([^|]*) \|", PAGE, re.MULTILINE)
    return {room: set(re.findall(r"\w+", allowed)) for room, allowed in rows}


def room_of(module: str) -> str:
    """`sevila.data.video` -> data; `sevila.api` -> api; `sevila` itself -> sevila."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")
        yield name, ast.parse(path.read_text(encoding="utf-8"))


def imported(node: ast.AST) -> Iterator[str]:
    """Modules of the house that a tree imports, wherever; imports for type checkers alone are left out."""
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return
    if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "sevila":
        names = [f"sevila.{name.name}" for name in node.names] if node.module == "sevila" else [node.module]
        yield from (
            name for name in names if (PACKAGE / room_of(name)).is_dir() or (PACKAGE / f"{room_of(name)}.py").is_file()
        )
    if isinstance(node, ast.Import):
        yield from (name.name for name in node.names if name.name.split(".")[0] == "sevila")
    for child in ast.iter_child_nodes(node):
        yield from imported(child)


@cache
def arrows() -> dict[str, set[str]]:
    """What each room imports of the others."""
    found: dict[str, set[str]] = {}
    for name, tree in modules():
        found.setdefault(room_of(name), set()).update(map(room_of, imported(tree)))
    return {room: targets - {room} for room, targets in found.items()}


def test_every_room_stands_in_the_table() -> None:
    there = {room_of(name) for name, _ in modules()} - {"sevila"}
    assert there == set(rooms())


@pytest.mark.parametrize("room", rooms())
def test_a_room_imports_what_it_may(room: str) -> None:
    assert arrows()[room] - rooms()[room] == set()


def test_there_is_no_circle() -> None:
    assert list(TopologicalSorter(rooms()).static_order())


def test_the_journeys_name_what_is_there() -> None:
    stops = re.findall(r"`(\w+(?:/\w+)*\.py):([\w.]+)`", PAGE)
    assert len(stops) >= 20
    for file, what in stops:
        tree: ast.AST = ast.parse((PACKAGE / file).read_text(encoding="utf-8"))
        for name in what.split("."):
            kinds = ast.FunctionDef | ast.ClassDef
            found = [node for node in ast.iter_child_nodes(tree) if isinstance(node, kinds) and node.name == name]
            assert found, f"{file}: no {what}"
            tree = found[0]
