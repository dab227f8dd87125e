"""sevila store stats|clear [--folder FOLDER] [NAME]: what a store holds, and how to be rid of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sevila.cli import Parser, guarded
from sevila.data.store_files import PATCHES, Part, clear, contents
from sevila.files import home_path
from sevila.report.terminal import printable

FOLDER = "data/store"


def run(argv: Sequence[str] | None = None) -> None:
    """Print what a store holds, or remove it. UserError for a wrong command line, and for no store."""
    parser = Parser(prog="sevila store", description=__doc__.partition(": ")[2])
    parser.add_argument("command", choices=("stats", "clear"))
    parser.add_argument("name", nargs="?", help="clear: only the patches or table of this name, as stats prints it")
    parser.add_argument("--folder", type=home_path, default=Path(FOLDER), help=f"the store ({FOLDER})")
    given = parser.parse_intermixed_args(argv)
    if given.command == "clear":
        freed = clear(given.folder, given.name)
        print(f"store {given.folder}: {given.name or 'everything'} removed, {_size(freed)} freed")
    elif given.name:
        parser.error("stats takes no name")
    else:
        _stats(given.folder)


def cli(argv: Sequence[str] | None = None) -> int:
    return guarded(lambda: run(argv))


def _stats(folder: Path) -> None:
    found = contents(folder)
    lines = [f"store {folder}: {_size(found.bytes)}", *map(_line, found.parts)]
    if found.unfinished:
        lines.append(f"unfinished files: {_size(found.unfinished)}; clear removes them")
    print("\n".join(map(printable, lines)))


def _line(part: Part) -> str:
    if part.kind != PATCHES:
        return f"{part.kind} {part.name}: {part.rows} videos, {_size(part.bytes)}"
    about = {**part.about.get("note", {}), **part.about.get("maker", {})}
    made = ", ".join(f"{key} {value}" for key, value in about.items())
    return f"patches {part.name}: {part.rows} frames of {part.videos} videos, {_size(part.bytes)} ({made})"


def _size(number: float) -> str:
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.2f} GB"


if __name__ == "__main__":
    raise SystemExit(cli())
