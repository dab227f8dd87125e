"""The one exception for what a user can mend: a wrong file, key, shape or number."""

from __future__ import annotations


class UserError(Exception):
    """Bad input. The message is one clear line that names the thing, what is wrong and the remedy.

    Entry points print it as `sevila: error: MESSAGE` and leave with exit code 2; nothing is half-written.
    """
