"""Tables on the terminal, in plain letters: they also print where stdout knows nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

# rich's notation: top, header, line below it, rows, line between rows, line between sections, footer, bottom
LINES = "    \n    \n -- \n    \n -- \n -- \n    \n    \n"


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
