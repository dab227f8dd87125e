"""What every command shares: errors as one line and an exit code, and a parser of plain command lines."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import NoReturn

from sevila.errors import UserError, machine_error
from sevila.report.terminal import printable, steady


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


class Parser(argparse.ArgumentParser):
    """argparse, with errors as everywhere else in the library: one line."""

    def error(self, message: str) -> NoReturn:
        hint = f"; {self.prog} --help says more" if self.add_help else ""
        raise UserError(f"{message}{hint}")
