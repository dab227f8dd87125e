"""Rows by key on disk: what is dear to compute and small to keep. Any number of processes may read and add."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import sys
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sevila.data.store_folder import TABLES, inside, refuse_links
from sevila.errors import UserError
from sevila.files import TEMPORARY_MARK, read_text, sealed, unsealed, write_json, write_jsonl


def row_key(*content: Any) -> str:
    """Thirty-two hex digits of what a row is the answer to."""
    return hashlib.sha256(json.dumps(content, ensure_ascii=False, sort_keys=True).encode()).hexdigest()[:32]


class Table:
    """The rows of one kind that were made in one way.

    folder   the store's
    about    all that the rows depend on, beside their keys: other facts, another table

    Every addition is a file of its own, so that nobody overwrites another's; of rows with one key any is right. Every
    row has a checksum, which holds in this table alone. Rows that are damaged, and files that cannot be read, are
    passed over, which is said on stderr; the damaged file is replaced by its good rows.
    """

    def __init__(self, folder: Path, kind: str, about: Mapping[str, Any]) -> None:
        self.about, self.store = dict(about), folder
        self.folder = folder / TABLES / kind / row_key(kind, self.about)[:16]

    def rows(self) -> dict[str, dict[str, Any]]:
        """All rows by their keys."""
        found = {}
        names = sorted(os.listdir(self.folder)) if self.folder.is_dir() else []
        for name in names:
            if name.endswith(".jsonl") and TEMPORARY_MARK not in name:
                found.update(self._read(self.folder / name))
        return found

    def _read(self, file: Path) -> dict[str, dict[str, Any]]:
        """The good rows of a file."""
        if not inside(self.store, file):
            return self._warn(file, "is a link, which a store has none of: passed over")
        try:
            lines = read_text(file).removesuffix("\n").split("\n")  # not splitlines(): rows may hold U+2028
        except UserError as error:
            return self._warn(file, f"passed over ({str(error).removeprefix(f'{file}: ')})")
        found = {}
        for line in lines:
            with suppress(ValueError, KeyError, RecursionError):  # counted below
                row = unsealed(json.loads(line), self.folder.name)
                found[row["key"]] = row
        if len(found) < len(lines):
            self._warn(file, f"{len(lines) - len(found)} of {len(lines)} rows are damaged; they are made again")
            self._replace(file, found)
        return found

    def _replace(self, file: Path, rows: Mapping[str, Mapping[str, Any]]) -> None:
        """Put the good rows in a new file, so that the damage is met once."""
        try:
            self._write(rows)
            file.unlink(missing_ok=True)
        except OSError:  # a store that may only be read
            pass

    def _warn(self, place: Path, what: str) -> dict[str, dict[str, Any]]:
        print(f"sevila: warning: {place}: {what}", file=sys.stderr)
        return {}

    def add(self, rows: Mapping[str, Mapping[str, Any]]) -> None:
        """Add rows by their keys."""
        try:
            self._write({key: {**row, "key": key} for key, row in rows.items()})
        except OSError as error:
            self._warn(self.folder, f"cannot be written to ({error.strerror}); nothing added")

    def _write(self, rows: Mapping[str, Mapping[str, Any]]) -> None:
        if not rows:
            return
        if not self.store.parent.is_dir():  # the table of a run whose folder was removed
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.store.parent))
        refuse_links(self.store, self.folder)
        if not (self.folder / "about.json").exists():
            write_json(self.folder / "about.json", self.about)
        file = self.folder / f"{uuid.uuid4().hex[:16]}.jsonl"
        write_jsonl(file, (sealed(row, self.folder.name) for row in rows.values()))
