"""What goes to a terminal: in plain letters, also where stdout knows no others, and nothing that steers it."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TextIO

if TYPE_CHECKING:
    from rich.table import Table

P = ParamSpec("P")
Cell = str | int | float | None
# rich's notation: top, header, line below it, rows, line between rows, line between sections, footer, bottom
LINES = "    \n    \n -- \n    \n -- \n -- \n    \n    \n"

# control characters (newline, escape, ...), line and paragraph ends, changes of direction, halves of characters
_STEERING = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """A text from a file or command line as it may be printed: what would steer the terminal is escaped."""
    return _STEERING.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def cell_text(cell: Cell) -> str:
    """What stands in a table: two decimals for a float, an en dash for None."""
    if cell is None:
        return "–"
    return f"{cell:.2f}" if isinstance(cell, float) else str(cell)


class Steady:
    """A stream to print to that costs no work: a pipe that nobody reads any more takes the rest, silently."""

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.abandoned = stream, False
        if isinstance(stream, io.TextIOWrapper):  # a letter that it cannot encode is printed as its escape
            stream.reconfigure(errors="backslashreplace")

    def write(self, text: str) -> int:
        self._try(lambda: self.stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._try(self.stream.flush)

    def _try(self, act: Callable[[], object]) -> None:
        try:
            act()
        except BrokenPipeError:
            self.abandoned = True
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def steady(program: Callable[P, int]) -> Callable[P, int]:
    """A program, which returns its exit code, with stdout and stderr that are steady while it runs.

    Its code is 141, as of a program that SIGPIPE ends, where it went well but nobody read all of it (`| head -1`).
    """

    @wraps(program)
    def run(*args: P.args, **options: P.kwargs) -> int:
        before, (out, err) = (sys.stdout, sys.stderr), (Steady(sys.stdout), Steady(sys.stderr))
        sys.stdout, sys.stderr = out, err
        try:
            code = program(*args, **options)
            out.flush()
            return code or (141 if out.abandoned or err.abandoned else 0)
        finally:
            out.flush()
            sys.stdout, sys.stderr = before

    return run


def knows_unicode(stream: TextIO) -> bool:
    """Whether a stream can take every letter."""
    return (stream.encoding or "").lower().startswith("utf")


def plain_table(title: str | None = None) -> Table:
    """An empty table with a line below its header and between sections, and two spaces between columns."""
    from rich.box import Box
    from rich.table import Table

    return Table(
        title=title,
        title_justify="left",
        title_style="",
        box=Box(LINES, ascii=True),
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
