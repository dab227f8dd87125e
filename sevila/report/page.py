"""Self-contained HTML pages: one file, nothing loaded; for screens, phones and dark rooms.

write_page("report.html", "A run", [Text("What came out."), Table(("metric",), [(61.25,)])])

A block is a record with the name of the template that shows it. Templates escape all text.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol
from urllib.parse import quote

from sevila.files import write_text
from sevila.report.terminal import Cell, cell_text
from sevila.report.timeline import letter, window_text

if TYPE_CHECKING:
    from jinja2 import Environment

NUMBER = re.compile(r"[+-]?\d")
CONTENTS_FROM = 3  # headings that a page needs for a list of them


@dataclass(frozen=True)
class Link:
    """A text that leads to a file, by a relative address; a text alone where there is no such file."""

    text: str
    file: Path

    def __str__(self) -> str:
        return self.text


class Block(Protocol):
    """A part of a page, from top to bottom; its template finds it under the name `block`."""

    @property
    def template(self) -> str: ...


@dataclass(frozen=True)
class Heading:
    text: str
    template: ClassVar[str] = "heading.html.j2"


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str
    template: ClassVar[str] = "text.html.j2"


@dataclass(frozen=True)
class Facts:
    """Names and what is to be told of each."""

    facts: Mapping[str, str | Link]
    template: ClassVar[str] = "facts.html.j2"


@dataclass(frozen=True)
class Table:
    """Numbers are right-aligned, float with two decimals; None is an en dash. A click on a name sorts.

    best       columns (from 0) whose highest number is bold, all of them where several are the highest
    unranked   rows (from 0) that do not compete for it, such as an upper bound
    bars       columns of percent with a bar below each number -> a number that is marked in it, such as chance
    """

    header: Sequence[str]
    rows: Sequence[Sequence[Cell | Link]]
    caption: str = ""
    best: Sequence[int] = ()
    unranked: Sequence[int] = ()
    bars: Mapping[int, float | None] = field(default_factory=dict)
    template: ClassVar[str] = "table.html.j2"

    def __post_init__(self) -> None:
        wrong = [row for row in self.rows if len(row) != len(self.header)]
        if wrong:
            raise ValueError(f"a row of {len(wrong[0])} cells under a header of {len(self.header)}: {wrong[0]}")

    @property
    def numeric(self) -> list[bool]:
        """Of every column, whether it has numbers, or texts that all begin with one, such as an interval's."""
        columns = [[row[i] for row in self.rows if row[i] not in (None, "")] for i in range(len(self.header))]
        return [bool(cells) and all(NUMBER.match(str(cell)) for cell in cells) for cells in columns]

    def lines(self) -> Iterator[list[tuple[Cell | Link, bool]]]:
        """The rows, and of every cell whether it is the best of its column."""
        highest = {column: self._highest(column) for column in self.best}
        for number, row in enumerate(self.rows):
            ranked = number not in self.unranked
            yield [(cell, ranked and cell is not None and cell == highest.get(i)) for i, cell in enumerate(row)]

    def _highest(self, column: int) -> float | None:
        cells = [row[column] for i, row in enumerate(self.rows) if i not in self.unranked]
        return max((cell for cell in cells if isinstance(cell, int | float)), default=None)


@dataclass(frozen=True)
class Picture:
    """A drawing that travels inside the page.

    svg   its markup, made here and not by others: it is not escaped
    alt   what it shows, for who cannot see it
    """

    svg: str
    alt: str
    caption: str = ""
    template: ClassVar[str] = "picture.html.j2"


@dataclass(frozen=True)
class Beside:
    """Blocks beside each other, wider than the text; below each other where the window is narrow."""

    blocks: Sequence[Block]
    template: ClassVar[str] = "beside.html.j2"


def write_page(path: str | os.PathLike[str], title: str, blocks: Sequence[Block]) -> None:
    """Write the blocks under their title as one HTML file, atomically. All text is escaped."""
    folder = Path(path).parent
    headings = [(i, block.text) for i, block in enumerate(blocks) if isinstance(block, Heading)]
    page = _templates().get_template("page.html.j2")
    contents = headings if len(headings) >= CONTENTS_FROM else []
    html = page.render(title=title, blocks=blocks, contents=contents, address=lambda file: address(file, folder))
    write_text(path, html)


def address(file: Path, folder: Path) -> str | None:
    """The address of a file for a page in `folder`, relative, so that both can move together; None without a file."""
    if not file.is_file():
        return None
    return quote(os.fsencode(os.path.relpath(file.resolve(), folder.resolve())))


@cache
def _templates() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    templates = Environment(
        loader=PackageLoader("sevila.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.filters["cell"] = cell_text
    templates.globals |= {"letter": letter, "window_text": window_text}
    return templates
