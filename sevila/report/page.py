"""Self-contained HTML pages: one file, no script, nothing loaded; for screens, phones and dark rooms.

write_page("report.html", "A run", [Text("What came out."), Table(("metric",), [(61.25,)])])
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Protocol

from sevila.files import write_text
from sevila.report.figures import png_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Cell = str | int | float | None

STYLE = """
:root { color-scheme: light dark; --ink: #222; --ground: #fff; --line: #d5d8dc; --faint: #666; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e6e6; --ground: #16181b; --line: #3a3f45; --faint: #a0a5ab; }
}
body { margin: 0 auto; max-width: 58rem; padding: 1rem; color: var(--ink); background: var(--ground);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.25; }
h2 { font-size: 1.2rem; margin-top: 2rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; }
dt { color: var(--faint); }
dd { margin: 0; }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: left; white-space: nowrap; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
caption, figcaption { color: var(--faint); font-size: .9rem; text-align: left; }
caption { caption-side: bottom; padding-top: .4rem; }
figure { margin: 1.2rem 0; }
.beside { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 27rem), 1fr)); gap: 1rem;
  width: min(94vw, 96rem); position: relative; left: 50%; transform: translateX(-50%); }
.beside figure { margin: 0; }
img { display: block; max-width: 100%; height: auto; border-radius: 6px; background: #fff; }
"""


class Block(Protocol):
    """A part of a page, from top to bottom."""

    def html(self) -> str: ...


@dataclass(frozen=True)
class Heading:
    text: str

    def html(self) -> str:
        return f"<h2>{escape(self.text)}</h2>"


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str

    def html(self) -> str:
        return f"<p>{escape(self.text)}</p>"


@dataclass(frozen=True)
class Facts:
    """Names and what is to be said of each."""

    facts: Mapping[str, str]

    def html(self) -> str:
        rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in self.facts.items())
        return f"<dl>{rows}</dl>"


@dataclass(frozen=True)
class Table:
    """Numbers are right-aligned, float with two decimals; None is an en dash.

    best       columns (from 0) whose highest number is bold, all of them where several are the highest
    unranked   rows (from 0) that do not compete for it, such as an upper bound
    """

    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    best: Sequence[int] = ()
    unranked: Sequence[int] = ()

    def __post_init__(self) -> None:
        wrong = [row for row in self.rows if len(row) != len(self.header)]
        if wrong:
            raise ValueError(f"a row of {len(wrong[0])} cells under a header of {len(self.header)}: {wrong[0]}")

    def html(self) -> str:
        numeric = [any(_is_number(row[i]) for row in self.rows) for i in range(len(self.header))]
        highest = {column: self._highest(column) for column in self.best}
        head = "".join(f"<th{_class(numeric[i])} scope='col'>{escape(name)}</th>" for i, name in enumerate(self.header))
        body = ""
        for number, row in enumerate(self.rows):
            cells = ""
            for i, cell in enumerate(row):
                text = escape(cell_text(cell))
                if number not in self.unranked and cell is not None and cell == highest.get(i):
                    text = f"<strong>{text}</strong>"
                cells += f"<td{_class(numeric[i])}>{text}</td>"
            body += f"<tr>{cells}</tr>\n"
        caption = f"<caption>{escape(self.caption)}</caption>" if self.caption else ""
        table = f"{caption}<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>"
        return f"<div class='wide'><table>{table}</table></div>"

    def _highest(self, column: int) -> float | None:
        cells = [row[column] for i, row in enumerate(self.rows) if i not in self.unranked]
        return max((cell for cell in cells if _is_number(cell)), default=None)


@dataclass(frozen=True)
class Picture:
    """An image that travels inside the page.

    png   the bytes of a PNG file
    alt   what it shows, for who cannot see it
    """

    png: bytes
    alt: str
    caption: str = ""

    @classmethod
    def of(cls, figure: Figure, alt: str, caption: str = "") -> Picture:
        """A matplotlib figure as a picture."""
        return cls(png_bytes(figure), alt, caption)

    def html(self) -> str:
        data = base64.b64encode(self.png).decode("ascii")
        caption = f"<figcaption>{escape(self.caption)}</figcaption>" if self.caption else ""
        return f"<figure><img src='data:image/png;base64,{data}' alt='{escape(self.alt)}'>{caption}</figure>"


@dataclass(frozen=True)
class Beside:
    """Pictures beside each other, wider than the text; below each other where the window is narrow."""

    pictures: Sequence[Picture]

    def html(self) -> str:
        return f"<div class='beside'>{''.join(picture.html() for picture in self.pictures)}</div>"


def cell_text(cell: Cell) -> str:
    """What stands in a table: two decimals for a float, an en dash for None."""
    if cell is None:
        return "–"
    return f"{cell:.2f}" if isinstance(cell, float) else str(cell)


def write_page(path: str | os.PathLike[str], title: str, blocks: Sequence[Block]) -> None:
    """Write the blocks under their title as one HTML file, atomically. All text is escaped."""
    body = "\n".join(block.html() for block in blocks)
    write_text(
        path,
        "<!DOCTYPE html>\n<html lang='en'>\n<head>\n<meta charset='utf-8'>\n"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>\n"
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<h1>{escape(title)}</h1>\n{body}\n</body>\n</html>\n",
    )


def _is_number(cell: Cell) -> bool:
    return isinstance(cell, int | float) and not isinstance(cell, bool)


def _class(numeric: bool) -> str:
    return " class='number'" if numeric else ""
