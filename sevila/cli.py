"""What every command shares: errors as one line and an exit code, and a parser of plain command lines."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Timer
from typing import Any, NoReturn

from sevila.errors import UserError, machine_error, suggest
from sevila.files import HALF_CHARACTER
from sevila.report.terminal import printable, steady

SILENT_SECONDS = 0.8


@steady
def guarded(run: Callable[[], object]) -> int:
    """Run something; the exit code: 0, 130 after an interrupt, and with one line on stderr 2 after bad input.

    What the machine refuses (space, memory, a file) is a line too, with the code 2, or 1 where no user can mend it.
    """
    try:
        run()
    except KeyboardInterrupt:
        print("sevila: interrupted", file=sys.stderr)
        return 130
    except SystemExit as stop:  # of argparse, after --help
        return int(stop.code or 0)
    except Exception as error:
        told = one_line(error)
        print(f"sevila: error: {printable(str(told))}", file=sys.stderr)
        return told.exit_code
    return 0


def one_line(error: Exception) -> UserError:
    """What to tell of an error; a fault of the program is raised again, with its trace."""
    told = error if isinstance(error, UserError) else machine_error(error)
    if told is None:
        raise error
    return told


@contextmanager
def loading(what: str) -> Iterator[None]:
    """Say on stderr what is loaded, where that takes longer than a moment."""
    timer = Timer(SILENT_SECONDS, lambda: print(f"sevila: loading {what} ...", file=sys.stderr))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def in_utf8(word: str) -> str:
    """A word of a command line as its bytes say in UTF-8, which Python does not try in a locale without letters."""
    try:
        return os.fsencode(word).decode("utf-8") if HALF_CHARACTER.search(word) else word
    except UnicodeError:
        return word


class Parser(argparse.ArgumentParser):
    """argparse with whole option names and texts as they stand; errors as everywhere else in the library: one line."""

    def __init__(self, **options: Any) -> None:
        shape = argparse.RawDescriptionHelpFormatter
        super().__init__(**{"formatter_class": shape, "allow_abbrev": False, **options})

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """As argparse does. UserError for a word like `out=x.html`, which would be taken for an answer or a file."""
        words = list(sys.argv[1:] if args is None else args)
        if self.add_help:  # not on Hydra's command lines, which consist of such words
            self._check_free(words[: words.index("--")] if "--" in words else words)
        return super().parse_known_args(words, namespace)

    def _check_free(self, words: Sequence[str]) -> None:
        for before, word in zip(["", *words], words, strict=False):
            key, equals, value = word.partition("=")
            option = f"--{key.rpartition('.')[2].replace('_', '-')}"
            known = self._option_string_actions
            if equals and option in known and before not in known and not os.path.exists(word):
                raise UserError(f"{word}: options are written {option} {value or 'VALUE'}{self._hint()}")

    def error(self, message: str) -> NoReturn:
        unknown = re.match(r"unrecognized arguments: (--[\w-]+)", message)
        choice = re.match(r".*: invalid choice: '(.*)' \(choose from (.*)\)", message)
        known = [word for action in self._actions for word in action.option_strings]
        meant = ""
        if unknown:
            meant = suggest(unknown[1], known)
        elif choice:
            meant = suggest(choice[1], [word.strip("' ") for word in choice[2].split(",")])
        raise UserError(f"{message}{meant}{self._hint()}")

    def _hint(self) -> str:
        return f"; {self.prog} --help says more" if self.add_help else ""
