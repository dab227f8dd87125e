"""What goes to a terminal: in plain letters, also where stdout knows no others, and nothing that steers it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

# rich's notation: top, header, line below it, rows, line between rows, line between sections, footer, bottom
LINES = "    \n    \n -- \n    \n -- \n -- \n    \n    \n"

# control characters (newline, escape, ...), line and paragraph ends, changes of direction, halves of characters
_STEERING = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """A text from a file or command line as it may be printed: what would steer the terminal is escaped."""
    return _STEERING.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def stdout_console() -> Console:
    """rich's console on stdout; a pipe that nobody reads any more is BrokenPipeError, as for print."""
    from rich.console import Console

    class Plain(Console):
        def on_broken_pipe(self) -> None:  # rich would leave with code 1
            raise

    return Plain()


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
