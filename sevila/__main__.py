"""The command `sevila`, also as `python -m sevila`: one subcommand for each thing that can be done."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

from sevila import __version__
from sevila.cli import guarded
from sevila.errors import UserError, suggest

COMMANDS = {
    "predict": "answer a question about a video, or find the frames that matter",
    "train": "train the Localizer on moments, the Answerer on keyframes, or a selector",
    "refine": "refine the Localizer on the frozen Answerer's pseudo-labels",
    "eval": "answer every question of a data set, measure accuracy and keyframes",
    "score": "score predictions that are there already, as the benchmarks' own scripts do",
    "convert": "other projects' checkpoints to heads and a backbone",
    "check-data": "what is missing, unreadable or too short in a data set",
    "store": "what a store of computed features holds, and how to be rid of it",
}
HYDRA = ("train", "refine", "eval")


def usage() -> str:
    """What `sevila --help` prints."""
    lines = ["sevila COMMAND ...: self-chained video localization and question answering", ""]
    lines += [f"  {name:12} {text}" for name, text in COMMANDS.items()]
    lines += ["", "sevila COMMAND --help says more; train, refine and eval are configured by Hydra (+exp=NAME)."]
    return "\n".join(lines)


def cli(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand; the exit code is its own, or 2 where there is no such command."""
    words = list(sys.argv[1:] if argv is None else argv)
    name = words[0] if words else "--help"
    if name in COMMANDS:
        return int(import_module(f"sevila.{name.replace('-', '_')}").cli(words[1:]))
    if name in ("-h", "--help"):
        return guarded(lambda: print(usage()))
    if name in ("-V", "--version"):
        return guarded(lambda: print(f"sevila {__version__}"))
    if name in ("-sc", "--shell-completion"):
        return _complete(words)
    return guarded(lambda: _unknown(name))


def _complete(words: list[str]) -> int:
    """What a shell asks after `eval "$(sevila -sc install=bash)"`: the commands, or what Hydra knows of one."""
    line = os.environ.get("COMP_LINE", "")
    _, command, rest = [*line.lstrip().split(maxsplit=2), "", "", ""][:3]
    begun = len(line.split()) > 2 or line.endswith(" ")
    if any(word.startswith("query=") for word in words) and not (command in HYDRA and begun):
        return guarded(lambda: print(" ".join(COMMANDS)))
    os.environ["COMP_LINE"] = f"sevila {rest}"
    return int(import_module(f"sevila.{command if command in HYDRA else 'train'}").cli(words))


def _unknown(name: str) -> None:
    listed = ", ".join(COMMANDS)
    raise UserError(f"unknown command {name!r}{suggest(name, COMMANDS)}; there are: {listed}")


if __name__ == "__main__":
    raise SystemExit(cli())
